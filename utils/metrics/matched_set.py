"""Detections and objects of a data set, sorted and paired once, then matched at any IoU and range of areas."""

from __future__ import annotations

import numpy as np

from utils.metrics.average_precision import Verdicts
from utils.metrics.matching import find_candidates, match
from utils.metrics.outcomes import Outcomes
from utils.metrics.tables import DetectionTable, GroundTruthTable, rank_detections

# Least and greatest area in squared pixels, both included. COCO's own: even 'all' has an end.
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


class MatchedSet:
    """A data set, prepared for matching.

    Args:
        detections, ground_truth: tables of all images.
        num_classes: C.
        max_det: detections of an image and class that count.
        min_iou: lowest IoU that will be asked for.
    """

    def __init__(
        self,
        detections: DetectionTable,
        ground_truth: GroundTruthTable,
        num_classes: int,
        max_det: int,
        min_iou: float,
    ) -> None:
        self.min_iou = min_iou
        self.ranked = rank_detections(detections, num_classes, max_det)
        self._candidates = find_candidates(detections, ground_truth, self.ranked, num_classes, min_iou)
        self._ground_truth = ground_truth
        self._num_classes = num_classes

    def ignored_objects(self, area: str = "all") -> np.ndarray:
        """(m,) bool: objects that are not to be found within a range of areas."""
        low, high = AREA_RANGES[area]
        return self._ground_truth.ignore | (self._ground_truth.area < low) | (self._ground_truth.area > high)

    def num_objects(self, area: str = "all") -> np.ndarray:
        """(C,) int64: objects to be found in each class."""
        wanted = ~self.ignored_objects(area)
        return np.bincount(self._ground_truth.classes[wanted], minlength=self._num_classes)

    def verdicts(self, iou_thresholds: np.ndarray, area: str = "all") -> Verdicts:
        """Match at T thresholds, all at least ``min_iou``."""
        ignore = self.ignored_objects(area)
        chosen = match(self._candidates, self._ground_truth.crowd, ignore, iou_thresholds)
        found = chosen >= 0
        ignored = found.copy()
        ignored[found] = ignore[self._candidates.pairs.gt[chosen[found]]]
        iou = np.zeros(chosen.shape)
        iou[found] = self._candidates.pairs.iou[chosen[found]]
        return Verdicts(self._candidates.detection, found & ~ignored, ignored, self._in_range(area), iou)

    def outcomes(self, iou: float) -> Outcomes:
        """Match at one IoU, areas 'all', and return the outcome of each detection."""
        verdicts = self.verdicts(np.array([iou]))
        correct, overlap = np.zeros(len(self.ranked.row), dtype=bool), np.zeros(len(self.ranked.row))
        correct[verdicts.detection] = verdicts.correct[:, 0]
        overlap[verdicts.detection] = np.where(verdicts.correct[:, 0], verdicts.iou[:, 0], 0.0)
        counts = verdicts.in_range | correct
        counts[verdicts.detection] &= ~verdicts.ignored[:, 0]
        kept = (self.ranked.scores[counts], self.ranked.classes[counts], correct[counts], overlap[counts])
        return Outcomes(*kept, self.num_objects())

    def _in_range(self, area: str) -> np.ndarray:
        low, high = AREA_RANGES[area]
        return (self.ranked.area >= low) & (self.ranked.area <= high)
