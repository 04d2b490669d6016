"""The registry of assigners, and what they share. An assigner chooses anchors for objects; it knows nothing of losses.

An entry's ``settings`` names the hyper-parameters that its builder takes.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from utils.registry import Registry
from utils.structures import AnchorTable, Assignment

ASSIGNERS = Registry("assigner")

# Pairs of objects and anchors looked at together: bounds the memory, in some temporaries of this many numbers.
MAX_PAIRS = 2**21


class Assigner(Protocol):
    """What the criterion expects of an assigner.

    Attributes:
        needs_predictions: whether the call wants the raw predictions as well.
    """

    needs_predictions: ClassVar[bool]

    def __call__(self, targets: Tensor, table: AnchorTable, flat: Tensor | None = None) -> Assignment:
        """Assign, without gradient.

        Args:
            targets: (M, 6) image, class, x, y, w, h (``xywhn``).
            table: the N anchors of one image.
            flat: (B, N, 5 + C) raw predictions, detached; given where ``needs_predictions`` is set.
        """


def anchors_at(table: AnchorTable, level: Tensor, shape: Tensor, cell: Tensor) -> Tensor:
    """Anchors in [0, N), (P,) int64, by level (P,), shape (P,) and cell (P, 2): column, row; clamped to the grid."""
    num_cols, num_rows = table.level_grid[level].long().unbind(dim=1)
    col, row = torch.minimum(cell.clamp(min=0), table.level_grid[level] - 1).long().unbind(dim=1)
    return table.level_offset[level] + (shape * num_rows + row) * num_cols + col
