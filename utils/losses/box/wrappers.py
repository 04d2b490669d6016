"""Losses that replace the IoU term of another loss: Inner-IoU and Focaler-IoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.losses.box.base import BOX_LOSSES, BoxContext, BoxLoss, Formula, SimilarityLoss, register_builder
from utils.losses.box.geometry import boxes_to_centres, iou_of
from utils.parameters import Checked, Number


class ExchangedIoU(BoxLoss):
    """Another loss with its IoU term replaced: L + IoU - replacement.

    Args:
        inside: the other loss, a submodule, so that its state is part of checkpoints.
        replacement: ``(pred, target, eps) -> (N,)`` in [0, 1], in place of IoU.
        name, settings: as for :class:`BoxLoss`.
    """

    def __init__(self, name: str, inside: BoxLoss, replacement: Formula, settings: Mapping[str, Any]) -> None:
        low, high = inside.range
        bounds = inside.range if inside.additive else (low - 1, high + 1)
        super().__init__(name, bounds, pixels=inside.pixels, additive=inside.additive, settings=settings)
        self.inside = inside
        self._replacement = replacement

    def compute(self, pred: Tensor, target: Tensor, eps: float, context: BoxContext) -> Tensor:
        """L + IoU - replacement, (N,)."""
        difference = iou_of(pred, target, eps) - self._replacement(pred, target, eps)
        return self.inside.compute(pred, target, eps, context) + difference


class ExchangedIoUSimilarity(ExchangedIoU, SimilarityLoss):
    """The same around a loss of the form 1 - similarity, which it keeps."""


def _name_or_mapping(of: Any) -> str | Mapping[str, Any]:
    if not isinstance(of, str | Mapping):
        raise UserError(f"expected a name or a mapping with 'name' and parameters but got {of!r}")
    return of


OF = Checked("ciou", _name_or_mapping)


def _exchange(name: str, of: str | Mapping[str, Any], replacement: Formula, **settings: float) -> ExchangedIoU:
    inside = BOX_LOSSES.build_from(of)
    kind = ExchangedIoUSimilarity if isinstance(inside, SimilarityLoss) else ExchangedIoU
    return kind(name, inside, replacement, {"of": of, **settings})


@register_builder(
    "inner",
    formula="L + IoU - IoU(both boxes scaled by r)",
    range=(0.0, 2.5),
    paper="Zhang et al., Inner-IoU, arXiv:2311.02877",
    parameters={"of": OF, "ratio": Number(0.7, low=0, above=True)},
)
def inner(of: str | Mapping[str, Any], ratio: float) -> ExchangedIoU:
    """Inner-IoU around any loss L: L + IoU - IoU of auxiliary boxes, both boxes scaled about their own centres.

    Zhang et al., arXiv:2311.02877. Smaller auxiliary boxes demand more precision, larger ones attract from farther.
    Range: that of L, or up to 1 beyond it if L is not 1 - IoU plus a penalty.

    Args:
        of: the loss L, a name or ``{name: ..., parameter: ...}``.
        ratio: r > 0, the paper uses 0.5 to 1.5; 1 leaves L unchanged.
    """

    def scaled(boxes: Tensor) -> Tensor:
        centre, sides = boxes_to_centres(boxes)
        return torch.cat((centre - sides * (ratio / 2), centre + sides * (ratio / 2)), dim=1)

    def inner_iou(pred: Tensor, target: Tensor, eps: float) -> Tensor:
        return iou_of(scaled(pred), scaled(target), eps)

    return _exchange("inner", of, inner_iou, ratio=ratio)


def _check_focaler(d: float, u: float, **_: Any) -> None:
    if not d < u:
        raise UserError(f"expected d below u but got d {d:g} and u {u:g}")


@register_builder(
    "focaler",
    formula="L + IoU - clamp((IoU - d) / (u - d), 0, 1)",
    range=(0.0, 2.5),
    paper="Zhang and Zhang, Focaler-IoU, arXiv:2401.10525",
    parameters={"of": OF, "d": Number(0.0, 0, 1), "u": Number(0.95, 0, 1)},
    check_together=_check_focaler,
)
def focaler(of: str | Mapping[str, Any], d: float, u: float) -> ExchangedIoU:
    """Focaler-IoU around any loss L: its IoU stretched linearly from [d, u] to [0, 1]; arXiv:2401.10525.

    Outside (d, u) the IoU term has no gradient and only the penalty of L acts. Range as of :func:`inner`.

    Args:
        of: the loss L, a name or ``{name: ..., parameter: ...}``.
        d, u: 0 <= d < u <= 1; 0 and 1 leave L unchanged. A low u favours hard boxes, a high d easy ones.
    """

    def focaler_iou(pred: Tensor, target: Tensor, eps: float) -> Tensor:
        return ((iou_of(pred, target, eps) - d) / (u - d)).clamp(0, 1)

    return _exchange("focaler", of, focaler_iou, d=d, u=u)
