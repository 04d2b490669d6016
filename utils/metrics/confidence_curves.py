"""Precision, recall and F1 against the confidence, and the confidence to choose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.special import expit, logit

from utils.metrics.outcomes import Outcomes, ends_of_equal_scores
from utils.metrics.tables import class_slices

CONFIDENCE_POINTS = np.linspace(0.0, 1.0, 1000)
LINEAR_RANGE = (0.05, 0.95)  # scores within it are told apart on an even axis from 0 to 1
SMOOTHING = 0.1  # width of the box filter over the F1 curve, as a fraction of the confidence axis


class ConfidenceCurves(NamedTuple):
    """Precision, recall and F1 of each class if detections below a confidence are dropped.

    Attributes:
        confidence: (1000,) evenly spaced in [0, 1]; where most true positives have scores near 0 or near 1, as ranking
            losses leave them, evenly spaced in log-odds.
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
    """Interpolate precision and recall at 1000 confidences; on an even axis they and ``best`` are YOLOv5's.

    Above the best score of a class nothing is found and nothing is wrong: recall 0, precision 1. A class with objects
    but without detections has precision and recall 0 everywhere.
    """
    num_gt = outcomes.num_gt
    slices = class_slices(outcomes.classes, len(num_gt))
    threshold = _f1_thresholds(outcomes, slices)
    confidence = _axis(outcomes, threshold)
    precision = np.full((len(num_gt), len(confidence)), np.nan)
    recall = np.full_like(precision, np.nan)
    present = np.flatnonzero(num_gt)
    for index in present:
        scores = outcomes.scores[slices[index]]
        if not len(scores):
            precision[index] = recall[index] = 0.0
            continue
        tp = np.cumsum(outcomes.correct[slices[index]])
        kept = np.arange(1, len(tp) + 1)
        # Interpolation needs ascending confidences.
        recall[index] = np.interp(confidence, scores[::-1], tp[::-1] / num_gt[index], right=0.0)
        precision[index] = np.interp(confidence, scores[::-1], (tp / kept)[::-1], right=1.0)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    window = 2 * round(SMOOTHING * len(confidence) / 2) + 1
    mean_f1 = f1[present].mean(axis=0) if len(present) else np.zeros(len(confidence))
    best = int(uniform_filter1d(mean_f1, window, mode="nearest").argmax())
    return ConfidenceCurves(confidence, precision, recall, f1, best, threshold)


def log_odds_axis(scores: np.ndarray, threshold: float, num_points: int) -> np.ndarray:
    """(num_points,) ascending confidences, even in log-odds, from the lowest decile of the scores to the highest.

    Args:
        scores: (n,) at least one.
        threshold: that is to lie within.
    """
    margin = np.finfo(np.float64).eps
    odds = logit(np.clip(scores, margin, 1 - margin))
    start, end = min(np.quantile(odds, 0.1), logit(threshold) - 2), odds.max()
    confidences: np.ndarray = expit(np.linspace(start, max(end, start + 1), num_points))
    return confidences


def _f1_thresholds(outcomes: Outcomes, slices: list[slice]) -> np.ndarray:
    """(C,) score of the highest F1; NaN where a class has no true positive."""
    thresholds = np.full(len(slices), np.nan)
    for index, part in enumerate(slices):
        scores, tp = outcomes.scores[part], np.cumsum(outcomes.correct[part])
        if len(tp) and tp[-1]:
            ends = ends_of_equal_scores(scores)
            thresholds[index] = scores[ends[(tp[ends] / (ends + 1 + outcomes.num_gt[index])).argmax()]]
    return thresholds


def _axis(outcomes: Outcomes, thresholds: np.ndarray) -> np.ndarray:
    """Even from 0 to 1, unless the true positives would lie at one end of it."""
    found = outcomes.scores[outcomes.correct]
    low, high = LINEAR_RANGE
    if not len(found) or low <= np.median(found) <= high:
        return CONFIDENCE_POINTS
    return log_odds_axis(outcomes.scores, np.nanmin(thresholds), len(CONFIDENCE_POINTS))
