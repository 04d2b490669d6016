"""Precision, recall and F1 against the confidence, and the confidence to choose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from utils.metrics.outcomes import Outcomes, ends_of_equal_scores
from utils.metrics.tables import class_slices

CONFIDENCE_POINTS = np.linspace(0.0, 1.0, 1000)
SMOOTHING = 0.1  # width of the box filter over the F1 curve, as a fraction of the confidence axis


class ConfidenceCurves(NamedTuple):
    """Precision, recall and F1 of each class if detections below a confidence are dropped.

    Attributes:
        confidence: (1000,) evenly spaced in [0, 1].
        precision, recall, f1: (C, 1000) in [0, 1]; NaN for a class without objects.
        best: index of the confidence at which the mean F1 over classes, smoothed with a box filter of a tenth of the
            axis, is highest; 0 without objects.
        f1_threshold: (C,) score that gives the class its highest F1: keep scores at or above it. Neither interpolated
            nor smoothed, so it serves scores of any scale. NaN where a class has no true positive.
    """

    confidence: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    best: int
    f1_threshold: np.ndarray


def confidence_curves(outcomes: Outcomes) -> ConfidenceCurves:
    """Interpolate precision and recall at 1000 confidences.

    Above the best score of a class nothing is found and nothing is wrong: recall 0, precision 1. A class with objects
    but without detections has precision and recall 0 everywhere.
    """
    num_gt = outcomes.num_gt
    precision = np.full((len(num_gt), len(CONFIDENCE_POINTS)), np.nan)
    recall, threshold = np.full_like(precision, np.nan), np.full(len(num_gt), np.nan)
    slices = class_slices(outcomes.classes, len(num_gt))
    present = np.flatnonzero(num_gt)
    for index in present:
        scores = outcomes.scores[slices[index]]
        if not len(scores):
            precision[index] = recall[index] = 0.0
            continue
        tp = np.cumsum(outcomes.correct[slices[index]])
        kept = np.arange(1, len(tp) + 1)
        # Interpolation needs ascending confidences.
        recall[index] = np.interp(CONFIDENCE_POINTS, scores[::-1], tp[::-1] / num_gt[index], right=0.0)
        precision[index] = np.interp(CONFIDENCE_POINTS, scores[::-1], (tp / kept)[::-1], right=1.0)
        if tp[-1]:
            ends = ends_of_equal_scores(scores)
            threshold[index] = scores[ends[(tp[ends] / (kept[ends] + num_gt[index])).argmax()]]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    window = 2 * round(SMOOTHING * len(CONFIDENCE_POINTS) / 2) + 1
    mean_f1 = f1[present].mean(axis=0) if len(present) else np.zeros(len(CONFIDENCE_POINTS))
    best = int(uniform_filter1d(mean_f1, window, mode="nearest").argmax())
    return ConfidenceCurves(CONFIDENCE_POINTS, precision, recall, f1, best, threshold)
