"""Reduction of elementwise losses to a mean or a sum."""

from __future__ import annotations

from torch import Tensor

from utils.errors import unknown_name

REDUCTIONS = ("none", "mean", "sum")


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Reduce elementwise losses.

    Args:
        loss: (N,) or any shape.
        reduction: ``none`` returns it unchanged; ``mean`` of nothing is 0 and stays attached to the graph; ``sum``.

    Raises:
        UserError: another reduction.
    """
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(loss.numel(), 1)
    raise unknown_name("reduction", reduction, REDUCTIONS)
