"""Box-regression losses by name. Importing this package registers them."""

from __future__ import annotations

from typing import Any

from utils.losses.box import ciou, diou, giou, iou, sca  # noqa: F401  (registration)
from utils.losses.box.base import BOX_LOSSES, BoxLoss


def box_loss(name: str, **parameters: Any) -> BoxLoss:
    """Build a box loss: ``box_loss("ciou")(pred, target) -> (N,)``.

    Args:
        name: a name of ``BOX_LOSSES``.
        parameters: what that loss takes.

    Returns:
        callable ``(pred, target, *, reduction="none", eps=1e-7)`` on (N, 4) ``xyxy`` boxes, with ``similarity`` and
        ``range``.

    Raises:
        UserError: unknown name or parameter; the message lists the known ones.
    """
    return BOX_LOSSES.build(name, **parameters)
