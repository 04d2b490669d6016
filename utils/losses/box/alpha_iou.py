"""Alpha-IoU losses: IoU and the penalty of a base loss, each raised to the power alpha."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from utils.losses.box.base import FormulaSimilarityLoss, register_builder
from utils.losses.box.ciou import aspect_difference
from utils.losses.box.geometry import Sides, box_sides, centre_distance_ratio, iou_and_union
from utils.parameters import Choice, Number

RANGES = {"iou": (0.0, 1.0), "giou": (0.0, 2.0), "diou": (0.0, 2.0), "ciou": (0.0, 2.5)}


def _enclosing_share(sides: Sides, union: Tensor, eps: float) -> Tensor:
    """(C - U) / C, (N,) in [0, 1): the part of the enclosing box that neither box covers."""
    enclosing = sides.enclosing_w * sides.enclosing_h + eps
    return ((enclosing - union) / enclosing).clamp(min=0)  # rounding may take it below 0


def alpha_iou_similarity(pred: Tensor, target: Tensor, eps: float, *, alpha: float, of: str) -> Tensor:
    """IoU^alpha - penalty^alpha, (N,), of (N, 4) ``xyxy`` boxes: He et al., arXiv:2110.13675.

    The penalty is 0 (iou), (C - U) / C (giou), rho^2 / c^2 (diou), or that and beta v, each raised to alpha (ciou). The
    trade-off beta = v / (1 - IoU + v) takes the IoU itself, not its power, and carries no gradient, as in CIoU.
    """
    sides = box_sides(pred, target)
    iou, union = iou_and_union(sides, eps)
    similarity = iou.pow(alpha)
    if of == "giou":
        similarity = similarity - _enclosing_share(sides, union, eps).pow(alpha)
    if of in ("diou", "ciou"):
        similarity = similarity - centre_distance_ratio(pred, target, sides, eps).pow(alpha)
    if of == "ciou":
        v = aspect_difference(sides, eps)
        with torch.no_grad():
            beta = v / ((1 - iou).clamp(min=0) + v + eps)
        similarity = similarity - (beta * v).pow(alpha)
    return similarity


@register_builder(
    "alpha_iou",
    formula="1 - IoU^alpha + penalty^alpha",
    range=RANGES["ciou"],
    paper="He et al., Alpha-IoU, NeurIPS 2021, arXiv:2110.13675",
    parameters={"alpha": Number(3.0, low=1), "of": Choice("ciou", tuple(RANGES))},
)
def alpha_iou(alpha: float, of: str) -> FormulaSimilarityLoss:
    """Alpha-IoU loss, 1 - IoU^alpha + penalty^alpha, in the range of the loss ``of``.

    Args:
        alpha: >= 1 (below 1 the slope at 0 is infinite); 1 leaves the loss ``of``, larger favours good boxes.
        of: iou | giou | diou | ciou.
    """
    formula, settings = partial(alpha_iou_similarity, alpha=alpha, of=of), {"alpha": alpha, "of": of}
    return FormulaSimilarityLoss("alpha_iou", formula, RANGES[of], additive=alpha == 1, settings=settings)
