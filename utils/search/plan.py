"""The plan of a search: everything that was asked for, checked before anything slow begins."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import distributed
from utils.config.hyperparameters import Hyperparameters
from utils.datasets import DataDescription, read_data_yaml
from utils.errors import ContradictionError, UserError
from utils.files import find_file
from utils.search.control_points import ControlPointSpace
from utils.search.options import NAME, PROJECT, SearchOptions
from utils.search.space import Limits, SearchSpace, hyp_space
from utils.study.rows import settings_differences
from utils.training.identity import run_settings
from utils.training.options import TrainOptions
from utils.training.resolve import complete_options, run_hyperparameters

if TYPE_CHECKING:
    import optuna

PAP_HOLDOUT, PAP_BASE = 0.2, "hyp.pap-published.yaml"
SETTINGS = "settings"  # attribute of a study

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search, checked.

    Attributes:
        own: options of the search.
        given: options of train.py, as given.
        options: options of train.py in full.
        holdout: fraction of the training split that trials are judged on; 0 is the val split.
        space: what is varied.
        folder: of the search.
        description: of the data set.
        settings: what tells this search from another.
    """

    own: SearchOptions
    given: Mapping[str, Any]
    options: TrainOptions
    holdout: float
    space: SearchSpace
    folder: Path
    description: DataDescription
    settings: Mapping[str, Mapping[str, str]]


def make_plan(given: Mapping[str, Any]) -> Plan:
    """Check all options before anything slow begins.

    Args:
        given: options by name.
    """
    if distributed.world_size() > 1:
        raise UserError("search.py trains in one process: start it without torchrun, several times to share the trials")
    own, given = SearchOptions.of(given), SearchOptions.checked(given)
    holdout = _holdout(own)
    training = {"name": NAME, "project": PROJECT} | ({"hyp": PAP_BASE} if own.what == "pap" else {})
    training |= {name: value for name, value in given.items() if name in TrainOptions.specs()}
    description = read_data_yaml(find_file(own.data, "data file", ("data",)))
    # the search starts from the usual hyper-parameters, whatever the data set suggests to train with
    defaults = {name: value for name, value in description.defaults.items() if name != "hyp"}
    complete = complete_options(training, defaults, own.data)
    base = run_hyperparameters(complete)
    space = _space(own, complete, base)
    row = run_settings(complete.to_mapping(), base.to_mapping())
    search = {"what": own.what, "holdout": f"{holdout:g}", "search_seed": str(own.search_seed)} | space.describe()
    settings = {"search": search, "training": row}
    folder = Path(complete.project) / complete.name
    return Plan(own, training, complete, holdout, space, folder, description, settings)


def _holdout(own: SearchOptions) -> float:
    fraction = own.holdout
    if fraction is None:
        fraction = PAP_HOLDOUT if own.what == "pap" else 0.0
    if own.what == "pap" and fraction == 0:
        raise UserError("--holdout: --what pap judges trials on part of the training set, never on the validation set")
    if fraction == 1:
        raise UserError(f"--holdout: expected a fraction of the training set below 1 but got {fraction:g}")
    return fraction


def _space(own: SearchOptions, options: TrainOptions, base: Hyperparameters) -> SearchSpace:
    if own.what == "pap":
        from optuna.trial import FixedTrial

        if own.keys:
            raise UserError("--keys names hyper-parameters, but --what pap searches curves")
        curves = ControlPointSpace(base.box, base.loss.control_points)
        run_hyperparameters(options, curves.overrides(FixedTrial(curves.start())))
        return curves
    space = hyp_space(own.keys, base.to_mapping())
    if not own.keys:
        space = dataclasses.replace(space, limits=_without_contradictions(options, space.limits))
    for end in ("low", "high"):
        run_hyperparameters(options, [f"{key}={getattr(limits, end)!r}" for key, limits in space.limits.items()])
    return space


def _without_contradictions(options: TrainOptions, limits: Mapping[str, Limits]) -> dict[str, Limits]:
    """The keys that nobody named, less those that the base file has no use for, such as obj_pw of a ranking loss."""
    kept = {}
    for key, entry in limits.items():
        try:
            for value in (entry.low, entry.high):
                run_hyperparameters(options, [f"{key}={value!r}"])
            kept[key] = entry
        except ContradictionError as error:
            log.info("not searched: %s", error)
    return kept


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
