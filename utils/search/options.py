"""The options of search.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from utils.config.options import option
from utils.config.schema import Many, Text, Whole
from utils.parameters import Choice, Number
from utils.search.space import LIMITS
from utils.training.options import TrainKeywords, TrainOptions

PROJECT, NAME = "runs/search", "exp"
KINDS = {"hyp": "hyper-parameters", "pap": "curves of the Parameterized AP loss"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions(TrainOptions):
    """Options of a search: its own, and those of the trainings."""

    command: ClassVar[str] = "search.py"
    purpose: ClassVar[str] = "Search hyper-parameters or the curves of a loss."
    decided: ClassVar[Mapping[str, str]] = {
        "resume": "repeat the same command to continue the search",
        "exist_ok": "repeat the same command to continue the search",
        "evolve": "--trials says how many trainings there are",
        "noval": "--pruner none validates only after the final epoch",
        "nosave": "trials keep no weights; train with the hyp_best.yaml that is found",
        "save_period": "trials keep no weights; train with the hyp_best.yaml that is found",
    }

    project: str = option(Text(PROJECT), "folder of searches; this one is in PROJECT/NAME")
    name: str = option(Text(NAME), "name of the search, and of its Optuna study")
    what: str = option(Choice("hyp", tuple(KINDS)), "; ".join(f"{name}: {KINDS[name]}" for name in KINDS))
    trials: int = option(Whole(30, 1), "number of finished trials, over all processes and calls")
    keys: tuple[str, ...] = option(
        Many((), Text(), 0), f"what to search, of {', '.join(LIMITS)}, ...", metavar="KEY[=LOW:HIGH]"
    )
    holdout: float | None = option(
        Number(None, 0, 1), "judge trials on this fraction of the training split instead of the val split"
    )
    pruner: str = option(Choice("median", ("median", "none")), "stop trials that are worse than the median")
    storage: str = option(
        Text(""), "URL of a database that processes or machines share (default: a file in the search's folder)"
    )
    search_seed: int = option(Whole(0, 0), "seed of the sampler and of --holdout")


class SearchKeywords(TrainKeywords, total=False):
    """Keywords of ``search.run``; see :class:`SearchOptions`."""

    what: str
    trials: int
    keys: Sequence[str]
    holdout: float | None
    pruner: str
    storage: str
    search_seed: int
