"""Average localisation-recall-precision loss: ranking and localisation in one measure."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from utils.losses.ranking.examples import DELTA, Examples, check_inputs, rank_examples
from utils.losses.score import RankedScores, register_ranking
from utils.parameters import Number

MIN_FALSE_POSITIVES = 1e-5  # below this the official code counts a positive as perfectly ranked


class ALRP(NamedTuple):
    """Both parts of the aLRP loss, scalars.

    Attributes:
        classification: in [0, 1); gradient with respect to the logits.
        localisation: between 0 and the largest localisation error; gradient with respect to the localisation errors.
    """

    classification: Tensor
    localisation: Tensor


def alrp_loss(
    logits: Tensor,
    labels: Tensor,
    localisation_error: Tensor,
    *,
    delta: float = 1.0,
    global_rank: bool = False,
) -> ALRP:
    """aLRP loss: Oksuz et al., NeurIPS 2020, arXiv:2009.13592, equations 7 to 13.

    With H(x) = clamp(x / (2 delta) + 0.5, 0, 1), for each positive i of P with the localisation error l_i

        FP_i = sum over negatives j of H(s_j - s_i),     R_i = 1 + sum over the other positives k of H(s_k - s_i)
        classification = 1/P sum_i FP_i / (R_i + FP_i)
        localisation = 1/P sum_i (l_i + sum of l_k over s_k > s_i) / (R_i + FP_i)     (equal scores: half of l_k)

    The gradient of classification is the paper's error-driven update, not a derivative: positive i gets -E_i / P with
    E_i = (FP_i + sum over the others of H(s_k - s_i) l_k) / (R_i + FP_i), and the negatives share as much in proportion
    to H(s_j - s_i); 0 where FP_i <= 1e-5. It depends on the localisation errors; the gradient of localisation is
    its derivative with respect to them, and leaves the logits alone.

    Exact in O(N log P) time and O(N + P) memory, in float64 inside (float32 on MPS).

    Args:
        logits: (N,) any float type.
        labels: (N,) above 0 positive, 0 background, below 0 ignored.
        localisation_error: (P,) of the own positives in the order of ``logits[labels > 0]``; in [0, 1] in the paper,
            (1 - IoU) / (1 - tau) with tau = 0.5.
        delta: above 0, half-width of the step, in logits.
        global_rank: rank the batches of all processes as one. All processes must call; each returns the loss of the
            whole, and finds the gradient of that loss with respect to its own logits and localisation errors.

    Returns:
        ALRP: 0, with zero gradient, without positives; float32, or float64 for such logits.

    Raises:
        ValueError: logits not of shape (N,), labels of another, errors not one for each positive, delta not above 0.
    """
    check_inputs(logits, labels, delta, "labels")
    with torch.autocast(logits.device.type, enabled=False):
        return ALRP(*_ALRP.apply(logits, labels.detach(), localisation_error, delta, global_rank))


class _ALRP(Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, localisation_error: Tensor, delta: float, global_rank: bool
    ) -> tuple[Tensor, Tensor]:
        index = (labels > 0).nonzero().squeeze(dim=1)
        if localisation_error.shape != index.shape:
            raise ValueError(
                f"Expected localisation errors of shape {tuple(index.shape)}, one for each positive, "
                f"but got {tuple(localisation_error.shape)}"
            )
        examples, ranked = rank_examples(logits, labels, index, localisation_error, delta, global_rank)
        scores, own_error, false_positives = ranked
        num = max(len(scores), 1)
        both = torch.stack((torch.ones_like(own_error), own_error))
        count, total = examples.windows.sums(scores, both).value  # each counts itself by 0.5
        rank = count + 0.5 + false_positives
        error = (total - own_error / 2 + false_positives) / (rank * num)
        wrong = false_positives > MIN_FALSE_POSITIVES
        higher = _hard_sums(scores, own_error)
        examples.save(
            ctx,
            torch.where(wrong, -error, 0),
            torch.where(wrong, error / false_positives, 0),
            _hard_sums(-scores, 1 / (rank * num)),
        )
        dtype = torch.promote_types(logits.dtype, torch.float32)
        localisation = (higher / rank).sum() / num
        return ((false_positives / rank).sum() / num).to(dtype), localisation.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, classification: Tensor, localisation: Tensor
    ) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        examples, (positives, weights, by_error) = Examples.restore(ctx)
        logits, errors = None, None
        if ctx.needs_input_grad[0]:
            logits = examples.gradient(classification * positives, classification * weights)
        if ctx.needs_input_grad[2]:
            errors = (localisation * by_error)[examples.own]
        return logits, None, errors, None, None


def _hard_sums(scores: Tensor, weights: Tensor) -> Tensor:
    """(P,) for each i its own weight, those of higher scores, and half of those of the other scores that are equal."""
    ordered, order = scores.sort()
    above = functional.pad(weights[order].flip(0).cumsum(dim=0).flip(0), (0, 1))
    first = torch.searchsorted(ordered, scores)
    behind = torch.searchsorted(ordered, scores, right=True)
    return (above[first] + above[behind] + weights) / 2


@register_ranking(
    "alrp",
    formula="mean of (FP + box errors ranked above) / rank",
    range=(0.0, math.inf),
    paper="Oksuz et al., aLRP Loss, NeurIPS 2020, arXiv:2009.13592",
    parameters={"delta": DELTA, "tau": Number(0.5, 0, 0.999)},
    block_keys=("delta",),
    takes_box_error=True,
    averages_balance=True,
)
def rank_by_error(
    logits: Tensor, targets: Tensor, box_error: Tensor, global_rank: bool, *, delta: float, tau: float
) -> RankedScores:
    """aLRP loss as score loss, and as box loss: one ranking that scores and boxes minimise together.

    Args:
        delta: above 0, half-width of the ranking step, in logits.
        tau: from 0 to below 1, the IoU from which a box counts as found: box errors are divided by 1 - tau, equation 4.
    """
    error = box_error / (1 - tau)
    loss = alrp_loss(logits, targets.sign(), error, delta=delta, global_rank=global_rank)
    return RankedScores({"rank": loss.classification}, loss.localisation)
