"""Parameters of losses, checked."""

from __future__ import annotations

import math
from typing import Any

from utils.errors import UserError


def number(
    loss: str, parameter: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> float:
    """A parameter of a loss, checked.

    Args:
        loss, parameter: names for the error message.
        value: a number, or a text that is one (YAML reads 1e-3, without a point, as text).
        low, high: ends of the accepted interval.
        above: ``low`` itself is refused.

    Raises:
        UserError: not a finite number, or outside the interval.
    """
    wanted = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
    if above:
        wanted = f"above {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or not low <= found <= high or (above and found == low):
        raise UserError(f"{loss}: expected {parameter}, a number {wanted}, but got {value!r}")
    return found


def flag(loss: str, parameter: str, value: Any) -> bool:
    """A parameter that is true or false, checked.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, bool):
        raise UserError(f"{loss}: expected {parameter}, true or false, but got {value!r}")
    return value
