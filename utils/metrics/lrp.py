"""Optimal localisation recall precision error, oLRP, and the score threshold that attains it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utils.metrics.outcomes import Outcomes, ends_of_equal_scores
from utils.metrics.tables import class_slices


class OptimalLRP(NamedTuple):
    """The lowest LRP error of each class over all score thresholds, its components, and its threshold.

    Oksuz et al., "One Metric to Measure Them All: Localisation Recall Precision (LRP) for Evaluating Visual Detection
    Tasks", TPAMI 2021, equations 3 and 5.

    Attributes:
        error: (C,) oLRP in [0, 1], 0 is perfect; 1 where nothing was found; NaN for a class without objects.
        localisation: (C,) mean of 1 - IoU over the true positives, not divided by 1 - tau.
        false_positive: (C,) share of wrong detections, FP / (TP + FP).
        false_negative: (C,) share of objects not found, FN / objects.
        threshold: (C,) score of the last detection kept: keep scores at or above it.
        tau: IoU from which on a detection is a true positive.

    ``localisation``, ``false_positive`` and ``threshold`` are NaN where a class has no true positive at all.
    """

    error: np.ndarray
    localisation: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    threshold: np.ndarray
    tau: float


def optimal_lrp(outcomes: Outcomes, tau: float) -> OptimalLRP:
    """Find the least error of each class.

    With the s best detections kept, LRP = (sum over TP of (1 - IoU) / (1 - tau) + FP + FN) / (TP + FP + FN). Equal
    scores are kept or dropped together; of equal errors the one with the highest threshold counts.

    Args:
        outcomes: of the matching at ``tau``.
        tau: IoU in (0, 1).
    """
    num_gt = outcomes.num_gt
    columns = np.full((5, len(num_gt)), np.nan)
    columns[[0, 3]] = np.where(num_gt > 0, 1.0, np.nan)  # nothing found
    slices = class_slices(outcomes.classes, len(num_gt))
    for index in np.flatnonzero(num_gt):
        own = slices[index]
        correct = outcomes.correct[own]
        if not correct.any():
            continue
        kept = ends_of_equal_scores(outcomes.scores[own])
        kept = kept[kept >= correct.argmax()]  # without a true positive the error is 1
        tp = np.cumsum(correct)[kept]
        distance = np.cumsum(np.where(correct, 1 - outcomes.iou[own], 0.0))[kept]
        fp, fn = kept + 1 - tp, num_gt[index] - tp
        error = (distance / (1 - tau) + fp + fn) / (tp + fp + fn)
        best = int(error.argmin())
        columns[:, index] = (
            error[best],
            distance[best] / tp[best],
            fp[best] / (kept[best] + 1),
            fn[best] / num_gt[index],
            outcomes.scores[own][kept[best]],
        )
    lrp, localisation, false_positive, false_negative, threshold = columns
    return OptimalLRP(lrp, localisation, false_positive, false_negative, threshold, tau)
