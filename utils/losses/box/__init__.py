"""Box-regression losses by name. Importing this package registers those of all its modules."""

from __future__ import annotations

from typing import Any

from utils.losses.box.base import (
    BOX_LOSSES,
    BoxContext,
    BoxLoss,
    SimilarityLoss,
    register_builder,
    register_formula,
)
from utils.registry import import_modules

import_modules(__name__, __path__)


def box_loss(name: str, **parameters: Any) -> BoxLoss:
    """Build a box loss: ``box_loss("ciou")(pred, target) -> (N,)``.

    Args:
        name: a name of ``BOX_LOSSES``.
        parameters: what that loss takes.

    Returns:
        callable ``(pred, target, *, reduction="none", eps=1e-7)`` on (N, 4) ``xyxy`` boxes in pixels, with ``range``
        and, where the loss is 1 - similarity, ``similarity``.

    Raises:
        UserError: unknown name or parameter (the message lists the known ones), or a wrong value.
    """
    return BOX_LOSSES.build(name, **parameters)


__all__ = [
    "BOX_LOSSES",
    "BoxContext",
    "BoxLoss",
    "SimilarityLoss",
    "box_loss",
    "register_builder",
    "register_formula",
]
