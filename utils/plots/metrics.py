"""Figures of an evaluation: curves, confusion matrix, reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.metrics import DetectionEvaluator, Metrics
from utils.metrics.confidence_curves import LINEAR_RANGE, log_odds_axis
from utils.metrics.outcomes import Outcomes
from utils.plots.boxes import class_colour

NUM_POINTS = 1000  # of a curve
MAX_NAMED = 20  # classes with a colour and a name of their own; with more, the mean stands out among grey lines
MAX_COUNTED = 30  # classes whose cells of the confusion matrix hold their numbers


def plot_metrics(evaluator: DetectionEvaluator, metrics: Metrics, folder: Path) -> None:
    """Save PR_curve.png, P_curve.png, R_curve.png, F1_curve.png, confusion_matrix.png and reliability_diagram.png.

    Args:
        evaluator: holds the images.
        metrics: computed by it.
        folder: of the run.
    """
    _plot_precision_recall(metrics, folder / "PR_curve.png")
    _plot_against_confidence(evaluator.outcomes(), metrics, folder)
    matrix = evaluator.confusion_matrix(metrics.lrp.threshold)
    _plot_confusion(matrix, metrics.names, folder / "confusion_matrix.png")
    _plot_reliability(metrics, folder / "reliability_diagram.png")


def _plot_precision_recall(metrics: Metrics, path: Path) -> None:
    figure, axes = _square_axes("recall", "precision")
    half = int(np.isclose(metrics.iou_thresholds, 0.5).argmax())
    curves = metrics.precision_curves[0, :, half]
    recall = np.linspace(0, 1, curves.shape[1])
    labels = [f"{name} {ap:.3f}" for name, ap in zip(metrics.names, curves.mean(axis=1), strict=True)]
    _draw_curves(axes, recall, curves, labels, f"all classes {metrics.map50:.3f}")
    axes.set_title("precision and recall at IoU 0.5 (AP50)")
    figure.savefig(path, dpi=110)


def _plot_against_confidence(outcomes: Outcomes, metrics: Metrics, folder: Path) -> None:
    confidence, is_linear = _confidence_axis(outcomes.scores, metrics.lrp.threshold)
    precision, recall = _precision_and_recall(outcomes, confidence)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    for letter, title, curves in (("P", "precision", precision), ("R", "recall", recall), ("F1", "F1", f1)):
        figure, axes = _square_axes("confidence", title)
        label = "all classes"
        if letter == "F1" and metrics.num_instances.any():
            mean = np.nanmean(f1[metrics.num_instances > 0], axis=0)
            label = f"all classes, {mean.max():.2f} at {confidence[mean.argmax()]:.3g}"
        _draw_curves(axes, confidence, curves, metrics.names, label)
        axes.set_title(f"{title} of the detections above a confidence, at IoU 0.5")
        if not is_linear:
            axes.set_xscale("logit")
            axes.set_xlim(confidence[0], confidence[-1])
            axes.set_xlabel("confidence (log-odds scale)")
            axes.xaxis.set_minor_formatter(lambda *_: "")
        figure.savefig(folder / f"{letter}_curve.png", dpi=110)


def _confidence_axis(scores: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, bool]:
    """Confidences (NUM_POINTS,), ascending, and whether they are evenly spaced in [0, 1].

    Ranking losses leave scores that are all tiny or all near one. Where the thresholds of the classes show that, the
    axis has the log-odds of the scores, from the lowest decile up.
    """
    known = thresholds[~np.isnan(thresholds)]
    low, high = LINEAR_RANGE
    if not len(known) or (known.min() >= low and known.max() <= high):
        return np.linspace(0, 1, NUM_POINTS), True
    return log_odds_axis(scores, known.min(), NUM_POINTS), False


def _precision_and_recall(outcomes: Outcomes, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C, n) each, with the detections at or above each of n confidences; NaN for a class without objects.

    Without any detection the precision is 1: nothing is wrong.
    """
    precision = np.full((len(outcomes.num_gt), len(confidence)), np.nan)
    recall = np.full_like(precision, np.nan)
    for index in np.flatnonzero(outcomes.num_gt):
        own = outcomes.classes == index
        kept = np.searchsorted(-outcomes.scores[own], -confidence, side="right")
        correct = np.concatenate(([0], np.cumsum(outcomes.correct[own])))[kept]
        precision[index] = np.where(kept > 0, correct / np.maximum(kept, 1), 1.0)
        recall[index] = correct / outcomes.num_gt[index]
    return precision, recall


def _draw_curves(axes: Axes, x: np.ndarray, curves: np.ndarray, labels: Sequence[str], mean_label: str) -> None:
    """One line for each class that has objects, and a bold one for their mean."""
    present = np.flatnonzero(~np.isnan(curves).all(axis=1))
    named = len(present) <= MAX_NAMED
    for index in present:
        colour = tuple(channel / 255 for channel in reversed(class_colour(int(index)))) if named else "0.8"
        axes.plot(x, curves[index], linewidth=1.2, color=colour, label=labels[int(index)] if named else None)
    if len(present) != 1:
        mean = curves[present].mean(axis=0) if len(present) else np.zeros(len(x))
        axes.plot(x, mean, linewidth=2.5, color="black", label=mean_label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)


def _square_axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _plot_confusion(matrix: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Rows predicted, columns true; the colour is the share of the true class, the number the count."""
    size = len(matrix)
    share = matrix / np.maximum(matrix.sum(axis=0, keepdims=True), 1)
    side = float(np.clip(3 + 0.45 * size, 6, 16))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the column", shrink=0.8)
    if size <= MAX_COUNTED + 1:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            ink = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=ink, fontsize=9)
    ticks = [*names, "background"]
    font = float(np.clip(400 / size / 3, 4, 10))
    axes.set_xticks(range(size), ticks, rotation=90, fontsize=font)
    axes.set_yticks(range(size), ticks, fontsize=font)
    axes.set(xlabel="true", ylabel="predicted", title="detections above their class's LRP-optimal threshold, IoU 0.45")
    figure.savefig(path, dpi=110)


def _plot_reliability(metrics: Metrics, path: Path) -> None:
    """How often detections of a confidence are right, and how many there are."""
    reliability = metrics.reliability
    shown, edges = reliability.diagram(), reliability.edges
    figure = Figure(figsize=(6.5, 7.5), layout="constrained")
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    diagram.plot((0, 1), (0, 1), color="0.6", linestyle="--", label="scores that are probabilities")
    found = shown["count"] > 0
    for key, label, marker in (
        ("precision", "precision at IoU 0.5", "o"),
        ("quality", "precision × mean IoU", "s"),
    ):
        diagram.plot(shown["confidence"][found], shown[key][found], marker=marker, label=label)
    diagram.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="how often right")
    diagram.set_title(
        f"detections above their class's LRP-optimal threshold\n"
        f"LaECE {reliability.laece:.3f}, D-ECE {reliability.d_ece:.3f}"
    )
    diagram.grid(alpha=0.3)
    diagram.legend(frameon=False, loc="upper left")
    histogram.bar(edges[:-1], shown["count"], width=np.diff(edges), align="edge", edgecolor="white")
    histogram.set(xlabel="confidence", ylabel="detections")
    histogram.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    figure.savefig(path, dpi=110)
