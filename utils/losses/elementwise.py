"""Elementwise score losses: binary cross-entropy, focal loss and its forms for soft targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from utils.errors import UserError
from utils.losses.score import register_elementwise
from utils.parameters import Number, check_number


@dataclass(frozen=True)
class Exponent:
    """An exponent that is 0, or at least 1: between them the slope at 0 is infinite."""

    default: float

    def check(self, value: Any) -> float:
        """A float. Raises UserError for other values."""
        found = check_number(value, 0)
        if 0 < found < 1:
            raise UserError(f"expected 0 or a number of at least 1 but got {value!r}")
        return found


@register_elementwise(
    "bce", formula="-w y ln p - (1 - y) ln(1 - p)", paper="Redmon and Farhadi, YOLOv3, arXiv:1804.02767"
)
def binary_cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    """Binary cross-entropy, -w y ln p - (1 - y) ln(1 - p) with p = sigmoid(logit)."""
    return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")


@register_elementwise(
    "focal",
    formula="alpha_t (1 - p_t)^gamma BCE",
    paper="Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002",
    parameters={"gamma": Number(1.5, low=0), "alpha": Number(0.25, 0, 1)},
)
def focal(logits: Tensor, targets: Tensor, weight: Tensor | None, *, gamma: float, alpha: float) -> Tensor:
    """Focal loss, alpha_t (1 - p_t)^gamma BCE: Lin et al., arXiv:1708.02002, equation 5.

    Soft targets y interpolate: p_t = y p + (1 - y)(1 - p), alpha_t = y alpha + (1 - y)(1 - alpha).

    Args:
        gamma: >= 0, how fast easy examples fade; 0 leaves weighted cross-entropy.
        alpha: in [0, 1], weight of positives against negatives.
    """
    probability = logits.sigmoid()
    miss = targets * (1 - probability) + (1 - targets) * probability
    miss = miss.clamp(min=torch.finfo(miss.dtype).tiny)  # for 0 < gamma < 1 the power has no derivative at 0
    balance = targets * alpha + (1 - targets) * (1 - alpha)
    return balance * miss.pow(gamma) * binary_cross_entropy(logits, targets, weight)


@register_elementwise(
    "qfocal",
    formula="|y - p|^beta BCE",
    paper="Li et al., Generalized Focal Loss, NeurIPS 2020, arXiv:2006.04388",
    parameters={"beta": Exponent(2.0)},
)
def quality_focal(logits: Tensor, targets: Tensor, weight: Tensor | None, *, beta: float) -> Tensor:
    """Quality focal loss, |y - p|^beta BCE(p, y): Li et al., arXiv:2006.04388. Least, 0, at p = y.

    Args:
        beta: 0, which leaves cross-entropy, or >= 1: how fast scores near their target fade.
    """
    return (targets - logits.sigmoid()).abs().pow(beta) * binary_cross_entropy(logits, targets, weight)


@register_elementwise(
    "varifocal",
    formula="y BCE where y > 0, alpha p^gamma BCE where y = 0",
    paper="Zhang et al., VarifocalNet, CVPR 2021, arXiv:2008.13367",
    parameters={"alpha": Number(0.75, low=0), "gamma": Exponent(2.0)},
)
def varifocal(logits: Tensor, targets: Tensor, weight: Tensor | None, *, alpha: float, gamma: float) -> Tensor:
    """Varifocal loss: Zhang et al., arXiv:2008.13367, equation 2. Positives are weighted by their targets.

    Args:
        alpha: >= 0, weight of negatives.
        gamma: 0, or >= 1: how fast easy negatives fade.
    """
    balance = torch.where(targets > 0, targets, alpha * logits.sigmoid().pow(gamma))
    return balance * binary_cross_entropy(logits, targets, weight)


@register_elementwise(
    "mal",
    formula="BCE(p, y^gamma) where y > 0, p*^gamma BCE where y = 0",
    paper="Huang et al., DEIM, CVPR 2025, arXiv:2412.04234",
    parameters={"gamma": Exponent(1.5)},
)
def matchability_aware(logits: Tensor, targets: Tensor, weight: Tensor | None, *, gamma: float) -> Tensor:
    """Matchability-aware loss: Huang et al., arXiv:2412.04234, with the detached weight of its code.

    The target of a positive is y^gamma and its weight 1, so that a confident score for a poor box is expensive (in the
    varifocal loss it is cheap). A negative is weighted by p^gamma, without gradient (the star).

    Args:
        gamma: 0, or >= 1.
    """
    positive = targets > 0
    # 0^0 is 1, and a negative has the target 0 whatever gamma is
    wanted = torch.where(positive, targets.pow(gamma), torch.zeros_like(targets))
    balance = torch.where(positive, torch.ones_like(targets), logits.detach().sigmoid().pow(gamma))
    return balance * binary_cross_entropy(logits, wanted, weight)
