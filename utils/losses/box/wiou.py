"""Wise-IoU loss: the IoU loss, amplified by the centre distance and weighted by how the box compares with others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from utils import distributed
from utils.losses.box.base import BoxContext, BoxLoss, register_builder
from utils.losses.box.geometry import box_sides, boxes_to_centres, iou_and_union
from utils.parameters import Choice, Number


class WiseIoU(BoxLoss):
    """WIoU with its running mean of the IoU loss, a buffer and so part of every checkpoint.

    The mean moves once per training step: in a call in training mode whose predictions carry a gradient. Validation
    (evaluation mode, or no gradient recorded) and values that are only looked at leave it alone, as does a step without
    boxes. Processes that train together add up their sums and counts, so each has the same mean; all of them must
    therefore call the loss in each step, with boxes or without. ``BoxContext(across_processes=False)`` keeps to one.

    Attributes:
        mean_iou_loss: m, scalar, from 1 downwards.
    """

    mean_iou_loss: Tensor

    def __init__(self, version: int, alpha: float, delta: float, momentum: float) -> None:
        # the gain of version 3 is largest at b = 1 / ln(alpha)
        top = {1: math.e, 2: math.inf, 3: alpha**delta / (delta * math.log(alpha))}[version]
        settings = {"version": version, "alpha": alpha, "delta": delta, "momentum": momentum}
        super().__init__("wiou", (0.0, top), settings=settings)
        self.version, self.alpha, self.delta, self.momentum = version, alpha, delta, momentum
        self.register_buffer("mean_iou_loss", torch.ones(()))

    def compute(self, pred: Tensor, target: Tensor, eps: float, context: BoxContext) -> Tensor:
        """gain * exp(rho^2 / c^2) * (1 - IoU), (N,)."""
        sides = box_sides(pred, target)
        iou_loss = 1 - iou_and_union(sides, eps)[0]
        own = iou_loss.detach().clamp(min=0)  # rounding may lift the IoU of equal, large boxes above 1
        if self.training and torch.is_grad_enabled() and pred.requires_grad:
            self._update(own, context.across_processes)
        squared_offset = (boxes_to_centres(pred)[0] - boxes_to_centres(target)[0]).square().sum(dim=1)
        squared_diagonal = sides.enclosing_w.square() + sides.enclosing_h.square() + eps
        return self._gain(own, eps) * torch.exp(squared_offset / squared_diagonal.detach()) * iou_loss

    def _gain(self, own: Tensor, eps: float) -> Tensor | float:
        """Weight of each box, (N,), without gradient: its IoU loss against the running mean."""
        if self.version == 1:
            return 1.0
        outlier = own / self.mean_iou_loss.to(own).clamp(min=eps)
        if self.version == 2:
            return outlier.sqrt()
        return outlier / (self.delta * self.alpha ** (outlier - self.delta))

    @torch.no_grad()
    def _update(self, own: Tensor, across_processes: bool) -> None:
        total = torch.stack((own.sum(), own.new_tensor(float(own.numel()))))
        total = distributed.all_reduce_sum(total) if across_processes else total
        # no branch on the count: with no boxes the weight is 0, and there is no wait for the device
        step = self.momentum * total[1].clamp(max=1)
        mean = total[0] / total[1].clamp(min=1)
        self.mean_iou_loss.add_((step * (mean - self.mean_iou_loss.to(mean))).to(self.mean_iou_loss))


@register_builder(
    "wiou",
    formula="g exp(rho^2 / c^2*) L, L = 1 - IoU, b = L* / m; g: 1 (v1), b^0.5 (v2), b / (delta alpha^(b - delta)) (v3)",
    range=(0.0, 1.9**3.0 / (3.0 * math.log(1.9))),
    paper="Tong et al., Wise-IoU, arXiv:2301.10051",
    parameters={
        "version": Choice(3, (1, 2, 3)),
        "alpha": Number(1.9, low=1, above=True),
        "delta": Number(3.0, low=0, above=True),
        "momentum": Number(0.01, 0, 1, above=True),
    },
)
def wiou(version: int, alpha: float, delta: float, momentum: float) -> WiseIoU:
    """WIoU loss: Tong et al., arXiv:2301.10051; range [0, e) of version 1, no bound of version 2.

    Stars and m carry no gradient: m is the running mean of L, c the diagonal of the enclosing box. Version 1 amplifies
    by distance; 2 gives more weight to worse boxes; 3 (range [0, alpha^delta / (delta ln alpha))) gives most weight to
    boxes of medium quality and little to the best and to outliers.

    Args:
        version: 1 | 2 | 3.
        alpha, delta: of version 3, alpha > 1 and delta > 0; at b = delta the weight is 1.
        momentum: above 0, at most 1, step of the running mean. The paper uses 1 - 0.05^(1 / n) for n training steps
            until the learning curve flattens: 0.01 is n = 300, 0.0001 is n = 30,000.
    """
    return WiseIoU(version, alpha, delta, momentum)
