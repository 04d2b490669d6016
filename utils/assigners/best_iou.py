"""YOLOv3's assignment: one anchor per object; other predictions that overlap an object well are ignored."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.assigners.base import MAX_PAIRS, anchors_at, register_assigner
from utils.boxes import decode_boxes, elementwise_iou, xywh_to_xyxy
from utils.parameters import Number
from utils.structures import AnchorTable, Assignment, RawPredictions


@register_assigner(
    "best_iou",
    summary="the anchor of best shape, in one cell; predictions with IoU above ignore_iou are ignored",
    paper="Redmon and Farhadi, YOLOv3, arXiv:1804.02767",
    parameters={"ignore_iou": Number(0.7, 0, 1)},
)
class BestIoUAssigner:
    """The one anchor of all levels whose shape fits best, in the cell of the object's centre.

    Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.1. Shapes are compared by the IoU of boxes with one centre;
    of equal ones the first counts: lower level, then lower anchor. Every object matches exactly one anchor; objects
    with the same anchor share it. Any other prediction whose decoded box has an IoU above ``ignore_iou`` with an
    object of its image, of whatever class, is ignored: neither positive nor negative.

    Args:
        ignore_iou: in [0, 1], 1 ignores nothing. YOLOv3's code has 0.7, its paper 0.5.
    """

    needs_predictions = True

    def __init__(self, ignore_iou: float) -> None:
        self.ignore_iou = ignore_iou

    @torch.no_grad()
    def __call__(self, targets: Tensor, table: AnchorTable, raw: RawPredictions | None = None) -> Assignment:
        """Match objects and anchors.

        Args:
            targets: (M, 6) image, class, x, y, w, h (``xywhn``).
            table: the anchors of one image.
            raw: (B, N, 5 + C) predictions of the network.

        Returns:
            M matches in the order of the targets, and ``ignore``, (B, N) bool.

        Raises:
            ValueError: no predictions.
        """
        if raw is None:
            raise ValueError("Expected raw predictions of shape (B, N, 5 + C) but got None")
        image = targets[:, 0].long()
        image_wh = table.level_grid[0] * table.level_stride[0]  # pixels
        num_shapes = table.level_size.shape[1]
        best = _shape_iou(targets[:, 4:6] * image_wh, table.level_size.flatten(0, 1)).argmax(dim=1)
        level, shape = best // num_shapes, best % num_shapes
        cell = (targets[:, 2:4] * table.level_grid[level]).floor()
        anchor = anchors_at(table, level, shape, cell)

        pred_boxes = xywh_to_xyxy(decode_boxes(raw.boxes, table))
        target_boxes = xywh_to_xyxy(targets[:, 2:6] * image_wh.repeat(2))
        ignore = _covers_an_object(pred_boxes, image, target_boxes, self.ignore_iou)
        ignore.index_put_((image, anchor), ignore.new_zeros(()))
        return Assignment(image, anchor, torch.arange(len(targets), device=targets.device), ignore)


def _shape_iou(sizes1: Tensor, sizes2: Tensor) -> Tensor:
    """(M, K) IoU of boxes with one centre, of sides (M, 2) and (K, 2) in one unit."""
    intersection = torch.minimum(sizes1[:, None], sizes2).prod(dim=-1)
    return intersection / (sizes1.prod(dim=-1)[:, None] + sizes2.prod(dim=-1) - intersection)


def _covers_an_object(pred_boxes: Tensor, image: Tensor, target_boxes: Tensor, threshold: float) -> Tensor:
    """(B, N) bool: predictions (B, N, 4) with an IoU above the threshold with an object (M, 4) of their image."""
    hits = torch.zeros(pred_boxes.shape[:2], dtype=torch.int32, device=pred_boxes.device)
    some = max(1, MAX_PAIRS // max(1, pred_boxes.shape[1]))
    for part_image, part_boxes in zip(torch.split(image, some), torch.split(target_boxes, some), strict=True):
        iou = elementwise_iou(pred_boxes[part_image], part_boxes[:, None], eps=0.0)  # (m, N); 0/0 is above nothing
        hits.index_add_(0, part_image, (iou > threshold).int())
    return hits > 0
