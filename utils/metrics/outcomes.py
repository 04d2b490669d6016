"""The outcome of each detection at one IoU threshold: input of curves, thresholds, oLRP and calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Outcomes(NamedTuple):
    """Detections at one IoU threshold, n rows ordered by class, then best score first; ignored ones are left out.

    Attributes:
        scores: (n,) float64.
        classes: (n,) int64, ascending.
        correct: (n,) bool, found an object.
        iou: (n,) float64, IoU with that object; 0 where there is none.
        num_gt: (C,) int64, objects to be found.
    """

    scores: np.ndarray
    classes: np.ndarray
    correct: np.ndarray
    iou: np.ndarray
    num_gt: np.ndarray


def ends_of_equal_scores(scores: np.ndarray) -> np.ndarray:
    """(k,) int64: the last row of each run of equal scores, in descending ``scores`` (n,).

    A score threshold keeps or drops equal scores together, so only these are places where one can cut.
    """
    return np.flatnonzero(np.diff(scores, append=-np.inf))
