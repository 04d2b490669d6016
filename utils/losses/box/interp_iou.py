"""Interpolated-IoU loss: IoU of the box, and IoU of a box on the way to the target."""

from __future__ import annotations

from torch import Tensor

from utils.errors import UserError
from utils.losses.box.base import register_formula
from utils.losses.box.geometry import iou_of
from utils.parameters import Flag, Number


def _check(alpha: float, dynamic: bool, low: float) -> None:
    if alpha == 1:
        raise UserError("expected alpha below 1 (at 1 the interpolated box is the target) but got 1")
    if dynamic and low > alpha:
        raise UserError(f"expected low of at most alpha, {alpha:g}, but got {low:g}")


@register_formula(
    "interp_iou",
    formula="2 - IoU(b, t) - IoU((1 - alpha) b + alpha t, t)",
    range=(0.0, 2.0),
    paper="Liu and Watanabe, InterpIoU, arXiv:2507.12420",
    parameters={"alpha": Number(0.99, 0, 1), "dynamic": Flag(False), "low": Number(0.6, 0, 1)},
    check_together=_check,
)
def interp_iou_similarity(
    pred: Tensor, target: Tensor, eps: float, *, alpha: float, dynamic: bool, low: float
) -> Tensor:
    """IoU(b, t) + IoU((1 - alpha) b + alpha t, t) - 1, (N,) in [-1, 1], of (N, 4) ``xyxy`` boxes: arXiv:2507.12420.

    The interpolated box overlaps the target even where b does not, so IoU has a gradient there.

    Args:
        alpha: in [0, 1), how far the interpolated box has moved to the target.
        dynamic: alpha follows the box: 1 - IoU without gradient, held between ``low`` and ``alpha``.
        low: in [0, alpha], used with ``dynamic``.
    """
    iou = iou_of(pred, target, eps)
    share = (1 - iou.detach()).clamp(low, alpha)[:, None] if dynamic else alpha
    # not (1 - share) pred + share target: that rounds where the boxes are equal
    between = pred + share * (target - pred)
    return iou + iou_of(between, target, eps) - 1
