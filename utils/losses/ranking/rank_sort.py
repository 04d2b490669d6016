"""Rank & Sort loss: positives above negatives, and among themselves in the order of their IoUs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from utils.losses.ranking.examples import DELTA, Examples, check_inputs, rank_examples
from utils.losses.ranking.sorting import LowerQuality
from utils.losses.score import RankedScores, register_ranking


class RankSort(NamedTuple):
    """Both parts of the Rank & Sort loss, scalars; each carries its own gradient.

    Attributes:
        ranking: in [0, 1), mean share of negatives among what is ranked above a positive.
        sorting: in [0, 1), mean excess of 1 - IoU among the positives ranked above a positive.
    """

    ranking: Tensor
    sorting: Tensor


def rank_sort_loss(logits: Tensor, targets: Tensor, *, delta: float = 0.5, global_rank: bool = False) -> RankSort:
    """Rank & Sort loss: Oksuz et al., ICCV 2021, arXiv:2107.11669, equations 6 to 11.

    With H(x) = clamp(x / (2 delta) + 0.5, 0, 1), for each positive i of P with the logit s_i and the IoU u_i

        FP_i = sum over negatives j of H(s_j - s_i),     R_i = sum over positives k of H(s_k - s_i)  (itself: 0.5)
        ranking = 1/P sum_i FP_i / (R_i + FP_i)
        sorting = 1/P sum_i e_i,   e_i = mean of 1 - u_k weighted by H(s_k - s_i), over all positives
                                         minus the same over those with u_k >= u_i

    The gradients are the paper's error-driven update, not derivatives. Of ranking: positive i gets
    -FP_i / (R_i + FP_i) / P and negative j gets sum_i H(s_j - s_i) / (R_i + FP_i) / P. Of sorting: positive i gets
    -e_i / P, and the positives with a smaller IoU share e_i / P in proportion to H(s_k - s_i). Each adds up to 0.

    Exact in O(N log P + P log^2 P) time and O(N + P) memory, in float64 inside (float32 on MPS).

    Args:
        logits: (N,) any float type.
        targets: (N,) > 0 the IoU of a positive, 0 background, below 0 ignored.
        delta: above 0, half-width of the step, in logits.
        global_rank: rank the batches of all processes as one. All processes must call; each returns the loss of the
            whole, and finds the gradient of that loss with respect to its own logits.

    Returns:
        RankSort: 0, with zero gradient, without positives; float32, or float64 for such logits.

    Raises:
        ValueError: logits not of shape (N,), targets of another, delta not above 0.
    """
    check_inputs(logits, targets, delta, "targets")
    with torch.autocast(logits.device.type, enabled=False):
        return RankSort(*_RankSort.apply(logits, targets.detach(), delta, global_rank))


class _RankSort(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, delta: float, global_rank: bool) -> tuple[Tensor, Tensor]:
        index = (targets > 0).nonzero().squeeze(dim=1)
        examples, ranked = rank_examples(logits, targets, index, targets[index], delta, global_rank)
        scores, ious, false_positives = ranked
        num = max(len(scores), 1)
        loss = 1 - ious
        both = torch.stack((torch.ones_like(loss), loss))
        # positives above i, and their 1 - IoU: all, those of smaller IoU, the rest
        (count, total), lower = examples.windows.sums(scores, both).value, LowerQuality(scores, ious, delta)
        count_lower, total_lower = lower.sums(both)
        target = (total - total_lower) / (count - count_lower)
        # the error divided by what it is shared over; at most 1 / count, however little that is
        share = torch.where(count_lower > 0, (total_lower - count_lower * target) / (count * count_lower), 0)
        sorting_error = share * count_lower
        rank = count + false_positives
        ranking_error = false_positives / rank
        sorting_gradient = lower.spread(share / num) - sorting_error / num
        examples.save(ctx, -ranking_error / num, 1 / (rank * num), sorting_gradient)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return (ranking_error.sum() / num).to(dtype), (sorting_error.sum() / num).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ranking: Tensor, sorting: Tensor) -> tuple[Tensor, None, None, None]:
        examples, (positives, weights, sorting_gradient) = Examples.restore(ctx)
        return examples.gradient(ranking * positives + sorting * sorting_gradient, ranking * weights), None, None, None


@register_ranking(
    "rs",
    formula="mean of FP / rank, plus sorting error",
    range=(0.0, 2.0),
    paper="Oksuz et al., Rank & Sort Loss, ICCV 2021, arXiv:2107.11669",
    parameters={"delta": DELTA},
    block_keys=("delta",),
    part_names=("rank", "sort"),
    weighs_boxes=True,
)
def rank_and_sort(logits: Tensor, targets: Tensor, _: Tensor, global_rank: bool, *, delta: float) -> RankedScores:
    """Rank & Sort loss as score loss: positives above negatives, and among themselves by quality.

    Args:
        delta: above 0, half-width of the ranking step, in logits.
    """
    loss = rank_sort_loss(logits, targets, delta=delta, global_rank=global_rank)
    return RankedScores({"rank": loss.ranking, "sort": loss.sorting})
