"""AP loss: one minus the average precision of the ranking."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from utils.losses.ranking.examples import DELTA, Examples, check_inputs, rank_examples
from utils.losses.score import RankedScores, register_ranking


def ap_loss(logits: Tensor, labels: Tensor, *, delta: float = 1.0, global_rank: bool = False) -> Tensor:
    """Average-precision loss: Chen et al., CVPR 2019; TPAMI, arXiv:2008.07294, equations 3 to 10 and algorithm 1.

    With H(x) = clamp(x / (2 delta) + 0.5, 0, 1), for each positive i of P

        FP_i = sum over negatives j of H(s_j - s_i),     R_i = 1 + sum over the other positives k of H(s_k - s_i)
        precision_i = R_i / (R_i + FP_i),                interpolated_i = max of precision_k over s_k <= s_i
        loss = 1 - mean of interpolated_i

    The gradient is the paper's error-driven update, not a derivative: positive i gets -(1 - interpolated_i) / P, and
    the negatives share as much in proportion to H(s_j - s_i).

    Exact in O(N log P) time and O(N + P) memory, in float64 inside (float32 on MPS).

    Args:
        logits: (N,) any float type.
        labels: (N,) above 0 positive, 0 background, below 0 ignored.
        delta: above 0, half-width of the step, in logits.
        global_rank: rank the batches of all processes as one. All processes must call; each returns the loss of the
            whole, and finds the gradient of that loss with respect to its own logits.

    Returns:
        scalar in [0, 1); 0, with zero gradient, without positives; float32, or float64 for such logits.

    Raises:
        ValueError: logits not of shape (N,), labels of another, delta not above 0.
    """
    check_inputs(logits, labels, delta, "labels")
    with torch.autocast(logits.device.type, enabled=False):
        loss: Tensor = _AveragePrecision.apply(logits, labels.detach(), delta, global_rank)
    return loss


class _AveragePrecision(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, delta: float, global_rank: bool) -> Tensor:
        index = (labels > 0).nonzero().squeeze(dim=1)
        examples, ranked = rank_examples(logits, labels, index, labels[index], delta, global_rank)
        scores, _, false_positives = ranked
        num = max(len(scores), 1)
        rank = examples.windows.sums(scores).value + 0.5 + false_positives  # itself counts 1, in the sum 0.5
        error = false_positives / rank
        # 1 - interpolated precision; equal scores have equal errors, whatever their order
        order = scores.argsort()
        least = torch.empty_like(error).index_copy_(0, order, error[order].cummin(dim=0).values)
        weights = torch.where(false_positives > 0, least / (false_positives * num), 0)
        examples.save(ctx, -least / num, weights)
        return (least.sum() / num).to(torch.promote_types(logits.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor) -> tuple[Tensor, None, None, None]:
        examples, (positives, weights) = Examples.restore(ctx)
        return examples.gradient(loss * positives, loss * weights), None, None, None


@register_ranking(
    "ap",
    formula="1 - AP",
    range=(0.0, 1.0),
    paper="Chen et al., AP-Loss, TPAMI 2020, arXiv:2008.07294",
    parameters={"delta": DELTA},
    block_keys=("delta",),
)
def rank_by_precision(logits: Tensor, targets: Tensor, _: Tensor, global_rank: bool, *, delta: float) -> RankedScores:
    """AP loss as score loss: positives above negatives, all positives alike.

    Args:
        delta: above 0, half-width of the ranking step, in logits.
    """
    return RankedScores({"rank": ap_loss(logits, targets.sign(), delta=delta, global_rank=global_rank)})
