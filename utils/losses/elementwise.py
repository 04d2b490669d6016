"""Score losses on independent logits: binary cross-entropy, focal loss and its forms for soft targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from utils.errors import UserError
from utils.losses.reduce import reduce_loss
from utils.registry import Registry

SCORE_LOSSES = Registry("score loss")

ElementLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


class ScoreLoss:
    """An elementwise loss of logits against targets in [0, 1], as built by ``SCORE_LOSSES``.

    Attributes:
        name: registered name.
    """

    def __init__(self, name: str, element_loss: ElementLoss) -> None:
        self.name = name
        self._element_loss = element_loss

    def __call__(
        self, logits: Tensor, targets: Tensor, *, positive_weight: float = 1.0, reduction: str = "none"
    ) -> Tensor:
        """Loss of each logit, in float32 or wider, outside autocast.

        Args:
            logits: any shape.
            targets: the same shape, in [0, 1].
            positive_weight: factor on the positive half of the cross-entropy.
            reduction: ``none`` | ``mean`` | ``sum``.

        Returns:
            losses of the shape of ``logits``, each >= 0, or a scalar.

        Raises:
            ValueError: shapes differ; unknown reduction.
        """
        if logits.shape != targets.shape:
            raise ValueError(
                f"Expected targets of shape {tuple(logits.shape)}, as logits, but got {tuple(targets.shape)}"
            )
        with torch.autocast(logits.device.type, enabled=False):
            dtype = torch.promote_types(logits.dtype, torch.float32)
            logits, targets = logits.to(dtype), targets.to(dtype)
            weight = logits.new_tensor(positive_weight) if positive_weight != 1.0 else None
            return reduce_loss(self._element_loss(logits, targets, weight), reduction)


def _cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")


@SCORE_LOSSES.register(
    "bce",
    formula="-w y ln p - (1 - y) ln(1 - p)",
    range=(0.0, float("inf")),
    paper="Redmon and Farhadi, arXiv:1804.02767",
)
def build_bce() -> ScoreLoss:
    """Binary cross-entropy, -w y ln p - (1 - y) ln(1 - p) with p = sigmoid(logit)."""
    return ScoreLoss("bce", _cross_entropy)


@SCORE_LOSSES.register(
    "focal",
    formula="alpha_t (1 - p_t)^gamma BCE",
    range=(0.0, float("inf")),
    paper="Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002",
)
def build_focal(gamma: float = 1.5, alpha: float = 0.25) -> ScoreLoss:
    """Focal loss, alpha_t (1 - p_t)^gamma BCE: Lin et al., arXiv:1708.02002, equation 5.

    Soft targets y interpolate: p_t = y p + (1 - y)(1 - p), alpha_t = y alpha + (1 - y)(1 - alpha).

    Args:
        gamma: >= 0, how fast easy examples fade; 0 leaves weighted cross-entropy.
        alpha: in [0, 1], weight of positives against negatives.
    """
    if not gamma >= 0:
        raise UserError(f"focal: expected gamma >= 0 but got {gamma}")
    if not 0 <= alpha <= 1:
        raise UserError(f"focal: expected alpha from 0 to 1 but got {alpha}")

    def focal(logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        probability = logits.sigmoid()
        miss = targets * (1 - probability) + (1 - targets) * probability
        miss = miss.clamp(min=torch.finfo(miss.dtype).tiny)  # for 0 < gamma < 1 the power has no derivative at 0
        balance = targets * alpha + (1 - targets) * (1 - alpha)
        return balance * miss.pow(gamma) * _cross_entropy(logits, targets, weight)

    return ScoreLoss("focal", focal)


def _exponent(loss: str, name: str, value: float) -> float:
    """An exponent that is 0, or at least 1: between them the slope at 0 is infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or value >= 1):
        raise UserError(f"{loss}: expected {name}, a number, 0 or at least 1, but got {value!r}")
    return value


@SCORE_LOSSES.register(
    "qfocal",
    formula="|y - p|^beta BCE",
    range=(0.0, float("inf")),
    paper="Li et al., Generalized Focal Loss, NeurIPS 2020, arXiv:2006.04388",
)
def build_qfocal(beta: float = 2.0) -> ScoreLoss:
    """Quality focal loss, |y - p|^beta BCE(p, y): Li et al., arXiv:2006.04388. Least, 0, at p = y.

    Args:
        beta: 0, which leaves cross-entropy, or >= 1: how fast scores near their target fade.
    """
    beta = _exponent("qfocal", "beta", beta)

    def qfocal(logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        return (targets - logits.sigmoid()).abs().pow(beta) * _cross_entropy(logits, targets, weight)

    return ScoreLoss("qfocal", qfocal)


@SCORE_LOSSES.register(
    "varifocal",
    formula="y BCE where y > 0, alpha p^gamma BCE where y = 0",
    range=(0.0, float("inf")),
    paper="Zhang et al., VarifocalNet, CVPR 2021, arXiv:2008.13367",
)
def build_varifocal(alpha: float = 0.75, gamma: float = 2.0) -> ScoreLoss:
    """Varifocal loss: Zhang et al., arXiv:2008.13367, equation 2. Positives count as much as they fit, none fades.

    Args:
        alpha: >= 0, weight of negatives.
        gamma: 0, or >= 1: how fast easy negatives fade.
    """
    if not alpha >= 0:
        raise UserError(f"varifocal: expected alpha >= 0 but got {alpha}")
    gamma = _exponent("varifocal", "gamma", gamma)

    def varifocal(logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        balance = torch.where(targets > 0, targets, alpha * logits.sigmoid().pow(gamma))
        return balance * _cross_entropy(logits, targets, weight)

    return ScoreLoss("varifocal", varifocal)


@SCORE_LOSSES.register(
    "mal",
    formula="BCE(p, y^gamma) where y > 0, p*^gamma BCE where y = 0",
    range=(0.0, float("inf")),
    paper="Huang et al., DEIM, CVPR 2025, arXiv:2412.04234",
)
def build_mal(gamma: float = 1.5) -> ScoreLoss:
    """Matchability-aware loss: Huang et al., arXiv:2412.04234, with the detached weight of its code.

    The target of a positive is y^gamma and its weight 1, so that a confident score for a poor box is expensive (in the
    varifocal loss it is cheap). A negative weighs p^gamma, without gradient (the star).

    Args:
        gamma: 0, or >= 1.
    """
    gamma = _exponent("mal", "gamma", gamma)

    def mal(logits: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        positive = targets > 0
        # 0^0 is 1, and a negative has the target 0 whatever gamma is
        wanted = torch.where(positive, targets.pow(gamma), torch.zeros_like(targets))
        balance = torch.where(positive, torch.ones_like(targets), logits.detach().sigmoid().pow(gamma))
        return balance * _cross_entropy(logits, wanted, weight)

    return ScoreLoss("mal", mal)
