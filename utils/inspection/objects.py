"""What is odd about boxes, for all objects of a split at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.inspection.limits import EXTREME_ASPECT, OVERHANG_PIXELS, OVERHANG_SHARE, SAME_BOX_IOU, SMALLEST_SIDE


class ObjectTable(NamedTuple):
    """The n objects of a split, ordered by image.

    Attributes:
        image: (n,) int64 number of its image.
        row: (n,) int64 position among the labels of the image.
        classes: (n,) int64.
        boxes: (n, 4) float64 ``xyxy`` pixels of the image.
        image_hw: (n, 2) float64 height and width of its image.
        overhang: (n,) float64 pixels by which the box reaches beyond the image.
    """

    image: np.ndarray
    row: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    image_hw: np.ndarray
    overhang: np.ndarray

    @classmethod
    def from_labels(
        cls,
        labels: Sequence[np.ndarray],
        sizes_hw: np.ndarray,
        overhang: Sequence[np.ndarray | None] | None = None,
    ) -> ObjectTable:
        """Of the labels of a split.

        Args:
            labels: one array (objects, 5) of class and ``xywhn`` for each image.
            sizes_hw: height and width of each image.
            overhang: one array (objects,) of pixels cut off in reading for each image, where that is known.
        """
        counts = np.array([len(rows) for rows in labels], np.int64)
        rows = np.concatenate([np.zeros((0, 5)), *labels]).astype(np.float64)
        image = np.repeat(np.arange(len(counts)), counts)
        image_hw = np.asarray(sizes_hw, np.float64).reshape(-1, 2)[image]
        size = np.tile(image_hw[:, ::-1], 2)
        half = rows[:, 3:5] / 2
        boxes = np.concatenate((rows[:, 1:3] - half, rows[:, 1:3] + half), axis=1) * size
        beyond = np.concatenate((-boxes[:, :2], boxes[:, 2:] - size[:, 2:], np.zeros((len(rows), 1))), axis=1)
        cut = [np.zeros(0)]
        for index, count in enumerate(counts):
            known = overhang[index] if overhang is not None else None
            cut.append(np.zeros(count) if known is None else known.astype(np.float64))
        starts = np.cumsum(counts) - counts
        return cls(
            image,
            np.arange(len(rows)) - np.repeat(starts, counts),
            rows[:, 0].astype(np.int64),
            boxes,
            image_hw,
            np.maximum(beyond.max(axis=1), np.concatenate(cut)),
        )

    @property
    def sizes(self) -> np.ndarray:
        """(n, 2) widths and heights in pixels of the image."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    def network_sizes(self, image_size: int) -> np.ndarray:
        """(n, 2) widths and heights in pixels of the network's input, whose longer side is ``image_size``."""
        return self.sizes * (image_size / np.maximum(self.image_hw.max(axis=1, keepdims=True), 1))


def odd_objects(table: ObjectTable, image_size: int) -> dict[str, np.ndarray]:
    """Kind of finding to the objects that it concerns.

    Args:
        table: the n objects of a split.
        image_size: longer side of the network's input, pixels.

    Returns:
        (k, 1) rows of the table for findings about one object; (k, 2) for those about an object and the first one
        before it in its image that has the same box.
    """
    sizes = table.network_sizes(image_size)
    shorter, longer = sizes.min(axis=1), sizes.max(axis=1)
    tolerance = np.maximum(OVERHANG_PIXELS, OVERHANG_SHARE * table.image_hw.max(axis=1))
    pairs = same_boxes(table)
    equal = table.classes[pairs[:, 0]] == table.classes[pairs[:, 1]]
    return {
        "outside": np.flatnonzero(table.overhang > tolerance)[:, None],
        "tiny": np.flatnonzero(shorter < SMALLEST_SIDE)[:, None],
        "extreme": np.flatnonzero(longer > EXTREME_ASPECT * shorter)[:, None],
        "repeated-box": _once(pairs[equal]),
        "conflict": _once(pairs[~equal]),
    }


def _once(pairs: np.ndarray) -> np.ndarray:
    """Of the pairs with equal second objects the first; else ten boxes of one object would be 45 findings."""
    _, first = np.unique(pairs[:, 1], return_index=True)
    return pairs[first]


def same_boxes(table: ObjectTable, least_iou: float = SAME_BOX_IOU) -> np.ndarray:
    """Pairs (k, 2) of objects of one image whose boxes have at least this IoU, in ascending order.

    The IoU is at most the ratio of the areas. So with the boxes of an image sorted by area, each needs to be compared
    only with the few that follow it: the first, the second, and so on, for all boxes at once.
    """
    boxes = table.boxes
    areas = table.sizes.prod(axis=1)
    order = np.lexsort((areas, table.image))
    found = [np.zeros((0, 2), np.int64)]
    first, step = np.arange(len(order)), 0
    while len(first):
        step += 1
        first = first[first + step < len(order)]
        a, b = order[first], order[first + step]
        comparable = (table.image[a] == table.image[b]) & (areas[a] >= least_iou * areas[b])
        first, a, b = first[comparable], a[comparable], b[comparable]
        overlap = np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2])
        intersection = overlap.clip(min=0).prod(axis=1)
        union = areas[a] + areas[b] - intersection
        same = (intersection >= least_iou * union) & (union > 0)
        found.append(np.sort(np.stack((a[same], b[same]), axis=1), axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
