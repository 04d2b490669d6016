"""IoU loss: 1 - IoU."""

from __future__ import annotations

from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import box_sides, iou_and_union


@register_formula(
    "iou",
    formula="1 - IoU",
    range=(0.0, 1.0),
    paper="Yu et al., UnitBox, arXiv:1608.01471; Rezatofighi et al., arXiv:1902.09630",
)
def iou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """IoU = |P & T| / |P | T|, (N,) in [0, 1], of (N, 4) ``xyxy`` boxes.

    "UnitBox" (Yu et al., 2016, arXiv:1608.01471) trains -ln IoU; 1 - IoU is the form of Rezatofighi et al., 2019,
    arXiv:1902.09630, section 3. The gradient is 0 for boxes that do not overlap.
    """
    return iou_and_union(box_sides(pred, target), eps)[0]
