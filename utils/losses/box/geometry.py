"""Sides, overlaps and distances used by the formulas of the box losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sides(NamedTuple):
    """Widths and heights that the overlap formulas share, each (N,).

    Attributes:
        overlap_w, overlap_h: sides of the intersection; negative where the boxes are apart.
        enclosing_w, enclosing_h: sides of the smallest box around both.
        pred_w, pred_h, target_w, target_h: sides of the boxes.
    """

    overlap_w: Tensor
    overlap_h: Tensor
    enclosing_w: Tensor
    enclosing_h: Tensor
    pred_w: Tensor
    pred_h: Tensor
    target_w: Tensor
    target_h: Tensor


def box_sides(pred: Tensor, target: Tensor) -> Sides:
    """Sides of intersection, enclosing box, and both boxes; inputs (N, 4) ``xyxy``."""
    px1, py1, px2, py2 = pred.unbind(-1)
    tx1, ty1, tx2, ty2 = target.unbind(-1)
    return Sides(
        overlap_w=torch.minimum(px2, tx2) - torch.maximum(px1, tx1),
        overlap_h=torch.minimum(py2, ty2) - torch.maximum(py1, ty1),
        enclosing_w=torch.maximum(px2, tx2) - torch.minimum(px1, tx1),
        enclosing_h=torch.maximum(py2, ty2) - torch.minimum(py1, ty1),
        pred_w=px2 - px1,
        pred_h=py2 - py1,
        target_w=tx2 - tx1,
        target_h=ty2 - ty1,
    )


def iou_and_union(sides: Sides, eps: float) -> tuple[Tensor, Tensor]:
    """Intersection over union (N,) in [0, 1] and the union (N,), eps included, from the sides."""
    intersection = sides.overlap_w.clamp(min=0) * sides.overlap_h.clamp(min=0)
    union = sides.pred_w * sides.pred_h + sides.target_w * sides.target_h - intersection + eps
    return intersection / union, union


def centre_distance_ratio(pred: Tensor, target: Tensor, sides: Sides, eps: float) -> Tensor:
    """Squared centre distance over the squared diagonal of the enclosing box, (N,) in [0, 1): DIoU's penalty."""
    diagonal = sides.enclosing_w.square() + sides.enclosing_h.square() + eps
    twice_offset = pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]
    return twice_offset.square().sum(dim=1) / 4 / diagonal


def boxes_to_centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) and sides (N, 2) of (N, 4) ``xyxy`` boxes."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def iou_of(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Intersection over union (N,) in [0, 1] of (N, 4) ``xyxy`` boxes."""
    return iou_and_union(box_sides(pred, target), eps)[0]


def shape_cost(width_error: Tensor, height_error: Tensor, theta: float) -> Tensor:
    """(1 - e^-a)^theta + (1 - e^-b)^theta, (N,) in [0, 2), of two errors of at least 0: SIoU's shape cost."""
    return (1 - torch.exp(-width_error)).pow(theta) + (1 - torch.exp(-height_error)).pow(theta)
