"""Output of a search: trials.csv, hyp_best.yaml, and a progress line after each trial."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState

from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.errors import UserError
from utils.files import HYPS_FOLDER, ROOT, find_file, write_atomically
from utils.search.trials import FINISHED, WORKER
from utils.training.report import duration

DIVERGED = "diverged"  # attribute of a trial: what was not finite


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the highest value, the earliest if several have it; None if no trial is complete."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


class Progress:
    """Progress of a search, with the time left at the pace since this object was created.

    Args:
        title: of the metric.
        num_trials: number of finished trials asked for.
        finished: number of trials finished already.
    """

    def __init__(self, title: str, num_trials: int, finished: int) -> None:
        self._title, self._num_trials, self._finished = title, num_trials, finished
        self._begin = time.monotonic()

    def line(self, trials: Sequence[FrozenTrial]) -> str:
        """``12 of 30 trials, 3 of them pruned, best fitness 0.4321 (trial 7), 5:01 so far, 21:10 left``."""
        finished = [trial for trial in trials if trial.state in FINISHED]
        pruned, best = sum(trial.state == TrialState.PRUNED for trial in finished), best_of(trials)
        elapsed, since = time.monotonic() - self._begin, len(finished) - self._finished
        parts = [f"{len(finished)} of {self._num_trials} trials"]
        parts += [f"{pruned} of them pruned"] if pruned else []
        parts += [f"best {self._title} {best.value:.4f} (trial {best.number})"] if best else []
        parts += [f"{duration(elapsed)} so far"]
        parts += [f"{duration(elapsed / since * (self._num_trials - len(finished)))} left"] if since else []
        return ", ".join(parts)


def write_trials(path: Path, trials: Sequence[FrozenTrial], measure: str) -> None:
    """Write one row for each trial: state, value, minutes, and its parameters.

    Args:
        path: CSV.
        trials: of the study.
        measure: name of the value's column.
    """
    parameters = dict.fromkeys(name for trial in trials for name in trial.params)
    columns = ["trial", "state", measure, "epochs", "minutes", "started", WORKER, DIVERGED, *parameters]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        row = {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            measure: "" if trial.value is None else repr(trial.value),
            "epochs": len(trial.intermediate_values),
            "minutes": "" if trial.duration is None else f"{trial.duration.total_seconds() / 60:.2f}",
            "started": "" if trial.datetime_start is None else trial.datetime_start.isoformat(timespec="seconds"),
        }
        attributes = {name: trial.user_attrs.get(name, "") for name in (WORKER, DIVERGED)}
        writer.writerow(row | attributes | {name: repr(value) for name, value in trial.params.items()})
    _write(path, file.getvalue())


def write_hyp(path: Path, hyp: Hyperparameters, base: str, comment: str) -> None:
    """Write hyper-parameters as a file for train.py; only the differences, if the base file comes with the program.

    Args:
        path: YAML.
        hyp: complete.
        base: file that the search started from, as the user named it.
        comment: first line.
    """
    content, file = hyp.to_mapping(), find_file(base, "base file", (HYPS_FOLDER,))
    if file.resolve().parent == ROOT / HYPS_FOLDER:
        content = {"base": file.name} | _differences(content, load_hyperparameters(file).to_mapping())
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    _write(path, f"# {comment}\n{text}")


def _differences(mapping: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    changed = {key: value for key, value in mapping.items() if key != "loss" and value != base[key]}
    loss = {key: value for key, value in mapping["loss"].items() if value != base["loss"][key]}
    return changed | ({"loss": loss} if loss else {})


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
