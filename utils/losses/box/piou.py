"""Powerful-IoU loss: edge errors in units of the target's sides; version 2 focuses on boxes of medium quality."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import boxes_to_centres, iou_of
from utils.parameters import Number

PAPER = "Liu et al., Powerful-IoU, Neural Networks 2024, doi:10.1016/j.neunet.2023.11.041"


def edge_error(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """P: mean of the four edges' distances, each in units of the target's side across it, (N,) of at least 0."""
    width, height = (boxes_to_centres(target)[1] + eps).unbind(dim=1)
    return ((pred - target).abs() / torch.stack((width, height, width, height), dim=1)).mean(dim=1)


@register_formula(
    "piou",
    formula="2 - IoU - e^(-P^2), P = mean edge error / target side",
    range=(0.0, 2.0),
    paper=PAPER,
)
def piou_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """PIoU = IoU + e^(-P^2) - 1, (N,) in [-1, 1], of (N, 4) ``xyxy`` boxes; P as in :func:`edge_error`.

    The penalty depends on the target's sides alone: growing a box never lowers it. Liu et al., Neural Networks 170
    (2024); "Pixels-IoU" has the same abbreviation and is another loss.
    """
    return iou_of(pred, target, eps) + torch.exp(-edge_error(pred, target, eps).square()) - 1


@register_formula(
    "piou2",
    formula="3 x e^(-x^2) PIoU loss, x = lam e^-P",
    range=(0.0, 6 / math.sqrt(2 * math.e)),
    paper=PAPER,
    parameters={"lam": Number(1.3, low=0, above=True)},
    similarity=False,
)
def piou2(pred: Tensor, target: Tensor, eps: float, *, lam: float) -> Tensor:
    """3 x e^(-x^2) (2 - IoU - e^(-P^2)) with x = lam e^-P, (N,) in [0, 6 / sqrt(2 e)]: PIoU v2, paper as of `piou`.

    The attention 3 x e^(-x^2) carries its gradient, as in the authors' code. It falls as P grows, and from P near 1 on
    (edges off by one target side on average) faster than PIoU rises: such boxes are pushed away.

    Args:
        lam: > 0; x = 1 / sqrt(2), P = ln(lam sqrt(2)), gets the largest weight.
    """
    x = lam * torch.exp(-edge_error(pred, target, eps))
    return 3 * x * torch.exp(-x.square()) * (1 - piou_similarity(pred, target, eps))
