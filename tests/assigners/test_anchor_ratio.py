"""The anchor-ratio assigner against a plain loop over objects, levels, anchors and cells, and on hand-made scenes."""

from __future__ import annotations

import math

import torch

from utils.assigners import ASSIGNERS
from utils.boxes import build_anchor_table

STRIDES = (8, 16)
ANCHORS = torch.tensor([[[10.0, 10.0], [40.0, 10.0]], [[30.0, 60.0], [90.0, 90.0]]], dtype=torch.float64)
GRIDS = ((6, 9), (3, 5))  # rows, columns


def assign(targets: torch.Tensor, anchor_t: float = 4.0) -> set[tuple[int, int, int, int, int, int]]:
    """Rows of image, level, anchor, row, column, target."""
    table = build_anchor_table(ANCHORS, STRIDES, GRIDS)
    assigner = ASSIGNERS.build("anchor_ratio", anchor_t=anchor_t)
    found = assigner(targets, table)
    cell = table.cell[found.anchor].long()
    columns = (found.image, table.level[found.anchor], table.shape[found.anchor], cell[:, 1], cell[:, 0], found.target)
    rows = torch.stack(columns, dim=1).tolist()
    return sorted(map(tuple, rows))


def plain_loop(targets: torch.Tensor, anchor_t: float = 4.0) -> list[tuple[int, ...]]:
    """The rule as it is written down: ratio below anchor_t; own cell, and neighbours nearer than half a cell."""
    matches = []
    for number, (image, _, x, y, w, h) in enumerate(targets.tolist()):
        for level, (rows, cols) in enumerate(GRIDS):
            cx, cy = x * cols, y * rows
            for shape in range(2):
                aw, ah = (ANCHORS[level, shape] / STRIDES[level]).tolist()
                ratios = (w * cols / aw, h * rows / ah)
                if max(max(r, 1 / r) for r in ratios) >= anchor_t:
                    continue
                cells = [(math.floor(cy), math.floor(cx))]
                if cx % 1 < 0.5 and cx > 1:
                    cells.append((math.floor(cy), math.floor(cx - 0.5)))
                if cy % 1 < 0.5 and cy > 1:
                    cells.append((math.floor(cy - 0.5), math.floor(cx)))
                if (cols - cx) % 1 < 0.5 and cols - cx > 1:
                    cells.append((math.floor(cy), math.floor(cx + 0.5)))
                if (rows - cy) % 1 < 0.5 and rows - cy > 1:
                    cells.append((math.floor(cy + 0.5), math.floor(cx)))
                for row, col in cells:
                    clamped = (min(max(row, 0), rows - 1), min(max(col, 0), cols - 1))
                    matches.append((int(image), level, shape, *clamped, number))
    return sorted(matches)


def test_equals_the_plain_loop() -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        targets = torch.rand(60, 6, generator=generator, dtype=torch.float64)
        targets[:, 0] = targets[:, 0].mul(3).floor()
        targets[:, 4:] = targets[:, 4:] ** 2 + 0.01
        targets[0, 2:4] = 1.0  # in the very corner
        targets[1, 2:4] = 0.0
        assert assign(targets) == plain_loop(targets) and len(plain_loop(targets)) > 100, seed


def test_a_ratio_of_exactly_the_limit_does_not_fit() -> None:
    """One anchor of a cell's size; binary fractions, so that nothing is rounded."""
    table = build_anchor_table(torch.tensor([[[8.0, 8.0]]]), (8,), ((16, 16),))
    assigner = ASSIGNERS.build("anchor_ratio", anchor_t=4.0)
    for side, fits in ((4.0, False), (3.9375, True), (0.25, False), (0.2578125, True)):
        found = assigner(torch.tensor([[0, 0, 0.53, 0.53, side / 16, 1 / 16]]), table)
        assert (len(found.anchor) > 0) == fits, side


def one(x: float, y: float, w: float, h: float) -> torch.Tensor:
    """An object given in cells of the first level, 9 columns and 6 rows."""
    return torch.tensor([[0, 0, x / 9, y / 6, w / 9, h / 6]], dtype=torch.float64)


def cells(targets: torch.Tensor) -> list[tuple[int, int]]:
    return sorted((row, col) for _, level, shape, row, col, _ in assign(targets, 1.5) if (level, shape) == (0, 0))


def test_cells_by_hand() -> None:
    size = (10 / 8, 10 / 8)  # that of the first anchor
    assert cells(one(4.3, 2.8, *size)) == [(2, 3), (2, 4), (3, 4)], "left and below"
    assert cells(one(4.7, 2.2, *size)) == [(1, 4), (2, 4), (2, 5)], "right and above"
    assert cells(one(0.3, 0.2, *size)) == [(0, 0)], "the grid has no neighbours there"
    assert cells(one(8.7, 5.8, *size)) == [(5, 8)]
    assert cells(one(4.0, 2.3, *size)) == [(1, 4), (2, 3), (2, 4), (2, 4)], "a border leans both ways, as in YOLOv5"


def test_ratio_is_a_strict_limit() -> None:
    assert cells(one(4.3, 2.3, 10 / 8 * 1.49, 10 / 8 / 1.49))
    assert not cells(one(4.3, 2.3, 10 / 8 * 1.51, 10 / 8))
    assert not cells(one(4.3, 2.3, 10 / 8, 10 / 8 / 1.51))


def test_no_objects() -> None:
    assert assign(torch.zeros(0, 6, dtype=torch.float64)) == []
