"""Which detections are correct: COCO's greedy matching, for all images, classes and IoU thresholds at once."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch

from utils.boxes import elementwise_iou

PAIRS_AT_ONCE = 1_000_000  # bounds the memory of the overlap computation


class Boxes(NamedTuple):
    """Boxes of many images in one table, k rows.

    Attributes:
        image: (k,) int64, number of the image.
        classes: (k,) int64.
        boxes: (k, 4) float64 ``xyxy``, pixels of the original image.
        scores: (k,) float64; all zero for ground truth.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def limit_per_class(detections: Boxes, max_det: int) -> Boxes:
    """The ``max_det`` best detections of every image and class, best first within each.

    Equal scores keep their order, as in pycocotools.
    """
    order = np.lexsort((-detections.scores, detections.classes, detections.image))
    ordered = Boxes(*(column[order] for column in detections))
    keep = _rank_in_run(ordered.image, ordered.classes) < max_det
    return Boxes(*(column[keep] for column in ordered))


def match(detections: Boxes, ground_truth: Boxes, iou_thresholds: np.ndarray) -> np.ndarray:
    """Decide for each detection and threshold whether it is a true positive.

    Within an image and a class, detections choose in the order of their rows (best score first): each takes the free
    ground-truth box with the highest IoU that reaches the threshold; of equal ones the last. A ground-truth box is
    taken once per threshold.

    Args:
        detections: as :func:`limit_per_class` returns them.
        ground_truth: boxes to be found, any order.
        iou_thresholds: (T,) in (0, 1].

    Returns:
        (number of detections, T) bool.
    """
    # A threshold of 1 has to be reachable by boxes that agree to the last digit but one.
    levels = np.minimum(iou_thresholds, 1 - 1e-10)
    pair_det, pair_gt, pair_iou = _overlapping_pairs(detections, ground_truth, levels.min())
    pair_rank = _rank_in_run(detections.image, detections.classes)[pair_det]
    order = np.lexsort((-pair_gt, -pair_iou, pair_det, pair_rank))
    pair_det, pair_gt, pair_iou, pair_rank = (column[order] for column in (pair_det, pair_gt, pair_iou, pair_rank))

    correct = np.zeros((len(detections.image), len(levels)), dtype=bool)
    taken = np.zeros((len(ground_truth.image), len(levels)), dtype=bool)
    # Detections of equal rank belong to different images or classes, so they never want the same box.
    borders = np.flatnonzero(np.diff(pair_rank, prepend=-1, append=-1))
    for first, last in itertools.pairwise(borders):
        det, gt, iou = pair_det[first:last], pair_gt[first:last], pair_iou[first:last]
        possible = (iou[:, None] >= levels) & ~taken[gt]
        starts = np.flatnonzero(np.diff(det, prepend=-1))
        position = np.where(possible, np.arange(last - first)[:, None], last - first)
        choice = np.minimum.reduceat(position, starts, axis=0)
        row, level = np.nonzero(choice < last - first)
        chosen = choice[row, level]
        correct[det[chosen], level] = True
        taken[gt[chosen], level] = True
    return correct


def _rank_in_run(*keys: np.ndarray) -> np.ndarray:
    """Position of each row within its run of equal keys; rows with equal keys must be neighbours."""
    count = len(keys[0])
    new = np.ones(count, dtype=bool)
    new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    starts = np.flatnonzero(new)
    return np.arange(count) - np.repeat(starts, np.diff(starts, append=count))


def _overlapping_pairs(
    detections: Boxes, ground_truth: Boxes, min_iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of detection and ground truth of one image and class with an IoU of at least ``min_iou``, and that IoU."""
    num_classes = 1 + max(detections.classes.max(initial=0), ground_truth.classes.max(initial=0))
    gt_key = ground_truth.image * num_classes + ground_truth.classes
    gt_order = np.argsort(gt_key, kind="stable")
    key = detections.image * num_classes + detections.classes
    first = np.searchsorted(gt_key[gt_order], key, side="left")
    partners = np.searchsorted(gt_key[gt_order], key, side="right") - first
    before = np.cumsum(partners) - partners

    found = []
    borders = np.append(np.unique(before // PAIRS_AT_ONCE, return_index=True)[1], len(key))
    for start, stop in itertools.pairwise(borders):
        counts = partners[start:stop]
        det = np.repeat(np.arange(start, stop), counts)
        within = np.arange(len(det)) - np.repeat(before[start:stop] - before[start], counts)
        gt = gt_order[first[det] + within]
        iou = _iou(detections.boxes[det], ground_truth.boxes[gt])
        keep = iou >= min_iou  # False for the NaN of two empty boxes
        found.append((det[keep], gt[keep], iou[keep]))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    det, gt, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    return det, gt, iou


def _iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    return elementwise_iou(torch.from_numpy(boxes1), torch.from_numpy(boxes2), eps=0.0).numpy()
