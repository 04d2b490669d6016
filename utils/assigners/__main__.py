"""Print every assigner with its rule, parameters and paper, or keep the table in a document up to date.

python -m utils.assigners                          # print
python -m utils.assigners --write docs/losses.md   # replace the table between the markers of the file
python -m utils.assigners --check docs/losses.md   # fail if it differs
"""

from __future__ import annotations

from utils.assigners import ASSIGNERS
from utils.registry_tables import defaults, markdown_table, run_tables


def table() -> str:
    """A Markdown table, one row per assigner."""
    rows = [(f"`{info.name}`", info.summary, defaults(info), info.paper) for info in map(ASSIGNERS.entry, ASSIGNERS)]
    return markdown_table(("name", "positive anchors", "parameters", "paper"), rows)


if __name__ == "__main__":
    run_tables("utils.assigners", table, __doc__ or "")
