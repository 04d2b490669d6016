"""Generalised IoU loss: 1 - IoU + (C - U) / C."""

from __future__ import annotations

from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import box_sides, iou_and_union


@register_formula(
    "giou",
    formula="1 - IoU + (C - U) / C",
    range=(0.0, 2.0),
    paper="Rezatofighi et al., Generalized IoU, CVPR 2019, arXiv:1902.09630",
)
def giou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """GIoU = IoU - (C - U) / C, (N,) in (-1, 1], of (N, 4) ``xyxy`` boxes.

    C is the area of the smallest enclosing box, U the area of the union: Rezatofighi et al., "Generalized Intersection
    over Union", CVPR 2019, arXiv:1902.09630, algorithm 1.
    """
    sides = box_sides(pred, target)
    iou, union = iou_and_union(sides, eps)
    enclosing = sides.enclosing_w * sides.enclosing_h + eps
    return iou - (enclosing - union) / enclosing
