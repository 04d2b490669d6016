"""``python -m utils.losses`` prints every loss with formula, range, parameters and paper, as docs/losses.md has it."""

from __future__ import annotations

import inspect
import math
from typing import Any

from utils.losses import BOX_LOSSES, SCORE_LOSSES
from utils.registry import Registry

COLUMNS = ("name", "formula", "range", "parameters", "paper")


def interval(bounds: tuple[float, float]) -> str:
    """``[0, 2.5]``, or ``[0, inf)``."""
    low, high = bounds
    return f"[{low:g}, {high:g}{')' if math.isinf(high) else ']'}"


def parameters(build: Any) -> str:
    """``gamma = 0.5, of = ciou``: what a builder takes, with its defaults."""
    known = inspect.signature(build).parameters.values()
    return ", ".join(f"{entry.name} = {str(entry.default).lower()}" for entry in known)


def table(registry: Registry) -> str:
    """A Markdown table of a registry, one row per name."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for name in registry:
        entry = registry.entry(name)
        info = entry.info
        cells = (f"`{name}`", info["formula"], interval(info["range"]), parameters(entry.build), info["paper"])
        rows.append(tuple(cell.replace("|", "\\|") for cell in cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def tables() -> str:
    """Both tables with their headings."""
    return f"Box losses\n\n{table(BOX_LOSSES)}\n\nScore losses\n\n{table(SCORE_LOSSES)}"


if __name__ == "__main__":
    print(tables())
