"""What a label file says about one image, whatever its format."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utils.datasets.objects import Polygons


class Annotation(NamedTuple):
    """The objects of one image.

    Attributes:
        labels: (n, 5) float32 rows of class and ``xywhn``.
        polygons: outlines of some of them, in [0, 1].
        found: the label file exists.
        problems: one message for each row that was left out or mended, with file and line.
    """

    labels: np.ndarray
    polygons: Polygons
    found: bool
    problems: tuple[str, ...] = ()


def background(found: bool) -> Annotation:
    """An image without objects."""
    return Annotation(np.zeros((0, 5), np.float32), Polygons.none(), found)
