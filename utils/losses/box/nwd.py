"""Normalised Wasserstein distance: boxes as Gaussians, for objects of a few pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.losses.box.base import BOX_LOSSES, SimilarityLoss
from utils.losses.box.geometry import boxes_to_centres
from utils.losses.parameters import number


@BOX_LOSSES.register(
    "nwd",
    formula="1 - exp(-sqrt(dx^2 + dy^2 + (dw^2 + dh^2) / 4) / C), in pixels",
    range=(0.0, 1.0),
    paper="Wang et al., Normalized Gaussian Wasserstein Distance, arXiv:2110.13389",
)
def build_nwd(constant: float = 12.8) -> SimilarityLoss:
    """NWD loss, 1 - exp(-W / C), range [0, 1]: Wang et al., arXiv:2110.13389.

    W^2 = dx^2 + dy^2 + (dw^2 + dh^2) / 4 is the squared Wasserstein distance of the Gaussians with the boxes' centres
    and half sides. C is a length in pixels, so the boxes are brought to pixels: the same offset costs the same for
    every object size, and the loss is not invariant to scale.

    Args:
        constant: C > 0 in pixels; the paper takes the mean object size of the data set, 12.8 for AI-TOD.
    """
    constant = number("nwd", "constant", constant, 0, above=True)

    def nwd_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
        (pred_centre, pred_sides), (target_centre, target_sides) = boxes_to_centres(pred), boxes_to_centres(target)
        centre, sides = (pred_centre - target_centre).square(), (pred_sides - target_sides).square()
        # the root of 0 has no derivative
        return torch.exp(-(centre.sum(dim=1) + sides.sum(dim=1) / 4 + eps**2).sqrt() / constant)

    return SimilarityLoss("nwd", nwd_similarity, (0.0, 1.0), additive=False, pixels=True, constant=constant)
