"""Parameterized AP loss: average precision with searched curves as step functions.

Tao, Li, Zhu, Huang, Liu, Dai: "Searching Parameterized AP Loss for Object Detection", NeurIPS 2021, arXiv:2112.05138.

N: samples, anchors or (anchor, class) pairs of a batch. P: positives among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.errors import ContradictionError, unknown_name
from utils.losses.ranking.control_points import ControlPoints, control_points_from, interpolate
from utils.losses.ranking.step_sums import Ramp, Step, sigmoid_sums, step_of, step_sums
from utils.losses.ranking.window import accumulation_dtype
from utils.losses.score import RankedScores, register_ranking
from utils.parameters import Checked, Choice

Function = Callable[[Tensor], Tensor]


class _Functions(NamedTuple):
    """The functions of a form.

    Attributes:
        sums: ``(logits, weights, thresholds) -> (sums of H2, weighted, sums of H1)``.
        truth, weight, earning: I2, I3, I1.
        reach: distance below the lowest threshold, in logits, beyond which all H are 0; infinite for the sigmoid.
    """

    sums: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    truth: Function
    weight: Function
    earning: Function
    reach: float = 1.0


def _searched(points: ControlPoints) -> _Functions:
    sums = partial(step_sums, step=step_of(points.H2), counting=step_of(points.H1))
    truth, weight, earning = (partial(interpolate, curve=curve) for curve in (points.I2, points.I3, points.I1))
    return _Functions(sums, truth, weight, earning)


def _fixed(step: Step, function: Function) -> _Functions:
    return _Functions(partial(step_sums, step=step, counting=step), function, function, function)


def _sigmoid_of_iou(ious: Tensor) -> Tensor:
    return (2 * ious - 1).sigmoid()


_FULL = (Ramp(-1.0, 2.0, 1.0),)
_FIXED = {
    "linear": _fixed(Step(_FULL), lambda ious: ious),
    "square": _fixed(Step(_FULL, power=2), torch.square),
    "sigmoid": _Functions(sigmoid_sums, _sigmoid_of_iou, _sigmoid_of_iou, _sigmoid_of_iou, reach=math.inf),
}
FORMS = ("searched", *_FIXED)


def parameterized_ap_loss(
    logits: Tensor, ious: Tensor, labels: Tensor, control_points: Any, *, form: str = "searched"
) -> Tensor:
    """Parameterized AP loss, exact, in float32 or wider, outside autocast: arXiv:2112.05138, section 3.

    With s the logits, u the IoUs, x_ji = clamp((s_j - s_i) / 2 + 1/2, 0, 1), i a positive and j any sample that is not
    ignored, i itself included,

        loss = 1/P sum_i [ 1 - I1(u_i) + I3(u_i) * sum_j H2(x_ji) (1 - I2(u_j)) / sum_j H1(x_ji) ],

    where the denominator sends no gradient. ``searched`` takes the five functions from the control points. In the fixed
    forms all H are one function, and all I:

    ============  ========================  =====================
    form          H                         I
    ============  ========================  =====================
    ``linear``    x                         u
    ``square``    x^2                       u^2
    ``sigmoid``   sigmoid(s_j - s_i)        sigmoid(2 u - 1)
    ============  ========================  =====================

    The pairs are never laid out: memory is O(N + P) and time O(N log P), but O(N P) for ``sigmoid``.

    Args:
        logits: (N,) scores before the sigmoid.
        ious: (N,) in [0, 1], of each positive's box with its object; 0 for negatives.
        labels: (N,) 1 positive, 0 negative, -1 ignored.
        control_points: five curves, see :func:`control_points_from`. Ignored by the fixed forms, which accept None.
        form: ``searched`` | ``linear`` | ``square`` | ``sigmoid``.

    Returns:
        scalar >= 0; 0, attached to the graph, without positives; NaN if a logit that is not ignored is NaN.

    Raises:
        UserError: unknown form; control points that are not five such curves.
        ValueError: not three vectors of one length.
    """
    if form not in FORMS:
        raise unknown_name("form of the parameterized AP loss", form, FORMS)
    if logits.ndim != 1 or not logits.shape == ious.shape == labels.shape:
        found = ", ".join(str(tuple(tensor.shape)) for tensor in (logits, ious, labels))
        raise ValueError(f"Expected logits, ious and labels of one shape (N,) but got {found}")
    functions = _searched(control_points_from(control_points)) if form == "searched" else _FIXED[form]
    with torch.autocast(logits.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(logits.dtype, ious.dtype), torch.float32)
        logits, ious = logits.to(dtype), ious.to(dtype)
        positive, counted = labels > 0, labels >= 0
        thresholds, positive_ious = logits[positive], ious[positive].to(accumulation_dtype(logits.device))
        if len(thresholds) == 0:
            return 0 * (logits.sum() + ious.sum())
        counted &= ~(logits < thresholds.detach().min() - functions.reach)  # below, every step is 0
        logits, ious = logits[counted], ious[counted]
        false, total = functions.sums(logits, 1 - functions.truth(ious), thresholds)
        missed = 1 - functions.earning(positive_ious)
        loss = (missed + functions.weight(positive_ious) * false / total).mean()
        return loss.masked_fill(logits.isnan().any(), torch.nan).to(dtype)


def _points_or_none(setting: Any) -> ControlPoints | None:
    return None if setting is None else control_points_from(setting)


def _check_together(control_points: ControlPoints | None, form: str) -> None:
    if form == "searched" and control_points is None:
        raise ContradictionError("expected control_points, five curves or a file that holds them, but got none")
    if form != "searched" and control_points is not None:
        raise ContradictionError(f"control_points have no effect with form: {form}; leave them at null")


@register_ranking(
    "parameterized_ap",
    formula="mean of 1 - I1(u) + I3(u) sum H2 (1 - I2) / sum H1",
    range=(0.0, 2.0),
    paper="Tao et al., Searching Parameterized AP Loss, NeurIPS 2021, arXiv:2112.05138",
    parameters={"control_points": Checked(None, _points_or_none), "form": Choice("searched", FORMS)},
    block_keys=("control_points",),
    check_together=_check_together,
    takes_box_error=True,
    ranks_globally=False,
)
def rank_by_curves(
    logits: Tensor, targets: Tensor, box_error: Tensor, _: bool, *, control_points: ControlPoints | None, form: str
) -> RankedScores:
    """Parameterized AP loss as score loss, and as box loss.

    The IoU u of its equations is 1 - the box error scaled to [0, 1], with gradient: the IoU itself for the box loss
    ``iou``.

    Args:
        control_points: five curves, which the form ``searched`` needs and the others do not use.
        form: ``searched`` | ``linear`` | ``square`` | ``sigmoid``.
    """
    ious = torch.zeros_like(logits).masked_scatter(targets > 0, 1 - box_error.to(logits))
    return RankedScores({"rank": parameterized_ap_loss(logits, ious, targets.sign(), control_points, form=form)})
