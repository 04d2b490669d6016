"""Results of a study of image sizes: a table in YOLOv5's layout, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from utils.metrics import Metrics

COLUMNS = ("imgsz", "P", "R", "mAP50", "mAP50-95", "preprocess_ms", "inference_ms", "nms_ms", "total_ms")


def study_row(size: int, metrics: Metrics, speed_ms: Mapping[str, float]) -> dict[str, float]:
    """One row: the values of ``COLUMNS`` by name.

    Args:
        size: image size in pixels.
        metrics: measured at it.
        speed_ms: milliseconds per image of ``preprocess``, ``inference`` and ``nms``.
    """
    scores = metrics.precision, metrics.recall, metrics.map50, metrics.map
    times = [speed_ms[section] for section in ("preprocess", "inference", "nms")]
    return dict(zip(COLUMNS, (size, *scores, *times, sum(times)), strict=True))


def write_study(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write the rows as aligned text, which ``numpy.loadtxt`` reads, and as a figure beside it.

    Args:
        path: text file; the figure has the same name with ``.png``.
        rows: from :func:`study_row`, in the order of their sizes.
    """
    lines = ["# " + " ".join(f"{name:>13}" for name in COLUMNS)]
    lines += ["  " + " ".join(f"{row[name]:>13.6g}" for name in COLUMNS) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    by_time, by_size = figure.subplots(1, 2, sharey=True)
    for axes, column, label in (
        (by_time, "total_ms", "milliseconds per image"),
        (by_size, "imgsz", "image size (pixels)"),
    ):
        for score in ("mAP50", "mAP50-95"):
            axes.plot([row[column] for row in rows], [row[score] for row in rows], marker="o", label=score)
        axes.set(xlabel=label, ylim=(0, 1))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    for row in rows:
        by_time.annotate(
            f"{row['imgsz']:g}",
            (row["total_ms"], row["mAP50-95"]),
            xytext=(0, -12),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    by_time.set_ylabel("mean average precision")
    by_size.legend(frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=110)
