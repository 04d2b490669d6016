"""Anchor tables: what they hold, and when they are built anew."""

from __future__ import annotations

import torch
from torch import Tensor

from models import build_model
from tests.criterion_scenes import ANCHORS, STRIDES, build, scene
from utils.boxes import AnchorTables


def maps(height: int = 64, width: int = 96, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.zeros(1, 3, height // stride, width // stride, 6, dtype=dtype) for stride in STRIDES]


def test_a_table_is_built_once_per_size_and_type() -> None:
    tables, built = AnchorTables(), []

    def anchors() -> Tensor:
        built.append(1)
        return ANCHORS

    def get(raw: list[Tensor]) -> int:
        tables.get(raw, raw[0].dtype, STRIDES, anchors)
        return len(built)

    assert [get(maps()), get(maps())] == [1, 1]
    assert get(maps(96, 64)) == 2, "another size"
    assert get(maps(96, 64, torch.float64)) == 3, "another type"
    tables.clear()
    assert get(maps(96, 64, torch.float64)) == 4, "other anchors"


def test_a_table_holds_each_anchor_of_each_cell() -> None:
    """Level by level, then anchor, row, column."""
    table = AnchorTables().get(maps(), torch.float32, STRIDES, lambda: ANCHORS)
    assert table.grids == ((8, 12), (4, 6), (2, 3)) and len(table.level) == 3 * (96 + 24 + 6)
    index = table.level_offset[1] + 2 * 24 + 3 * 6 + 5  # level 1, shape 2, row 3, column 5
    assert (table.level[index], table.shape[index], table.stride[index]) == (1, 2, 16)
    assert table.cell[index].tolist() == [5, 3] and table.size[index].tolist() == ANCHORS[1, 2].tolist()


def test_what_inference_mode_leaves_serves_training() -> None:
    criterion = build()
    raw, targets = scene()
    with torch.inference_mode():
        expected = criterion(raw, targets).total
    raw = [level.requires_grad_() for level in raw]
    total = criterion(raw, targets).total
    total.backward()
    assert total == expected and raw[0].grad is not None

    model = build_model("yolov3-tiny.yaml", nc=2).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        model(image)
    model(image).sum().backward()


def test_new_anchors_change_the_boxes() -> None:
    model = build_model("yolov3-tiny.yaml", nc=2).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image)
        model.set_anchors_px(2 * model.anchors_px)
        after = model(image)
        model.load_state_dict({**model.state_dict(), "model.20.anchors": model.head.anchors / 2})
        again = model(image)
    torch.testing.assert_close(after[..., 2:4], 2 * before[..., 2:4])
    torch.testing.assert_close(again, before)
