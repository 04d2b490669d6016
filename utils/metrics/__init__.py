"""Evaluation of detections: COCO's precision and recall, oLRP, curves, confusion and calibration."""

from utils.metrics.calibration import (
    apply_calibration,
    apply_class_calibrations,
    fit_calibration,
    fit_class_calibrations,
)
from utils.metrics.coco import evaluate_coco, read_coco
from utils.metrics.evaluator import DetectionEvaluator
from utils.metrics.results import Metrics

__all__ = [
    "DetectionEvaluator",
    "Metrics",
    "apply_calibration",
    "apply_class_calibrations",
    "evaluate_coco",
    "fit_calibration",
    "fit_class_calibrations",
    "read_coco",
]
