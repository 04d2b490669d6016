"""Search hyper-parameters: ``python search.py --data D --cfg M --trials 30 --epochs 10``.

Or the curves of the Parameterized AP loss: ``--what pap``. Repeat the same command to continue; started several times
at once, the processes share the trials. :func:`run` is the same from Python.
"""

from __future__ import annotations

from typing import Unpack

from utils.config.parser import CommandParser
from utils.search.options import SearchKeywords, SearchOptions

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    GIVEN = CommandParser(SearchOptions).given()

import train
from utils.config.console import run_main
from utils.search.run import SearchResult, search

__all__ = ["SearchResult", "run"]


def run(**options: Unpack[SearchKeywords]) -> SearchResult:
    """Search until the study has the number of finished trials asked for, sharing them with other processes.

    Args:
        options: see :class:`utils.search.options.SearchOptions`: ``what``, ``trials``, ``keys``, ``holdout``,
            ``pruner``, ``storage``, ``search_seed``, and those of ``train.run``, e.g. ``data="bccd.yaml"``,
            ``epochs=10``.

    Raises:
        UserError: an invalid option, file, key or name, a study of that name with other settings, or no Optuna.
    """
    return search(train.run, options)


if __name__ == "__main__":
    run_main(lambda: run(**GIVEN))
