"""Calibrate scores after training by isotonic regression or Platt scaling, stored as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from utils.errors import UserError, unknown_name
from utils.metrics.outcomes import Outcomes
from utils.metrics.tables import class_slices

KINDS = ("isotonic", "platt")
SCORE_MARGIN = 1e-7  # keeps the log-odds of scores of 0 and 1 finite

Calibration = dict[str, Any]


def fit_calibration(scores: np.ndarray, outcomes: np.ndarray, kind: str = "isotonic") -> Calibration:
    """Fit a map from the score of a detection to the probability that it is right.

    Right means: a true positive at IoU 0.5 in the matching of the evaluation. Fit on a validation set, with all its
    detections; the detections of the training images are better than any later ones.

    * ``isotonic``: the non-decreasing map with the least squared error (Zadrozny and Elkan, KDD 2002), linear between
      its plateaus and constant beyond both ends.
    * ``platt``: sigmoid(slope x log-odds of the score + offset) of the highest likelihood with slope >= 0, for targets
      moved from 0 and 1 by Platt's prior (Platt 1999), so that a clean separation gives finite numbers.

    Args:
        scores: (n,) in [0, 1].
        outcomes: (n,) bool or in [0, 1].
        kind: ``isotonic`` or ``platt``.

    Returns:
        dict of text and lists of floats, fit for JSON, YAML and checkpoints: ``kind`` with ``scores`` and
        ``probabilities`` (isotonic, both ascending) or ``slope`` and ``offset`` (platt). Without detections the map
        that changes nothing.

    Raises:
        UserError: another kind, shapes that differ, or values out of [0, 1].
    """
    if kind not in KINDS:
        raise unknown_name("calibration", kind, KINDS)
    scores, outcomes = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != outcomes.shape:
        raise UserError(f"expected scores (n,) and outcomes (n,) but got {scores.shape} and {outcomes.shape}")
    for name, values in (("scores", scores), ("outcomes", outcomes)):
        if not np.all((values >= 0) & (values <= 1)):
            raise UserError(f"expected {name} in [0, 1] but got {values.min():g} to {values.max():g}")
    return _fit_isotonic(scores, outcomes) if kind == "isotonic" else _fit_platt(scores, outcomes)


def apply_calibration(calibration: Mapping[str, Any], scores: np.ndarray) -> np.ndarray:
    """Probabilities (n,) float64 in [0, 1] of detections with these ``scores`` (n,).

    The order is kept: of two scores the higher one never gets the lower probability. On a plateau of an isotonic map
    both get the same; where the order matters there, sort by the score.

    Raises:
        UserError: not what :func:`fit_calibration` returns.
    """
    scores = np.asarray(scores, dtype=np.float64)
    kind = calibration.get("kind")
    if kind not in KINDS:
        raise unknown_name("calibration", kind, KINDS)
    missing = {"isotonic": {"scores", "probabilities"}, "platt": {"slope", "offset"}}[kind] - set(calibration)
    if missing:
        raise UserError(f"expected a calibration of kind {kind} to hold {', '.join(sorted(missing))}")
    if kind == "isotonic":
        calibrated: np.ndarray = np.interp(scores, calibration["scores"], calibration["probabilities"])
    else:
        calibrated = expit(calibration["slope"] * _log_odds(scores) + calibration["offset"])
    return calibrated


def fit_class_calibrations(outcomes: Outcomes, kind: str = "isotonic") -> list[Calibration]:
    """C maps, one for each class, from the outcomes at IoU 0.5; a class without objects keeps its scores."""
    slices = class_slices(outcomes.classes, len(outcomes.num_gt))
    present = [own if count else slice(0, 0) for own, count in zip(slices, outcomes.num_gt, strict=True)]
    return [fit_calibration(outcomes.scores[own], outcomes.correct[own], kind) for own in present]


def apply_class_calibrations(
    calibrations: Sequence[Mapping[str, Any]], scores: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Probabilities (n,) of detections with ``scores`` (n,) and ``classes`` (n,) in [0, C), by C maps."""
    scores, classes = np.asarray(scores, dtype=np.float64), np.asarray(classes)
    probabilities = np.empty_like(scores)
    for index in np.unique(classes):
        own = classes == index
        probabilities[own] = apply_calibration(calibrations[index], scores[own])
    return probabilities


def _fit_isotonic(scores: np.ndarray, outcomes: np.ndarray) -> Calibration:
    if not len(scores):
        return {"kind": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.0, 1.0]}
    # Equal scores have to get one value: they enter as their mean, with their number as weight.
    levels, own, counts = np.unique(scores, return_inverse=True, return_counts=True)
    fitted = isotonic_regression(np.bincount(own, outcomes) / counts, weights=counts)
    ends = np.unique(np.concatenate((fitted.blocks[:-1], fitted.blocks[1:] - 1)))
    return {"kind": "isotonic", "scores": levels[ends].tolist(), "probabilities": fitted.x[ends].clip(0, 1).tolist()}


def _fit_platt(scores: np.ndarray, outcomes: np.ndarray) -> Calibration:
    if not len(scores):
        return {"kind": "platt", "slope": 1.0, "offset": 0.0}
    num_right = outcomes.sum()
    high, low = (num_right + 1) / (num_right + 2), 1 / (len(outcomes) - num_right + 2)
    targets, odds = low + outcomes * (high - low), _log_odds(scores)

    def negative_log_likelihood(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = parameters
        z = slope * odds + offset
        residual = expit(z) - targets
        return float((np.logaddexp(0, z) - targets * z).mean()), np.array([(residual * odds).mean(), residual.mean()])

    fitted = minimize(
        negative_log_likelihood, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=((0, None), (None, None))
    )
    slope, offset = fitted.x.tolist()
    return {"kind": "platt", "slope": slope, "offset": offset}


def _log_odds(scores: np.ndarray) -> np.ndarray:
    odds: np.ndarray = logit(np.clip(scores, SCORE_MARGIN, 1 - SCORE_MARGIN))
    return odds
