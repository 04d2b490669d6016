"""YOLOv5's assignment: anchors of similar shape, in the object's cell and its two nearest neighbour cells."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.assigners.base import anchors_at, register_assigner
from utils.parameters import Number
from utils.structures import AnchorTable, Assignment, RawPredictions


@register_assigner(
    "anchor_ratio",
    summary="side ratio below anchor_t, in up to three cells",
    paper="YOLOv5",
    parameters={"anchor_t": Number(4.0, low=1)},
    block_keys=("anchor_t",),
)
class AnchorRatioAssigner:
    """An anchor matches if neither of its sides differs from the object's by a factor of ``anchor_t`` or more.

    It matches in the cell of the object's centre and in the horizontal and vertical neighbours nearer than half a cell,
    if they are inside the grid: up to three cells. An object may match on several levels and with
    several anchors, or with none.

    Args:
        anchor_t: largest ratio of sides, > 1.
    """

    needs_predictions = False

    def __init__(self, anchor_t: float) -> None:
        self.anchor_t = anchor_t

    @torch.no_grad()
    def __call__(self, targets: Tensor, table: AnchorTable, raw: RawPredictions | None = None) -> Assignment:
        """Match objects and anchors.

        Args:
            targets: (M, 6) image, class, x, y, w, h (``xywhn``).
            table: the anchors of one image.
            raw: not used.

        Returns:
            P matches, each within the grid of its level; the same anchor may appear more than once.
        """
        grids = table.level_grid[:, None]  # (L, 1, 2) columns, rows
        centre = targets[None, :, 2:4] * grids  # (L, M, 2) cells
        size = targets[None, :, 4:6] * grids
        anchor_cells = table.level_size / table.level_stride[:, None, None]  # (L, A, 2)
        ratio = size[:, None] / anchor_cells[:, :, None]  # (L, A, M, 2)
        fits = torch.maximum(ratio, 1 / ratio).amax(dim=-1) < self.anchor_t  # (L, A, M)

        near = _near_cells(centre, grids)  # (5, L, M)
        neighbour, level, shape, target = (fits[None] & near[:, :, None]).nonzero(as_tuple=True)
        cell = (centre[level, target] + _half_step(neighbour)).floor()
        anchor = anchors_at(table, level, shape, cell)
        return Assignment(image=targets[target, 0].long(), anchor=anchor, target=target)


def _half_step(neighbour: Tensor) -> Tensor:
    """Half a cell towards a neighbour, (P, 2): 0 is the own cell, then left, top, right, bottom.

    Computed on the device: a constant copied from the host in every step would wait for it.
    """
    right = (neighbour == 3).int() - (neighbour == 1).int()
    down = (neighbour == 4).int() - (neighbour == 2).int()
    return 0.5 * torch.stack((right, down), dim=1)


def _near_cells(centre: Tensor, grids: Tensor) -> Tensor:
    """(5, L, M) bool: the own cell always, a neighbour when the centre leans towards it; order as in `_half_step`.

    A centre that lies exactly on a cell border leans both ways, as in YOLOv5.
    """
    far_side = grids - centre
    before = (centre % 1 < 0.5) & (centre > 1)  # (L, M, 2) left, top
    after = (far_side % 1 < 0.5) & (far_side > 1)  # right, bottom
    own = torch.ones_like(before[..., 0])
    return torch.stack((own, before[..., 0], before[..., 1], after[..., 0], after[..., 1]))
