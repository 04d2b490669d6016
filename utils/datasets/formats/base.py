"""What a label format is: from the entries of a data YAML to images, and to the objects of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from utils.datasets.objects import Polygons
from utils.registry import Info, Registry

NO_ROWS = np.zeros((0, 5), np.float32)


class Annotation(NamedTuple):
    """The labels of one image.

    Attributes:
        labels: (n, 5) float32 rows of class and ``xywhn``.
        polygons: outlines of some of them, in [0, 1].
        found: the image has labels, even if they hold no object; False counts as missing.
        problems: one message for each row that was skipped or mended, with file and line.
        crowds: (k, 5) rows as in ``labels`` of regions that hold many objects: nothing is trained on them, and in
            evaluation detections inside are not counted.
    """

    labels: np.ndarray
    polygons: Polygons
    found: bool
    problems: tuple[str, ...] = ()
    crowds: np.ndarray = NO_ROWS


def background(found: bool) -> Annotation:
    """An image without objects."""
    return Annotation(NO_ROWS, Polygons.none(), found)


class LabelledSplit(NamedTuple):
    """A split as a label format sees it. Calls come from several threads at once.

    Attributes:
        images: every image file, absolute; one that is listed twice comes twice.
        label_file: image to the file that holds its labels, which need not exist. Where its size or time changes,
            labels are read again. It may be the same file for all images.
        read: image and its (height, width) to its labels. Raises ValueError where the labels of this image cannot be
            read, which leaves the image out; UserError where the run should end, as for an unknown class.
    """

    images: Sequence[str]
    label_file: Callable[[str], str]
    read: Callable[[str, tuple[int, int]], Annotation]


class LabelFormat(Protocol):
    """Opens splits. One file for each image, or one for the whole split: both fit.

    The parameters of its registry entry are keys of the data YAML: ``Info(name="csv", build=CsvLabels,
    parameters={"table": Path()})`` lets the YAML have a key ``table``, which is checked and given to ``CsvLabels``.
    """

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        """Find the images of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            sources: entries of the data YAML, which exist: folders or files.
            root: folder of the data set.
            names: class names; the class index is the position.

        Raises:
            UserError: a source that cannot be read.
        """


LABEL_FORMATS: Registry[Info, LabelFormat] = Registry("label format")
