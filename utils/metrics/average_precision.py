"""Precision and recall by the COCO definition, for one range of areas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.metrics.tables import Ranked, class_slices

RECALL_POINTS = np.linspace(0.0, 1.0, 101)


class Verdicts(NamedTuple):
    """Results of the matching for the D detections that overlap an object; all others are wrong or out of range.

    Attributes:
        detection: (D,) int64, ascending position in :class:`Ranked`.
        correct: (D, T) bool, found an object per IoU threshold.
        ignored: (D, T) bool, found something to be ignored.
        in_range: (N,) bool over all of :class:`Ranked`: counts as wrong if it finds nothing.
        iou: (D, T) float64, overlap with what was found; 0 for nothing.
    """

    detection: np.ndarray
    correct: np.ndarray
    ignored: np.ndarray
    in_range: np.ndarray
    iou: np.ndarray


def precision_and_recall(
    ranked: Ranked, verdicts: Verdicts, num_gt: np.ndarray, max_dets: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision at 101 recalls, and the recall reached, of every class and IoU threshold.

    The precision at recall r is the highest one reached at r or beyond; AP is its mean over r = 0, 0.01, ..., 1. Only
    detections that overlap an object are looked at one by one, since precision is highest at a true positive; of the
    others it is enough to count how many stand before.

    Args:
        ranked: N detections.
        verdicts: of the matching, for one range of areas.
        num_gt: (C,) objects to be found.
        max_dets: M limits of detections per image and class for the recall; precision is that of all N.

    Returns:
        tuple: precision (C, T, 101) and recall (C, T, M), float64 in [0, 1]; NaN for a class without objects.
    """
    num_classes, num_levels = len(num_gt), verdicts.correct.shape[1]
    precision = np.full((num_classes, num_levels, len(RECALL_POINTS)), np.nan)
    recall = np.full((num_classes, num_levels, len(max_dets)), np.nan)
    counted_before = np.cumsum(verdicts.in_range)  # within all classes up to and with this detection
    all_rows = class_slices(ranked.classes, num_classes)
    own_rows = class_slices(ranked.classes[verdicts.detection], num_classes)
    for index in np.flatnonzero(num_gt):
        own, start = own_rows[index], all_rows[index].start
        detection, correct, ignored = verdicts.detection[own], verdicts.correct[own], verdicts.ignored[own]
        in_range = verdicts.in_range[detection, None]
        # A match counts out of range too, and what is ignored does not count in range either.
        change = np.cumsum((correct & ~in_range).astype(np.int64) - (ignored & in_range), axis=0)
        offset = counted_before[start - 1] if start else 0
        counted = (counted_before[detection] - offset)[:, None] + change
        precision[index] = _interpolated(correct, counted, int(num_gt[index]))
        within = ranked.rank[detection, None] < np.asarray(max_dets)
        recall[index] = correct.T.astype(np.int64) @ within / num_gt[index]
    return precision, recall


def _interpolated(correct: np.ndarray, counted: np.ndarray, num_gt: int) -> np.ndarray:
    """(T, 101) precision of one class.

    Args:
        correct: (D, T) bool, best score first.
        counted: (D, T) detections that count, up to and with this one.
        num_gt: objects to be found.
    """
    precision = np.cumsum(correct, axis=0) / np.maximum(counted, 1)  # nothing counts yet where all was ignored
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # The k-th true positive is the first place with a recall of k / n: find the least k that reaches each level.
    least = np.floor(RECALL_POINTS * num_gt)
    least = np.maximum(least + (least / num_gt < RECALL_POINTS), 1).astype(np.int64)
    at_true_positives = np.append(envelope.T[correct.T], 0.0)
    num_found = correct.sum(axis=0)
    position = (np.cumsum(num_found) - num_found)[:, None] + least - 1
    return at_true_positives[np.where(least <= num_found[:, None], position, -1)]
