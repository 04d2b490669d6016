"""Efficient-IoU loss: DIoU plus the differences of the sides, and its focal form."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import Sides, box_sides, centre_distance_ratio, iou_and_union
from utils.parameters import Number

PAPER = "Zhang et al., Focal and Efficient IOU Loss, Neurocomputing 2022, arXiv:2101.08158"


def side_difference(sides: Sides, eps: float) -> Tensor:
    """dw^2 / cw^2 + dh^2 / ch^2, (N,) in [0, 2]: side differences over the sides of the enclosing box."""
    width = (sides.pred_w - sides.target_w).square() / (sides.enclosing_w.square() + eps)
    height = (sides.pred_h - sides.target_h).square() / (sides.enclosing_h.square() + eps)
    return width + height


@register_formula(
    "eiou",
    formula="1 - IoU + rho^2 / c^2 + dw^2 / cw^2 + dh^2 / ch^2",
    range=(0.0, 3.25),
    paper=PAPER,
)
def eiou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """EIoU = IoU - rho^2 / c^2 - dw^2 / cw^2 - dh^2 / ch^2, (N,) in [-2.25, 1], of (N, 4) ``xyxy`` boxes.

    The side terms compare widths with widths and heights with heights (not the centre offsets, as one well-known
    baseline does): Zhang et al., arXiv:2101.08158. Not the "Extended IoU" of the same abbreviation, which
    is not 0 for equal boxes. The minimum is reached by a point on a corner of the other box.
    """
    sides = box_sides(pred, target)
    iou, _ = iou_and_union(sides, eps)
    return iou - centre_distance_ratio(pred, target, sides, eps) - side_difference(sides, eps)


@register_formula(
    "focal_eiou",
    formula="IoU^gamma EIoU loss, the weight detached",
    range=(0.0, 3.25),
    paper=PAPER,
    parameters={"gamma": Number(0.5, low=0)},
    similarity=False,
)
def focal_eiou(pred: Tensor, target: Tensor, eps: float, *, gamma: float) -> Tensor:
    """IoU^gamma (1 - EIoU), (N,) in [0, 3.25], of (N, 4) ``xyxy`` boxes: good boxes count more; arXiv:2101.08158.

    The weight is detached: with a gradient, the loss could fall to 0 by losing all overlap, with an infinite slope.
    Boxes that do not overlap have weight 0. The loss is not 1 - similarity: it is 0 for the best and the worst box.

    Args:
        gamma: >= 0; 0 leaves EIoU.
    """
    with torch.no_grad():
        weight = iou_and_union(box_sides(pred, target), eps)[0].pow(gamma)
    return weight * (1 - eiou_similarity(pred, target, eps))
