"""Results of an evaluation and their summaries."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from utils.metrics.confidence_curves import ConfidenceCurves
from utils.metrics.lrp import OptimalLRP
from utils.metrics.reliability import Reliability


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Results of an evaluation. Means run over the classes that have ground truth; without any they are 0.

    Legend: C classes, T IoU thresholds, A ranges of areas (all, small, medium, large), M limits of detections per image
    and class, R = 101 recall points.

    Attributes:
        precision_curves: (A, C, T, R) highest precision at a recall of 0, 0.01, ..., 1 or more, with the highest limit
            of detections; NaN for a class without ground truth in that range.
        recalls: (A, C, T, M) recall reached; NaN likewise.
        iou_thresholds: (T,).
        max_dets: M limits, ascending.
        curves: precision, recall and F1 against confidence at IoU 0.5, and the confidences with the best F1.
        lrp: oLRP of each class, its components and thresholds.
        reliability: scores against precision at IoU 0.5, of the detections at or above their class's LRP-optimal
            threshold, as Kuzucu et al., "On Calibration of Object Detectors: Pitfalls, Evaluation and Baselines", ECCV
            2024, advise.
        class_score_iou_correlation: (C,) Spearman's coefficient between the scores and the IoUs of the true
            positives at IoU 0.5, NaN where it is not defined.
        num_instances: (C,) ground-truth boxes per class, without crowds and ignored ones.
        class_images: (C,) images that hold the class.
        num_images: images evaluated.
        names: C class names.
    """

    precision_curves: np.ndarray
    recalls: np.ndarray
    iou_thresholds: np.ndarray
    max_dets: tuple[int, ...]
    curves: ConfidenceCurves
    lrp: OptimalLRP
    reliability: Reliability
    class_score_iou_correlation: np.ndarray
    num_instances: np.ndarray
    class_images: np.ndarray
    num_images: int
    names: tuple[str, ...]

    @property
    def ap(self) -> np.ndarray:
        """(C, T) average precision in [0, 1]; NaN for a class without ground truth."""
        means: np.ndarray = self.precision_curves[0].mean(axis=-1)
        return means

    @property
    def confidence(self) -> float:
        """Where the smoothed mean F1 over classes is best."""
        return float(self.curves.confidence[self.curves.best])

    @property
    def class_precision(self) -> np.ndarray:
        """(C,) precision at :attr:`confidence` and IoU 0.5; NaN for a class without ground truth."""
        return self.curves.precision[:, self.curves.best]

    @property
    def class_recall(self) -> np.ndarray:
        """(C,) recall at :attr:`confidence` and IoU 0.5; NaN for a class without ground truth."""
        return self.curves.recall[:, self.curves.best]

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
        means: np.ndarray = self.ap.mean(axis=1)
        return means

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
        """COCO's AR: mean over classes and thresholds of the recall with the highest limit of detections."""
        return _mean(self.recalls[0, ..., -1])

    @property
    def coco_stats(self) -> dict[str, float]:
        """The numbers that pycocotools prints, by name: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.

        NaN where nothing is defined; pycocotools has -1 there. Other limits than 1, 10 and 100 name their own AR.
        """
        at = {t: _mean_or_nan(self.ap[:, np.isclose(self.iou_thresholds, t)]) for t in (0.5, 0.75)}
        by_area = self.precision_curves.mean(axis=-1)
        stats = {"AP": _mean_or_nan(self.ap), "AP50": at[0.5], "AP75": at[0.75]}
        stats |= {f"AP{size}": _mean_or_nan(by_area[row]) for row, size in enumerate("sml", start=1)}
        stats |= {f"AR{limit}": _mean_or_nan(self.recalls[0, ..., row]) for row, limit in enumerate(self.max_dets)}
        return stats | {
            f"AR{size}": _mean_or_nan(self.recalls[row, ..., -1]) for row, size in enumerate("sml", start=1)
        }

    @property
    def olrp(self) -> float:
        """Mean oLRP over classes, in [0, 1], lower is better; NaN without ground truth."""
        return _mean_or_nan(self.lrp.error)

    @property
    def olrp_localisation(self) -> float:
        """Mean over classes of the localisation component, 1 - IoU; NaN without a true positive."""
        return _mean_or_nan(self.lrp.localisation)

    @property
    def olrp_false_positive(self) -> float:
        """Mean over classes of the false-positive component; NaN without a true positive."""
        return _mean_or_nan(self.lrp.false_positive)

    @property
    def olrp_false_negative(self) -> float:
        """Mean over classes of the false-negative component; NaN without ground truth."""
        return _mean_or_nan(self.lrp.false_negative)

    @property
    def score_iou_correlation(self) -> float:
        """Mean of :attr:`class_score_iou_correlation` over the classes that have one, in [-1, 1]; NaN without any."""
        return _mean_or_nan(self.class_score_iou_correlation)

    @property
    def fitness(self) -> float:
        """0.1 mAP50 + 0.9 mAP50-95; checkpoints are chosen by it."""
        return 0.1 * self.map50 + 0.9 * self.map

    def ap_at(self, iou: float) -> float:
        """Mean AP over classes at one of the evaluated IoU thresholds; NaN if it was not evaluated."""
        column = np.flatnonzero(np.isclose(self.iou_thresholds, iou))
        return _mean(self.ap[:, column[0]]) if len(column) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves as plain numbers, texts, lists and mappings for JSON; undefined values are None."""
        overall = {
            "precision": self.precision,
            "recall": self.recall,
            "confidence": self.confidence,
            "map50": self.map50,
            "map75": self.map75,
            "map": self.map,
            "average_recall": self.average_recall,
            "fitness": self.fitness,
            "olrp": self.olrp,
            "olrp_localisation": self.olrp_localisation,
            "olrp_false_positive": self.olrp_false_positive,
            "olrp_false_negative": self.olrp_false_negative,
            "laece": self.reliability.laece,
            "d_ece": self.reliability.d_ece,
            "score_iou_correlation": self.score_iou_correlation,
        }
        stats = self.coco_stats
        names = {"APs": "map_small", "APm": "map_medium", "APl": "map_large"}
        names |= {f"AR{limit}": f"average_recall_{limit}" for limit in self.max_dets}
        names |= {"ARs": "average_recall_small", "ARm": "average_recall_medium", "ARl": "average_recall_large"}
        overall |= {name: stats[key] for key, name in names.items()}
        return {
            "images": self.num_images,
            "instances": int(self.num_instances.sum()),
            **{name: _plain(value) for name, value in overall.items()},
            "ap_per_iou": {
                f"{t:.2f}": value for t, value in zip(self.iou_thresholds, self.ap_per_iou.tolist(), strict=True)
            },
            "classes": [self._class_dict(index) for index in range(len(self.names))],
        }

    def _class_dict(self, index: int) -> dict[str, Any]:
        columns = {
            "precision": self.class_precision,
            "recall": self.class_recall,
            "map": self.class_map,
            "olrp": self.lrp.error,
            "olrp_localisation": self.lrp.localisation,
            "olrp_false_positive": self.lrp.false_positive,
            "olrp_false_negative": self.lrp.false_negative,
            "olrp_threshold": self.lrp.threshold,
            "f1_threshold": self.curves.f1_threshold,
            "laece": self.reliability.class_laece,
            "score_iou_correlation": self.class_score_iou_correlation,
        }
        return {
            "class": index,
            "name": self.names[index],
            "images": int(self.class_images[index]),
            "instances": int(self.num_instances[index]),
            "ap_per_iou": [_plain(value) for value in self.ap[index]],
            **{name: _plain(column[index]) for name, column in columns.items()},
        }


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; 0 where there is nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def _mean_or_nan(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN where there is nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
