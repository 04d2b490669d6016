"""Complete-IoU loss: DIoU plus the difference of the aspect ratios."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import Sides, box_sides, centre_distance_ratio, iou_and_union


def aspect_difference(sides: Sides, eps: float) -> Tensor:
    """v = 4 / pi^2 (atan(w_t / h_t) - atan(w_p / h_p))^2, (N,) in [0, 1]; heights are at least eps."""
    target_angle = torch.atan(sides.target_w / sides.target_h.clamp(min=eps))
    pred_angle = torch.atan(sides.pred_w / sides.pred_h.clamp(min=eps))
    return 4 / math.pi**2 * (target_angle - pred_angle).square()


@register_formula(
    "ciou",
    formula="1 - IoU + rho^2 / c^2 + alpha v",
    range=(0.0, 2.5),
    paper="Zheng et al., Distance-IoU, AAAI 2020, arXiv:1911.08287; arXiv:2005.03572",
)
def ciou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """CIoU = IoU - rho^2 / c^2 - alpha v, (N,) in (-1.5, 1], of (N, 4) ``xyxy`` boxes.

    v compares the aspect ratios, alpha = v / (1 - IoU + v) weighs it and carries no gradient: Zheng et al., AAAI 2020,
    arXiv:1911.08287, equations 8 to 11, and arXiv:2005.03572. There is no gate on IoU, as in YOLOv5.
    """
    sides = box_sides(pred, target)
    iou, _ = iou_and_union(sides, eps)
    v = aspect_difference(sides, eps)
    with torch.no_grad():
        # rounding may lift the IoU of equal, large boxes above 1
        alpha = v / ((1 - iou).clamp(min=0) + v + eps)
    return iou - centre_distance_ratio(pred, target, sides, eps) - alpha * v
