"""Normalised Wasserstein distance: boxes as Gaussians, for objects of a few pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import boxes_to_centres
from utils.parameters import Number


@register_formula(
    "nwd",
    formula="1 - exp(-sqrt(dx^2 + dy^2 + (dw^2 + dh^2) / 4) / C), in pixels",
    range=(0.0, 1.0),
    paper="Wang et al., Normalized Gaussian Wasserstein Distance, arXiv:2110.13389",
    parameters={"constant": Number(12.8, low=0, above=True)},
    additive=False,
    pixels=True,
)
def nwd_similarity(pred: Tensor, target: Tensor, eps: float, *, constant: float) -> Tensor:
    """NWD = exp(-W / C), (N,) in [0, 1], of (N, 4) ``xyxy`` boxes in pixels: Wang et al., arXiv:2110.13389.

    W^2 = dx^2 + dy^2 + (dw^2 + dh^2) / 4 is the squared Wasserstein distance of the Gaussians with the boxes' centres
    and half sides. The same offset costs the same at every object size, so the loss is not invariant to scale.

    Args:
        constant: C > 0 in pixels; the paper takes the mean object size of the data set, 12.8 for AI-TOD.
    """
    (pred_centre, pred_sides), (target_centre, target_sides) = boxes_to_centres(pred), boxes_to_centres(target)
    centre, sides = (pred_centre - target_centre).square(), (pred_sides - target_sides).square()
    # sqrt has no derivative at 0
    return torch.exp(-(centre.sum(dim=1) + sides.sum(dim=1) / 4 + eps**2).sqrt() / constant)
