"""Calibration errors of detections, and the reliability diagram."""

from __future__ import annotations

import dataclasses

import numpy as np

from utils.metrics.outcomes import Outcomes

NUM_BINS = 25


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Detections counted in K bins of equal width; bin k holds edges[k] < score <= edges[k + 1], the first one 0 too.

    Attributes:
        edges: (K + 1,) from 0 to 1.
        count: (C, K) detections.
        score_sum: (C, K) sum of their scores.
        num_correct: (C, K) true positives among them.
        iou_sum: (C, K) sum of the true positives' IoUs with their objects.
    """

    edges: np.ndarray
    count: np.ndarray
    score_sum: np.ndarray
    num_correct: np.ndarray
    iou_sum: np.ndarray

    @property
    def class_laece(self) -> np.ndarray:
        """(C,) localisation-aware calibration error of each class; NaN for a class without detections.

        Sum over bins of share of detections x abs(mean score - precision x mean IoU of the true positives): a score is
        calibrated if it equals the IoU to be expected, 0 for a wrong detection. Oksuz et al., "Towards Building
        Self-Aware Object Detectors via Reliable Uncertainty Quantification and Calibration", CVPR 2023.
        """
        return _weighted_gap(self.score_sum, self.iou_sum, self.count)

    @property
    def laece(self) -> float:
        """LaECE: mean of :attr:`class_laece` over the classes that have detections, in [0, 1]; NaN without any."""
        values = self.class_laece[self.count.any(axis=1)]
        return float(values.mean()) if len(values) else float("nan")

    @property
    def d_ece(self) -> float:
        """D-ECE by confidence alone, all classes in the same bins, in [0, 1]; NaN without detections.

        Sum over bins of share of detections x abs(mean score - precision). Küppers et al., "Multivariate Confidence
        Calibration for Object Detection", CVPR Workshops 2020, without the box as further dimensions.
        """
        return float(_weighted_gap(*(part.sum(axis=0) for part in (self.score_sum, self.num_correct, self.count))))

    def diagram(self, index: int | None = None) -> dict[str, np.ndarray]:
        """Data of a reliability diagram, for one class or, with None, all together.

        Returns:
            dict: ``count`` (K,) and, NaN in empty bins, ``confidence`` (mean score), ``precision`` and ``quality``
            (precision x mean IoU of the true positives), each (K,).
        """
        parts = (self.count, self.score_sum, self.num_correct, self.iou_sum)
        count, *sums = (part.sum(axis=0) if index is None else part[index] for part in parts)
        means = [np.divide(part, count, out=np.full(len(count), np.nan), where=count > 0) for part in sums]
        return {"count": count} | dict(zip(("confidence", "precision", "quality"), means, strict=True))


def reliability(outcomes: Outcomes, thresholds: np.ndarray | None = None, num_bins: int = NUM_BINS) -> Reliability:
    """Count detections by class and score.

    Args:
        outcomes: n detections, scores in [0, 1].
        thresholds: (C,) detections below that of their class are left out, all where it is NaN; None keeps all. The
            many detections of a score near 0 that an evaluation asks for would otherwise fill the first bin and hide
            the others.
        num_bins: K.
    """
    num_classes = len(outcomes.num_gt)
    kept = slice(None) if thresholds is None else outcomes.scores >= np.asarray(thresholds)[outcomes.classes]
    scores, classes, correct, iou = (column[kept] for column in outcomes[:4])
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bins = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, num_bins - 1)
    cell, size = classes * num_bins + bins, num_classes * num_bins
    tables = (
        np.bincount(cell, weights, size).reshape(num_classes, num_bins) for weights in (None, scores, correct, iou)
    )
    return Reliability(edges, *tables)


def _weighted_gap(score_sum: np.ndarray, target_sum: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Sum over bins (..., K) of share x abs(mean score - mean target): the bin's count cancels. NaN without counts."""
    total = count.sum(axis=-1)
    gap = np.abs(score_sum - target_sum).sum(axis=-1)
    share: np.ndarray = np.divide(gap, total, out=np.full(np.shape(total), np.nan), where=total > 0)
    return share
