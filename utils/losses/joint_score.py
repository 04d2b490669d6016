"""The joint score of an anchor and a class as one logit: what suppression and average precision sort by."""

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
        ValueError: shapes that do not belong together.
    """
    if objectness.shape[-1:] != (1,) or objectness.shape[:-1] != classes.shape[:-1]:
        shape = (*classes.shape[:-1], 1)
        raise ValueError(f"Expected objectness of shape {shape}, as classes, but got {tuple(objectness.shape)}")
    with torch.autocast(classes.device.type, enabled=False):
        dtype = torch.promote_types(classes.dtype, torch.float32)
        return _JointLogits.apply(objectness.to(dtype), classes.to(dtype))


class _JointLogits(torch.autograd.Function):
    """A function of its own because the graph of the formula would hold five tensors of the size of its result."""

    @staticmethod
    def forward(ctx: Any, objectness: Tensor, classes: Tensor) -> Tensor:
        # e^-z = e^-c (1 + e^-o) + e^-o, and 1 + e^-o = 1 / sigmoid(o)
        joint = torch.logaddexp(-functional.logsigmoid(objectness) - classes, -objectness).neg_()
        ctx.save_for_backward(objectness, classes, joint)
        return joint

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        objectness, classes, joint = ctx.saved_tensors
        log_rest = functional.logsigmoid(-joint)  # log(1 - p)
        to_objectness = (functional.logsigmoid(-objectness) - log_rest).exp_().mul_(grad).sum(dim=-1, keepdim=True)
        to_classes = (functional.logsigmoid(-classes) - log_rest).exp_().mul_(grad)
        return to_objectness, to_classes
