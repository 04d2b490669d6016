"""What a label format is: from the entries of a data YAML to images, and to the objects of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        problems: one message for each row that was skipped or repaired, with file and line.
        crowds: (k, 5) rows as in ``labels`` of regions to ignore, such as crowds and difficult objects: what the
            network finds there is neither right nor wrong. The class -1 stands for all classes.
        areas: (n,) float64 areas of the objects in squared pixels, where the file has them; None takes the boxes' own.
        masks: for each object the JSON of a mask that is no single outline (several parts, or RLE), else an empty text;
            or nothing where there are no masks.
        repeated: those of the problems that are about a row which repeats another one, and was left out for that.
        rows: where each of the n objects is in the label file: its line, or its id in a COCO JSON; or nothing.
        overhang: (n,) float32 pixels by which the box in the file reaches beyond the image; None where that was not
            measured, since the boxes of ``labels`` are not clipped.
    """

    labels: np.ndarray
    polygons: Polygons
    found: bool
    problems: tuple[str, ...] = ()
    crowds: np.ndarray = NO_ROWS
    areas: np.ndarray | None = None
    masks: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    rows: tuple[int | str, ...] = ()
    overhang: np.ndarray | None = None


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
        image_ids: image to its id in the files, where they have ids; for the JSON of the detections.
        class_ids: id of each class in the files, -1 for a class that they lack; likewise.
        published: file with the ground truth of the whole split in COCO's JSON, if there is one.
    """

    images: Sequence[str]
    label_file: Callable[[str], str]
    read: Callable[[str, tuple[int, int]], Annotation]
    image_ids: Mapping[str, int | str] | None = None
    class_ids: tuple[int, ...] | None = None
    published: Path | None = None


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
