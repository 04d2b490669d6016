"""Small grids and random objects for the tests of the assigners."""

from __future__ import annotations

import torch

from utils.boxes import build_anchor_table
from utils.structures import AnchorTable, Assignment

STRIDES = (8, 16, 32)
GRIDS = ((12, 16), (6, 8), (3, 4))  # rows, columns: an image of 128 x 96 pixels
ANCHORS = torch.tensor(
    [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 90]], [[80, 50], [60, 70], [120, 90]]],
    dtype=torch.float64,
)
IMAGE_WH = (128, 96)


def table_of(anchors: torch.Tensor = ANCHORS, dtype: torch.dtype = torch.float64) -> AnchorTable:
    return build_anchor_table(anchors.to(dtype), STRIDES[: len(anchors)], GRIDS[: len(anchors)])


def random_targets(seed: int, count: int = 60, images: int = 3) -> torch.Tensor:
    """(count, 6): small and large objects, some over the border, some with centres on the edges or outside."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(count, 6, generator=generator, dtype=torch.float64)
    targets[:, 0] = targets[:, 0].mul(images).floor()
    targets[:, 1] = targets[:, 1].mul(3).floor()
    targets[:, 4:] = targets[:, 4:] ** 2 + 0.03
    edges = [[1.0, 1.0], [0.0, 0.0], [1.0, 0.3], [0.25, 0.0], [0.5, 0.5], [1.15, 0.5], [-0.1, 1.1], [0.4, -0.2]]
    targets[: len(edges), 2:4] = torch.tensor(edges, dtype=torch.float64)[:count]
    targets[5:8, 4:] += 0.5  # centres outside the image: these reach into it
    return targets


def corners(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def plain_iou(box1: tuple[float, ...], box2: tuple[float, ...]) -> float:
    """Of two boxes given by left, top, right, bottom."""
    width = min(box1[2], box2[2]) - max(box1[0], box2[0])
    height = min(box1[3], box2[3]) - max(box1[1], box2[1])
    both = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (box1, box2))
    return both / (areas - both)


def matches(found: Assignment, table: AnchorTable) -> list[tuple[int, ...]]:
    """Sorted rows of image, level, anchor, row, column, target."""
    cell = table.cell[found.anchor].long()
    columns = (found.image, table.level[found.anchor], table.shape[found.anchor], cell[:, 1], cell[:, 0], found.target)
    return sorted(map(tuple, torch.stack(columns, dim=1).tolist()))


def objects(*boxes_px: tuple[float, float, float, float], image: int = 0) -> torch.Tensor:
    """Targets of class 0 from x, y, w, h in pixels of the image of 128 x 96."""
    scale = (*IMAGE_WH, *IMAGE_WH)
    rows = [[image, 0, *(value / side for value, side in zip(box, scale, strict=True))] for box in boxes_px]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
