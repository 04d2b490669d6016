"""Box, ranking and class parts with a ranking loss on the scores of the batch."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from utils.criterion.class_loss import ClassLoss
from utils.criterion.joint_score import joint_logits
from utils.criterion.matches import Matches, level_weights
from utils.criterion.self_balance import EpochBalance, step_balance
from utils.distributed import all_reduce_sum, known_to_all_processes, of_all_processes
from utils.losses import RankingLoss
from utils.structures import AnchorTable, RawPredictions


class RankingParts(nn.Module):
    """Weighted parts ``box``, those of the ranking loss (``rank``, ``sort``), and ``cls`` where classes have a loss.

    The ranking parts are scaled by ``rank_gain``, and with self-balancing the box part is as large as they are.
    Without it the box part is scaled by ``box_gain``. A :class:`utils.criterion.score_part.ScorePart`.

    Args:
        ranking_loss: of all scores of the batch.
        class_loss: of the classes of the positives, beside the ranking; None where the ranking trains the classes.
        box_range: interval of the box loss.
        joint: rank anchors and classes together; else the objectness alone.
        rank_gain, box_gain, class_gain: weights of the parts.
        self_balance: scale the box part to the ranking parts.
        global_rank: rank the scores of all processes together.
    """

    one_object_per_anchor = True  # a score has one place in the order

    def __init__(
        self,
        ranking_loss: RankingLoss,
        class_loss: ClassLoss | None,
        *,
        box_range: tuple[float, float],
        joint: bool,
        rank_gain: float,
        box_gain: float,
        class_gain: float,
        self_balance: bool = True,
        global_rank: bool = False,
    ) -> None:
        super().__init__()
        self.ranking_loss = ranking_loss
        self.class_loss = class_loss
        self.box_range = box_range
        self.joint = joint
        self.rank_gain, self.box_gain, self.class_gain = rank_gain, box_gain, class_gain
        self.self_balance = self_balance
        self.global_rank = global_rank
        self.balance = EpochBalance() if self_balance and ranking_loss.averages_balance else None
        self.joins_processes = global_rank or self.balance is not None

    def forward(
        self,
        predictions: RawPredictions,
        table: AnchorTable,
        matches: Matches,
        box_loss: Tensor,
        quality: Tensor,
        ignore: Tensor | None,
        *,
        across_processes: bool,
    ) -> dict[str, Tensor]:
        """Weighted parts, see :class:`utils.criterion.score_part.ScorePart`.

        Args:
            matches: the P positives in the order of image and anchor, one for each anchor.
        """
        together = self.global_rank and across_processes
        logits, positive = self.scores(predictions, matches)
        targets = self._targets(logits, positive, quality, ignore)
        low, high = self.box_range
        ranked = self.ranking_loss(logits, targets, (box_loss - low) / (high - low), global_rank=together)
        parts, box = ranked.parts, ranked.box
        if together:  # each process has their whole value, and the gradient of its own scores
            parts = {name: known_to_all_processes(value) for name, value in parts.items()}
            box = known_to_all_processes(box) if box is not None else None
        parts = {name: self.rank_gain * value for name, value in parts.items()}
        if box is None:
            box = self._box(box_loss, logits[positive].detach(), together)
        parts = {"box": box * self._box_weight(parts, box, across_processes)} | parts
        if self.class_loss is not None:
            weight = level_weights(matches, table, together)
            classes = (self.class_loss(matches) * weight).sum() * self.class_gain
            parts["cls"] = of_all_processes(classes) if together else classes
        return parts

    def end_epoch(self) -> None:
        """aLRP rebalances with this epoch's means."""
        if self.balance is not None:
            self.balance.end_epoch()

    def scores(self, predictions: RawPredictions, matches: Matches) -> tuple[Tensor, Tensor]:
        """Logits of all that is ranked, (K,), and the positions of the positives among them, (P,)."""
        values, num_classes = predictions.values, predictions.num_classes
        position = matches.image * values.shape[1] + matches.anchor
        if not self.joint:
            return predictions.objectness.reshape(-1), position
        # one split, whose backward fills one gradient, where three views would fill one each
        _, objectness, classes = torch.split(values, [4, 1, num_classes], dim=2)
        return joint_logits(objectness, classes).view(-1), position * num_classes + matches.classes

    def _targets(self, logits: Tensor, positive: Tensor, quality: Tensor, ignore: Tensor | None) -> Tensor:
        targets = torch.zeros_like(logits)
        if ignore is not None:
            targets.view(*ignore.shape, -1).masked_fill_(ignore[..., None], -1.0)
        return targets.index_put_((positive,), quality.clamp(min=1e-6))  # a poor box is a positive still

    def _box(self, box_loss: Tensor, logits: Tensor, together: bool) -> Tensor:
        """Mean of the box losses, weighted by the scores if the ranking loss wants that."""
        weight = logits.sigmoid() if self.ranking_loss.weighs_boxes else torch.ones_like(box_loss)
        if not together:
            return (box_loss * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        total = all_reduce_sum(weight.sum()).clamp(min=torch.finfo(weight.dtype).tiny)
        return of_all_processes((box_loss * weight).sum() / total)

    def _box_weight(self, parts: dict[str, Tensor], box: Tensor, across_processes: bool) -> Tensor | float:
        if not self.self_balance:
            return self.box_gain
        score, box = functools.reduce(torch.add, parts.values()).detach(), box.detach()
        if self.balance is None:
            return step_balance(score, box)
        weight: Tensor = self.balance(score + self.rank_gain * box, box, across_processes=across_processes)
        return weight
