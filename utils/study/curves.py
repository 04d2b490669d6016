"""The picture of a study: metrics epoch by epoch, mean and spread over the seeds of each preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.errors import UserError, unknown_name
from utils.files import write_atomically
from utils.training.log import read_results

# names as in the table of a study, columns of results.csv, titles
CURVES = {
    "precision": ("metrics/precision", "precision"),
    "recall": ("metrics/recall", "recall"),
    "map50": ("metrics/mAP_0.5", "mAP50"),
    "map": ("metrics/mAP_0.5:0.95", "mAP50-95"),
    "map75": ("metrics/mAP_0.75", "AP75"),
    "ap80": ("metrics/mAP_0.8", "AP80"),
    "ap90": ("metrics/mAP_0.9", "AP90"),
    "olrp": ("metrics/oLRP", "oLRP, lower is better"),
    "box_loss": ("train/box_loss", "box loss of training"),
}


def read_curves(folder: str | Path, presets: Sequence[str] = ()) -> dict[str, list[pd.DataFrame]]:
    """The results.csv of each run of a study: preset to one frame for each seed.

    Args:
        folder: of the study, with ``<preset>/<seed>/results.csv``.
        presets: those wanted, in their order; empty is all, in the order of the alphabet.

    Raises:
        UserError: no runs there, none of a preset, or one that cannot be read.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).glob("*/*/results.csv")):
        if path.parent.name.isdecimal():
            found.setdefault(path.parent.parent.name, []).append(path)
    if not found:
        raise UserError(f"{folder}: no runs of a study, expected PRESET/SEED/results.csv")
    for preset in presets:
        if preset not in found:
            raise unknown_name("preset", preset, found, str(folder))
    return {preset: [read_results(path) for path in found[preset]] for preset in presets or found}


def plot_study(curves: Mapping[str, Sequence[pd.DataFrame]], metrics: Sequence[str], path: str | Path) -> None:
    """Draw a panel for each metric: a line for the mean over seeds, a band for the standard deviation (n - 1).

    Where runs have different lengths, the mean is over those that reached the epoch; epochs without validation are left
    out.

    Args:
        curves: as :func:`read_curves` returns them.
        metrics: names of ``CURVES``.
        path: PNG.

    Raises:
        UserError: a metric that is unknown, or in none of the runs.
    """
    for name in metrics:
        if name not in CURVES:
            raise unknown_name("metric", name, CURVES)
    figure = Figure(figsize=(4.2 * len(metrics), 3.9), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        column, title = CURVES[name]
        _panel(axes, {preset: _by_epoch(runs, column) for preset, runs in curves.items()}, name)
        axes.set(xlabel="epoch", title=title)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    write_atomically(Path(path), lambda file: figure.savefig(file, dpi=110, format="png"))


def _by_epoch(runs: Sequence[pd.DataFrame], column: str) -> pd.DataFrame:
    """A line for each epoch, a column for each run; NaN where there is nothing."""
    values = [run.set_index("epoch")[column] for run in runs if column in run]
    return pd.concat(values, axis=1).sort_index().dropna(how="all") if values else pd.DataFrame()


def _panel(axes: Axes, by_preset: Mapping[str, pd.DataFrame], name: str) -> None:
    if all(values.empty for values in by_preset.values()):
        raise UserError(f"{name} is in the results of no run")
    for number, (preset, values) in enumerate(by_preset.items()):
        epochs, mean = values.index.to_numpy() + 1, values.mean(axis=1).to_numpy()
        spread = np.nan_to_num(values.std(axis=1, ddof=1).to_numpy()) if len(values.columns) > 1 else 0.0
        seeds = "1 seed" if len(values.columns) == 1 else f"{len(values.columns)} seeds"
        color = f"C{number % 10}"
        axes.plot(epochs, mean, color=color, linewidth=1.5, label=f"{preset} ({seeds})")
        axes.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    axes.grid(alpha=0.3)
