"""From raw network outputs and objects to the training loss: assign, gather once, compare, weigh.

Naming: ``pred_*`` comes from the network, ``target_*`` from the labels; sizes end in ``_px`` (pixels) or ``_cells``
(pixels divided by the stride of the level). B, N, L, A, C, P, M as in ``utils/structures.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from utils.assigners import ASSIGNERS, Assigner
from utils.boxes import build_anchor_table, decode_cell_boxes, elementwise_iou, flatten_levels, xywh_to_xyxy
from utils.errors import UserError
from utils.hyperparameters import Hyperparameters
from utils.losses import BOX_LOSSES, SCORE_LOSSES, BoxContext, BoxLoss, SimilarityLoss
from utils.structures import AnchorTable, Assignment, LossOutput

# Objectness weight of each level, finest first: fine levels have many cells and few objects.
LEVEL_BALANCE = {3: (4.0, 1.0, 0.4)}
LEVEL_BALANCE_OTHERWISE = (4.0, 1.0, 0.25, 0.06, 0.02)


class Criterion(nn.Module):
    """The weighted sum of box, objectness and class loss of a YOLO head, as YOLOv5 defines it.

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
        self.strides = tuple(float(stride) for stride in strides)
        self.box_loss = _build_box_loss(hyp)  # a module: its state is part of this one's
        self.score_loss = SCORE_LOSSES.build_from(_score_setting(hyp))
        self.assigner = _build_assigner(hyp)
        self.objectness_target = hyp.loss.objectness_target
        self.gains = {
            "box": hyp.box * 3 / num_levels,
            "obj": hyp.obj * (image_size / 640) ** 2 * 3 / num_levels,
            "cls": hyp.cls * num_classes / 80 * 3 / num_levels,
        }
        self.positive_weights = {"obj": hyp.obj_pw, "cls": hyp.cls_pw}
        self.class_on, self.class_off = 1 - hyp.label_smoothing / 2, hyp.label_smoothing / 2
        self.balance = LEVEL_BALANCE.get(num_levels, LEVEL_BALANCE_OTHERWISE[:num_levels])
        self._table_key: tuple | None = None

    def forward(self, raw: Sequence[Tensor], targets: Tensor) -> LossOutput:
        """Compute the loss.

        Args:
            raw: L tensors (B, A, H, W, 5 + C), x, y, w, h, objectness and class logits.
            targets: (M, 6) image, class, x, y, w, h (``xywhn``); M may be 0.

        Returns:
            total: scalar, the sum of the parts times B.
            parts: ``box``, ``obj``, ``cls``: weighted, detached scalars.

        Everything is computed in float32 or wider, outside autocast.
        """
        with torch.autocast(raw[0].device.type, enabled=False):
            dtype = torch.promote_types(raw[0].dtype, torch.float32)
            table = self._anchor_table(raw, dtype)
            flat = flatten_levels([level.to(dtype) for level in raw])
            targets = targets.to(flat)
            predictions = flat.detach() if self.assigner.needs_predictions else None
            assignment = self.assigner(targets, table, predictions)
            parts = self._parts(flat, targets, table, assignment)
            weighted = {name: part * self.gains[name] for name, part in parts.items()}
            total = sum(weighted.values()) * len(flat)
        return LossOutput(total, {name: part.detach() for name, part in weighted.items()})

    def target_boxes(self, targets: Tensor, table: AnchorTable, assignment: Assignment) -> Tensor:
        """(P, 4) ``xywh`` in cells, relative to the corner of the matched anchor's cell.

        Cells, not pixels: coordinates stay near 1, where floats are dense, whatever the image size.
        """
        grid = table.level_grid[table.level[assignment.anchor]]
        boxes = targets[assignment.target, 2:6]
        return torch.cat((boxes[:, :2] * grid - table.cell[assignment.anchor], boxes[:, 2:] * grid), dim=1)

    def _parts(self, flat: Tensor, targets: Tensor, table: AnchorTable, assignment: Assignment) -> dict[str, Tensor]:
        image, anchor, target, _ = assignment
        pred = flat[image, anchor]  # (P, 5 + C): the one gather
        anchor_cells = (table.size / table.stride)[anchor]
        pred_boxes = xywh_to_xyxy(decode_cell_boxes(pred[:, :4], anchor_cells))
        target_boxes = xywh_to_xyxy(self.target_boxes(targets, table, assignment))
        context = BoxContext(table.stride[anchor], table.level_grid[0] * self.strides[0])
        # once in every step, also without positives: losses with state count the calls, in all processes alike
        box_loss = self.box_loss(pred_boxes, target_boxes, context=context)

        # Each level contributes the mean over its own positives.
        level = table.level[anchor]
        count = flat.new_zeros(len(self.strides)).index_add_(0, level, torch.ones_like(box_loss))
        weight = 1 / count[level]
        quality = self._quality(pred_boxes, target_boxes, context)
        return {
            "box": (box_loss * weight).sum(),
            "obj": self._objectness_loss(flat[..., 4], table, assignment, quality),
            "cls": (self._class_loss(pred[:, 5:], targets[target, 1].long()) * weight).sum(),
        }

    @torch.no_grad()
    def _quality(self, pred_boxes: Tensor, target_boxes: Tensor, context: BoxContext) -> Tensor:
        """Objectness targets of the positives, (P,) in [0, 1]."""
        if self.objectness_target == "one":
            return torch.ones_like(pred_boxes[:, 0])
        if self.objectness_target == "box":
            return self.box_loss.similarity(pred_boxes, target_boxes, context=context).clamp(0, 1)
        return elementwise_iou(pred_boxes, target_boxes)

    def _objectness_loss(self, logits: Tensor, table: AnchorTable, assignment: Assignment, quality: Tensor) -> Tensor:
        """Mean over all anchors of a level, then the balanced sum over levels; logits (B, N).

        Ignored anchors add neither loss nor gradient, but count in the mean: the others weigh the same as without them.
        """
        batch, num_anchors = logits.shape
        # Of several objects on one anchor the best fitting counts, in whatever order they come.
        target = logits.new_zeros(batch * num_anchors)
        target.scatter_reduce_(0, assignment.image * num_anchors + assignment.anchor, quality, "amax")
        loss = self.score_loss(logits, target.view_as(logits), positive_weight=self.positive_weights["obj"])
        if assignment.ignore is not None:
            positive = torch.zeros_like(assignment.ignore).index_put_(
                (assignment.image, assignment.anchor), assignment.ignore.new_ones(())
            )
            loss = loss.masked_fill(assignment.ignore & ~positive, 0.0)
        return (loss * self._anchor_weight).sum() / batch

    def _class_loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Mean over classes for each positive, (P,); nothing to learn from one class."""
        if self.num_classes == 1:
            return logits.new_zeros(len(logits))
        target = torch.full_like(logits, self.class_off)
        target.scatter_(1, classes[:, None], self.class_on)
        return self.score_loss(logits, target, positive_weight=self.positive_weights["cls"]).mean(dim=1)

    def _anchor_table(self, raw: Sequence[Tensor], dtype: torch.dtype) -> AnchorTable:
        """The table of this input size, and the objectness weight of each anchor, kept until the size changes."""
        grids = tuple((level.shape[2], level.shape[3]) for level in raw)
        key = (grids, dtype, raw[0].device)
        if key != self._table_key:
            with torch.inference_mode(False):  # a table made while validating must serve training too
                anchors = self._anchors_px.to(dtype).to(raw[0].device)
                self._table = build_anchor_table(anchors, self.strides, grids)
                anchors_in_level = self._table.level_grid.prod(dim=1) * anchors.shape[1]
                self._anchor_weight = (anchors.new_tensor(self.balance) / anchors_in_level)[self._table.level]
            self._table_key = key
        return self._table


def check_loss_settings(hyp: Hyperparameters) -> None:
    """Build what ``hyp`` names and forget it: a wrong name or parameter is found before anything slow begins.

    Raises:
        UserError: unknown loss, assigner or parameter, or settings that contradict each other.
    """
    _build_box_loss(hyp)
    SCORE_LOSSES.build_from(_score_setting(hyp))
    _build_assigner(hyp)


def _build_box_loss(hyp: Hyperparameters) -> BoxLoss:
    loss = BOX_LOSSES.build_from(hyp.loss.box)
    if hyp.loss.objectness_target == "box" and not isinstance(loss, SimilarityLoss):
        raise UserError(
            f"objectness_target: box needs a box loss that is 1 - similarity, but {loss.name} is none; "
            "expected objectness_target: iou or one, or another box loss"
        )
    return loss


def _score_setting(hyp: Hyperparameters) -> str | dict:
    """The score loss, with the focal gamma of old files taken in."""
    if hyp.fl_gamma == 0:
        return hyp.loss.score
    if hyp.loss.score == "bce":
        return {"name": "focal", "gamma": hyp.fl_gamma}
    raise UserError(
        f"fl_gamma: {hyp.fl_gamma:g} and loss.score: {hyp.loss.score} contradict each other; "
        "fl_gamma only turns bce into focal. Write loss.score: {name: focal, gamma: ...} and leave fl_gamma at 0."
    )


def _build_assigner(hyp: Hyperparameters) -> Assigner:
    settings = ASSIGNERS.entry(hyp.assigner).info["settings"]
    return ASSIGNERS.build(hyp.assigner, **{name: getattr(hyp, name) for name in settings})
