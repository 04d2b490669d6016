"""Collect detections and ground truth image by image, then compute the metrics of the whole set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from utils.metrics.average_precision import average_precision, best_f1_point
from utils.metrics.matching import Boxes, limit_per_class, match
from utils.structures import Detections

IOU_THRESHOLDS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
MAX_DET_PER_CLASS = 100  # per image, as COCO counts


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Results of an evaluation. Means run over the classes that have ground truth; without any they are 0.

    Attributes:
        ap: (C, T) average precision in [0, 1]; NaN for a class without ground truth.
        recall_at_100: (C, T) recall of the 100 best detections per image and class; NaN likewise.
        iou_thresholds: (T,).
        class_precision, class_recall: (C,) at ``confidence`` and IoU 0.5 (or the lowest threshold); NaN likewise.
        confidence: where the mean F1 over classes is best.
        num_instances: (C,) ground-truth boxes per class.
        class_images: (C,) images that hold the class.
        num_images: images evaluated.
        names: C class names.
    """

    ap: np.ndarray
    recall_at_100: np.ndarray
    iou_thresholds: np.ndarray
    class_precision: np.ndarray
    class_recall: np.ndarray
    confidence: float
    num_instances: np.ndarray
    class_images: np.ndarray
    num_images: int
    names: tuple[str, ...]

    @property
    def precision(self) -> float:
        """Mean precision over classes, at the confidence of the best mean F1."""
        return _mean(self.class_precision)

    @property
    def recall(self) -> float:
        """Mean recall over classes, at the confidence of the best mean F1."""
        return _mean(self.class_recall)

    @property
    def ap_per_iou(self) -> np.ndarray:
        """(T,) mean AP over classes at each IoU threshold."""
        return np.array([_mean(column) for column in self.ap.T])

    @property
    def class_map(self) -> np.ndarray:
        """(C,) AP of each class, mean over thresholds; NaN for a class without ground truth."""
        return self.ap.mean(axis=1)

    @property
    def map(self) -> float:
        """Mean over classes and IoU thresholds: mAP50-95 with the default thresholds."""
        return _mean(self.ap)

    @property
    def map50(self) -> float:
        """Mean AP at IoU 0.50."""
        return self.ap_at(0.5)

    @property
    def map75(self) -> float:
        """Mean AP at IoU 0.75."""
        return self.ap_at(0.75)

    @property
    def average_recall(self) -> float:
        """COCO's AR@100: mean over classes and thresholds of the recall with 100 detections per image and class."""
        return _mean(self.recall_at_100)

    @property
    def fitness(self) -> float:
        """What checkpoints are chosen by: 0.1 mAP50 + 0.9 mAP50-95."""
        return 0.1 * self.map50 + 0.9 * self.map

    def ap_at(self, iou: float) -> float:
        """Mean AP over classes at one of the evaluated IoU thresholds; NaN if it was not evaluated."""
        column = np.flatnonzero(np.isclose(self.iou_thresholds, iou))
        return _mean(self.ap[:, column[0]]) if len(column) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, texts, lists and mappings that JSON can hold; undefined values are None."""
        per_class = [
            {
                "class": index,
                "name": self.names[index],
                "images": int(self.class_images[index]),
                "instances": int(self.num_instances[index]),
                "precision": _plain(self.class_precision[index]),
                "recall": _plain(self.class_recall[index]),
                "ap_per_iou": [_plain(value) for value in self.ap[index]],
                "map": _plain(self.class_map[index]),
            }
            for index in range(len(self.names))
        ]
        return {
            "images": self.num_images,
            "instances": int(self.num_instances.sum()),
            "precision": self.precision,
            "recall": self.recall,
            "confidence": self.confidence,
            "map50": _plain(self.map50),
            "map75": _plain(self.map75),
            "map": self.map,
            "average_recall": self.average_recall,
            "fitness": _plain(self.fitness),
            "ap_per_iou": {
                f"{t:.2f}": value for t, value in zip(self.iou_thresholds, self.ap_per_iou.tolist(), strict=True)
            },
            "classes": per_class,
        }


class DetectionEvaluator:
    """Evaluation of detections by the COCO definition: ``reset``, ``update`` per image, ``compute``.

    Args:
        num_classes: C.
        names: class names, a sequence or a mapping from index; None numbers the classes.
        iou_thresholds: None is 0.50, 0.55, ..., 0.95.
    """

    def __init__(
        self,
        num_classes: int,
        names: Sequence[str] | Mapping[int, str] | None = None,
        iou_thresholds: Sequence[float] | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.names = tuple(str(index if names is None else names[index]) for index in range(num_classes))
        self.iou_thresholds = np.array(IOU_THRESHOLDS if iou_thresholds is None else iou_thresholds, dtype=np.float64)
        self.reset()

    def reset(self) -> None:
        """Forget every image."""
        self._detections: list[Boxes] = []
        self._ground_truth: list[Boxes] = []

    def update(self, detections: Detections, gt_boxes: Tensor | np.ndarray, gt_classes: Tensor | np.ndarray) -> None:
        """Add one image.

        Args:
            detections: found boxes, pixels of the original image.
            gt_boxes: (n, 4) ``xyxy``, the same pixels.
            gt_classes: (n,) class indices.

        Raises:
            ValueError: shapes do not agree, or a class is not in [0, C).
        """
        image = len(self._ground_truth)
        found = _table(image, *detections)
        wanted = _table(image, gt_boxes, np.zeros(len(gt_boxes)), gt_classes)
        for kind, table in (("detection", found), ("ground-truth", wanted)):
            if np.any((table.classes < 0) | (table.classes >= self.num_classes)):
                raise ValueError(f"expected {kind} classes in [0, {self.num_classes}) but got {set(table.classes)}")
        self._detections.append(found)
        self._ground_truth.append(wanted)

    def compute(self) -> Metrics:
        """Metrics of all images since the last reset."""
        ground_truth = _joined(self._ground_truth)
        detections = limit_per_class(_joined(self._detections), MAX_DET_PER_CLASS)
        correct = match(detections, ground_truth, self.iou_thresholds)
        num_instances = np.bincount(ground_truth.classes, minlength=self.num_classes)
        in_image = np.unique(np.stack((ground_truth.image, ground_truth.classes)), axis=1)[1]
        ap, recall = average_precision(detections.scores, detections.classes, correct, num_instances)
        lowest = correct[:, self.iou_thresholds.argmin()]
        point = best_f1_point(detections.scores, detections.classes, lowest, num_instances)
        return Metrics(
            ap=ap,
            recall_at_100=recall,
            iou_thresholds=self.iou_thresholds,
            class_precision=point.precision,
            class_recall=point.recall,
            confidence=point.confidence,
            num_instances=num_instances,
            class_images=np.bincount(in_image, minlength=self.num_classes),
            num_images=len(self._ground_truth),
            names=self.names,
        )


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _table(image: int, boxes: Tensor | np.ndarray, scores: Tensor | np.ndarray, classes: Tensor | np.ndarray) -> Boxes:
    boxes, scores, classes = _array(boxes), _array(scores), _array(classes)
    if boxes.size != 4 * len(boxes) or not len(boxes) == len(scores) == len(classes):
        shapes = boxes.shape, scores.shape, classes.shape
        raise ValueError(f"expected boxes (n, 4), scores (n,) and classes (n,) but got {shapes}")
    return Boxes(
        np.full(len(boxes), image, dtype=np.int64),
        classes.astype(np.int64).reshape(-1),
        boxes.astype(np.float64).reshape(-1, 4),
        scores.astype(np.float64).reshape(-1),
    )


def _joined(tables: list[Boxes]) -> Boxes:
    if not tables:
        return _table(0, np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    return Boxes(*(np.concatenate(column) for column in zip(*tables, strict=True)))


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; 0 where there is nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
