"""Absolute error of the edges, plain and smooth."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from utils.losses.box.base import BOX_LOSSES, BoxLoss
from utils.losses.box.geometry import boxes_to_centres
from utils.losses.parameters import flag, number


def edge_differences(pred: Tensor, target: Tensor, eps: float, normalise: bool) -> Tensor:
    """Distances (N, 4) of left, top, right and bottom edges, as they are or in units of the target's side across."""
    if not normalise:
        return pred - target
    width, height = (boxes_to_centres(target)[1] + eps).unbind(dim=1)
    return (pred - target) / torch.stack((width, height, width, height), dim=1)


@BOX_LOSSES.register(
    "l1",
    formula="mean of |edge differences|, in pixels or in sides of the target",
    range=(0.0, math.inf),
    paper="Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083",
)
def build_l1(normalise: bool = False) -> BoxLoss:
    """L1 loss, mean of the four |edge differences|, range [0, infinity): arXiv:1504.08083, section 2.3, mentions it.

    Args:
        normalise: edges in units of the target's side across them (invariant to scale) instead of pixels.
    """
    normalise = flag("l1", "normalise", normalise)

    def l1(pred: Tensor, target: Tensor, eps: float) -> Tensor:
        return edge_differences(pred, target, eps, normalise).abs().mean(dim=1)

    return BoxLoss("l1", l1, (0.0, math.inf), pixels=not normalise, normalise=normalise)


@BOX_LOSSES.register(
    "smooth_l1",
    formula="mean of d^2 / (2 beta) below beta, |d| - beta / 2 above, d the edge differences",
    range=(0.0, math.inf),
    paper="Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083",
)
def build_smooth_l1(beta: float = 1.0, normalise: bool = False) -> BoxLoss:
    """Smooth L1 loss of the four edge differences, range [0, infinity): Girshick, arXiv:1504.08083, equation 3.

    Args:
        beta: > 0, where the parabola meets the line, in pixels, or in sides of the target with ``normalise``.
        normalise: as in :func:`build_l1`.
    """
    beta, normalise = number("smooth_l1", "beta", beta, 0, above=True), flag("smooth_l1", "normalise", normalise)

    def smooth_l1(pred: Tensor, target: Tensor, eps: float) -> Tensor:
        difference = edge_differences(pred, target, eps, normalise)
        return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=beta, reduction="none").mean(
            dim=1
        )

    return BoxLoss("smooth_l1", smooth_l1, (0.0, math.inf), pixels=not normalise, beta=beta, normalise=normalise)
