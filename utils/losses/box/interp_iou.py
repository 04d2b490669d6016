"""Interpolated-IoU loss: IoU of the box, and IoU of a box on the way to the target."""

from __future__ import annotations

from torch import Tensor

from utils.errors import UserError
from utils.losses.box.base import BOX_LOSSES, SimilarityLoss
from utils.losses.box.geometry import iou_of
from utils.losses.parameters import flag, number


@BOX_LOSSES.register(
    "interp_iou",
    formula="2 - IoU(b, t) - IoU((1 - alpha) b + alpha t, t)",
    range=(0.0, 2.0),
    paper="Liu and Watanabe, InterpIoU, arXiv:2507.12420",
)
def build_interp_iou(alpha: float = 0.99, dynamic: bool = False, low: float = 0.6) -> SimilarityLoss:
    """InterpIoU loss, 2 - IoU(b, t) - IoU((1 - alpha) b + alpha t, t), range [0, 2]: arXiv:2507.12420.

    The interpolated box overlaps the target also where b does not, so that IoU itself gives a gradient there.

    Args:
        alpha: in [0, 1), how far the interpolated box has moved to the target.
        dynamic: alpha follows the box: 1 - IoU without gradient, held between ``low`` and ``alpha``.
        low: in [0, alpha], read where ``dynamic`` is true.
    """
    alpha = number("interp_iou", "alpha", alpha, 0, 1)
    low = number("interp_iou", "low", low, 0, 1)
    if alpha == 1:
        raise UserError("interp_iou: expected alpha below 1 (at 1 the interpolated box is the target) but got 1")
    if flag("interp_iou", "dynamic", dynamic) and low > alpha:
        raise UserError(f"interp_iou: expected low of at most alpha, {alpha:g}, but got {low:g}")

    def interp_iou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
        iou = iou_of(pred, target, eps)
        share = (1 - iou.detach()).clamp(low, alpha)[:, None] if dynamic else alpha
        # not (1 - share) pred + share target: that rounds where the boxes are equal
        between = pred + share * (target - pred)
        return iou + iou_of(between, target, eps) - 1

    settings = {"alpha": alpha, "dynamic": dynamic, "low": low}
    return SimilarityLoss("interp_iou", interp_iou_similarity, (0.0, 2.0), **settings)
