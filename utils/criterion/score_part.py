"""The interface of the loss parts around a score loss."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from utils.criterion.matches import Matches
from utils.structures import AnchorTable, RawPredictions


class ScorePart(Protocol):
    """The loss of boxes, objectness and classes around one score loss, elementwise or ranking.

    Attributes:
        one_object_per_anchor: whether an anchor with several objects is one positive, that of the highest IoU.
        joins_processes: whether training steps of several processes must be taken together.
    """

    one_object_per_anchor: bool
    joins_processes: bool

    def __call__(
        self,
        predictions: RawPredictions,
        table: AnchorTable,
        matches: Matches,
        box_loss: Tensor,
        quality: Tensor,
        ignore: Tensor | None,
        *,
        across_processes: bool,
    ) -> dict[str, Tensor]:
        """Weighted parts, scalars with gradient.

        Args:
            predictions: (B, N, 5 + C) raw outputs.
            table: of the input size.
            matches: the P positives.
            box_loss, quality: (P,) box loss and objectness target of each.
            ignore: (B, N) bool, anchors that are neither positive nor negative, or None.
            across_processes: whether all processes take this step together; if not, no collective is entered.
        """

    def end_epoch(self) -> None:
        """Called after the last training step of an epoch."""
