"""The numbers of a validation as text for the console."""

from __future__ import annotations

import math

import numpy as np

from utils.metrics import Metrics

COLUMNS = ("P", "R", "mAP50", "mAP50-95", "AP75", "AP80", "AP90", "oLRP", "Loc", "FP", "FN", "threshold")
SCALOSS_THRESHOLDS = (0.65, 0.75, 0.80, 0.90)


def validation_table(metrics: Metrics, per_class: bool = False) -> str:
    """A header, the row of all classes and, if wanted, a row for every class that has ground truth.

    P and R are at the confidence of the best mean F1. Loc, FP and FN are the components of oLRP, of which less is
    better: mean 1 - IoU of the detections that count, share of wrong ones, share of objects missed. The threshold is
    the score at which a class attains its oLRP. Undefined values are dashes.
    """
    present = np.flatnonzero(metrics.num_instances) if per_class else np.zeros(0, dtype=np.int64)
    width = max(len(name) for name in ("Class", *(metrics.names[index] for index in present)))
    titles = "".join(f"{title:>{_width(title)}}" for title in COLUMNS)
    lines = [f"{'Class':>{width}}{'Images':>8}{'Instances':>11}{titles}"]
    counts = metrics.num_images, int(metrics.num_instances.sum())
    overall = [metrics.precision, metrics.recall, metrics.map50, metrics.map]
    overall += [metrics.ap_at(iou) for iou in (0.75, 0.80, 0.90)]
    overall += [metrics.olrp, metrics.olrp_localisation, metrics.olrp_false_positive, metrics.olrp_false_negative]
    lines.append(_row("all", width, counts, (*overall, math.nan)))
    columns = _class_columns(metrics)
    for index in present:
        counts = int(metrics.class_images[index]), int(metrics.num_instances[index])
        lines.append(_row(metrics.names[index], width, counts, columns[:, index]))
    return "\n".join(lines)


def iou_table(metrics: Metrics) -> str:
    """The line of SCALoss's thresholds and of what scores mean, and AP at every IoU threshold."""
    chosen = "   ".join(f"AP{100 * t:.0f} {metrics.ap_at(t):.4g}" for t in SCALOSS_THRESHOLDS)
    thresholds = "".join(f"{t:>8.2f}" for t in metrics.iou_thresholds)
    values = "".join(f"{value:>8.4f}" for value in metrics.ap_per_iou)
    calibration = f"calibration error: LaECE {metrics.reliability.laece:.4g}, D-ECE {metrics.reliability.d_ece:.4g}"
    correlation = f"rank correlation of score and IoU: {metrics.score_iou_correlation:.4g}"
    return f"{chosen}   {calibration}   {correlation}\nAP per IoU threshold\n{'IoU':>8}{thresholds}\n{'AP':>8}{values}"


def _class_columns(metrics: Metrics) -> np.ndarray:
    """(len(COLUMNS), C) values."""
    at = {iou: np.isclose(metrics.iou_thresholds, iou).argmax() for iou in (0.5, 0.75, 0.80, 0.90)}
    half, *high = (metrics.ap[:, column] for column in at.values())
    lrp = metrics.lrp
    errors = (lrp.error, lrp.localisation, lrp.false_positive, lrp.false_negative, lrp.threshold)
    return np.stack((metrics.class_precision, metrics.class_recall, half, metrics.class_map, *high, *errors))


def _row(name: str, width: int, counts: tuple[int, int], values: tuple[float, ...] | np.ndarray) -> str:
    cells = ["-" if math.isnan(value) else f"{value:.4f}" for value in values[:-1]]
    cells.append("-" if math.isnan(values[-1]) else f"{values[-1]:.4g}")  # the threshold, on the scale of the scores
    row = "".join(f"{cell:>{_width(title)}}" for cell, title in zip(cells, COLUMNS, strict=True))
    return f"{name:>{width}}{counts[0]:>8}{counts[1]:>11}{row}"


def _width(title: str) -> int:
    """Of a column: room for four digits behind the point, and for the exponent of a tiny threshold."""
    return 11 if title == "threshold" else max(8, len(title) + 2)
