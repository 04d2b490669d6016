"""Collect detections and ground truth image by image, then compute the metrics of the whole set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from utils.errors import UserError
from utils.metrics.average_precision import precision_and_recall
from utils.metrics.confidence_curves import confidence_curves
from utils.metrics.confusion import confusion_matrix
from utils.metrics.lrp import OptimalLRP, optimal_lrp
from utils.metrics.matched_set import AREA_RANGES, MatchedSet
from utils.metrics.outcomes import Outcomes
from utils.metrics.reliability import reliability
from utils.metrics.results import Metrics
from utils.metrics.score_iou_correlation import score_iou_correlation
from utils.metrics.tables import DetectionTable, GroundTruthTable, group_number, join_tables
from utils.structures import Detections

IOU_THRESHOLDS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
MAX_DETS = (1, 10, 100)  # per image and class, as COCO counts
COMMON_IOU = 0.5  # of the confidence curves and the calibration

Array = Tensor | np.ndarray


class DetectionEvaluator:
    """Evaluation of detections by the COCO definition: ``reset``, ``update`` per image, ``compute``.

    Args:
        num_classes: C.
        names: class names, a sequence or a mapping from index; None numbers the classes.
        iou_thresholds: None is 0.50, 0.55, ..., 0.95.
        max_dets: limits of detections per image and class, ascending; the last one holds for everything but the recalls
            with fewer. COCO's are 1, 10, 100; sets with more objects in an image want more.
        tau: IoU from which on a detection is a true positive for oLRP, in (0, 1).

    Raises:
        UserError: thresholds, limits or tau out of their range.
    """

    def __init__(
        self,
        num_classes: int,
        names: Sequence[str] | Mapping[int, str] | None = None,
        iou_thresholds: Sequence[float] | None = None,
        max_dets: Sequence[int] = MAX_DETS,
        tau: float = 0.5,
    ) -> None:
        self.num_classes = num_classes
        self.names = tuple(str(index if names is None else names[index]) for index in range(num_classes))
        self.iou_thresholds = np.array(IOU_THRESHOLDS if iou_thresholds is None else iou_thresholds, dtype=np.float64)
        self.max_dets = tuple(max_dets)
        self.tau = tau
        if not len(self.iou_thresholds) or not np.all((self.iou_thresholds > 0) & (self.iou_thresholds <= 1)):
            raise UserError(f"expected IoU thresholds in (0, 1] but got {self.iou_thresholds.tolist()}")
        if not self.max_dets or self.max_dets[0] < 1 or list(self.max_dets) != sorted(set(self.max_dets)):
            raise UserError(f"expected ascending limits of detections, 1 or more, but got {self.max_dets}")
        _check_tau(tau)
        self.reset()

    def reset(self) -> None:
        """Forget every image."""
        self._detections: list[DetectionTable] = []
        self._ground_truth: list[GroundTruthTable] = []
        self._images: set[int] = set()
        self._matched: MatchedSet | None = None

    def update(
        self,
        detections: Detections,
        gt_boxes: Array,
        gt_classes: Array,
        *,
        gt_crowd: Array | None = None,
        gt_ignore: Array | None = None,
        gt_area: Array | None = None,
        image: int | None = None,
    ) -> None:
        """Add one image.

        Args:
            detections: found boxes, pixels of the original image, in any order.
            gt_boxes: (n, 4) ``xyxy``, the same pixels.
            gt_classes: (n,) class indices.
            gt_crowd: (n,) True for a region of many objects, which is not to be found and any number of detections may
                match by their share in it; None for no crowds.
            gt_ignore: (n,) True for an object that is neither to be found nor wrong to find; None for none.
            gt_area: (n,) squared pixels, for the ranges of areas; None takes the boxes' own.
            image: number of the image. Equal scores are ordered by it, so that results do not depend on the order of
                the calls; None takes the number of images so far.

        Raises:
            ValueError: shapes do not agree, a class is not in [0, C), or the image was there before.
            UserError: a score or a coordinate is not a number.
        """
        image = len(self._images) if image is None else int(image)
        boxes, scores, classes = _boxes(detections.boxes), _column(detections.scores), _column(detections.classes)
        gt, gt_classes = _boxes(gt_boxes), _column(gt_classes)
        crowd = np.zeros(len(gt), dtype=bool) if gt_crowd is None else _column(gt_crowd).astype(bool)
        ignore = crowd if gt_ignore is None else _column(gt_ignore).astype(bool) | crowd
        area = gt[:, 2] * gt[:, 3] if gt_area is None else _column(gt_area).astype(np.float64)
        found = DetectionTable(np.full(len(boxes), image), classes.astype(np.int64), boxes, scores.astype(np.float64))
        wanted = GroundTruthTable(np.full(len(gt), image), gt_classes.astype(np.int64), gt, area, crowd, ignore)
        self.update_tables(found, wanted, [image])

    def update_tables(self, detections: DetectionTable, ground_truth: GroundTruthTable, images: Sequence[int]) -> None:
        """Add many images at once, as tables; ``images`` are their numbers, empty ones included.

        Raises:
            ValueError, UserError: as :meth:`update`, or a row is of an image that is not among ``images``.
        """
        again = self._images.intersection(images)
        if again:
            raise ValueError(f"expected every image once but image {min(again)} came again")
        for kind, table in (("detection", detections), ("ground-truth", ground_truth)):
            if any(len(column) != len(table.image) for column in table):
                shapes = {name: column.shape for name, column in table._asdict().items()}
                raise ValueError(f"expected {kind} boxes (n, 4) and n entries in every column but got {shapes}")
            strangers = np.setdiff1d(table.image, images)
            if len(strangers):
                raise ValueError(f"expected {kind} rows of the images given but got one of image {strangers[0]}")
            if np.any((table.classes < 0) | (table.classes >= self.num_classes)):
                raise ValueError(
                    f"expected {kind} classes in [0, {self.num_classes}) but got {np.unique(table.classes).tolist()}"
                )
            if not np.isfinite(table.boxes).all():
                raise UserError(f"expected finite numbers in {kind} boxes but got NaN or infinity")
        if np.isnan(detections.scores).any():
            raise UserError("expected scores to be numbers but got NaN")
        self._detections.append(detections)
        self._ground_truth.append(ground_truth)
        self._images.update(images)
        self._matched = None

    def compute(self) -> Metrics:
        """Metrics of all images since the last reset."""
        matched = self._matched_set(min(*self.iou_thresholds, COMMON_IOU, self.tau))
        num_instances = matched.num_objects()
        curves = [
            precision_and_recall(
                matched.ranked, matched.verdicts(self.iou_thresholds, area), matched.num_objects(area), self.max_dets
            )
            for area in AREA_RANGES
        ]
        precision, recall = (np.stack(part) for part in zip(*curves, strict=True))
        outcomes = matched.outcomes(COMMON_IOU)
        lrp = optimal_lrp(outcomes if self.tau == COMMON_IOU else matched.outcomes(self.tau), self.tau)
        groups = np.unique(group_number(self._tables()[1], self.num_classes)[~matched.ignored_objects()])
        return Metrics(
            precision_curves=precision,
            recalls=recall,
            iou_thresholds=self.iou_thresholds,
            max_dets=self.max_dets,
            curves=confidence_curves(outcomes),
            lrp=lrp,
            reliability=reliability(outcomes, lrp.threshold),
            class_score_iou_correlation=score_iou_correlation(outcomes),
            num_instances=num_instances,
            class_images=np.bincount(groups % self.num_classes, minlength=self.num_classes),
            num_images=len(self._images),
            names=self.names,
        )

    def optimal_lrp(self, tau: float = 0.5) -> OptimalLRP:
        """oLRP of each class at any ``tau`` in (0, 1).

        Raises:
            UserError: tau out of range.
        """
        _check_tau(tau)
        return optimal_lrp(self.outcomes(tau), tau)

    def outcomes(self, iou: float = 0.5) -> Outcomes:
        """Outcome of each detection at one IoU in (0, 1], for calibration and custom curves.

        Raises:
            UserError: IoU out of range.
        """
        if not 0 < iou <= 1:
            raise UserError(f"expected an IoU in (0, 1] but got {iou}")
        return self._matched_set(iou).outcomes(iou)

    def confusion_matrix(
        self, confidence: float | Sequence[float] | np.ndarray = 0.25, iou: float = 0.45
    ) -> np.ndarray:
        """(C + 1, C + 1) int64, see :func:`utils.metrics.confusion.confusion_matrix`."""
        return confusion_matrix(*self._tables(), self.num_classes, confidence, iou)

    def _matched_set(self, min_iou: float) -> MatchedSet:
        if self._matched is None or self._matched.min_iou > min_iou:
            self._matched = MatchedSet(*self._tables(), self.num_classes, self.max_dets[-1], min_iou)
        return self._matched

    def _tables(self) -> tuple[DetectionTable, GroundTruthTable]:
        """All images in one table of each kind, which takes the place of the single ones."""
        nothing, no_boxes, none = np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0, dtype=bool)
        if len(self._detections) != 1:
            self._detections.append(DetectionTable(nothing, nothing, no_boxes, np.zeros(0)))
            self._ground_truth.append(GroundTruthTable(nothing, nothing, no_boxes, np.zeros(0), none, none))
            self._detections = [DetectionTable(*join_tables(self._detections))]
            self._ground_truth = [GroundTruthTable(*join_tables(self._ground_truth))]
        return self._detections[0], self._ground_truth[0]


def _check_tau(tau: float) -> None:
    if not 0 < tau < 1:
        raise UserError(f"expected tau in (0, 1) but got {tau}")


def _column(values: Array) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.reshape(-1)


def _boxes(boxes: Array) -> np.ndarray:
    """Corners (n, 4) as left, top, width, height in float64."""
    array = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else np.asarray(boxes)
    if array.size != 4 * len(array):
        raise ValueError(f"expected boxes (n, 4) but got {array.shape}")
    corners = array.astype(np.float64).reshape(-1, 4)
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
