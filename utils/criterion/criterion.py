"""The training loss of raw network outputs and objects: assign, gather the positives, compare, weight.

Naming: ``pred_*`` comes from the network, ``target_*`` from the labels; sizes end in ``_px`` (pixels) or ``_cells``
(pixels divided by the stride of the level). B, N, L, A, C, P, M as in ``utils/structures.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from utils import distributed
from utils.boxes import AnchorTables, flatten_levels
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.build import build_correlation, build_losses, build_score_part
from utils.criterion.matches import Matches, best_per_anchor, gather_matches
from utils.criterion.regions import ignore_regions
from utils.criterion.score_part import ScorePart
from utils.losses import BoxContext, SimilarityLoss
from utils.structures import AnchorTable, Assignment, LossOutput, RawPredictions


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
        self.parts: ScorePart = build_score_part(
            hyp,
            score_loss,
            self.box_loss.range,
            num_classes=num_classes,
            num_levels=num_levels,
            image_size=image_size,
        )
        self.correlation = build_correlation(hyp, num_classes)

    @property
    def joins_processes(self) -> bool:
        """Whether training steps of several processes must be taken together.

        True with ``loss.global_rank``, and where a loss keeps a running mean, as aLRP's balance and WIoU do.
        """
        parts = (self.parts, self.correlation)
        has_state = any(True for _ in self.box_loss.buffers())
        return has_state or any(part is not None and part.joins_processes for part in parts)

    def forward(
        self,
        raw: Sequence[Tensor],
        targets: Tensor,
        regions: Tensor | None = None,
        *,
        across_processes: bool | None = None,
    ) -> LossOutput:
        """The loss of a training step. For validation use :meth:`evaluate`.

        Args:
            raw: L tensors (B, A, H, W, 5 + C), x, y, w, h, objectness and class logits.
            targets: (M, 6) image, class, x, y, w, h (``xywhn``); M may be 0.
            regions: (R, 5) image, x, y, w, h (``xywhn``) of regions to ignore. An anchor without an object, whose box
                lies in a region of its image by more than half, is no negative: it has neither loss nor gradient.
            across_processes: True in a step that all processes of the group take together: what the settings want
                shared, the ranking of ``loss.global_rank`` and running means, then spans all processes. False: this
                process alone; none waits for another. It may be left out where it makes no difference: without a
                group, in evaluation mode, or where nothing is shared (:attr:`joins_processes`).

        Returns:
            total: scalar, the sum of the parts times B.
            parts: weighted, detached scalars: ``box``, ``obj``, ``cls``; with a ranking loss ``box``, ``rank`` (and
                ``sort``), and ``cls`` where classes have a loss of their own; ``corr`` with a correlation loss.

        Everything is computed in float32 or wider, outside autocast.

        Raises:
            ValueError: raw maps without 5 + C columns; ``across_processes`` left out where it makes a difference.
        """
        if raw[0].shape[-1] != 5 + self.num_classes:
            raise ValueError(
                f"Expected raw maps of shape (B, A, H, W, {5 + self.num_classes}) but got {tuple(raw[0].shape)}"
            )
        if across_processes is None:
            across_processes = self._must_join()
        with torch.autocast(raw[0].device.type, enabled=False):
            dtype = torch.promote_types(raw[0].dtype, torch.float32)
            table = self._tables.get(raw, dtype, self.strides, lambda: self._anchors_px)
            flat = flatten_levels([level.to(dtype) for level in raw])
            predictions = RawPredictions(flat, self.num_classes)
            targets = targets.to(flat)
            seen = RawPredictions(flat.detach(), self.num_classes) if self.assigner.needs_predictions else None
            assignment = self.assigner(targets, table, seen)
            if regions is not None and len(regions):
                assignment = ignore_regions(assignment, predictions, table, regions.to(flat))
            parts = self._parts(predictions, targets, table, assignment, across_processes)
            total = functools.reduce(torch.add, parts.values()) * len(flat)
        return LossOutput(total, {name: part.detach() for name, part in parts.items()})

    @torch.no_grad()
    def evaluate(self, raw: Sequence[Tensor], targets: Tensor, regions: Tensor | None = None) -> LossOutput:
        """The loss for validation: without gradient, and without changing the state of any loss.

        It never waits for another process, whatever mode this module is in. Arguments and result as in
        :meth:`forward`.
        """
        was_training = self.training
        self.eval()
        try:
            return self.forward(raw, targets, regions, across_processes=False)
        finally:
            self.train(was_training)

    def end_epoch(self) -> None:
        """Call once after the last step of an epoch: aLRP rebalances with this epoch's means."""
        self.parts.end_epoch()

    def _must_join(self) -> bool:
        """The value of ``across_processes`` if the caller left it out."""
        if self.training and distributed.is_initialised() and distributed.world_size() > 1 and self.joins_processes:
            raise ValueError(
                "expected across_processes: True in a training step that all processes take together, "
                "False for this process alone; or evaluate(raw, targets) in validation"
            )
        return False

    def _parts(
        self,
        predictions: RawPredictions,
        targets: Tensor,
        table: AnchorTable,
        assignment: Assignment,
        across_processes: bool,
    ) -> dict[str, Tensor]:
        num_anchors = predictions.values.shape[1]
        matches = every = gather_matches(predictions, targets, table, assignment)
        if self.parts.one_object_per_anchor:
            matches = best_per_anchor(every, num_anchors)
        image_wh = table.level_grid[0] * self.strides[0]
        context = BoxContext(table.stride[matches.anchor], image_wh, across_processes)
        # once in every step, also without positives: losses with state count the calls, in all processes alike
        box_loss = self.box_loss(matches.pred_boxes, matches.target_boxes, context=context)
        quality = self._quality(matches, context)
        parts = self.parts(
            predictions,
            table,
            matches,
            box_loss,
            quality,
            assignment.ignore,
            across_processes=across_processes,
        )
        if self.correlation is not None:
            scored = matches if self.parts.one_object_per_anchor else best_per_anchor(every, num_anchors)
            parts["corr"] = self.correlation(scored, across_processes=across_processes)
        return parts

    @torch.no_grad()
    def _quality(self, matches: Matches, context: BoxContext) -> Tensor:
        """Objectness targets of the positives, (P,) in [0, 1]."""
        if self.objectness_target == "one":
            return torch.ones_like(matches.iou)
        if self.objectness_target == "box":
            assert isinstance(self.box_loss, SimilarityLoss)  # see check_compatibility
            similarity = self.box_loss.similarity(matches.pred_boxes, matches.target_boxes, context=context)
            return similarity.clamp(0, 1)
        return matches.iou
