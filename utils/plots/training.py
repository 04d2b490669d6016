"""Figures of a training run: its labels, and its losses and metrics by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.plots.boxes import class_colour, class_name
from utils.training.log import read_results

OLRP_PANEL = "oLRP and its parts (less is better)"
SHARES = ("precision and recall", "mean average precision", OLRP_PANEL)  # at most 1


def plot_labels(labels: Sequence[np.ndarray], names: Mapping[int, str], path: str | Path) -> None:
    """Plot the labels of a data set: objects per class, box shapes, and where centres and sizes lie.

    Args:
        labels: one (n, 5) array per image: class, x, y, w, h (``xywhn``).
        names: class number to name.
        path: image file to write.
    """
    rows = np.concatenate([np.zeros((0, 5)), *(np.asarray(label, dtype=np.float64).reshape(-1, 5) for label in labels)])
    figure = Figure(figsize=(11, 10), layout="constrained")
    (histogram, outlines), (centres, sizes) = figure.subplots(2, 2)
    _class_histogram(histogram, rows[:, 0].astype(int), names)
    histogram.set_title(f"{len(rows)} objects in {len(labels)} images")
    _box_outlines(outlines, rows)
    _heat_map(centres, rows[:, 1], rows[:, 2], ("x of the centre", "y of the centre"))
    centres.invert_yaxis()
    _heat_map(sizes, rows[:, 3], rows[:, 4], ("width", "height"))
    figure.savefig(path, dpi=110)


def _class_histogram(axes: Axes, classes: np.ndarray, names: Mapping[int, str]) -> None:
    num_classes = max([*names, -1]) + 1
    counts = np.bincount(classes, minlength=num_classes)
    colours = [tuple(channel / 255 for channel in reversed(class_colour(index))) for index in range(len(counts))]
    bars = axes.bar(range(len(counts)), counts, color=colours)
    axes.set_ylabel("objects")
    if len(counts) <= 40:
        ticks = [class_name(names, index) for index in range(len(counts))]
        upright = sum(map(len, ticks)) > 50
        axes.set_xticks(range(len(counts)), ticks, rotation=90 if upright else 0)
    else:
        axes.set_xlabel("class")
    if len(counts) <= 12:
        axes.bar_label(bars)
    axes.spines[["top", "right"]].set_visible(False)


def _box_outlines(axes: Axes, rows: np.ndarray, limit: int = 1000) -> None:
    """Boxes around a common centre: evenly picked where there are more than ``limit``."""
    picked = rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)]
    half = picked[:, None, 3:5] / 2
    corners = 0.5 + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    colours = [(*(channel / 255 for channel in reversed(class_colour(int(number)))), 0.5) for number in picked[:, 0]]
    axes.add_collection(PolyCollection(list(corners), facecolors="none", edgecolors=colours, linewidths=0.7))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"shapes of {len(picked)} boxes, centres shifted together")
    axes.set(xticks=[], yticks=[])


def _heat_map(axes: Axes, x: np.ndarray, y: np.ndarray, labels: tuple[str, str]) -> None:
    bins = int(np.clip(np.sqrt(len(x)) / 2, 10, 50))
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=bins, range=((0, 1), (0, 1)))
    shown = np.ma.masked_equal(counts.T, 0)
    mesh = axes.pcolormesh(x_edges, y_edges, shown, cmap="viridis")
    axes.figure.colorbar(mesh, ax=axes, label="objects", shrink=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=f"{labels[0]} (image = 1)", ylabel=labels[1])


def plot_results(csv_path: str | Path, path: str | Path) -> None:
    """Save the curves of a results.csv, ours or YOLOv5's: each loss, precision and recall, mAP, learning rates.

    Args:
        csv_path: results of one epoch or more.
        path: image file to write.

    Raises:
        UserError: the results cannot be read.
    """
    results = read_results(csv_path).dropna(axis="columns", how="all")
    panels = _panels(list(results.columns))
    width = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(4.2 * width, 7), layout="constrained")
    grid = figure.subplots(2, width, squeeze=False).ravel()
    for axes, (title, curves) in zip(grid, panels.items(), strict=False):
        for position, (label, column) in enumerate(curves):
            drawn = results[["epoch", column]].dropna()
            epochs = drawn["epoch"] + 1  # the file counts from 0, as YOLOv5's does
            # Curves that coincide, as two learning rates do, stay visible: the later one is thinner.
            line_width = max(1.0, 2.4 - 0.7 * position)
            axes.plot(epochs, drawn[column], marker=".", markersize=4, linewidth=line_width, label=label)
        axes.set(title=title, xlabel="epoch", xlim=(results["epoch"].min() + 0.5, results["epoch"].max() + 1.5))
        highest = float(results[[column for _, column in curves]].to_numpy(dtype=np.float64, na_value=-math.inf).max())
        most = 1.0 if title in SHARES else math.inf
        axes.set_ylim(0, min(1.08 * highest, most) if 0 < highest < math.inf else None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def _panels(columns: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Which columns share a panel: title to pairs of label and column."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        group, _, name = column.partition("/")
        if group in ("train", "val"):
            panels.setdefault(name.replace("_", " "), []).append((group, column))
    panels["precision and recall"] = [(name, f"metrics/{name}") for name in ("precision", "recall")]
    levels = {"mAP50": "0.5", "mAP75": "0.75", "mAP90": "0.9", "mAP50-95": "0.5:0.95"}
    panels["mean average precision"] = [(label, f"metrics/mAP_{level}") for label, level in levels.items()]
    parts = {"oLRP": "", "1 - IoU": "_localisation", "wrong": "_false_positive", "missed": "_false_negative"}
    panels[OLRP_PANEL] = [(label, f"metrics/oLRP{part}") for label, part in parts.items()]
    groups = {"x/lr1": "weights", "x/lr2": "norm weights"}
    rates = [column for column in columns if column.startswith("x/") and column != "x/lr0"]
    panels["learning rate"] = [(groups.get(column, column), column) for column in rates]
    panels["learning rate of biases"] = [("biases", "x/lr0")]  # in warm-up it is many times the others
    present = {title: [curve for curve in curves if curve[1] in columns] for title, curves in panels.items()}
    return {title: curves for title, curves in present.items() if curves}
