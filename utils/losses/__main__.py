"""Print every loss with formula, range, parameters and paper, or keep the tables in a document up to date.

python -m utils.losses                          # print
python -m utils.losses --write docs/losses.md   # replace the tables between the markers of the file
python -m utils.losses --check docs/losses.md   # fail if they differ
"""

from __future__ import annotations

import math
from typing import Any

from utils.losses import BOX_LOSSES, SCORE_LOSSES, LossInfo
from utils.losses.info import Range
from utils.registry import Registry
from utils.registry_tables import defaults, markdown_table, run_tables


def interval(bounds: Range) -> str:
    """``[0, 2.5]``, or ``[0, inf)``."""
    low, high = bounds
    return f"[{low:g}, {high:g}{')' if math.isinf(high) else ']'}"


def table(registry: Registry[LossInfo, Any]) -> str:
    """A Markdown table of a registry, one row per name."""
    rows = []
    for name in registry:
        info = registry.entry(name)
        rows.append((f"`{name}`", info.formula, interval(info.range), defaults(info), info.paper))
    return markdown_table(("name", "formula", "range", "parameters", "paper"), rows)


def tables() -> str:
    """Both tables with their headings."""
    return f"Box losses\n\n{table(BOX_LOSSES)}\n\nScore losses\n\n{table(SCORE_LOSSES)}"


if __name__ == "__main__":
    run_tables("utils.losses", tables, __doc__ or "")
