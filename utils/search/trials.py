"""The Optuna study of a search: shared between processes, with reproducible sampling; lost trials are repeated.

Of the trials that have not failed, the first ``num_trials`` by number count. The database numbers trials one after the
other, and a failed trial stays failed, so a trial that counts once always does: no matter how many processes there are,
exactly ``num_trials`` are finished.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from utils.errors import UserError

HEARTBEAT = 15  # seconds between heartbeats of a trial
GRACE = 60  # seconds without a heartbeat until a trial counts as lost
MAX_RETRIES = 3  # of a trial whose process dies every time
CONNECTION_ATTEMPTS = 5  # two processes may create the tables of a database at once
STARTUP_TRIALS = 10  # sampled uniformly, before there is something to learn from
UNPRUNED_TRIALS = 5
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
WORKER = "worker"  # attribute of a trial: who trains it

log = logging.getLogger(__name__)


class SurplusTrialError(Exception):
    """Two processes began the last trial at the same time, and this one was later."""


class Places(NamedTuple):
    """How far a study is.

    Attributes:
        finished: number of trials that are complete or pruned.
        is_open: whether another trial may begin.
        running: numbers of the trials being trained.
    """

    finished: int
    is_open: bool
    running: tuple[int, ...]


class NumberedSampler(optuna.samplers.BaseSampler):
    """Tree-structured Parzen estimator that depends only on the seed, the trial's number and the finished trials.

    A sampler with one random stream would restart it in every process and draw the same parameters again.

    Args:
        seed: of all trials.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sampler = self._of_number(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin the stream of this trial."""
        self._sampler = self._of_number(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the Parzen estimator does."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the Parzen estimator does."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the Parzen estimator does."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def _of_number(self, number: int) -> optuna.samplers.TPESampler:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)


def open_study(url: str, name: str, seed: int, *, prune_after: int | None, start: Mapping[str, float]) -> optuna.Study:
    """Open a study that maximises, or create it.

    Args:
        url: of the database, in SQLAlchemy's form.
        name: of the study in the database.
        seed: of the sampler.
        prune_after: epochs before a trial can be pruned by the median of the others; None never prunes.
        start: parameters of the first trial of a new study.

    Raises:
        UserError: the database cannot be opened; a password is not shown.
    """
    storage = _connect(url)
    sampler = NumberedSampler(seed)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune_after is not None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=prune_after)
    try:
        study = optuna.create_study(
            study_name=name, direction="maximize", storage=storage, sampler=sampler, pruner=pruner
        )
    except DuplicatedStudyError:
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
    study.enqueue_trial(dict(start))
    return study


def sqlite_url(path: Path) -> str:
    """The URL of a database file, which need not exist; its name may hold any character."""
    return sqlalchemy.engine.URL.create("sqlite", database=str(path.resolve())).render_as_string(hide_password=False)


def shown_url(url: str) -> str:
    """The URL of a database without its password.

    Raises:
        UserError: it is not a URL.
    """
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(
            f"--storage: expected the URL of a database, sqlite:///search.db or postgresql://user@host/name, "
            f"but got {url!r}"
        ) from None


def _connect(url: str) -> RDBStorage:
    shown = shown_url(url)
    waiting = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}  # seconds, for the others' writing
    for attempt in range(1, CONNECTION_ATTEMPTS + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    url,
                    engine_kwargs=waiting,
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=repeat_trial,
                )
        except (ImportError, sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
            if attempt == CONNECTION_ATTEMPTS or isinstance(error, ImportError | sqlalchemy.exc.ArgumentError):
                reason = str(error).splitlines()[0]
                raise UserError(f"--storage {shown}: cannot be used: {reason}") from None
            time.sleep(0.2 * attempt)
    raise AssertionError("the last attempt returns or raises")


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Switch Optuna's own messages off; failures arrive as exceptions."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def places(study: optuna.Study, num_trials: int) -> Places:
    """How far the study is. Lost trials are queued again first.

    Args:
        study: shared.
        num_trials: number of finished trials asked for.
    """
    _repeat_lost_trials(study)
    alive = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]
    waiting = any(trial.state == TrialState.WAITING for trial in alive[:num_trials])
    return Places(
        finished=sum(trial.state in FINISHED for trial in alive),
        is_open=waiting or len(alive) < num_trials,
        running=tuple(trial.number for trial in alive if trial.state == TrialState.RUNNING),
    )


def run_trial(study: optuna.Study, objective: Callable[[optuna.Trial], float], num_trials: int) -> None:
    """Run one trial, unless enough have begun before it.

    Args:
        study: shared.
        objective: returns the value of a trial, or raises ``optuna.TrialPruned``. Another exception stops the search;
            after Ctrl-C the trial waits to be repeated.
        num_trials: number of finished trials asked for.
    """
    lost: list[int] = []  # trials that another process has ended meanwhile
    ended: list[int] = []  # trials that have a value, or are pruned

    def signed(trial: optuna.Trial) -> float:
        _take_place(study, trial, num_trials)
        try:
            value = objective(trial)
            ended.append(trial.number)
            return value
        except optuna.TrialPruned:
            ended.append(trial.number)
            raise
        except KeyboardInterrupt:
            repeat_trial(study, _frozen(study, trial))
            raise
        finally:
            if _frozen(study, trial).state != TrialState.RUNNING:
                lost.append(trial.number)

    try:
        study.optimize(signed, n_trials=1, catch=(SurplusTrialError,), gc_after_trial=True)
    except (ValueError, UpdateFinishedTrialError):  # Optuna's, if it cannot store the value; or the objective's own
        if not lost and not ended:
            raise
        number = (lost or ended)[0]
        log.warning("trial %d sent no heartbeat for a while, and another process repeats it", number)


def _frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def _take_place(study: optuna.Study, trial: optuna.Trial, num_trials: int) -> None:
    """Sign a trial that has just begun.

    Raises:
        SurplusTrialError: there are enough before it.
    """
    states = [other.state for other in study.get_trials(deepcopy=False) if other.number < trial.number]
    if len(states) - states.count(TrialState.FAIL) >= num_trials:
        raise SurplusTrialError
    trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")


def repeat_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose process died or was stopped, with the same parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)(study, trial)
    worker = trial.user_attrs.get(WORKER, "a process that is gone")
    log.warning("trial %d was left unfinished by %s and is repeated", trial.number, worker)


def _repeat_lost_trials(study: optuna.Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    # these do not include a process that died before the first heartbeat of its trial
    latest = datetime.datetime.now() - datetime.timedelta(seconds=GRACE)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        started = trial.datetime_start
        if WORKER not in trial.user_attrs and started is not None and started < latest:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            repeat_trial(study, trial)
