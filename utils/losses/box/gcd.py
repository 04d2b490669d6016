"""Gaussian combined distance: boxes as Gaussians, with distances in units of the sides of both boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import boxes_to_centres


@register_formula(
    "gcd",
    formula="1 - exp(-D), D^2 = mean over both boxes of (dx/w)^2 + (dy/h)^2 + ((dw/w)^2 + (dh/h)^2) / 4",
    range=(0.0, 1.0),
    paper="Guan et al., Gaussian Combined Distance, IEEE GRSL 2025, arXiv:2510.27649",
    additive=False,
)
def gcd_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """GCD = exp(-D), (N,) in [0, 1], of (N, 4) ``xyxy`` boxes: Guan et al., arXiv:2510.27649.

    D^2 = 1/2 [(dx/w_p)^2 + (dy/h_p)^2 + (dx/w_t)^2 + (dy/h_t)^2
               + 1/4 ((dw/w_p)^2 + (dh/h_p)^2 + (dw/w_t)^2 + (dh/h_t)^2)]

    with the centre offsets dx, dy and the side differences dw, dh. Symmetric in the boxes and invariant to scale; the
    gradients of centre and sides depend on each other, and boxes that do not overlap attract.
    """
    (pred_centre, pred_sides), (target_centre, target_sides) = boxes_to_centres(pred), boxes_to_centres(target)
    squares = (pred_centre - target_centre).square() + (pred_sides - target_sides).square() / 4
    squared_distance = (squares / (pred_sides + eps).square() + squares / (target_sides + eps).square()).sum(dim=1) / 2
    # sqrt has no derivative at 0
    return torch.exp(-(squared_distance + eps**2).sqrt())
