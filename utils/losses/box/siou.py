"""SCYLLA-IoU loss: distance along the axes, weighted by the angle of the offset, and shape."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import Sides, box_sides, boxes_to_centres, iou_and_union, shape_cost
from utils.parameters import Number


def distance_cost(pred: Tensor, target: Tensor, sides: Sides, eps: float) -> Tensor:
    """(1 - e^-(g x)) + (1 - e^-(g y)), (N,) in [0, 2), with x = (dx / cw)^2, y = (dy / ch)^2 and g = 2 - Lambda.

    Lambda = sin(2 alpha) = 2 |dx dy| / (dx^2 + dy^2) is 0 for an offset along an axis and 1 for one along a diagonal.
    Written without the angle it needs no arcsin, and boxes with one centre (dx = dy = 0) have a value and a gradient.
    """
    offset = boxes_to_centres(pred)[0] - boxes_to_centres(target)[0]
    square = offset.square()
    angle = 2 * offset.prod(dim=1).abs() / (square.sum(dim=1) + eps)
    x = square[:, 0] / (sides.enclosing_w.square() + eps)
    y = square[:, 1] / (sides.enclosing_h.square() + eps)
    return 2 - torch.exp((angle - 2) * x) - torch.exp((angle - 2) * y)


@register_formula(
    "siou",
    formula="1 - IoU + (distance + shape) / 2",
    range=(0.0, 3.0),
    paper="Gevorgyan, SIoU Loss, arXiv:2205.12740",
    parameters={"theta": Number(4.0, low=1)},
)
def siou_similarity(pred: Tensor, target: Tensor, eps: float, *, theta: float) -> Tensor:
    """SIoU = IoU - (distance + shape) / 2, (N,) in (-2, 1], of (N, 4) ``xyxy`` boxes: Gevorgyan, arXiv:2205.12740.

    distance: see :func:`distance_cost`. shape: (1 - e^-a)^theta + (1 - e^-b)^theta with a = |dw| / max(w_p, w_t) and b
    the same of the heights.

    Args:
        theta: >= 1, exponent of the shape cost; the paper uses 2 to 6.
    """
    sides = box_sides(pred, target)
    iou, _ = iou_and_union(sides, eps)
    width = (sides.pred_w - sides.target_w).abs() / (torch.maximum(sides.pred_w, sides.target_w) + eps)
    height = (sides.pred_h - sides.target_h).abs() / (torch.maximum(sides.pred_h, sides.target_h) + eps)
    return iou - (distance_cost(pred, target, sides, eps) + shape_cost(width, height, theta)) / 2
