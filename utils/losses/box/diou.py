"""Distance-IoU loss: 1 - IoU + rho^2 / c^2."""

from __future__ import annotations

from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import box_sides, centre_distance_ratio, iou_and_union


@register_formula(
    "diou",
    formula="1 - IoU + rho^2 / c^2",
    range=(0.0, 2.0),
    paper="Zheng et al., Distance-IoU, AAAI 2020, arXiv:1911.08287",
)
def diou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """DIoU = IoU - rho^2 / c^2, (N,) in (-1, 1], of (N, 4) ``xyxy`` boxes.

    rho is the distance of the centres, c the diagonal of the smallest enclosing box: Zheng et al., "Distance-IoU Loss",
    AAAI 2020, arXiv:1911.08287, equations 6 and 7.
    """
    sides = box_sides(pred, target)
    iou, _ = iou_and_union(sides, eps)
    return iou - centre_distance_ratio(pred, target, sides, eps)
