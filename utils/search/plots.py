"""Pictures of a search: values trial by trial, which parameters mattered, and the curves that it found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from utils.files import write_atomically

LEAST_TRIALS = 8  # complete ones, to say anything about importance
SHOWN_PARAMETERS = 25
BLUE, ORANGE, GREY = "#1f77b4", "#d95f02", "#9a9a9a"

log = logging.getLogger(__name__)


def plot_history(trials: Sequence[FrozenTrial], title: str, path: Path) -> None:
    """Value of each trial and the best so far. Pruned trials, whose values are of an earlier epoch, are ticks below.

    Args:
        trials: of the study, in the order of their numbers.
        title: of the value.
        path: PNG.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    complete = [(trial.number, trial.value) for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial.number for trial in trials if trial.state == TrialState.PRUNED]
    if pruned:
        bottom, below = [0.02] * len(pruned), axes.get_xaxis_transform()
        axes.plot(pruned, bottom, "|", color=GREY, markersize=9, transform=below, label=f"{len(pruned)} pruned")
    if complete:
        numbers, values = zip(*complete, strict=True)
        axes.plot(numbers, values, "o", color=BLUE, markersize=5, label=f"{len(complete)} complete")
        best = np.maximum.accumulate(values)
        axes.step([*numbers, len(trials) - 1], [*best, best[-1]], where="post", color=ORANGE, label="best so far")
        axes.annotate(
            f"{best[-1]:.4f}", (numbers[int(np.argmax(values))], best[-1]), (0, 5), textcoords="offset points"
        )
    if complete or pruned:
        figure.legend(loc="outside upper right", ncols=3, frameon=False)
    axes.set(xlabel="trial", ylabel=title)
    axes.margins(y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    _save(figure, path)


def plot_importances(study: optuna.Study, title: str, path: Path) -> None:
    """How much of the difference between good trials and the others each parameter explains, by PED-ANOVA.

    Watanabe, Bansal, Hutter: "PED-ANOVA", IJCAI 2023, arXiv:2304.10255. Nothing is drawn of fewer than eight complete
    trials, or of trials that are all alike.

    Args:
        study: with complete trials.
        title: of the value.
        path: PNG.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [trial.value for trial in trials if trial.value is not None]
    if len(values) < LEAST_TRIALS or min(values) == max(values):
        return
    try:
        importances = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError) as error:  # e.g. no parameter that all complete trials have
        log.warning("importances are not drawn: %s", error)
        return
    shown = list(importances.items())[:SHOWN_PARAMETERS][::-1]
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([name for name, _ in shown], [value for _, value in shown], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    rest = len(importances) - len(shown)
    more = f"\n{rest} lesser ones are not shown" if rest else ""
    axes.set(xlabel=f"importance for {title} in {len(values)} complete trials (PED-ANOVA){more}")
    axes.margins(x=0.1, y=0.02)
    _save(figure, path)


def plot_curves(curves: Mapping[str, Sequence[Sequence[float]]], title: str, path: Path) -> None:
    """The curves of a Parameterized AP loss.

    Args:
        curves: name to points [x, y] in [0, 1].
        title: above all of them.
        path: PNG.
    """
    figure = Figure(figsize=(2.6 * len(curves), 3.2), layout="constrained")
    figure.suptitle(title)
    for axes, (name, points) in zip(figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True):
        _curve(axes, name, points)
    _save(figure, path)


def _curve(axes: Axes, name: str, points: Sequence[Sequence[float]]) -> None:
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=":")
    axes.plot(*zip(*points, strict=True), "o-", color=BLUE, markersize=4)
    over = "IoU" if name.startswith("I") else "score difference, as in x"
    axes.set(title=name, xlabel=over, aspect="equal")
    axes.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda file: figure.savefig(file, dpi=110, format="png"))
