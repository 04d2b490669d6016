"""The loop of a search: trainings whose hyper-parameters Optuna chooses, until there are as many as asked for."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utils.errors import DivergenceError, UserError
from utils.metrics import Metrics
from utils.search.control_points import control_points
from utils.search.options import KINDS
from utils.search.plan import Plan, check_same_settings, make_plan
from utils.search.split import hold_out
from utils.training.resolve import run_hyperparameters

if TYPE_CHECKING:
    import optuna

WAIT = 5  # seconds between looks at trials that other processes train
OVERRIDES = "set"  # attribute of a trial: its hyper-parameters, as texts of --set
HYP_BEST = "hyp_best.yaml"

# ``train.run``, handed down by the commands: a search stands below what it runs.
Train = Callable[..., Any]

log = logging.getLogger(__name__)


class SearchResult(NamedTuple):
    """What a search returns.

    Attributes:
        folder: of the search: hyp_best.yaml, trials.csv, pictures.
        hyp: the best hyper-parameters as a file that train.py takes.
        value: of the best trial: fitness (hyp) or mAP50-95 (pap), after its last epoch.
        trial: its number.
        trials: that are finished, by this process or others.
        minutes: duration of this call.
    """

    folder: Path
    hyp: Path
    value: float
    trial: int
    trials: int
    minutes: float


def search(train: Train, options: Mapping[str, Any]) -> SearchResult:
    """Search until the study has the number of finished trials asked for, sharing them with other processes.

    Args:
        train: ``train.run``.
        options: see :class:`utils.search.options.SearchOptions`.

    Raises:
        UserError: an invalid option, file, key or name, a study of that name with other settings, or no Optuna.
    """
    started = time.monotonic()
    require_optuna()
    from utils.search.report import Progress
    from utils.search.trials import open_study, places, quiet_optuna, run_trial, shown_url, sqlite_url

    plan = make_plan(options)
    plan.folder.mkdir(parents=True, exist_ok=True)
    url = plan.own.storage or sqlite_url(plan.folder / "search.db")
    prune_after = None if plan.own.pruner == "none" else plan.options.epochs // 3
    with quiet_optuna():
        study = open_study(
            url, plan.options.name, plan.own.search_seed, prune_after=prune_after, start=plan.space.start()
        )
        check_same_settings(study, plan)
        data = prepare_data(plan)
        log.info(
            "search of %s in %s, study %s in %s", KINDS[plan.own.what], plan.folder, study.study_name, shown_url(url)
        )
        now = places(study, plan.own.trials)
        told: tuple[int, ...] = ()
        progress = Progress(plan.space.title, plan.own.trials, now.finished)
        while now.is_open or now.running:
            if now.is_open:
                run_trial(study, lambda trial: train_trial(train, plan, data, trial), plan.own.trials)
                write_report(plan, study)
                log.info("%s", progress.line(study.get_trials(deepcopy=False)))
            else:
                if now.running != told:
                    log.info("waiting for trial %s of other processes", " and ".join(map(str, now.running)))
                told = now.running
                time.sleep(WAIT)
            now = places(study, plan.own.trials)
        best = write_report(plan, study)
    if best is None or best.value is None:
        raise UserError(f"{plan.folder}: every trial was pruned; --pruner none keeps them to their last epoch")
    hyp = plan.folder / HYP_BEST
    log.info("best %s %.4f in trial %d; train with --hyp %s", plan.space.title, best.value, best.number, hyp)
    return SearchResult(plan.folder, hyp, best.value, best.number, now.finished, (time.monotonic() - started) / 60)


def evolve(train: Train, options: Mapping[str, Any]) -> SearchResult:
    """``train.py --evolve N``: a search of hyper-parameters in N trials, with the other options of that command.

    Args:
        train: ``train.run``.
        options: of train.py, ``evolve`` among them. ``nosave`` has no effect, and ``noval`` switches pruning off.
    """
    given = {name: value for name, value in options.items() if name not in ("evolve", "nosave", "noval")}
    pruner = {"pruner": "none"} if options.get("noval") else {}
    return search(train, {"what": "hyp", "trials": options["evolve"], **pruner, **given})


def require_optuna() -> None:
    """Check that the optional dependency is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError("a search needs Optuna: pip install -r requirements-search.txt") from None


def prepare_data(plan: Plan) -> str:
    """The data YAML that trials are trained and judged with."""
    if plan.holdout == 0:
        return plan.options.data
    return str(hold_out(plan.description, plan.holdout, plan.own.search_seed, plan.folder / "data"))


def train_trial(train: Train, plan: Plan, data: str, trial: optuna.Trial) -> float:
    """Train with the parameters of a trial; the metric after its last epoch, 0 where the training diverged.

    Args:
        train: ``train.run``.
        plan: of the search.
        data: data YAML.
        trial: that has begun.

    Raises:
        optuna.TrialPruned: it is worse than the others at this epoch.
    """
    from optuna import TrialPruned

    from utils.search.report import DIVERGED

    overrides = plan.space.overrides(trial)
    trial.set_user_attr(OVERRIDES, overrides)
    log.info("trial %d: %s", trial.number, ", ".join(f"{name} {value:.4g}" for name, value in trial.params.items()))

    def on_epoch(epoch: int, metrics: Metrics | None) -> None:
        if metrics is not None:
            trial.report(getattr(metrics, plan.space.measure), epoch)
            if epoch + 1 < plan.options.epochs and trial.should_prune():
                raise TrialPruned(f"after epoch {epoch + 1}")

    folder = plan.folder / "trials" / f"{trial.number:04d}"
    decided = {
        "data": data,
        "set": [*plan.options.set, *overrides],
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
        "noval": plan.own.pruner == "none",
        "nosave": True,
        "noplots": True,
    }
    try:
        return getattr(train(on_epoch=on_epoch, **{**plan.given, **decided}).metrics, plan.space.measure)
    except DivergenceError as error:
        log.warning("trial %d: %s", trial.number, error)
        trial.set_user_attr(DIVERGED, str(error))
        return 0.0
    finally:
        shutil.rmtree(folder / "weights", ignore_errors=True)


def write_report(plan: Plan, study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """Write trials.csv, the best hyper-parameters and the pictures; returns the best trial."""
    from optuna.trial import FixedTrial

    from utils.search.plots import plot_curves, plot_history, plot_importances
    from utils.search.report import best_of, write_hyp, write_trials

    trials, folder, title = study.get_trials(deepcopy=False), plan.folder, plan.space.title
    write_trials(folder / "trials.csv", trials, plan.space.measure)
    best = best_of(trials)
    if best is not None:
        part = f"{plan.holdout:g} of the training split" if plan.holdout else "the val split"
        comment = f"Search of {KINDS[plan.own.what]}: trial {best.number}, {title} {best.value:.4f} on {part}."
        hyp = run_hyperparameters(plan.options, best.user_attrs[OVERRIDES])
        write_hyp(folder / HYP_BEST, hyp, plan.options.hyp, comment)
    if not plan.options.noplots:
        plot_history(trials, title, folder / "history.png")
        plot_importances(study, title, folder / "importances.png")
        if best is not None and plan.own.what == "pap":
            plot_curves(control_points(FixedTrial(best.params)), comment, folder / "curves.png")
    return best
