"""What is converted: images with their labels, and the account of what a format cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.datasets.objects import Polygons
from utils.datasets.scan import ScannedSplit

LOSSES = {
    "regions": "{count} regions to ignore (crowds, difficult objects) are left out and become background: "
    "{target} cannot hold them",
    "outlines": "{count} outlines of objects are left out: {target} holds boxes alone",
    "masks": "{count} masks of several parts or in RLE are left out, their boxes stay: {target} cannot hold them",
    "areas": "{count} areas of masks are left out, so AP by object size goes by the boxes: {target} cannot hold them",
    "moved": "{count} boxes become the bounds of their outlines, up to {most:.2g} pixels away: {target} has no box "
    "beside an outline. --boxes-only keeps the boxes",
    "rectangles": "{count} boxes are written as rectangular outlines: other objects of their images have outlines, and "
    "{target} holds either",
    "repeated": "{count} repeated objects are written once",
    "beyond": "{count} boxes reach beyond their images, by up to {most:.2g} pixels, and are clipped",
}


class LabelledImage(NamedTuple):
    """An image with its labels, as in :class:`~utils.datasets.scan.ScannedSplit`.

    Attributes:
        path: image file.
        size_hw: height and width in pixels.
        labels: (n, 5) float32 rows of class and ``xywhn``.
        polygons: outlines in [0, 1] of some objects.
        crowds: (k, 5) rows as in ``labels`` of regions to ignore.
        areas: (n,) float64 areas in squared pixels that are not those of the boxes, or None.
        masks: for each object the JSON of a mask that is no single outline, or an empty text.
    """

    path: str
    size_hw: tuple[int, int]
    labels: np.ndarray
    polygons: Polygons
    crowds: np.ndarray
    areas: np.ndarray | None
    masks: tuple[str, ...]

    def boxes_only(self) -> LabelledImage:
        """Without outlines, masks and their areas."""
        return self._replace(polygons=Polygons.none(), masks=("",) * len(self.labels), areas=None)

    def outlines(self) -> dict[int, np.ndarray]:
        """Object to the points (k, 2) of its outline, of three points and more."""
        owners, first = np.unique(self.polygons.owner, return_index=True)
        parts = np.split(self.polygons.points, first[1:]) if len(first) else []
        return {int(owner): points for owner, points in zip(owners, parts, strict=True) if len(points) > 2}

    def box_areas(self, rows: np.ndarray) -> np.ndarray:
        """Areas (m,) float64 of boxes (m, 5) of this image in squared pixels, as evaluation measures them."""
        height, width = self.size_hw
        values = rows.astype(np.float64)
        half = values[:, 3:5] / 2
        corners = np.concatenate((values[:, 1:3] - half, values[:, 1:3] + half), axis=1)
        corners *= np.array([width, height, width, height])
        areas: np.ndarray = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        return areas


def images_of(scanned: ScannedSplit, num_classes: int) -> list[LabelledImage]:
    """The images of a split. Regions of any class become one of each class."""
    images = []
    for index, (path, labels) in enumerate(zip(scanned.paths, scanned.labels, strict=True)):
        crowds = scanned.crowds[index]
        if len(crowds) and (crowds[:, 0] < 0).any():
            crowds = np.concatenate([row[None] if row[0] >= 0 else _of_each_class(row, num_classes) for row in crowds])
        height, width = scanned.sizes_hw[index].tolist()
        images.append(
            LabelledImage(
                path,
                (height, width),
                labels,
                scanned.polygons[index],
                crowds,
                None if scanned.areas is None else scanned.areas[index],
                scanned.masks[index] if scanned.masks is not None else ("",) * len(labels),
            )
        )
    return images


def _of_each_class(row: np.ndarray, num_classes: int) -> np.ndarray:
    rows = np.repeat(row[None], num_classes, axis=0)
    rows[:, 0] = np.arange(num_classes)
    return rows


def first_of_equal(rows: Sequence[object]) -> list[bool]:
    """Whether each row is the first of its value."""
    seen: set[object] = set()
    return [not (row in seen or seen.add(row)) for row in rows]  # type: ignore[func-returns-value]


class Losses:
    """Counts of what a format cannot hold, by the names of ``LOSSES``."""

    def __init__(self, target: str) -> None:
        self.target, self.counts = target, Counter[str]()
        self._most: dict[str, float] = {}

    def add(self, kind: str, count: int, most: float = 0.0) -> None:
        """Count some, and the largest distance met."""
        assert kind in LOSSES
        self.counts[kind] += count
        self._most[kind] = max(most, self._most.get(kind, 0.0))

    def messages(self) -> list[str]:
        """A sentence for each kind of loss that there was."""
        return [
            text.format(count=self.counts[kind], most=self._most[kind], target=self.target)
            for kind, text in LOSSES.items()
            if self.counts[kind]
        ]
