"""What a search is asked to do: its flags, and the checks before anything slow begins."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import distributed
from utils.config.checks import check_counts
from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.config.parser import CommandParser, options_from
from utils.criterion.build import check_loss_settings
from utils.datasets import DataDescription, read_data_yaml
from utils.errors import ContradictionError, UserError
from utils.files import find_file
from utils.search.control_points import ControlPointSpace
from utils.search.space import LIMITS, Limits, SearchSpace, hyp_space
from utils.study.rows import settings_differences
from utils.study.runs import run_settings
from utils.training.options import complete_options, make_parser

if TYPE_CHECKING:
    import optuna

PROJECT, NAME = "runs/search", "exp"
KINDS = {"hyp": "hyper-parameters", "pap": "curves of the Parameterized AP loss"}
OWN = ("what", "trials", "keys", "holdout", "pruner", "storage", "search_seed")
PAP_HOLDOUT, PAP_BASE = 0.2, "hyp.pap-published.yaml"
SETTINGS = "settings"  # attribute of a study
# Options of train.py that the search itself decides, and what to write instead.
DECIDED = {
    "resume": "the same command again goes on where it stopped",
    "exist_ok": "the same command again goes on where it stopped",
    "evolve": "--trials says how many trainings there are",
    "noval": "--pruner none validates after the last epoch alone",
    "nosave": "trials keep no weights; train with the hyp_best.yaml that is found",
    "save_period": "trials keep no weights; train with the hyp_best.yaml that is found",
}

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search, checked.

    Attributes:
        own: options of the search.
        given: options of train.py, as given.
        options: options of train.py in full.
        space: what is varied.
        folder: of the search.
        description: of the data set.
        settings: what tells this search from another.
    """

    own: argparse.Namespace
    given: Mapping[str, Any]
    options: argparse.Namespace
    space: SearchSpace
    folder: Path
    description: DataDescription
    settings: Mapping[str, Mapping[str, str]]


def make_search_parser() -> CommandParser:
    """Flags of search.py: its own, and those of train.py."""
    parser = make_parser()
    parser.prog, parser.description = "search.py", "Search hyper-parameters or a loss; other flags are train.py's."
    for action in parser._actions:
        if action.dest in DECIDED:
            action.help = argparse.SUPPRESS
        if action.dest in ("name", "project"):
            action.default = NAME if action.dest == "name" else PROJECT
            action.help = "the search lives in PROJECT/NAME, and its study has this name"
    add = parser.add_argument
    add("--what", default="hyp", choices=tuple(KINDS), help="; ".join(f"{name}: {KINDS[name]}" for name in KINDS))
    add("--trials", type=int, default=30, help="finished trials, of all processes and calls together")
    add("--keys", nargs="+", default=[], metavar="KEY[=LOW:HIGH]", help=f"what to search, of {', '.join(LIMITS)}, ...")
    add(
        "--holdout", type=float, default=None, help="judge by this fraction of the training split, not by the val split"
    )
    add("--pruner", default="median", choices=("median", "none"), help="end trials that are worse than the median")
    add(
        "--storage",
        default="",
        help="URL of a data base that processes or machines share; none is a file in the folder",
    )
    add("--search-seed", type=int, default=0, help="of the parameters that are tried, and of --holdout")
    return parser


def make_plan(given: Mapping[str, Any]) -> Plan:
    """Check all options before anything slow begins.

    Args:
        given: options by name.
    """
    if distributed.world_size() > 1:
        raise UserError("search.py trains in one process: start it without torchrun, several times to share the trials")
    parser = make_search_parser()
    actions = parser.option_actions()
    for name, advice in DECIDED.items():
        if any(spelling in actions and actions[spelling].dest == name for spelling in given):
            raise UserError(f"--{name.replace('_', '-')} is not an option of a search: {advice}")
    checked = options_from(parser, given)
    own = argparse.Namespace(**{name: getattr(checked, name) for name in OWN})
    check_counts(trials=own.trials)
    if own.search_seed < 0:
        raise UserError(f"--search-seed: expected a whole number from 0 on but got {own.search_seed}")
    own.holdout = _holdout(own)
    training = {name: value for name, value in given.items() if actions[name].dest not in OWN}
    training = {"name": NAME, "project": PROJECT} | ({"hyp": PAP_BASE} if own.what == "pap" else {}) | training
    description = read_data_yaml(find_file(checked.data, "data file"))
    complete = complete_options(training, description.defaults, checked.data)
    base = resolve(complete)
    space = _space(own, complete, base)
    row = run_settings(vars(complete), base.to_mapping())
    search = {"what": own.what, "holdout": f"{own.holdout:g}", "search_seed": str(own.search_seed)} | space.describe()
    settings = {"search": search, "training": row}
    return Plan(own, training, complete, space, Path(complete.project) / complete.name, description, settings)


def _holdout(own: argparse.Namespace) -> float:
    fraction = own.holdout
    if fraction is None:
        fraction = PAP_HOLDOUT if own.what == "pap" else 0.0
    if own.what == "pap" and fraction == 0:
        raise UserError("--holdout: --what pap judges by a part of the training set, never by the validation set")
    if not 0 <= fraction < 1:
        raise UserError(f"--holdout: expected a fraction of the training set below 1 but got {fraction:g}")
    return fraction


def _space(own: argparse.Namespace, options: argparse.Namespace, base: Hyperparameters) -> SearchSpace:
    if own.what == "pap":
        from optuna.trial import FixedTrial

        if own.keys:
            raise UserError("--keys names hyper-parameters, but --what pap searches curves")
        space = ControlPointSpace(base.box, base.loss.control_points)
        resolve(options, space.overrides(FixedTrial(space.start())))
        return space
    space = hyp_space(own.keys, base.to_mapping())
    if not own.keys:
        space = dataclasses.replace(space, limits=_without_contradictions(options, space.limits))
    for end in ("low", "high"):
        resolve(options, [f"{key}={getattr(limits, end)!r}" for key, limits in space.limits.items()])
    return space


def _without_contradictions(options: argparse.Namespace, limits: Mapping[str, Limits]) -> dict[str, Limits]:
    """The keys that nobody named, less those that the base file has no use for, such as obj_pw of a ranking loss."""
    kept = {}
    for key, entry in limits.items():
        try:
            for value in (entry.low, entry.high):
                resolve(options, [f"{key}={value!r}"])
            kept[key] = entry
        except ContradictionError as error:
            log.info("not searched: %s", error)
    return kept


def resolve(options: argparse.Namespace, overrides: Sequence[str] = ()) -> Hyperparameters:
    """The hyper-parameters of a training, complete and checked.

    Args:
        options: of train.py in full, of which ``hyp``, ``set`` and ``label_smoothing`` matter.
        overrides: texts as of ``--set``, behind those of the options.
    """
    direct = {} if options.label_smoothing is None else {"label_smoothing": options.label_smoothing}
    return load_hyperparameters(options.hyp, [*options.set, *overrides], validate=check_loss_settings, **direct)


def check_same_settings(study: optuna.Study, plan: Plan) -> None:
    """A new study takes these settings; one that exists must have them.

    Raises:
        UserError: it has others.
    """
    found = study.user_attrs.get(SETTINGS)
    if found is None:
        study.set_user_attr(SETTINGS, plan.settings)
        return
    pairs = [
        (name, found["search"].get(name), plan.settings["search"].get(name))
        for name in dict.fromkeys([*found["search"], *plan.settings["search"]])
    ]
    differences = [
        f"{name} {one or 'nothing'} instead of {other or 'nothing'}" for name, one, other in pairs if one != other
    ]
    differences += filter(None, [settings_differences(found["training"], plan.settings["training"])])
    if differences:
        raise UserError(
            f"{plan.folder}: the search of this name has other settings: "
            f"{', '.join(differences)}. Choose another --name"
        )
