"""Search hyper-parameters: ``python search.py --data D --cfg M --trials 30 --epochs 10``.

Or the curves of the Parameterized AP loss: ``--what pap``. The same command again goes on where it stopped, and run
several times at once it shares the work. :func:`run` is the same from Python.
"""

from __future__ import annotations

from typing import Any

import train
from utils.config.console import run_main, setup_logging
from utils.search.plan import make_search_parser
from utils.search.run import SearchResult, search

__all__ = ["SearchResult", "main", "run"]


def run(**options: Any) -> SearchResult:
    """Search until the study has as many finished trials as asked for, together with other processes that do the same.

    Args:
        options: flags of the command line by name: ``what``, ``trials``, ``keys``, ``holdout``, ``pruner``,
            ``storage``, ``search_seed``, and those of train.py, e.g. ``data="bccd.yaml"``, ``epochs=10``.

    Raises:
        UserError: an option, file, key or name that cannot be right, a study of that name with other settings, or no
            Optuna.
    """
    return search(train.run, options)


def main() -> None:
    """Run the command line."""
    setup_logging()
    run(**make_search_parser().given())


if __name__ == "__main__":
    run_main(main)
