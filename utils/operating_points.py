"""Operating points: score thresholds and calibrations of each class, stored in a checkpoint.

They are measured in validation and stored under the key ``operating_points`` as plain data:
    names           class names, in order
    thresholds      for each class the score at or above which detections count, its LRP-optimal threshold; None where
                    validation found no object of the class
    calibration     by kind, for each class the map from score to probability, see ``utils.metrics.calibration``
    measured        settings of that validation
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.config.checks import check_fractions
from utils.config.choices import AUTO, CALIBRATIONS
from utils.errors import UserError, unknown_name
from utils.metrics import (
    DetectionEvaluator,
    Metrics,
    apply_calibration,
    apply_class_calibrations,
    fit_class_calibrations,
)
from utils.metrics.calibration import KINDS
from utils.metrics.reliability import reliability

KEY = "operating_points"
DEFAULT_CONF = 0.25  # where no thresholds are stored
_HALVINGS = 100  # of [0, 1]: down to the last digit of a float


def fit_operating_points(
    evaluator: DetectionEvaluator, metrics: Metrics, measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Thresholds and calibrations from a validation, for the checkpoint.

    Args:
        evaluator: of that validation.
        metrics: computed by it.
        measured: settings to remember, plain data.
    """
    outcomes = evaluator.outcomes()
    return {
        "names": list(metrics.names),
        "thresholds": [None if math.isnan(value) else value for value in metrics.lrp.threshold.tolist()],
        "calibration": {kind: fit_class_calibrations(outcomes, kind) for kind in KINDS},
        "measured": dict(measured),
    }


def operating_points(checkpoint: Mapping[str, Any], weights: str | Path, flag: str) -> dict[str, Any]:
    """The operating points of a checkpoint.

    Args:
        checkpoint: content of the file.
        weights: the file, for the message.
        flag: what needs it, for the message.

    Raises:
        UserError: it holds none, or those of other classes; says how to get them.
    """
    found = checkpoint.get(KEY)
    advice = f"python val.py --weights {weights} --save-thresholds measures and stores them"
    if not found:
        raise UserError(f"{flag}: expected thresholds of each class in {weights} but it holds none; {advice}")
    names = list(checkpoint["names"].values())
    if found["names"] != names:
        raise UserError(
            f"{flag}: expected thresholds for {', '.join(names)} in {weights} but they are for "
            f"{', '.join(found['names'])}; {advice}"
        )
    return found


class OperatingPoint(NamedTuple):
    """The threshold of a detection run, and what it shows as confidence.

    Attributes:
        conf: one threshold, or C of them; detections have scores above it, as the network gives them.
        calibrations: C maps from score to the probability shown, or None.
        text: one line for the user.
        advice: what to do where nothing passes; empty where that needs none.
    """

    conf: float | list[float]
    calibrations: list[Mapping[str, Any]] | None
    text: str
    advice: str = ""


def choose_operating_point(
    contents: Sequence[Mapping[str, Any]], files: Sequence[str | Path], conf: float | str, calibrate: str = "none"
) -> OperatingPoint:
    """Choose threshold and calibration of a detection run.

    Args:
        contents, files: of the checkpoints.
        conf: least score, or ``auto`` for the LRP-optimal threshold of each class; of a checkpoint without thresholds,
            and of an ensemble, ``auto`` is ``DEFAULT_CONF``. A number is a probability where scores are calibrated.
        calibrate: one of ``CALIBRATIONS``.

    Raises:
        UserError: a number out of [0, 1], another word, thresholds of other classes, or a checkpoint (or several)
            without the calibration asked for.
    """
    if isinstance(conf, int | float):
        check_fractions(conf_thres=conf)
        if calibrate == "none":
            return OperatingPoint(conf, None, f"confidence threshold {conf:g}", _advice(contents, files))
    elif conf != AUTO:
        raise UserError(f"--conf-thres: expected a number from 0 to 1 or {AUTO!r} but got {conf!r}")
    elif calibrate == "none" and not has_thresholds(contents):
        reason = "an ensemble has no thresholds" if len(files) > 1 else f"{files[0]} holds no thresholds"
        text = f"confidence threshold {DEFAULT_CONF:g}, since {reason}"
        return OperatingPoint(DEFAULT_CONF, None, text, _advice(contents, files))
    flag = f"--calibrate {calibrate}" if calibrate != "none" else f"--conf-thres {AUTO}"
    if len(files) > 1:
        raise UserError(f"{flag}: expected one checkpoint, since thresholds are of its scores, but got {len(files)}")
    points = operating_points(contents[0], files[0], flag)
    calibrations = class_calibrations(points, calibrate)
    if isinstance(conf, int | float) and calibrations is not None:
        text = f"confidence threshold {conf:g} of scores after {calibrate} calibration"
        return OperatingPoint(scores_of_probability(calibrations, conf), calibrations, text)
    thresholds = _auto_thresholds(points)
    parts = [
        f"{name} {value:.4g}" + (" (no objects in validation: mean of the others)" if own is None else "")
        for name, value, own in zip(points["names"], thresholds, points["thresholds"], strict=True)
    ]
    text = (
        f"LRP-optimal thresholds of {Path(points['measured']['data']).name} at {points['measured']['imgsz']} pixels: "
    )
    # thresholds count themselves, suppression wants scores above its own
    return OperatingPoint(np.nextafter(thresholds, 0).tolist(), calibrations, text + ", ".join(parts))


def has_thresholds(contents: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``auto`` finds a threshold of any class: in one checkpoint, of which validation found objects."""
    points = contents[0].get(KEY) if len(contents) == 1 else None
    return points is not None and any(value is not None for value in points["thresholds"])


def _advice(contents: Sequence[Mapping[str, Any]], files: Sequence[str | Path]) -> str:
    """What to do where nothing passes a threshold that is a number."""
    if has_thresholds(contents):
        return f"{AUTO!r} as threshold takes those of each class that training measured and stored in {files[0]}"
    if len(files) > 1:
        return "a lower threshold shows more"
    return f"a lower threshold shows more; python val.py --weights {files[0]} --save-thresholds measures the best ones"


def _auto_thresholds(points: Mapping[str, Any]) -> list[float]:
    """C thresholds; a class without one of its own gets the mean of the others."""
    known = [value for value in points["thresholds"] if value is not None]
    if not known:
        raise UserError(f"--conf-thres {AUTO}: expected a threshold of any class, but validation found no object")
    mean = sum(known) / len(known)
    return [mean if value is None else value for value in points["thresholds"]]


def class_calibrations(points: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]] | None:
    """C maps from score to probability; None for the kind ``none``.

    Raises:
        UserError: unknown kind.
    """
    if kind not in CALIBRATIONS:
        raise unknown_name("calibration", kind, CALIBRATIONS)
    return None if kind == "none" else points["calibration"][kind]


def with_calibration(
    metrics: Metrics, evaluator: DetectionEvaluator, calibrations: Sequence[Mapping[str, Any]]
) -> Metrics:
    """The metrics with the reliability that scores have once they are calibrated; nothing else changes.

    Args:
        metrics: computed by the evaluator.
        evaluator: holds the images.
        calibrations: C maps.
    """
    outcomes, thresholds = evaluator.outcomes(), metrics.lrp.threshold
    present = ~np.isnan(thresholds)
    scores = apply_class_calibrations(calibrations, outcomes.scores, outcomes.classes)
    limits = np.full_like(thresholds, np.nan)
    limits[present] = apply_class_calibrations(calibrations, thresholds[present], np.flatnonzero(present))
    return dataclasses.replace(metrics, reliability=reliability(outcomes._replace(scores=scores), limits))


def scores_of_probability(calibrations: Sequence[Mapping[str, Any]], probability: float) -> list[float]:
    """For each class the score above which its calibrated score is above a probability; 1 where it never is."""
    return [_score_of_probability(entry, probability) for entry in calibrations]


def _score_of_probability(calibration: Mapping[str, Any], probability: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if apply_calibration(calibration, np.array(middle)) > probability:
            high = middle
        else:
            low = middle
    return low
