"""Shape-IoU loss: distance and shape terms weighted by the shape of the target."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import box_sides, boxes_to_centres, iou_and_union, shape_cost
from utils.parameters import Number

THETA = 4.0


@register_formula(
    "shape_iou",
    formula="1 - IoU + (hh dx^2 + ww dy^2) / c^2 + shape / 2",
    range=(0.0, 4.0),
    paper="Zhang and Zhang, Shape-IoU, arXiv:2312.17663",
    parameters={"scale": Number(0.0, low=0)},
)
def shape_iou_similarity(pred: Tensor, target: Tensor, eps: float, *, scale: float) -> Tensor:
    """IoU - (hh dx^2 + ww dy^2) / c^2 - shape / 2, (N,) in (-3, 1], of (N, 4) ``xyxy`` boxes: arXiv:2312.17663.

    ww = 2 w_t^s / (w_t^s + h_t^s) and hh = 2 h_t^s / (w_t^s + h_t^s) depend on the target alone: for a flat target an
    error along the long side costs less. shape: as in SIoU with theta 4, of hh |dw| / max(w_p, w_t) and ww |dh| /
    max(h_p, h_t).

    Args:
        scale: s >= 0, related to the object sizes of the data set; 0 makes ww = hh = 1.
    """
    sides = box_sides(pred, target)
    iou, _ = iou_and_union(sides, eps)
    flatness = (sides.target_h.clamp(min=eps) / sides.target_w.clamp(min=eps)).pow(scale)
    hh = 2 - 2 / (1 + flatness)
    ww = 2 - hh
    square = (boxes_to_centres(pred)[0] - boxes_to_centres(target)[0]).square()
    diagonal = sides.enclosing_w.square() + sides.enclosing_h.square() + eps
    distance = (hh * square[:, 0] + ww * square[:, 1]) / diagonal
    width = (sides.pred_w - sides.target_w).abs() / (torch.maximum(sides.pred_w, sides.target_w) + eps)
    height = (sides.pred_h - sides.target_h).abs() / (torch.maximum(sides.pred_h, sides.target_h) + eps)
    return iou - distance - shape_cost(hh * width, ww * height, THETA) / 2
