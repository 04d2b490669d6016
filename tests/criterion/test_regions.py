"""Regions to ignore: what lies in one has no gradient, whatever the score loss, and all else is as without it."""

from __future__ import annotations

import pytest
import torch

from tests.criterion_scenes import ANCHORS, STRIDES, build, scene
from utils.boxes import build_anchor_table, decode_boxes, flatten_levels, xywh_to_xyxy
from utils.criterion import Criterion
from utils.losses import SCORE_LOSSES

RANKING = ("ap", "alrp", "rs", "parameterized_ap")
REGION = torch.tensor([[0.0, 0.62, 0.5, 0.5, 0.6]], dtype=torch.float64)  # of image 0: x from 0.37 to 0.87


def settings(score: str, rank_on: str) -> dict:
    loss: dict = {"score": score, "box": "giou"}
    if score in RANKING:
        loss |= {"rank_on": rank_on, "rank_gain": 1.0}
    if score == "parameterized_ap":
        loss["score"] = {"name": score, "form": "linear"}
    return {"loss": loss}


def inside(raw: list[torch.Tensor]) -> torch.Tensor:
    """(B, N) bool from the definition: more than half of a box's own area lies in the region of its image."""
    table = build_anchor_table(ANCHORS, STRIDES, [tuple(level.shape[2:4]) for level in raw])
    boxes = xywh_to_xyxy(decode_boxes(flatten_levels(raw)[..., :4], table))
    x1, y1, x2, y2 = (REGION[0, 1:] * torch.tensor([128, 96, 128, 96])).tolist()
    x1, y1, x2, y2 = x1 - x2 / 2, y1 - y2 / 2, x1 + x2 / 2, y1 + y2 / 2
    shared = (boxes[..., 2].clamp(max=x2) - boxes[..., 0].clamp(min=x1)).clamp(min=0)
    shared = shared * (boxes[..., 3].clamp(max=y2) - boxes[..., 1].clamp(min=y1)).clamp(min=0)
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    result = shared > 0.5 * area
    result[1] = False
    return result


def gradients(criterion: Criterion, raw: list[torch.Tensor], *arguments: torch.Tensor) -> torch.Tensor:
    leaves = [level.detach().clone().requires_grad_() for level in raw]
    criterion(leaves, *arguments).total.backward()
    return flatten_levels([leaf.grad for leaf in leaves])


@pytest.mark.parametrize("rank_on", ["objectness", "joint"])
@pytest.mark.parametrize("score", SCORE_LOSSES.names())
def test_no_gradient_inside_and_all_else_as_without_these_anchors(score: str, rank_on: str) -> None:
    if score not in RANKING and rank_on == "joint":
        pytest.skip("only ranking losses rank")
    raw, targets = scene()
    targets = targets[targets[:, 0] != 0]  # the objects are in the other image
    hidden = inside(raw)
    assert 20 < hidden.sum() < hidden.numel() / 2
    criterion = build(**settings(score, rank_on))
    with_region = gradients(criterion, raw, targets, REGION)
    assert (with_region[hidden] == 0).all()
    without = gradients(build(**settings(score, rank_on)), raw, targets)
    assert (without[hidden][:, 4] != 0).any()
    if score not in RANKING:  # each score for itself: the others do not notice
        assert torch.equal(with_region[~hidden], without[~hidden])
    else:  # as if these anchors scored nothing at all
        silent = flatten_levels(raw).clone()
        silent[hidden] = torch.tensor([0.0, 0, 0, 0, -60.0, -60, -60, -60], dtype=silent.dtype)
        sizes = [level[0].numel() // level.shape[-1] for level in raw]
        parts = silent.split(sizes, dim=1)
        levels = [part.view_as(level) for part, level in zip(parts, raw, strict=True)]
        wanted = gradients(build(**settings(score, rank_on)), levels, targets)
        torch.testing.assert_close(with_region[~hidden], wanted[~hidden], atol=1e-12, rtol=1e-9)


def test_a_matched_anchor_stays_positive() -> None:
    raw, targets = scene()
    everywhere = torch.tensor([[0.0, 0.5, 0.5, 4.0, 4.0], [1.0, 0.5, 0.5, 4.0, 4.0]], dtype=torch.float64)
    part = build()(raw, targets, everywhere).parts
    assert part["box"] == build()(raw, targets).parts["box"]
    assert 0 < part["obj"] < build()(raw, targets).parts["obj"]


def test_no_region_is_no_difference() -> None:
    raw, targets = scene()
    nothing = torch.zeros(0, 5, dtype=torch.float64)
    assert build()(raw, targets, nothing).total == build()(raw, targets).total
