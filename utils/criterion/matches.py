"""The positives of a batch with their predictions and targets, gathered once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.boxes import decode_cell_boxes, elementwise_iou, xywh_to_xyxy
from utils.distributed import all_reduce_sum
from utils.structures import AnchorTable, Assignment, RawPredictions


class Matches(NamedTuple):
    """The P positives.

    Attributes:
        image, anchor, target: (P,) int64, as in :class:`Assignment`.
        pred: (P, 5 + C) raw outputs, with gradient.
        pred_boxes, target_boxes: (P, 4) ``xyxy`` in cells, relative to the corner of the anchor's cell. Cells, not
            pixels: coordinates stay near 1, where floats are dense, whatever the image size.
        iou: (P,) overlap of the two, in [0, 1], without gradient.
        classes: (P,) int64.
    """

    image: Tensor
    anchor: Tensor
    target: Tensor
    pred: RawPredictions
    pred_boxes: Tensor
    target_boxes: Tensor
    iou: Tensor
    classes: Tensor

    def select(self, index: Tensor) -> Matches:
        """The matches at ``index``, (K,) int64."""
        return Matches(
            self.image[index],
            self.anchor[index],
            self.target[index],
            self.pred[index],
            self.pred_boxes[index],
            self.target_boxes[index],
            self.iou[index],
            self.classes[index],
        )


def gather_matches(raw: RawPredictions, targets: Tensor, table: AnchorTable, assignment: Assignment) -> Matches:
    """Gather the predictions and targets of the positives.

    Args:
        raw: (B, N, 5 + C) outputs of the network.
        targets: (M, 6) image, class, x, y, w, h (``xywhn``).
        table: of the input size.
        assignment: of these targets.
    """
    image, anchor, target, _ = assignment
    pred = raw[image, anchor]
    pred_boxes = xywh_to_xyxy(decode_cell_boxes(pred.boxes, (table.size / table.stride)[anchor]))
    target_boxes = xywh_to_xyxy(cell_boxes(targets[target, 2:6], table, anchor))
    with torch.no_grad():
        iou = elementwise_iou(pred_boxes, target_boxes)
    return Matches(image, anchor, target, pred, pred_boxes, target_boxes, iou, targets[target, 1].long())


def cell_boxes(boxes: Tensor, table: AnchorTable, anchor: Tensor) -> Tensor:
    """(P, 4) ``xywhn`` to ``xywh`` in cells, relative to the corner of each anchor's cell."""
    grid = table.level_grid[table.level[anchor]]
    return torch.cat((boxes[:, :2] * grid - table.cell[anchor], boxes[:, 2:] * grid), dim=1)


def best_per_anchor(matches: Matches, num_anchors: int) -> Matches:
    """Keep one match per anchor: the object with the highest IoU, of equal ones the first.

    Returns:
        matches in the order of image and anchor.
    """
    key = matches.image * num_anchors + matches.anchor
    order = matches.iou.argsort(descending=True, stable=True)
    order = order[key[order].argsort(stable=True)]
    key = key[order]
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    return matches.select(order[first])


def level_weights(matches: Matches, table: AnchorTable, global_counts: bool) -> Tensor:
    """(P,) weights that turn a sum over positives into the sum over levels of the mean of each level's positives.

    Args:
        global_counts: count the positives of all processes; each then holds its share of that sum.
    """
    level = table.level[matches.anchor]
    count = matches.iou.new_zeros(len(table.level_stride))
    count.index_add_(0, level, torch.ones_like(matches.iou))
    return 1 / (all_reduce_sum(count) if global_counts else count)[level]
