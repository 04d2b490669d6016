"""Score losses: their registry, and the two kinds: elementwise (each score alone), and ranking (a batch in order)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from utils.losses.info import LossInfo, Range
from utils.losses.reduce import reduce_loss
from utils.parameters import Parameter
from utils.registry import Registry

ElementLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class ScoreLoss:
    """An elementwise loss of logits against targets in [0, 1], as built by ``SCORE_LOSSES``.

    Args:
        name: registered name.
        element_loss: ``(logits, targets, positive_weight) -> losses`` of one shape; the weight is a scalar, or None
            for 1.
    """

    def __init__(self, name: str, element_loss: ElementLoss) -> None:
        self.name = name
        self._element_loss = element_loss

    def __call__(
        self, logits: Tensor, targets: Tensor, *, positive_weight: float = 1.0, reduction: str = "none"
    ) -> Tensor:
        """Loss of each logit, in float32 or wider, outside autocast.

        Args:
            logits: any shape.
            targets: the same shape, in [0, 1].
            positive_weight: factor on the positive half of the cross-entropy.
            reduction: ``none`` | ``mean`` | ``sum``.

        Returns:
            losses of the shape of ``logits``, each >= 0, or a scalar.

        Raises:
            ValueError: shapes differ; unknown reduction.
        """
        if logits.shape != targets.shape:
            raise ValueError(
                f"Expected targets of shape {tuple(logits.shape)}, as logits, but got {tuple(targets.shape)}"
            )
        with torch.autocast(logits.device.type, enabled=False):
            dtype = torch.promote_types(logits.dtype, torch.float32)
            logits, targets = logits.to(dtype), targets.to(dtype)
            weight = logits.new_tensor(positive_weight) if positive_weight != 1.0 else None
            return reduce_loss(self._element_loss(logits, targets, weight), reduction)


class RankedScores(NamedTuple):
    """The result of a ranking loss.

    Attributes:
        parts: name to scalar; their sum trains the scores.
        box: scalar box part of the loss itself; None: the box part is the mean of the box losses.
    """

    parts: dict[str, Tensor]
    box: Tensor | None = None


Rank = Callable[[Tensor, Tensor, Tensor, bool], RankedScores]


class RankingLoss:
    """A loss on the order of all scores of a batch, as built by ``SCORE_LOSSES``.

    Args:
        name: registered name.
        rank: ``(logits, targets, box_error, global_rank) -> RankedScores``.
        part_names: keys of ``parts``.
        takes_box_error: it needs the box error of each positive, scaled to [0, 1].
        weighs_boxes: box losses are weighted by the scores: Rank & Sort, section 4.
        averages_balance: self-balancing uses the means of the last epoch instead of each step's values.
        ranks_globally: the scores of several processes can be ranked together.

    Attributes:
        name, part_names, takes_box_error, weighs_boxes, averages_balance, ranks_globally: as given.
    """

    def __init__(
        self,
        name: str,
        rank: Rank,
        part_names: tuple[str, ...],
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
        """Loss of a batch.

        Args:
            logits: (K,) scores of a batch before the sigmoid.
            targets: (K,) 0 background, -1 ignored, above 0 the quality of a positive.
            box_error: (P,) of the positives in the order of ``logits[targets > 0]``, in [0, 1].
            global_rank: rank the scores of all processes together.
        """
        return self._rank(logits, targets, box_error, global_rank)


SCORE_LOSSES: Registry[LossInfo, ScoreLoss | RankingLoss] = Registry("score loss")

ElementLossT = TypeVar("ElementLossT", bound=Callable[..., Tensor])
RankT = TypeVar("RankT", bound=Callable[..., RankedScores])


def register_elementwise(
    name: str, *, formula: str, paper: str, parameters: Mapping[str, Parameter] | None = None
) -> Callable[[ElementLossT], ElementLossT]:
    """Decorate ``(logits, targets, positive_weight, *, **parameters) -> losses``, each at least 0.

    The function is returned unchanged.

    Args:
        name: what settings call the loss.
        formula, paper: as in :class:`LossInfo`.
        parameters: by name, each with its default and its check.
    """

    def add(function: ElementLossT) -> ElementLossT:
        def build(**values: object) -> ScoreLoss:
            return ScoreLoss(name, partial(function, **values))

        build.__doc__ = function.__doc__
        SCORE_LOSSES.add(
            LossInfo(
                name=name,
                build=build,
                parameters=parameters or {},
                formula=formula,
                range=(0.0, math.inf),
                paper=paper,
            )
        )
        return function

    return add


def register_ranking(
    name: str,
    *,
    formula: str,
    range: Range,
    paper: str,
    parameters: Mapping[str, Parameter],
    block_keys: tuple[str, ...] = (),
    check_together: Callable[..., None] | None = None,
    part_names: tuple[str, ...] = ("rank",),
    takes_box_error: bool = False,
    weighs_boxes: bool = False,
    averages_balance: bool = False,
    ranks_globally: bool = True,
) -> Callable[[RankT], RankT]:
    """Decorate ``(logits, targets, box_error, global_rank, *, **parameters) -> RankedScores``.

    The function is returned unchanged.

    Args:
        name: what settings call the loss.
        formula, range, paper: as in :class:`LossInfo`.
        parameters: by name, each with its default and its check.
        block_keys: parameters that keys of the ``loss`` block, of the same names, may set as well.
        check_together: called with all parameters by name; raises UserError.
        part_names, takes_box_error, weighs_boxes, averages_balance, ranks_globally: as in :class:`RankingLoss`.
    """

    def add(function: RankT) -> RankT:
        def build(**values: object) -> RankingLoss:
            return RankingLoss(
                name,
                partial(function, **values),
                part_names,
                takes_box_error=takes_box_error,
                weighs_boxes=weighs_boxes,
                averages_balance=averages_balance,
                ranks_globally=ranks_globally,
            )

        build.__doc__ = function.__doc__
        SCORE_LOSSES.add(
            LossInfo(
                name=name,
                build=build,
                parameters=parameters,
                check_together=check_together,
                block_keys=block_keys,
                formula=formula,
                range=range,
                paper=paper,
                ranking=True,
            )
        )
        return function

    return add
