"""Box, ranking and class part of a score loss that compares the scores of a batch with one another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.config.hyperparameters import Hyperparameters
from utils.criterion.class_loss import ClassLoss
from utils.criterion.joint_score import joint_logits
from utils.criterion.matches import Matches, level_weights
from utils.criterion.self_balance import EpochBalance, step_balance
from utils.distributed import all_reduce_sum, known_to_all_processes, of_all_processes
from utils.losses import SCORE_LOSSES, RankingLoss
from utils.structures import AnchorTable

LEVELS = 3  # of the network that the box and class gains are made for


class RankingParts(nn.Module):
    """Weighted parts ``box``, those of the ranking loss (``rank``, ``sort``), and ``cls`` where classes have a loss.

    The ranking parts, and with self-balancing the box part, weigh ``loss.rank_gain``; the gain ``obj`` plays no role.
    Without self-balancing the box part weighs ``box``.

    Args:
        ranking_loss: what ranks.
        box_range: interval of the box loss.
        hyp: gains and the ``loss`` block.
        num_classes: C.
        num_levels: L.
    """

    def __init__(
        self,
        ranking_loss: RankingLoss,
        box_range: tuple[float, float],
        hyp: Hyperparameters,
        num_classes: int,
        num_levels: int,
    ) -> None:
        super().__init__()
        loss = hyp.loss
        self.ranking_loss = ranking_loss
        self.box_range = box_range
        self.joint = ranks_joint_scores(hyp, num_classes)
        self.global_rank = loss.global_rank
        self.rank_gain = loss.rank_gain
        self.box_gain = hyp.box * LEVELS
        self.class_gain = hyp.cls * num_classes / 80 * LEVELS / num_levels
        self.class_loss = ClassLoss(SCORE_LOSSES.build("bce"), hyp, num_classes) if has_class_loss(hyp) else None
        self.balance = EpochBalance() if loss.self_balance and ranking_loss.averages_balance else None
        self.self_balance = loss.self_balance

    def forward(
        self,
        flat: Tensor,
        table: AnchorTable,
        matches: Matches,
        box_loss: Tensor,
        quality: Tensor,
        ignore: Tensor | None,
    ) -> dict[str, Tensor]:
        """Weighted parts, scalars with gradient.

        Args:
            flat: (B, N, 5 + C) raw outputs.
            table: of the input size.
            matches: the P positives in the order of image and anchor, one for each anchor.
            box_loss, quality: (P,) box loss and objectness target of each.
            ignore: (B, N) bool, anchors that are neither positive nor negative, or None.
        """
        logits, positive = self.scores(flat, matches)
        targets = self._targets(logits, positive, quality, ignore)
        low, high = self.box_range
        ranked = self.ranking_loss(logits, targets, (box_loss - low) / (high - low), global_rank=self._together)
        parts = {name: self.rank_gain * self._shared(value) for name, value in ranked.parts.items()}
        box = self._shared(ranked.box) if ranked.box is not None else self._box(box_loss, logits[positive].detach())
        parts = {"box": box * self._box_weight(parts, box)} | parts
        if self.class_loss is not None:
            weight = level_weights(matches, table, self._together)
            classes = (self.class_loss(matches) * weight).sum() * self.class_gain
            parts["cls"] = of_all_processes(classes) if self._together else classes
        return parts

    @property
    def _together(self) -> bool:
        """Whether the scores of all processes are ranked; one process alone validates."""
        return self.global_rank and self.training

    def end_epoch(self) -> None:
        """The means of the epoch set the balance of the next."""
        if self.balance is not None:
            self.balance.end_epoch()

    def scores(self, flat: Tensor, matches: Matches) -> tuple[Tensor, Tensor]:
        """Logits of all that is ranked, (K,), and the positions of the positives among them, (P,)."""
        position = matches.image * flat.shape[1] + matches.anchor
        if not self.joint:
            return flat[..., 4].reshape(-1), position
        num_classes = flat.shape[2] - 5
        _, objectness, classes = flat.split((4, 1, num_classes), dim=2)
        return joint_logits(objectness, classes).view(-1), position * num_classes + matches.classes

    def _targets(self, logits: Tensor, positive: Tensor, quality: Tensor, ignore: Tensor | None) -> Tensor:
        targets = torch.zeros_like(logits)
        if ignore is not None:
            targets.view(*ignore.shape, -1).masked_fill_(ignore[..., None], -1.0)
        return targets.index_put_((positive,), quality.clamp(min=1e-6))  # a poor box is a positive still

    def _shared(self, value: Tensor) -> Tensor:
        """A ranking part; one over all processes has its whole value in each, and only the gradient is shared."""
        return known_to_all_processes(value) if self._together else value

    def _box(self, box_loss: Tensor, logits: Tensor) -> Tensor:
        """Mean of the box losses; where the ranking loss says so, weighted by the scores."""
        weight = logits.sigmoid() if self.ranking_loss.weighs_boxes else torch.ones_like(box_loss)
        if not self._together:
            return (box_loss * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        total = all_reduce_sum(weight.sum()).clamp(min=torch.finfo(weight.dtype).tiny)
        return of_all_processes((box_loss * weight).sum() / total)

    def _box_weight(self, parts: dict[str, Tensor], box: Tensor) -> Tensor | float:
        if not self.self_balance:
            return self.box_gain
        score, box = sum(part.detach() for part in parts.values()), box.detach()
        if self.balance is None:
            return step_balance(score, box)
        return self.balance(score + self.rank_gain * box, box)


def has_class_loss(hyp: Hyperparameters) -> bool:
    """Whether classes have a cross-entropy of their own beside the ranking loss."""
    chosen = hyp.loss.class_bce
    return hyp.loss.rank_on == "objectness" if chosen == "auto" else chosen == "on"


def ranks_joint_scores(hyp: Hyperparameters, num_classes: int) -> bool:
    """Whether anchors and classes are ranked together; with one class that is the objectness alone."""
    return hyp.loss.rank_on == "joint" and num_classes > 1
