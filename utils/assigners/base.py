"""Registry and base of the assigners. An assigner chooses anchors for objects; it knows nothing of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from utils.parameters import Parameter
from utils.registry import Info, Registry
from utils.structures import AnchorTable, Assignment, RawPredictions

# Pairs of objects and anchors processed at a time; bounds the size of temporaries.
MAX_PAIRS = 2**21


class Assigner(Protocol):
    """Interface of an assigner.

    Attributes:
        needs_predictions: whether the call needs the raw predictions as well.
    """

    needs_predictions: bool

    def __call__(self, targets: Tensor, table: AnchorTable, raw: RawPredictions | None = None) -> Assignment:
        """Match objects and anchors, without gradient.

        Args:
            targets: (M, 6) image, class, x, y, w, h (``xywhn``).
            table: the N anchors of one image.
            raw: (B, N, 5 + C) predictions of the network, detached; given where ``needs_predictions`` is set.
        """


@dataclass(frozen=True, kw_only=True)
class AssignerInfo(Info):
    """One registered assigner.

    Attributes:
        summary: which anchors are positive, in one line of text, for tables.
        paper: authors, title, venue, and arXiv number.
    """

    summary: str
    paper: str


ASSIGNERS: Registry[AssignerInfo, Assigner] = Registry("assigner")

AssignerT = TypeVar("AssignerT", bound=Callable[..., Assigner])


def register_assigner(
    name: str,
    *,
    summary: str,
    paper: str,
    parameters: Mapping[str, Parameter] | None = None,
    block_keys: tuple[str, ...] = (),
) -> Callable[[AssignerT], AssignerT]:
    """Decorate a class of assigners; its constructor gets all parameters by name.

    Args:
        name: what settings call it.
        summary, paper: as in :class:`AssignerInfo`.
        parameters: by name, each with its default and its check.
        block_keys: parameters that hyper-parameters of the same names may set as well.
    """

    def add(build: AssignerT) -> AssignerT:
        ASSIGNERS.add(
            AssignerInfo(
                name=name,
                build=build,
                parameters=parameters or {},
                block_keys=block_keys,
                summary=summary,
                paper=paper,
            )
        )
        return build

    return add


def anchors_at(table: AnchorTable, level: Tensor, shape: Tensor, cell: Tensor) -> Tensor:
    """Anchors in [0, N), (P,) int64, by level (P,), shape (P,) and cell (P, 2): column, row; clamped to the grid."""
    num_cols, num_rows = table.level_grid[level].long().unbind(dim=1)
    col, row = torch.minimum(cell.clamp(min=0), table.level_grid[level] - 1).long().unbind(dim=1)
    return table.level_offset[level] + (shape * num_rows + row) * num_cols + col
