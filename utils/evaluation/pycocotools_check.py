"""The same two JSON files through pycocotools and through our own evaluator, number by number."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.metrics import read_coco

log = logging.getLogger(__name__)


def check_pycocotools() -> None:
    """Make sure that pycocotools is there before hours of work.

    Raises:
        UserError: it is not.
    """
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--coco-api: expected pycocotools to be installed (pip install pycocotools): {error}"
        ) from None


def compare_with_pycocotools(annotations: Path, results: Path) -> dict[str, tuple[float, float]]:
    """Evaluate boxes twice.

    Args:
        annotations, results: COCO's JSON files.

    Returns:
        by name, the 12 numbers of COCO and AP at each IoU threshold: ours and theirs; NaN where undefined.

    Raises:
        UserError: pycocotools is not installed, or a file cannot be read.
    """
    check_pycocotools()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metrics = read_coco(annotations, results).compute()
    ours = dict(metrics.coco_stats)
    per_iou = {f"AP at IoU {t:.2f}": metrics.ap_at(t) for t in metrics.iou_thresholds}
    if not json.loads(results.read_text(encoding="utf-8")):  # pycocotools fails on an empty list
        return {name: (value, float("nan")) for name, value in {**ours, **per_iou}.items()}
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress by print
        gt = COCO(str(annotations))
        for row in gt.dataset.get("annotations", []):  # exporters leave out what pycocotools needs
            row.setdefault("iscrowd", 0)
            row.setdefault("area", row["bbox"][2] * row["bbox"][3])
        evaluation = COCOeval(gt, gt.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    theirs = dict(zip(ours, _undefined_as_nan(evaluation.stats), strict=True))
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all areas, most detections
    defined = _undefined_as_nan(precision)
    means = [float(np.nanmean(level)) if np.isfinite(level).any() else float("nan") for level in defined]
    theirs |= dict(zip(per_iou, means, strict=True))
    return {name: (value, float(theirs[name])) for name, value in {**ours, **per_iou}.items()}


def comparison_table(compared: dict[str, tuple[float, float]]) -> str:
    """What :func:`compare_with_pycocotools` returned, as text for the console, with the largest difference."""
    lines = [f"{'':>16}{'ours':>13}{'pycocotools':>13}{'difference':>13}"]
    lines += [
        f"{name:>16}{ours:>13.9f}{theirs:>13.9f}{ours - theirs:>13.1e}" for name, (ours, theirs) in compared.items()
    ]
    differences = [abs(ours - theirs) for ours, theirs in compared.values() if not np.isnan(ours - theirs)]
    return "\n".join([*lines, f"largest difference: {max(differences, default=0.0):.1e}"])


def _undefined_as_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.asarray(values) < 0, np.nan, values)
