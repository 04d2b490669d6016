"""Base of the box losses: call, checks, precision, unit of the boxes, and registration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from utils.losses.info import LossInfo, Range
from utils.losses.reduce import reduce_loss
from utils.parameters import Parameter
from utils.registry import Registry

Formula = Callable[[Tensor, Tensor, float], Tensor]
ImageSize = tuple[float, float] | Tensor


class BoxContext(NamedTuple):
    """What some losses need to know beside the boxes. Losses of ratios ignore it.

    Attributes:
        stride: pixels per unit of the boxes, a number or (N, 1); None for boxes in pixels.
        image_wh: width and height in pixels of the image that the network sees, a pair or (2,), or None if unknown.
        across_processes: whether all processes of a group call the loss in this step; if not, a loss with a running
            mean must not wait for the others.
    """

    stride: Tensor | float | None = None
    image_wh: ImageSize | None = None
    across_processes: bool = True


NO_CONTEXT = BoxContext()


class BoxLoss(nn.Module):
    """A box-regression loss, as returned by :func:`utils.losses.box_loss`. Subclasses define :meth:`compute`.

    Args:
        name: registered name.
        value_range: smallest and largest value of the loss (the upper end may be a supremum).
        pixels: the formula holds lengths in pixels; boxes in another unit are brought to pixels first.
        additive: the loss is 1 - IoU plus a penalty of at most ``value_range[1] - 1``.
        settings: the parameters it was built with.

    Attributes:
        name, range, pixels, additive, settings: as given.
    """

    def __init__(
        self,
        name: str,
        value_range: Range,
        *,
        pixels: bool = False,
        additive: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.range = value_range
        self.pixels = pixels
        self.additive = additive
        self.settings = dict(settings or {})

    def compute(self, pred: Tensor, target: Tensor, eps: float, context: BoxContext) -> Tensor:
        """Loss (N,) of checked boxes in float32 or wider; in pixels if ``pixels`` is set."""
        raise NotImplementedError

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
            return reduce_loss(self.compute(pred, target, eps, context), reduction)

    def __repr__(self) -> str:
        return f"box_loss({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.settings.items())])})"


class SimilarityLoss(BoxLoss):
    """A box loss of the form 1 - similarity, where the similarity says how good a box is: 1 for equal boxes."""

    def similarity(
        self, pred: Tensor, target: Tensor, *, eps: float = 1e-7, context: BoxContext = NO_CONTEXT
    ) -> Tensor:
        """Similarity (N,) of box i with box i, 1 - loss. Arguments and errors as in :meth:`forward`."""
        loss: Tensor = self(pred, target, eps=eps, context=context)
        return 1 - loss


class FormulaLoss(BoxLoss):
    """A box loss without state: a formula ``(pred, target, eps) -> loss (N,)``. Arguments as for :class:`BoxLoss`."""

    def __init__(self, name: str, formula: Formula, value_range: Range, **options: Any) -> None:
        super().__init__(name, value_range, **options)
        self._formula = formula

    def compute(self, pred: Tensor, target: Tensor, eps: float, context: BoxContext) -> Tensor:
        """The formula, (N,)."""
        return self._formula(pred, target, eps)


class FormulaSimilarityLoss(SimilarityLoss):
    """1 minus a formula ``(pred, target, eps) -> similarity (N,)``. Arguments as for :class:`BoxLoss`."""

    def __init__(self, name: str, formula: Formula, value_range: Range, **options: Any) -> None:
        super().__init__(name, value_range, **options)
        self._formula = formula

    def compute(self, pred: Tensor, target: Tensor, eps: float, context: BoxContext) -> Tensor:
        """1 - similarity, (N,)."""
        return 1 - self._formula(pred, target, eps)


def _check_boxes(pred: Tensor, target: Tensor) -> None:
    if pred.ndim != 2 or pred.shape[1] != 4:
        raise ValueError(f"Expected pred boxes of shape (N, 4) but got {tuple(pred.shape)}")
    if target.shape != pred.shape:
        raise ValueError(f"Expected target boxes of shape {tuple(pred.shape)}, as pred, but got {tuple(target.shape)}")


BOX_LOSSES: Registry[LossInfo, BoxLoss] = Registry("box loss")

Builder = TypeVar("Builder", bound=Callable[..., BoxLoss])
FormulaT = TypeVar("FormulaT", bound=Callable[..., Tensor])


def register_builder(
    name: str,
    *,
    formula: str,
    range: Range,
    paper: str,
    parameters: Mapping[str, Parameter] | None = None,
    check_together: Callable[..., None] | None = None,
) -> Callable[[Builder], Builder]:
    """Decorate a function ``(**parameters) -> BoxLoss``: for losses with state and for wrappers.

    Args:
        name: what settings call the loss.
        formula, range, paper: as in :class:`LossInfo`.
        parameters: by name, each with its default and its check; the function gets them by name, checked.
        check_together: called with all parameters by name; raises UserError.
    """

    def add(build: Builder) -> Builder:
        BOX_LOSSES.add(
            LossInfo(
                name=name,
                build=build,
                parameters=parameters or {},
                check_together=check_together,
                formula=formula,
                range=range,
                paper=paper,
            )
        )
        return build

    return add


def register_formula(
    name: str,
    *,
    formula: str,
    range: Range,
    paper: str,
    parameters: Mapping[str, Parameter] | None = None,
    check_together: Callable[..., None] | None = None,
    similarity: bool = True,
    additive: bool | None = None,
    pixels: bool | Callable[..., bool] = False,
) -> Callable[[FormulaT], FormulaT]:
    """Decorate a formula ``(pred, target, eps, *, **parameters) -> (N,)`` of (N, 4) ``xyxy`` boxes.

    The function is returned unchanged.

    Args:
        name, formula, range, paper, parameters, check_together: as for :func:`register_builder`.
        similarity: the formula says how good a box is, 1 for equal boxes, and the loss is 1 - formula; false: the
            formula is the loss itself.
        additive: the loss is 1 - IoU plus a penalty of at most ``range[1] - 1``; None: if ``similarity``.
        pixels: the formula holds lengths in pixels; or a function of the parameters, by name, that says so.
    """
    kind = FormulaSimilarityLoss if similarity else FormulaLoss

    def add(function: FormulaT) -> FormulaT:
        def build(**values: Any) -> BoxLoss:
            return kind(
                name,
                partial(function, **values),
                range,
                additive=similarity if additive is None else additive,
                pixels=pixels(**values) if callable(pixels) else pixels,
                settings=values,
            )

        build.__doc__ = function.__doc__
        register_builder(
            name,
            formula=formula,
            range=range,
            paper=paper,
            parameters=parameters,
            check_together=check_together,
        )(build)
        return function

    return add
