"""Score losses on independent logits: binary cross-entropy and focal loss."""

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
