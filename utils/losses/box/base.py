"""What all box losses share: the call, its checks, the precision, and the unit of the boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from utils.losses.reduce import reduce_loss
from utils.registry import Registry

BOX_LOSSES = Registry("box loss")

Formula = Callable[[Tensor, Tensor, float], Tensor]
ImageSize = tuple[float, float] | Tensor


class BoxContext(NamedTuple):
    """What a loss in pixels needs to know about boxes in cells. Losses of ratios never look at it.

    Attributes:
        stride: pixels per unit of the boxes, a number or (N, 1); None for boxes in pixels.
        image_wh: width and height in pixels of the image that the network sees, a pair or (2,), or None if unknown.
    """

    stride: Tensor | float | None = None
    image_wh: ImageSize | None = None


NO_CONTEXT = BoxContext()


class BoxLoss(nn.Module):
    """A box-regression loss, as returned by :func:`utils.losses.box_loss`.

    Args:
        name: registered name.
        formula: ``(pred, target, eps) -> loss (N,)`` of (N, 4) ``xyxy`` boxes; subclasses may override
            :meth:`compute` instead.
        value_range: smallest and largest value of the loss (the upper end may be a supremum).
        pixels: the formula holds lengths in pixels; boxes in another unit are brought to pixels first.
        settings: the parameters it was built with.

    Attributes:
        name, range, settings: as given.
        pixels: as given.
        additive: whether the loss is 1 - IoU plus a penalty of at most ``range[1] - 1``.
    """

    additive = False

    def __init__(
        self,
        name: str,
        formula: Formula | None,
        value_range: tuple[float, float],
        *,
        pixels: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.name = name
        self.range = value_range
        self.pixels = pixels
        self.settings = settings
        self._formula = formula

    def compute(self, pred: Tensor, target: Tensor, eps: float, image_wh: ImageSize | None) -> Tensor:
        """Loss (N,) of boxes that are checked, in float32 or wider, and in pixels where ``pixels`` says so."""
        return self._formula(pred, target, eps)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        *,
        reduction: str = "none",
        eps: float = 1e-7,
        context: BoxContext = NO_CONTEXT,
    ) -> Tensor:
        """Loss of box i against box i, in float32 or wider, outside autocast.

        Args:
            pred: (N, 4) ``xyxy``, predicted boxes, in pixels or in the unit that ``context`` tells.
            target: (N, 4) ``xyxy``, ground truth in the same unit.
            reduction: ``none`` | ``mean`` | ``sum``; the mean of no boxes is 0 and still has a gradient.
            eps: added where a denominator could be 0, in (squared) box units.
            context: unit of the boxes and size of the image, for losses in pixels.

        Returns:
            (N,) within ``range``, or a scalar.

        Raises:
            ValueError: shapes differ or are not (N, 4); unknown reduction.
        """
        _check_boxes(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
            pred, target = pred.to(dtype), target.to(dtype)
            if self.pixels and context.stride is not None:
                stride = torch.as_tensor(context.stride).to(pred)
                pred, target = pred * stride, target * stride
            return reduce_loss(self.compute(pred, target, eps, context.image_wh), reduction)

    def __repr__(self) -> str:
        return f"box_loss({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.settings.items())])})"


class SimilarityLoss(BoxLoss):
    """A box loss of the form 1 - similarity, where the similarity says how good a box is: 1 for equal boxes.

    Args:
        formula: ``(pred, target, eps) -> similarity (N,)``.
        additive: whether the loss is 1 - IoU plus a penalty of at most ``value_range[1] - 1``.
        others: as for :class:`BoxLoss`.
    """

    def __init__(
        self,
        name: str,
        formula: Formula | None,
        value_range: tuple[float, float],
        *,
        additive: bool = True,
        pixels: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(name, formula, value_range, pixels=pixels, **settings)
        self.additive = additive

    def compute(self, pred: Tensor, target: Tensor, eps: float, image_wh: ImageSize | None) -> Tensor:
        """1 - similarity, (N,)."""
        return 1 - self._formula(pred, target, eps)

    def similarity(
        self, pred: Tensor, target: Tensor, *, eps: float = 1e-7, context: BoxContext = NO_CONTEXT
    ) -> Tensor:
        """Similarity (N,) of box i with box i, 1 - loss. Arguments and errors as in :meth:`forward`."""
        return 1 - self(pred, target, eps=eps, context=context)


def _check_boxes(pred: Tensor, target: Tensor) -> None:
    if pred.ndim != 2 or pred.shape[1] != 4:
        raise ValueError(f"Expected pred boxes of shape (N, 4) but got {tuple(pred.shape)}")
    if target.shape != pred.shape:
        raise ValueError(f"Expected target boxes of shape {tuple(pred.shape)}, as pred, but got {tuple(target.shape)}")
