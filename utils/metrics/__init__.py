"""Evaluation of detections by the COCO definition."""

from utils.metrics.evaluator import DetectionEvaluator, Metrics

__all__ = ["DetectionEvaluator", "Metrics"]
