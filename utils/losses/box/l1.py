"""Absolute error of the edges, plain and smooth."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import boxes_to_centres
from utils.parameters import Flag, Number


def edge_differences(pred: Tensor, target: Tensor, eps: float, normalise: bool) -> Tensor:
    """Distances (N, 4) of left, top, right and bottom edges, in box units or in units of the target's sides."""
    if not normalise:
        return pred - target
    width, height = (boxes_to_centres(target)[1] + eps).unbind(dim=1)
    return (pred - target) / torch.stack((width, height, width, height), dim=1)


def _in_pixels(normalise: bool, **_: float) -> bool:
    return not normalise


@register_formula(
    "l1",
    formula="mean of |edge differences|, in pixels or in sides of the target",
    range=(0.0, math.inf),
    paper="Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083",
    parameters={"normalise": Flag(False)},
    similarity=False,
    pixels=_in_pixels,
)
def l1(pred: Tensor, target: Tensor, eps: float, *, normalise: bool) -> Tensor:
    """Mean of the four |edge differences|, (N,) >= 0: mentioned in arXiv:1504.08083, section 2.3.

    Args:
        normalise: edges in units of the target's side across them (invariant to scale) instead of pixels.
    """
    return edge_differences(pred, target, eps, normalise).abs().mean(dim=1)


@register_formula(
    "smooth_l1",
    formula="mean of d^2 / (2 beta) below beta, |d| - beta / 2 above, d the edge differences",
    range=(0.0, math.inf),
    paper="Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083",
    parameters={"beta": Number(1.0, low=0, above=True), "normalise": Flag(False)},
    similarity=False,
    pixels=_in_pixels,
)
def smooth_l1(pred: Tensor, target: Tensor, eps: float, *, beta: float, normalise: bool) -> Tensor:
    """Smooth L1 loss of the four edge differences, (N,) >= 0: Girshick, arXiv:1504.08083, equation 3.

    Args:
        beta: > 0, where the parabola meets the line, in pixels, or in sides of the target with ``normalise``.
        normalise: as in :func:`l1`.
    """
    difference = edge_differences(pred, target, eps, normalise)
    return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=beta, reduction="none").mean(dim=1)
