"""Average precision by the COCO definition, and precision and recall at one confidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
CONFIDENCE_POINTS = np.linspace(0.0, 1.0, 1000)
SMOOTHING = 0.1  # width of the box filter over the F1 curve, as a fraction of the confidence axis


class OperatingPoint(NamedTuple):
    """Precision and recall of each class at one common confidence.

    Attributes:
        confidence: where the mean F1 over classes is best, in [0, 1].
        precision, recall: (C,) in [0, 1]; NaN for a class without ground truth.
    """

    confidence: float
    precision: np.ndarray
    recall: np.ndarray


def average_precision(
    scores: np.ndarray, classes: np.ndarray, correct: np.ndarray, num_ground_truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AP and final recall of every class at every IoU threshold.

    AP is the mean, over 101 recall levels r = 0, 0.01, ..., 1, of the highest precision reached at a recall of r or
    more (COCO; equal to pycocotools with area 'all').

    Args:
        scores: (k,) of all detections; equal ones keep their order.
        classes: (k,) int in [0, C).
        correct: (k, T) bool, true positives per IoU threshold.
        num_ground_truth: (C,) number of objects.

    Returns:
        tuple: AP (C, T) and recall (C, T), float64 in [0, 1]; NaN for a class without ground truth.
    """
    shape = len(num_ground_truth), correct.shape[1]
    ap, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    for index in np.flatnonzero(num_ground_truth):
        tp, fp = _cumulated(scores, classes, correct, index)
        class_recall = tp / num_ground_truth[index]
        precision = tp / (tp + fp)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        envelope = np.vstack((envelope, np.zeros((1, shape[1]))))  # beyond the highest recall
        reached = [np.searchsorted(column, RECALL_POINTS, side="left") for column in class_recall.T]
        ap[index] = np.take_along_axis(envelope, np.stack(reached, axis=1), axis=0).mean(axis=0)
        recall[index] = class_recall[-1] if len(tp) else 0.0
    return ap, recall


def best_f1_point(
    scores: np.ndarray, classes: np.ndarray, correct: np.ndarray, num_ground_truth: np.ndarray
) -> OperatingPoint:
    """Precision and recall at the confidence where the smoothed mean F1 over classes is highest.

    The curves are interpolated at 1000 confidences; the F1 curve is smoothed with a box filter.

    Args:
        scores, classes, num_ground_truth: as in :func:`average_precision`.
        correct: (k,) bool, true positives at one IoU threshold.
    """
    num_classes = len(num_ground_truth)
    precision = np.full((num_classes, len(CONFIDENCE_POINTS)), np.nan)
    recall = np.full_like(precision, np.nan)
    present = np.flatnonzero(num_ground_truth)
    for index in present:
        tp, fp = _cumulated(scores, classes, correct[:, None], index)
        if not len(tp):
            precision[index] = recall[index] = 0.0
            continue
        # Ascending confidence, as interpolation needs it; above the best score nothing is found and nothing is wrong.
        confidence = np.sort(scores[classes == index])
        tp, fp = tp[::-1, 0], fp[::-1, 0]
        recall[index] = np.interp(CONFIDENCE_POINTS, confidence, tp / num_ground_truth[index], right=0.0)
        precision[index] = np.interp(CONFIDENCE_POINTS, confidence, tp / (tp + fp), right=1.0)
    if not len(present):
        return OperatingPoint(0.0, precision[:, 0], recall[:, 0])
    f1 = 2 * precision[present] * recall[present] / np.maximum(precision[present] + recall[present], 1e-16)
    window = 2 * round(SMOOTHING * len(CONFIDENCE_POINTS) / 2) + 1
    best = int(uniform_filter1d(f1.mean(axis=0), window, mode="nearest").argmax())
    return OperatingPoint(float(CONFIDENCE_POINTS[best]), precision[:, best], recall[:, best])


def _cumulated(
    scores: np.ndarray, classes: np.ndarray, correct: np.ndarray, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives (k, T) of a class among its first 1, 2, ... detections, best score first."""
    rows = np.flatnonzero(classes == index)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    return np.cumsum(correct[rows], axis=0, dtype=np.float64), np.cumsum(~correct[rows], axis=0, dtype=np.float64)
