"""Rank correlation of the true positives' scores and IoUs: does a higher score mean a better box?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from utils.metrics.outcomes import Outcomes
from utils.metrics.tables import class_slices


def score_iou_correlation(outcomes: Outcomes) -> np.ndarray:
    """Spearman's coefficient of each class between the scores of its true positives and their IoUs.

    The class-level correlation of Kahraman et al., "Correlation Loss: Enforcing Correlation between Classification and
    Localization", AAAI 2023, section 3: it depends on the order of the scores alone, as average precision does.

    Args:
        outcomes: n detections at the IoU from which one is a true positive.

    Returns:
        (C,) float64 in [-1, 1], 1 is the same order; NaN for a class with fewer than two true positives, or whose
        scores or IoUs are all the same.
    """
    found = outcomes.correct
    scores, iou = outcomes.scores[found], outcomes.iou[found]
    slices = class_slices(outcomes.classes[found], len(outcomes.num_gt))
    return np.array([_spearman(scores[part], iou[part]) for part in slices])


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's coefficient of the ranks, equal values at their mean rank."""
    ranks = [rankdata(values) for values in (a, b)]
    if any(np.unique(rank).size < 2 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
