"""Box, objectness and class part of a score loss that looks at each logit alone, as YOLOv5 defines them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.config.hyperparameters import Hyperparameters
from utils.criterion.class_loss import ClassLoss
from utils.criterion.matches import Matches, level_weights
from utils.distributed import of_all_processes, world_size
from utils.losses import ScoreLoss
from utils.structures import AnchorTable

# Objectness weight of each level, finest first: fine levels have many cells and few objects.
LEVEL_BALANCE = {3: (4.0, 1.0, 0.4)}
LEVEL_BALANCE_OTHERWISE = (4.0, 1.0, 0.25, 0.06, 0.02)


class ElementwiseParts(nn.Module):
    """Weighted parts ``box``, ``obj``, ``cls``.

    Args:
        score_loss: elementwise.
        hyp: gains and weights.
        num_classes, num_levels: C, L.
        image_size: side of the square training image in pixels; scales the objectness gain.
    """

    def __init__(
        self, score_loss: ScoreLoss, hyp: Hyperparameters, num_classes: int, num_levels: int, image_size: int
    ) -> None:
        super().__init__()
        self.score_loss = score_loss
        self.class_loss = ClassLoss(score_loss, hyp, num_classes)
        self.objectness_weight = hyp.obj_pw
        self.global_rank = hyp.loss.global_rank
        self.gains = {
            "box": hyp.box * 3 / num_levels,
            "obj": hyp.obj * (image_size / 640) ** 2 * 3 / num_levels,
            "cls": hyp.cls * num_classes / 80 * 3 / num_levels,
        }
        self.balance = LEVEL_BALANCE.get(num_levels, LEVEL_BALANCE_OTHERWISE[:num_levels])

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
            matches: the P positives; several may share an anchor.
            box_loss, quality: (P,) box loss and objectness target of each.
            ignore: (B, N) bool, anchors that are neither positive nor negative, or None.
        """
        together = self.global_rank and self.training  # one process alone validates
        # each level contributes the mean over its own positives
        weight = level_weights(matches, table, together)
        objectness = self._objectness(flat[..., 4], table, matches, quality, ignore)
        parts = {
            "box": (box_loss * weight).sum(),
            "obj": objectness / world_size() if together else objectness,
            "cls": (self.class_loss(matches) * weight).sum(),
        }
        weighted = {name: part * self.gains[name] for name, part in parts.items()}
        return {name: of_all_processes(part) for name, part in weighted.items()} if together else weighted

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
        loss = self.score_loss(logits, target.view_as(logits), positive_weight=self.objectness_weight)
        if ignore is not None:
            positive = torch.zeros_like(ignore).index_put_((matches.image, matches.anchor), ignore.new_ones(()))
            loss = loss.masked_fill(ignore & ~positive, 0.0)
        return (loss * self._anchor_weights(table, loss)).sum() / batch

    def _anchor_weights(self, table: AnchorTable, like: Tensor) -> Tensor:
        """(N,) weights that turn a sum over anchors into the balanced sum over levels of their means.

        The numbers are computed on the host and filled in on the device: no copy that a step would wait for.
        """
        counts = [table.level_size.shape[1] * rows * cols for rows, cols in table.grids]
        weights = torch.tensor(self.balance, dtype=like.dtype) / torch.tensor(counts, dtype=like.dtype)
        levels = zip(counts, weights.tolist(), strict=True)
        return torch.cat([like.new_full((count,), weight) for count, weight in levels])
