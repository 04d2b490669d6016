"""What all box losses share: the call, its checks, the precision, and the sides that their formulas are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.losses.reduce import reduce_loss
from utils.registry import Registry

BOX_LOSSES = Registry("box loss")

Similarity = Callable[[Tensor, Tensor, float], Tensor]


class BoxLoss:
    """A box-regression loss, 1 - similarity, as returned by :func:`utils.losses.box_loss`.

    Attributes:
        name: registered name.
        range: smallest and largest value of the loss (the upper end may be a supremum).
        parameters: the parameters it was built with.
    """

    def __init__(self, name: str, similarity: Similarity, value_range: tuple[float, float], **parameters: Any) -> None:
        self.name = name
        self.range = value_range
        self.parameters = parameters
        self._similarity = similarity

    def similarity(self, pred: Tensor, target: Tensor, *, eps: float = 1e-7) -> Tensor:
        """Similarity (N,) of box i with box i: 1 for equal boxes, 1 - loss elsewhere.

        Arguments and errors as in :meth:`__call__`.
        """
        _check_boxes(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
            return self._similarity(pred.to(dtype), target.to(dtype), eps)

    def __call__(self, pred: Tensor, target: Tensor, *, reduction: str = "none", eps: float = 1e-7) -> Tensor:
        """Loss of box i against box i, in float32 or wider, outside autocast.

        Args:
            pred: (N, 4) ``xyxy``, predicted boxes, any unit.
            target: (N, 4) ``xyxy``, ground truth in the same unit.
            reduction: ``none`` | ``mean`` | ``sum``; the mean of no boxes is 0 and still has a gradient.
            eps: added where a denominator could be 0, in (squared) box units.

        Returns:
            (N,) within ``range``, or a scalar.

        Raises:
            ValueError: shapes differ or are not (N, 4); unknown reduction.
        """
        return reduce_loss(1 - self.similarity(pred, target, eps=eps), reduction)

    def __repr__(self) -> str:
        return f"box_loss({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.parameters.items())])})"


def _check_boxes(pred: Tensor, target: Tensor) -> None:
    if pred.ndim != 2 or pred.shape[1] != 4:
        raise ValueError(f"Expected pred boxes of shape (N, 4) but got {tuple(pred.shape)}")
    if target.shape != pred.shape:
        raise ValueError(f"Expected target boxes of shape {tuple(pred.shape)}, as pred, but got {tuple(target.shape)}")


class Sides(NamedTuple):
    """Widths and heights that the overlap formulas share, each (N,).

    Attributes:
        overlap_w, overlap_h: sides of the intersection; negative where the boxes are apart.
        enclosing_w, enclosing_h: sides of the smallest box around both.
        pred_w, pred_h, target_w, target_h: sides of the boxes.
    """

    overlap_w: Tensor
    overlap_h: Tensor
    enclosing_w: Tensor
    enclosing_h: Tensor
    pred_w: Tensor
    pred_h: Tensor
    target_w: Tensor
    target_h: Tensor


def box_sides(pred: Tensor, target: Tensor) -> Sides:
    """Sides of intersection, enclosing box, and both boxes; inputs (N, 4) ``xyxy``."""
    px1, py1, px2, py2 = pred.unbind(-1)
    tx1, ty1, tx2, ty2 = target.unbind(-1)
    return Sides(
        overlap_w=torch.minimum(px2, tx2) - torch.maximum(px1, tx1),
        overlap_h=torch.minimum(py2, ty2) - torch.maximum(py1, ty1),
        enclosing_w=torch.maximum(px2, tx2) - torch.minimum(px1, tx1),
        enclosing_h=torch.maximum(py2, ty2) - torch.minimum(py1, ty1),
        pred_w=px2 - px1,
        pred_h=py2 - py1,
        target_w=tx2 - tx1,
        target_h=ty2 - ty1,
    )


def iou_and_union(sides: Sides, eps: float) -> tuple[Tensor, Tensor]:
    """Intersection over union (N,) in [0, 1] and the union (N,), eps included, from the sides."""
    intersection = sides.overlap_w.clamp(min=0) * sides.overlap_h.clamp(min=0)
    union = sides.pred_w * sides.pred_h + sides.target_w * sides.target_h - intersection + eps
    return intersection / union, union


def centre_distance_ratio(pred: Tensor, target: Tensor, sides: Sides, eps: float) -> Tensor:
    """Squared centre distance over the squared diagonal of the enclosing box, (N,) in [0, 1): DIoU's penalty."""
    diagonal = sides.enclosing_w.square() + sides.enclosing_h.square() + eps
    twice_offset = pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]
    return twice_offset.square().sum(dim=1) / 4 / diagonal
