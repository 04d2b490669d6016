"""Regions to ignore: crowds, difficult objects, and classes that are left out."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.boxes import box_area, decode_boxes, xywh_to_xyxy
from utils.structures import AnchorTable, Assignment, RawPredictions

SHARE = 0.5  # of its own area by which a box lies in a region
MAX_PAIRS = 2**21  # boxes times regions compared at once: bounds the memory


@torch.no_grad()
def ignore_regions(
    assignment: Assignment, predictions: RawPredictions, table: AnchorTable, regions: Tensor
) -> Assignment:
    """Take the anchors whose box lies in a region by more than half out of the negatives; matched ones stay positive.

    Args:
        assignment: of the batch.
        predictions: raw outputs of the N anchors of B images.
        table: of the input size.
        regions: (R, 5) image, x, y, w, h (``xywhn``).
    """
    boxes = xywh_to_xyxy(decode_boxes(predictions.boxes.detach(), table))
    image_wh = table.level_grid[0] * table.level_stride[0]
    inside = _inside(boxes, regions[:, 0].long(), xywh_to_xyxy(regions[:, 1:] * image_wh.repeat(2)))
    inside.index_put_((assignment.image, assignment.anchor), inside.new_zeros(()))
    return assignment._replace(ignore=inside if assignment.ignore is None else assignment.ignore | inside)


def _inside(boxes: Tensor, image: Tensor, regions: Tensor) -> Tensor:
    """(B, N) bool: boxes (B, N, 4) with more than ``SHARE`` of their area in a region (R, 4) of their image."""
    hits = torch.zeros(boxes.shape[:2], dtype=torch.int32, device=boxes.device)
    some = max(1, MAX_PAIRS // max(1, boxes.shape[1]))
    for part_image, part in zip(torch.split(image, some), torch.split(regions[:, None], some), strict=True):
        own = boxes[part_image]  # (r, N, 4)
        low, high = torch.maximum(own[..., :2], part[..., :2]), torch.minimum(own[..., 2:], part[..., 2:])
        shared = (high - low).clamp(min=0).prod(dim=-1)
        hits.index_add_(0, part_image, (shared > SHARE * box_area(own)).int())
    return hits > 0
