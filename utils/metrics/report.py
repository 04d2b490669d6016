"""Metrics as text for the console."""

from __future__ import annotations

import numpy as np

from utils.metrics.results import Metrics

HEADER = ("Class", "Images", "Instances", "P", "R", "mAP50", "mAP50-95")
SCALOSS_THRESHOLDS = (0.65, 0.75, 0.80, 0.90)


def metrics_table(metrics: Metrics, per_class: bool = False) -> str:
    """A header, the row of all classes and, if wanted, a row for every class that has ground truth."""
    width = max(22, *(len(name) for name in metrics.names)) if per_class and metrics.names else 22
    values = metrics.precision, metrics.recall, metrics.map50, metrics.map
    lines = [f"{HEADER[0]:>{width}}" + "".join(f"{title:>11}" for title in HEADER[1:])]
    lines.append(_row("all", width, metrics.num_images, int(metrics.num_instances.sum()), *values))
    half = int(np.abs(metrics.iou_thresholds - 0.5).argmin())
    for index in np.flatnonzero(metrics.num_instances) if per_class else ():
        values = metrics.class_precision[index], metrics.class_recall[index]
        values += metrics.ap[index, half], metrics.class_map[index]
        counts = int(metrics.class_images[index]), int(metrics.num_instances[index])
        lines.append(_row(metrics.names[index], width, *counts, *values))
    return "\n".join(lines)


def iou_table(metrics: Metrics) -> str:
    """The line of SCALoss's thresholds, then AP at every IoU threshold."""
    chosen = "   ".join(f"AP{100 * t:.0f} {metrics.ap_at(t):.4g}" for t in SCALOSS_THRESHOLDS)
    thresholds = "".join(f"{t:>8.2f}" for t in metrics.iou_thresholds)
    values = "".join(f"{value:>8.4f}" for value in metrics.ap_per_iou)
    return f"{chosen}\nAP per IoU threshold\n{'IoU':>8}{thresholds}\n{'AP':>8}{values}"


def _row(name: str, width: int, images: int, instances: int, *values: float) -> str:
    return f"{name:>{width}}{images:>11}{instances:>11}" + "".join(f"{value:>11.4g}" for value in values)
