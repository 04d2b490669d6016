"""Box, objectness and class parts with an elementwise score loss, as YOLOv5 defines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from utils.criterion.class_loss import ClassLoss
from utils.criterion.matches import Matches, level_weights
from utils.distributed import of_all_processes, world_size
from utils.losses import ScoreLoss
from utils.structures import AnchorTable, RawPredictions


class ElementwiseParts(nn.Module):
    """Weighted parts ``box``, ``obj``, ``cls``; a :class:`utils.criterion.score_part.ScorePart`.

    Args:
        score_loss: elementwise, of the objectness.
        class_loss: of the classes of the positives.
        gains: weight of each part by name.
        level_balance: L objectness weights, finest level first.
        positive_weight: weight of the positives in the objectness.
        global_rank: average over the positives of all processes.
    """

    one_object_per_anchor = False

    def __init__(
        self,
        score_loss: ScoreLoss,
        class_loss: ClassLoss,
        *,
        gains: Mapping[str, float],
        level_balance: Sequence[float],
        positive_weight: float = 1.0,
        global_rank: bool = False,
    ) -> None:
        super().__init__()
        self.score_loss = score_loss
        self.class_loss = class_loss
        self.gains = dict(gains)
        self.level_balance = tuple(level_balance)
        self.positive_weight = positive_weight
        self.joins_processes = global_rank

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
        """Weighted parts, see :class:`utils.criterion.score_part.ScorePart`; several matches may share an anchor."""
        together = self.joins_processes and across_processes
        # each level contributes the mean over its own positives
        weight = level_weights(matches, table, together)
        objectness = self._objectness(predictions.objectness, table, matches, quality, ignore)
        parts = {
            "box": (box_loss * weight).sum(),
            "obj": objectness / world_size() if together else objectness,
            "cls": (self.class_loss(matches) * weight).sum(),
        }
        weighted = {name: part * self.gains[name] for name, part in parts.items()}
        return {name: of_all_processes(part) for name, part in weighted.items()} if together else weighted

    def end_epoch(self) -> None:
        """Nothing is carried from epoch to epoch."""

    def _objectness(
        self, logits: Tensor, table: AnchorTable, matches: Matches, quality: Tensor, ignore: Tensor | None
    ) -> Tensor:
        """Mean over all anchors of a level, then the balanced sum over levels; logits (B, N).

        Ignored anchors add neither loss nor gradient, but count in the mean: the others weigh the same as without them.
        """
        batch, num_anchors = logits.shape
        # of several objects on one anchor the best fitting counts, in whatever order they come
        target = logits.new_zeros(batch * num_anchors)
        target.scatter_reduce_(0, matches.image * num_anchors + matches.anchor, quality, "amax")
        loss = self.score_loss(logits, target.view_as(logits), positive_weight=self.positive_weight)
        if ignore is not None:
            positive = torch.zeros_like(ignore).index_put_((matches.image, matches.anchor), ignore.new_ones(()))
            loss = loss.masked_fill(ignore & ~positive, 0.0)
        return (loss * self._anchor_weights(table, loss)).sum() / batch

    def _anchor_weights(self, table: AnchorTable, like: Tensor) -> Tensor:
        """(N,) weights that turn a sum over anchors into the balanced sum over levels of their means.

        The numbers are computed on the host and filled in on the device: no copy that a step would wait for.
        """
        counts = [table.level_size.shape[1] * rows * cols for rows, cols in table.grids]
        weights = torch.tensor(self.level_balance, dtype=like.dtype) / torch.tensor(counts, dtype=like.dtype)
        levels = zip(counts, weights.tolist(), strict=True)
        return torch.cat([like.new_full((count,), weight) for count, weight in levels])
