"""Ranking losses as score losses of a detector: what ``loss.score`` may name beside the elementwise ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.errors import ContradictionError, unknown_name
from utils.losses.elementwise import SCORE_LOSSES
from utils.losses.parameters import number
from utils.losses.ranking import alrp_loss, ap_loss, rank_sort_loss
from utils.losses.ranking.control_points import control_points_from
from utils.losses.ranking.parameterized_ap import FORMS, parameterized_ap_loss


class RankedScores(NamedTuple):
    """What a ranking loss says of a batch.

    Attributes:
        parts: name to scalar; their sum trains the scores.
        box: scalar box part, where the loss has one of its own; None leaves it to the mean of the box losses.
    """

    parts: dict[str, Tensor]
    box: Tensor | None = None


Rank = Callable[[Tensor, Tensor, Tensor, bool], RankedScores]


class RankingLoss:
    """A loss of the order of all scores of a batch, as built by ``SCORE_LOSSES``.

    Args:
        rank: ``(logits, targets, box_error, global_rank) -> RankedScores``.

    Attributes:
        name: registered name.
        part_names: keys of ``parts``.
        takes_box_error: whether it needs the box error of each positive, scaled to [0, 1].
        weighs_boxes: whether a box counts as much as its own score, Rank & Sort, section 4.
        averages_balance: whether self-balancing follows the means of the last epoch instead of each step's values.
        ranks_globally: whether the scores of several processes can be ranked together.
    """

    def __init__(
        self,
        name: str,
        part_names: tuple[str, ...],
        rank: Rank,
        *,
        takes_box_error: bool = False,
        weighs_boxes: bool = False,
        averages_balance: bool = False,
        ranks_globally: bool = True,
    ) -> None:
        self.name = name
        self.part_names = part_names
        self.takes_box_error = takes_box_error
        self.weighs_boxes = weighs_boxes
        self.averages_balance = averages_balance
        self.ranks_globally = ranks_globally
        self._rank = rank

    def __call__(
        self, logits: Tensor, targets: Tensor, box_error: Tensor, *, global_rank: bool = False
    ) -> RankedScores:
        """Rank.

        Args:
            logits: (K,) scores of a batch before the sigmoid.
            targets: (K,) 0 background, -1 ignored, above 0 the quality of a positive.
            box_error: (P,) of the positives in the order of ``logits[targets > 0]``, in [0, 1].
            global_rank: rank the scores of all processes together.
        """
        return self._rank(logits, targets, box_error, global_rank)


@SCORE_LOSSES.register(
    "rs",
    formula="mean of FP / rank, plus sorting error",
    range=(0.0, 2.0),
    paper="Oksuz et al., Rank & Sort Loss, ICCV 2021, arXiv:2107.11669",
    ranking=True,
    settings=("delta",),
)
def build_rs(delta: float = 0.5) -> RankingLoss:
    """Rank & Sort loss: positives above negatives, and among themselves by quality.

    Args:
        delta: above 0, half-width of the ranking step, in logits.
    """
    delta = number("rs", "delta", delta, 0.0, above=True)

    def rank(logits: Tensor, targets: Tensor, _: Tensor, global_rank: bool) -> RankedScores:
        loss = rank_sort_loss(logits, targets, delta=delta, global_rank=global_rank)
        return RankedScores({"rank": loss.ranking, "sort": loss.sorting})

    return RankingLoss("rs", ("rank", "sort"), rank, weighs_boxes=True)


@SCORE_LOSSES.register(
    "ap",
    formula="1 - AP",
    range=(0.0, 1.0),
    paper="Chen et al., AP-Loss, TPAMI 2020, arXiv:2008.07294",
    ranking=True,
    settings=("delta",),
)
def build_ap(delta: float = 0.5) -> RankingLoss:
    """Average precision loss: positives above negatives, all positives alike.

    Args:
        delta: above 0, half-width of the ranking step, in logits.
    """
    delta = number("ap", "delta", delta, 0.0, above=True)

    def rank(logits: Tensor, targets: Tensor, _: Tensor, global_rank: bool) -> RankedScores:
        return RankedScores({"rank": ap_loss(logits, targets.sign(), delta=delta, global_rank=global_rank)})

    return RankingLoss("ap", ("rank",), rank)


@SCORE_LOSSES.register(
    "alrp",
    formula="mean of (FP + box errors ranked above) / rank",
    range=(0.0, float("inf")),
    paper="Oksuz et al., aLRP Loss, NeurIPS 2020, arXiv:2009.13592",
    ranking=True,
    settings=("delta",),
)
def build_alrp(delta: float = 0.5, tau: float = 0.5) -> RankingLoss:
    """Average localisation-recall-precision loss: one ranking that scores and boxes minimise together.

    Args:
        delta: above 0, half-width of the ranking step, in logits.
        tau: from 0 to below 1, the IoU from which a box counts as found: box errors are divided by 1 - tau, equation 4.
    """
    delta = number("alrp", "delta", delta, 0.0, above=True)
    tau = number("alrp", "tau", tau, 0.0, 0.999)

    def rank(logits: Tensor, targets: Tensor, box_error: Tensor, global_rank: bool) -> RankedScores:
        error = box_error / (1 - tau)
        loss = alrp_loss(logits, targets.sign(), error, delta=delta, global_rank=global_rank)
        return RankedScores({"rank": loss.classification}, loss.localisation)

    return RankingLoss("alrp", ("rank",), rank, takes_box_error=True, averages_balance=True)


@SCORE_LOSSES.register(
    "parameterized_ap",
    formula="mean of 1 - I1(u) + I3(u) sum H2 (1 - I2) / sum H1",
    range=(0.0, 2.0),
    paper="Tao et al., Searching Parameterized AP Loss, NeurIPS 2021, arXiv:2112.05138",
    ranking=True,
    settings=("control_points",),
)
def build_parameterized_ap(
    control_points: Sequence[Sequence[Any]] | None = None, form: str = "searched"
) -> RankingLoss:
    """Parameterized AP loss: average precision with curves for steps, a loss of scores and boxes at once.

    The IoU u of its equations is 1 - the box error scaled to [0, 1], with gradient: the IoU itself for the box loss
    ``iou``.

    Args:
        control_points: five curves, which the form ``searched`` needs and the others have no use for.
        form: ``searched`` | ``linear`` | ``square`` | ``sigmoid``.
    """
    if form not in FORMS:
        raise unknown_name("form of parameterized_ap", form, FORMS)
    if form == "searched":
        if control_points is None:
            raise ContradictionError(
                "parameterized_ap: expected loss.control_points, five curves or a file that holds them"
            )
        control_points = control_points_from(control_points)
    elif control_points is not None:
        raise ContradictionError(
            f"parameterized_ap: loss.control_points have no effect with form: {form}; leave them at null"
        )

    def rank(logits: Tensor, targets: Tensor, box_error: Tensor, _: bool) -> RankedScores:
        ious = torch.zeros_like(logits).masked_scatter(targets > 0, 1 - box_error.to(logits))
        return RankedScores({"rank": parameterized_ap_loss(logits, ious, targets.sign(), control_points, form=form)})

    return RankingLoss("parameterized_ap", ("rank",), rank, takes_box_error=True, ranks_globally=False)
