"""The objects of one image while it is being transformed: boxes in pixels, and outlines where the labels have them.

All polygons of an image lie in one flat array, so that every operation is one array operation for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

REGION = -1.0  # class of a region to ignore
NO_REGIONS = np.zeros((0, 4), np.float32)


class Polygons(NamedTuple):
    """Outlines of some of the n objects of an image.

    Attributes:
        points: (k, 2) float32 x, y; consecutive points of one object are joined, the last one with the first.
        owner: (k,) int64 object that each point belongs to, ascending.
    """

    points: np.ndarray
    owner: np.ndarray

    @classmethod
    def none(cls) -> Polygons:
        """No outlines."""
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Objects (m,) that have an outline, and the ``xyxy`` bounds (m, 4) of their points."""
        first = _first_of_each(self.owner)
        if len(first) == 0:
            return self.owner, np.zeros((0, 4), np.float32)
        low, high = np.minimum.reduceat(self.points, first), np.maximum.reduceat(self.points, first)
        return self.owner[first], np.concatenate((low, high), axis=1)

    def select(self, keep: np.ndarray) -> Polygons:
        """Only those of the objects of the mask ``keep`` (n,) bool, with their new numbers."""
        kept_point = keep[self.owner]
        return Polygons(self.points[kept_point], (np.cumsum(keep) - 1)[self.owner[kept_point]])

    def clip(self, height: float, width: float) -> Polygons:
        """The parts inside an image of this size. Exact: also for an outline around the whole image."""
        points, owner = self.points, self.owner
        for axis, limit, sign in ((0, 0.0, 1.0), (0, width, -1.0), (1, 0.0, 1.0), (1, height, -1.0)):
            depth = sign * (points[:, axis] - limit)
            after = _next_point(owner)
            inside = depth >= 0
            crossing = inside != inside[after]
            fraction = np.divide(depth, depth - depth[after], out=np.zeros_like(depth), where=crossing)
            cuts = points + fraction[:, None] * (points[after] - points)
            cuts[:, axis] = limit
            keep = np.stack((inside, crossing), axis=1).ravel()
            points = np.stack((points, cuts), axis=1).reshape(-1, 2)[keep]
            owner = np.repeat(owner, 2)[keep]
        return Polygons(points, owner)


class Objects(NamedTuple):
    """The n objects of one image.

    Attributes:
        classes: (n,) float32 class indices; ``REGION`` for a region to ignore, which moves with the objects.
        boxes: (n, 4) float32 ``xyxy`` pixels.
        polygons: outlines in pixels, of none, some or all of them.
    """

    classes: np.ndarray
    boxes: np.ndarray
    polygons: Polygons

    @classmethod
    def none(cls) -> Objects:
        """A background image."""
        return cls(np.zeros(0, np.float32), np.zeros((0, 4), np.float32), Polygons.none())

    @classmethod
    def from_labels(cls, labels: np.ndarray, polygons: Polygons, height: float, width: float) -> Objects:
        """From label rows (n, 5) of class and ``xywhn``, and outlines in [0, 1], to pixels of an image of this size."""
        size = np.array([width, height], np.float32)
        centre, half = labels[:, 1:3] * size, labels[:, 3:5] * size / 2
        boxes = np.concatenate((centre - half, centre + half), axis=1)
        return cls(labels[:, 0], boxes, Polygons(polygons.points * size, polygons.owner))

    def to_labels(self, height: float, width: float) -> np.ndarray:
        """Label rows (n, 5) float32 of class and ``xywhn``; boxes are clipped to just inside the image."""
        eps = 1e-3  # pixels: a centre on the far border would fall outside the last cell of the grid
        limit = np.array([width, height, width, height], np.float32)
        boxes = np.clip(self.boxes, 0, limit - eps) / limit
        low, high = boxes[:, :2], boxes[:, 2:]
        return np.concatenate((self.classes[:, None], (low + high) / 2, high - low), axis=1).astype(np.float32)

    def with_regions(self, regions: np.ndarray, height: float, width: float) -> Objects:
        """These objects, and behind them regions to ignore, (k, 4) ``xywhn`` of an image of this size."""
        if len(regions) == 0:
            return self
        rows = np.concatenate((np.full((len(regions), 1), REGION, np.float32), regions), axis=1)
        return join_objects((self, Objects.from_labels(rows, Polygons.none(), height, width)))

    def to_labels_and_regions(self, height: float, width: float) -> tuple[np.ndarray, np.ndarray | None]:
        """Label rows (n, 5) of the objects, and ``xywhn`` (k, 4) of the regions to ignore, None where there is none."""
        rows = self.to_labels(height, width)
        is_region = rows[:, 0] == REGION
        return (rows[~is_region], rows[is_region, 1:]) if is_region.any() else (rows, None)

    def place(self, scale: tuple[float, float], offset: tuple[float, float]) -> Objects:
        """Scaled by factors ``(y, x)``, then moved by ``(top, left)`` pixels."""
        factor, shift = np.array(scale[::-1], np.float32), np.array(offset[::-1], np.float32)
        polygons = Polygons(self.polygons.points * factor + shift, self.polygons.owner)
        return Objects(self.classes, self.boxes * np.tile(factor, 2) + np.tile(shift, 2), polygons)

    def mirror(self, axis: int, length: float) -> Objects:
        """As in a mirror: left to right in an image ``length`` pixels wide (axis 0), or upside down (axis 1)."""
        boxes, points = self.boxes.copy(), self.polygons.points.copy()
        boxes[:, [axis, axis + 2]] = length - self.boxes[:, [axis + 2, axis]]
        points[:, axis] = length - points[:, axis]
        return Objects(self.classes, boxes, Polygons(points, self.polygons.owner))

    def clip(self, height: float, width: float) -> Objects:
        """Clipped to an image of this size; a box that has an outline becomes the bounds of the outline's visible part.

        An object outside the image keeps its row with an empty box.
        """
        limit = np.array([width, height, width, height], np.float32)
        boxes = np.clip(self.boxes, 0, limit)
        polygons = self.polygons
        if len(polygons.owner):
            polygons = polygons.clip(height, width)
            boxes[self.polygons.owner] = 0
            owners, bounds = polygons.bounds()
            boxes[owners] = bounds
        return Objects(self.classes, boxes, polygons)

    def select(self, keep: np.ndarray) -> Objects:
        """Only the objects of the mask ``keep`` (n,) bool."""
        return Objects(self.classes[keep], self.boxes[keep], self.polygons.select(keep))


def join_objects(parts: Sequence[Objects]) -> Objects:
    """The objects of several images that became one; all in the pixels of that one."""
    first = np.cumsum([0, *(len(part.classes) for part in parts[:-1])])
    owners = [part.polygons.owner + start for part, start in zip(parts, first, strict=True)]
    return Objects(
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        Polygons(np.concatenate([part.polygons.points for part in parts]), np.concatenate(owners)),
    )


def _first_of_each(owner: np.ndarray) -> np.ndarray:
    """Positions (m,) at which a new polygon begins."""
    if len(owner) == 0:
        return owner
    return np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))


def _next_point(owner: np.ndarray) -> np.ndarray:
    """For each point the position (k,) of the one it is joined to."""
    first = _first_of_each(owner)
    after = np.arange(1, len(owner) + 1)
    if len(first):
        after[np.append(first[1:], len(owner)) - 1] = first
    return after
