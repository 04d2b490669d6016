"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.errors import UserError
from utils.metrics.matching import Pairs, overlapping_pairs
from utils.metrics.tables import DetectionTable, GroundTruthTable


def confusion_matrix(
    detections: DetectionTable,
    ground_truth: GroundTruthTable,
    num_classes: int,
    confidence: float | Sequence[float] | np.ndarray = 0.25,
    iou: float = 0.45,
) -> np.ndarray:
    """Count which class was detected where an object of which class is.

    Boxes are paired whatever their classes: a detection points at the object it overlaps most, and of those that point
    at one object the one that overlaps it most has found it (of equal ones the better score). A detection without an
    object of its own counts as found in the background, an object without a detection as taken for it. Objects to be
    ignored and crowds count nowhere, nor does a detection of their class upon them that found no other object.

    Args:
        detections, ground_truth: tables of all images.
        num_classes: C.
        confidence: detections with at least this score are kept; one number, or one for each class (NaN drops the
            class), such as the LRP-optimal thresholds.
        iou: least overlap of a pair, in (0, 1].

    Returns:
        (C + 1, C + 1) int64: rows predicted, columns true, the background last.

    Raises:
        UserError: the number of confidences is neither 1 nor C, or an IoU out of (0, 1].
    """
    if not 0 < iou <= 1:
        raise UserError(f"expected an IoU in (0, 1] but got {iou}")
    thresholds = np.asarray(confidence, dtype=np.float64)
    if thresholds.shape not in ((), (num_classes,)):
        raise UserError(f"expected one confidence or one for each of {num_classes} classes but got {thresholds.shape}")
    rows = np.flatnonzero(detections.scores >= np.broadcast_to(thresholds, num_classes)[detections.classes])
    rows = rows[np.argsort(detections.image[rows], kind="stable")]
    found = overlapping_pairs(detections, ground_truth, rows, detections.image[rows], ground_truth.image, iou)
    found = found._replace(detection=rows[found.detection])
    real = ~ground_truth.ignore[found.gt]
    detection, gt = _mutual(Pairs(*(column[real] for column in found)), detections.scores)

    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    np.add.at(matrix, (detections.classes[detection], ground_truth.classes[gt]), 1)
    same_class = detections.classes[found.detection] == ground_truth.classes[found.gt]
    settled = np.concatenate((detection, found.detection[~real & same_class]))
    alone = rows[~np.isin(rows, settled)]
    missed = ~ground_truth.ignore
    missed[gt] = False
    matrix[:-1, -1] = np.bincount(detections.classes[alone], minlength=num_classes)
    matrix[-1, :-1] = np.bincount(ground_truth.classes[missed], minlength=num_classes)
    return matrix


def _mutual(pairs: Pairs, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detections and objects of the pairs that are best for the detection and then best for the object."""
    order = np.lexsort((pairs.gt, -scores[pairs.detection], -pairs.iou))
    detection, gt = pairs.detection[order], pairs.gt[order]
    for one_of in (0, 1):
        first = np.sort(np.unique((detection, gt)[one_of], return_index=True)[1])
        detection, gt = detection[first], gt[first]
    return detection, gt
