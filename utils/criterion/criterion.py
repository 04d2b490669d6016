"""From raw network outputs and objects to the training loss: assign, gather once, compare, weigh.

Naming: ``pred_*`` comes from the network, ``target_*`` from the labels; sizes end in ``_px`` (pixels) or ``_cells``
(pixels divided by the stride of the level). B, N, L, A, C, P, M as in ``utils/structures.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from utils.boxes import AnchorTables, flatten_levels
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.build import build_losses
from utils.criterion.correlation import CorrelationPart
from utils.criterion.elementwise import ElementwiseParts
from utils.criterion.matches import Matches, best_per_anchor, gather_matches
from utils.criterion.ranking import RankingParts, ranks_joint_scores
from utils.losses import BoxContext, RankingLoss
from utils.structures import AnchorTable, Assignment, LossOutput


class Criterion(nn.Module):
    """The weighted sum of the losses of a YOLO head: as YOLOv5 defines it, or with its scores trained by ranking.

    Args:
        anchors_px: (L, A, 2) anchor widths and heights in pixels, finest level first.
        strides: L values, pixels per cell.
        num_classes: C. With one class there is no class loss.
        image_size: side of the square training image in pixels; scales the objectness gain.
        hyp: hyper-parameters as a mapping of the YAML keys, gains unscaled, or :class:`Hyperparameters`.

    Raises:
        UserError: unknown key, loss or assigner, or settings that contradict each other.
    """

    def __init__(
        self,
        anchors_px: Tensor,
        strides: Sequence[float],
        num_classes: int,
        image_size: int,
        hyp: Mapping[str, Any] | Hyperparameters,
    ) -> None:
        super().__init__()
        hyp = Hyperparameters.from_mapping(hyp)
        anchors_px = torch.as_tensor(anchors_px)
        num_levels = len(anchors_px)
        if anchors_px.ndim != 3 or anchors_px.shape[2] != 2 or len(strides) != num_levels:
            raise ValueError(
                f"Expected anchors of shape (L, A, 2) and L strides but got {tuple(anchors_px.shape)}, {len(strides)}"
            )
        self.num_classes = num_classes
        self._anchors_px = anchors_px.detach().cpu().double()  # copied to the device with each new table
        self._tables = AnchorTables()
        self.strides = tuple(float(stride) for stride in strides)
        # a module: its state is part of this one's
        self.box_loss, score_loss, self.assigner = build_losses(hyp, num_classes)
        self.objectness_target = hyp.loss.objectness_target
        self.ranks = isinstance(score_loss, RankingLoss)
        if self.ranks:
            self.parts = RankingParts(score_loss, self.box_loss.range, hyp, num_classes, num_levels)
        else:
            self.parts = ElementwiseParts(score_loss, hyp, num_classes, num_levels, image_size)
        correlated = hyp.loss.correlation != "none"
        self.correlation = CorrelationPart(hyp, ranks_joint_scores(hyp, num_classes)) if correlated else None

    def forward(self, raw: Sequence[Tensor], targets: Tensor) -> LossOutput:
        """Compute the loss.

        Args:
            raw: L tensors (B, A, H, W, 5 + C), x, y, w, h, objectness and class logits.
            targets: (M, 6) image, class, x, y, w, h (``xywhn``); M may be 0.

        Returns:
            total: scalar, the sum of the parts times B.
            parts: weighted, detached scalars: ``box``, ``obj``, ``cls``; with a ranking loss ``box``, ``rank`` (and
                ``sort``), and ``cls`` where classes have a loss of their own; ``corr`` with a correlation loss.

        Everything is computed in float32 or wider, outside autocast.
        """
        with torch.autocast(raw[0].device.type, enabled=False):
            dtype = torch.promote_types(raw[0].dtype, torch.float32)
            table = self._tables.get(raw, dtype, self.strides, lambda: self._anchors_px)
            flat = flatten_levels([level.to(dtype) for level in raw])
            targets = targets.to(flat)
            predictions = flat.detach() if self.assigner.needs_predictions else None
            assignment = self.assigner(targets, table, predictions)
            parts = self._parts(flat, targets, table, assignment)
            total = sum(parts.values()) * len(flat)
        return LossOutput(total, {name: part.detach() for name, part in parts.items()})

    def end_epoch(self) -> None:
        """To be called after the last step of an epoch: some losses balance their parts by the means of the last."""
        if self.ranks:
            self.parts.end_epoch()

    def _parts(self, flat: Tensor, targets: Tensor, table: AnchorTable, assignment: Assignment) -> dict[str, Tensor]:
        matches = gather_matches(flat, targets, table, assignment)
        if self.ranks:  # a score has one place in the order
            matches = best_per_anchor(matches, flat.shape[1])
        context = BoxContext(table.stride[matches.anchor], table.level_grid[0] * self.strides[0])
        # once in every step, also without positives: losses with state count the calls, in all processes alike
        box_loss = self.box_loss(matches.pred_boxes, matches.target_boxes, context=context)
        quality = self._quality(matches, context)
        parts = self.parts(flat, table, matches, box_loss, quality, assignment.ignore)
        if self.correlation is not None:
            scored = matches if self.ranks else best_per_anchor(matches, flat.shape[1])
            parts["corr"] = self.correlation(scored)
        return parts

    @torch.no_grad()
    def _quality(self, matches: Matches, context: BoxContext) -> Tensor:
        """Objectness targets of the positives, (P,) in [0, 1]."""
        if self.objectness_target == "one":
            return torch.ones_like(matches.iou)
        if self.objectness_target == "box":
            similarity = self.box_loss.similarity(matches.pred_boxes, matches.target_boxes, context=context)
            return similarity.clamp(0, 1)
        return matches.iou
