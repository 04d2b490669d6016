"""COCO's greedy matching of detections and objects, for all images, classes and IoU thresholds at once."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from utils.metrics.tables import DetectionTable, GroundTruthTable, Ranked, group_number, position_in_run

PAIRS_AT_ONCE = 100_000  # bounds the memory of the overlap computation
HIGHEST_IOU = 1 - 1e-10  # a threshold of 1 has to be reachable by boxes that agree to the last digit but one


class Pairs(NamedTuple):
    """Detections and objects that overlap, K pairs.

    Attributes:
        detection, gt: (K,) int64, rows.
        iou: (K,) float64; intersection over the detection's area where the object is a crowd.
    """

    detection: np.ndarray
    gt: np.ndarray
    iou: np.ndarray


class Candidates(NamedTuple):
    """The pairs among which matches are made, in the order in which they are looked at.

    Attributes:
        detection: (D,) int64, ascending: the detections (positions in :class:`Ranked`) that overlap some object.
        pairs: K pairs whose ``detection`` counts within ``detection``; a detection's own stand together, highest
            IoU first, of equal ones the later object first.
        borders: pairs of step i stand at borders[i] to borders[i + 1]. A step holds at most one detection of an image
            and class, and better scores have earlier steps.
    """

    detection: np.ndarray
    pairs: Pairs
    borders: np.ndarray


def overlapping_pairs(
    detections: DetectionTable,
    ground_truth: GroundTruthTable,
    detection_rows: np.ndarray,
    detection_group: np.ndarray,
    gt_group: np.ndarray,
    min_iou: float,
) -> Pairs:
    """Every detection and object of one group (such as an image) with an IoU of at least ``min_iou``.

    Args:
        detection_rows: (N,) rows of ``detections`` to look at, groups together.
        detection_group: (N,) int64, ascending: the group of each of these rows.
        gt_group: (m,) int64, group of each object.

    Returns:
        Pairs: ``detection`` counts within ``detection_rows``.
    """
    first = np.searchsorted(detection_group, gt_group, side="left")
    partners = np.searchsorted(detection_group, gt_group, side="right") - first
    before = np.cumsum(partners) - partners
    found = [Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    borders = np.append(np.unique(before // PAIRS_AT_ONCE, return_index=True)[1], len(gt_group))
    for start, stop in itertools.pairwise(borders):
        gt = np.repeat(np.arange(start, stop), partners[start:stop])
        detection = np.arange(len(gt)) + np.repeat((first - before)[start:stop] + before[start], partners[start:stop])
        iou = _overlap(
            detections.boxes.take(detection_rows[detection], axis=0),
            ground_truth.boxes.take(gt, axis=0),
            ground_truth.crowd[gt],
        )
        keep = iou >= min_iou
        found.append(Pairs(detection[keep], gt[keep], iou[keep]))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def find_candidates(
    detections: DetectionTable, ground_truth: GroundTruthTable, ranked: Ranked, num_classes: int, min_iou: float
) -> Candidates:
    """Prepare the matching of detections with the objects of their own image and class.

    Args:
        min_iou: the lowest threshold that will be matched at.
    """
    order = ranked.by_group
    pairs = overlapping_pairs(
        detections,
        ground_truth,
        ranked.row[order],
        ranked.group[order],
        group_number(ground_truth, num_classes),
        min(min_iou, HIGHEST_IOU),
    )
    detection, own = np.unique(order[pairs.detection], return_inverse=True)
    by_group = np.argsort(ranked.group[detection], kind="stable")
    step = np.empty_like(by_group)
    step[by_group] = position_in_run(ranked.group[detection][by_group])
    order = np.lexsort((-pairs.gt, -pairs.iou, own, step[own]))
    borders = np.flatnonzero(np.diff(step[own[order]], prepend=-1, append=-1))
    return Candidates(detection, Pairs(own[order], pairs.gt[order], pairs.iou[order]), borders)


def match(candidates: Candidates, crowd: np.ndarray, ignore: np.ndarray, iou_thresholds: np.ndarray) -> np.ndarray:
    """Let the detections of each image and class choose their object, best score first.

    Each takes, among the objects that are still free and reach the threshold, the one with the highest IoU, of equal
    ones the last; one to be ignored only where no other is left. A crowd is never used up. Detections of different
    images and classes never want the same object, so each step of the loop serves all images, classes and thresholds.

    Args:
        candidates: from :func:`find_candidates`.
        crowd, ignore: (m,) bool, flags of the objects.
        iou_thresholds: (T,) in (0, 1].

    Returns:
        (D, T) int64: the pair that each candidate detection took; -1 for none.
    """
    levels = np.minimum(iou_thresholds, HIGHEST_IOU)
    own, gt, iou = candidates.pairs
    none = 2 * len(gt)  # above every position of a pair, those to be ignored included
    chosen = np.full((len(candidates.detection), len(levels)), -1, dtype=np.int64)
    taken = np.zeros((len(crowd), len(levels)), dtype=bool)
    for first, last in itertools.pairwise(candidates.borders):
        wanted = gt[first:last]
        possible = (iou[first:last, None] >= levels) & ~taken[wanted]
        # Pairs stand best first: the lowest position wins, and every pair to be ignored comes after all others.
        position = np.arange(first, last) + len(gt) * ignore[wanted]
        starts = np.flatnonzero(np.diff(own[first:last], prepend=-1))
        best = np.minimum.reduceat(np.where(possible, position[:, None], none), starts, axis=0)
        row, level = np.nonzero(best < none)
        pair = best[row, level] % len(gt)
        chosen[own[first:last][starts[row]], level] = pair
        taken[gt[pair], level] = ~crowd[gt[pair]]
    return chosen


def _overlap(boxes: np.ndarray, gt_boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(K,) IoU of boxes with boxes (K, 4) left, top, width, height, rounded as pycocotools rounds it."""
    low = np.maximum(boxes[:, :2], gt_boxes[:, :2])
    high = np.minimum(boxes[:, 2:] + boxes[:, :2], gt_boxes[:, 2:] + gt_boxes[:, :2])
    sides = np.maximum(high - low, 0)
    intersection = sides[:, 0] * sides[:, 1]
    area = boxes[:, 2] * boxes[:, 3]
    union = area + gt_boxes[:, 2] * gt_boxes[:, 3] - intersection
    union[crowd] = area[crowd]
    overlap: np.ndarray = np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)
    return overlap
