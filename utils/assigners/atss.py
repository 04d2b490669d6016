"""ATSS: each object has an IoU threshold of its own, from the statistics of the anchors near it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.assigners.base import MAX_PAIRS, anchors_at, register_assigner
from utils.boxes import elementwise_iou, xywh_to_xyxy
from utils.parameters import Count
from utils.structures import AnchorTable, Assignment, RawPredictions

# Tolerance of the threshold in units of rounding: candidates with equal IoUs must all stay.
ROUNDING = 8


class _Candidates(NamedTuple):
    """The nearest anchors of m objects on L levels, K each.

    Attributes:
        shape: (m, L, K) int64, anchor shape within the level.
        cell: (m, L, K, 2) column and row.
        exists: (m, L, K) bool; the grid of a small level has fewer than K.
        inside: (m, L, K) bool, the anchor's centre lies inside the object.
        iou: (m, L, K) IoU of object and anchor.
    """

    shape: Tensor
    cell: Tensor
    exists: Tensor
    inside: Tensor
    iou: Tensor


@register_assigner(
    "atss",
    summary="near anchors with IoU above mean + deviation and the centre inside the object",
    paper="Zhang et al., ATSS, CVPR 2020, arXiv:1912.02424",
    parameters={"candidates": Count(9)},
)
class ATSSAssigner:
    """Adaptive training sample selection: of the anchors near an object, those with an IoU above mean + deviation.

    Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
    Selection, CVPR 2020, arXiv:1912.02424, algorithm 1:

    * Candidates of an object are, on each level, the ``candidates`` anchors with the nearest centres (all anchors where
      a level has fewer). The centre of an anchor is that of its cell, so the A anchors of a cell are equally near; of
      equally near anchors those with the lower index in [0, N) come first: by shape, then row, then column. (For
      several anchors per cell the authors' code takes ``candidates`` times A; here it is the number itself.)
    * Threshold: mean + standard deviation of the IoUs of its candidates of all levels with the object, anchors as boxes
      around the centres of their cells. The deviation is the unbiased one (n - 1), as in the authors' code; of a single
      candidate it is 0.
    * Candidates at or above the threshold match if their centre lies strictly inside the object (in the authors' code
      by 0.01 pixels). An object between the cell centres, or whose candidates fit alike but for a few, may have none.
    * An anchor that matches several objects goes to the one with the highest IoU, or the first of equals.

    No prediction is ignored. A box reaches only half a cell beyond its own: where a cell has a single anchor, nine
    candidates lie in cells that are partly too far away.

    Args:
        candidates: anchors per object and level, >= 1.
    """

    needs_predictions = False

    def __init__(self, candidates: int) -> None:
        self.candidates = candidates

    @torch.no_grad()
    def __call__(self, targets: Tensor, table: AnchorTable, raw: RawPredictions | None = None) -> Assignment:
        """Match objects and anchors.

        Args:
            targets: (M, 6) image, class, x, y, w, h (``xywhn``).
            table: the anchors of one image.
            raw: not used.

        Returns:
            P matches in the order of the targets; no anchor appears twice.
        """
        num_levels, num_shapes, _ = table.level_size.shape
        offsets = _window(self.candidates, num_shapes, targets)
        some = max(1, MAX_PAIRS // (num_levels * num_shapes * len(offsets)))
        found = [self._match(part, table, offsets) for part in torch.split(targets, some)]
        target = torch.cat([part[0] + number * some for number, part in enumerate(found)])
        anchor, iou = (torch.cat([part[column] for part in found]) for column in (1, 2))
        image = targets[target, 0].long()
        kept = _best_of_each(image * len(table.level) + anchor, iou)
        return Assignment(image[kept], anchor[kept], target[kept])

    def _match(self, targets: Tensor, table: AnchorTable, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row of ``targets``, anchor and IoU of each match of some objects, each (P,), in the order of the rows."""
        near = _nearest_anchors(targets, table, offsets, self.candidates)
        count = near.exists.sum(dim=(1, 2), keepdim=True)
        mean = (near.iou * near.exists).sum(dim=(1, 2), keepdim=True) / count
        squares = ((near.iou - mean) * near.exists).square().sum(dim=(1, 2), keepdim=True)
        threshold = mean + (squares / (count - 1).clamp(min=1)).sqrt()
        fits = near.iou >= threshold - ROUNDING * torch.finfo(near.iou.dtype).eps
        matched = near.exists & near.inside & fits
        target, level, _ = matched.nonzero(as_tuple=True)
        anchor = anchors_at(table, level, near.shape[matched], near.cell[matched])
        return target, anchor, near.iou[matched]


def _window(candidates: int, num_shapes: int, like: Tensor) -> Tensor:
    """Cells around a centre's own that hold its nearest anchors: (W, 2) steps in column and row, row by row.

    With c = candidates / A, rounded up: a cell c columns or rows away has c nearer ones between itself and the centre.
    """
    radius = -(-candidates // num_shapes)
    steps = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    row, col = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack((col.flatten(), row.flatten()), dim=1)


def _nearest_anchors(targets: Tensor, table: AnchorTable, offsets: Tensor, candidates: int) -> _Candidates:
    """The nearest anchors of the objects (m, 6) among the cells of a window (W, 2) around each centre."""
    grids = table.level_grid  # (L, 2) columns, rows
    num_levels, num_shapes, _ = table.level_size.shape
    centre, size = (targets[:, None, columns] * grids for columns in (slice(2, 4), slice(4, 6)))  # (m, L, 2) cells
    home = torch.minimum(centre.floor().clamp(min=0), grids - 1)
    centre = centre - home  # relative to the own cell from here on: small numbers keep their precision

    cell = home[:, :, None] + offsets  # (m, L, W, 2)
    outside = ((cell < 0) | (cell >= grids[:, None])).any(dim=-1)
    distance = (offsets + 0.5 - centre[:, :, None]).square().sum(dim=-1).masked_fill(outside, torch.inf)
    distance = distance[:, :, None].expand(-1, -1, num_shapes, -1).flatten(2)  # (m, L, A * W) in the order of anchors
    distance, order = (part[..., :candidates] for part in distance.sort(dim=-1, stable=True))
    shape, step = order // len(offsets), offsets[order % len(offsets)]

    level = torch.arange(num_levels, device=targets.device)[:, None]
    anchor_cells = (table.level_size / table.level_stride[:, None, None])[level, shape]  # (m, L, K, 2)
    anchor_centre = step + 0.5
    anchor_boxes = xywh_to_xyxy(torch.cat((anchor_centre, anchor_cells), dim=-1))
    target_boxes = xywh_to_xyxy(torch.cat((centre, size), dim=-1))[:, :, None]
    low, high = torch.split(target_boxes, 2, dim=-1)
    return _Candidates(
        shape=shape,
        cell=home[:, :, None] + step,
        exists=distance.isfinite(),
        inside=((low < anchor_centre) & (anchor_centre < high)).all(dim=-1),
        iou=elementwise_iou(anchor_boxes, target_boxes, eps=0.0),  # anchors have an area
    )


def _best_of_each(place: Tensor, iou: Tensor) -> Tensor:
    """Indices, ascending, of the match with the highest IoU at each place, the first of equals; inputs (P,)."""
    order = iou.sort(descending=True, stable=True).indices
    order = order[place[order].sort(stable=True).indices]
    place = place[order]
    first = torch.ones_like(place, dtype=torch.bool)
    first[1:] = place[1:] != place[:-1]
    return order[first].sort().values
