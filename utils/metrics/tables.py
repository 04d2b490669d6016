"""Boxes of many images in flat tables, and COCO's order of detections."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class DetectionTable(NamedTuple):
    """Detections of many images, n rows.

    Attributes:
        image: (n,) int64, number of the image; equal scores are ordered by it.
        classes: (n,) int64.
        boxes: (n, 4) float64 left, top, width, height (COCO's form, in which pycocotools computes overlaps).
        scores: (n,) float64.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


class GroundTruthTable(NamedTuple):
    """Objects of many images, m rows.

    Attributes:
        image, classes, boxes: as in :class:`DetectionTable`.
        area: (m,) float64, squared pixels; COCO's is that of the mask.
        crowd: (m,) bool, regions of many objects: an overlap counts as share of the detection, and any number of
            detections may match; never to be found.
        ignore: (m,) bool, neither to be found nor wrong to find; True for every crowd.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray


class Ranked(NamedTuple):
    """Detections ordered by class, then best score first, at most so many of an image and class.

    Attributes:
        row: (N,) int64, row in the :class:`DetectionTable`.
        classes: (N,) int64, ascending.
        scores: (N,) float64, descending within a class.
        area: (N,) float64, width x height.
        rank: (N,) int64, position among the detections of its image and class: 0 is the best.
        group: (N,) int64, a number for image and class, see :func:`group_number`.
        by_group: (N,) int64, the order that brings groups together, best score first within each.
    """

    row: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    area: np.ndarray
    rank: np.ndarray
    group: np.ndarray
    by_group: np.ndarray


def group_number(table: DetectionTable | GroundTruthTable, num_classes: int) -> np.ndarray:
    """(n,) int64: one number for each pair of image and class."""
    numbers: np.ndarray = table.image * num_classes + table.classes
    return numbers


def rank_detections(table: DetectionTable, num_classes: int, max_det: int) -> Ranked:
    """Order detections as pycocotools does.

    Equal scores of a class are ordered by image, and within an image by row.

    Args:
        table: detections, rows in any order.
        num_classes: C.
        max_det: detections kept of each image and class, best first.
    """
    order = np.argsort(table.image, kind="stable")
    order = order[np.argsort(-table.scores[order], kind="stable")]
    narrow = np.min_scalar_type(num_classes)  # makes the sort a radix sort
    order = order[np.argsort(table.classes.astype(narrow)[order], kind="stable")]
    group = group_number(table, num_classes)[order]
    by_group = np.argsort(group, kind="stable")
    rank = np.empty_like(order)
    rank[by_group] = position_in_run(group[by_group])
    keep = rank < max_det
    if not keep.all():
        position = np.cumsum(keep) - 1
        by_group = position[by_group[keep[by_group]]]
        order, group, rank = order[keep], group[keep], rank[keep]
    sides = table.boxes[order, 2:]
    return Ranked(order, table.classes[order], table.scores[order], sides[:, 0] * sides[:, 1], rank, group, by_group)


def position_in_run(values: np.ndarray) -> np.ndarray:
    """(n,) position of each entry within its run of equal neighbours."""
    new = np.ones(len(values), dtype=bool)
    new[1:] = values[1:] != values[:-1]
    starts = np.flatnonzero(new)
    return np.arange(len(values)) - np.repeat(starts, np.diff(starts, append=len(values)))


def class_slices(classes: np.ndarray, num_classes: int) -> list[slice]:
    """Slices of the C classes in ascending ``classes`` (n,)."""
    borders = np.searchsorted(classes, np.arange(num_classes + 1)).tolist()
    return [slice(first, last) for first, last in itertools.pairwise(borders)]


def join_tables(tables: Sequence[DetectionTable] | Sequence[GroundTruthTable]) -> tuple[np.ndarray, ...]:
    """Concatenate tables of one kind."""
    return tuple(np.concatenate(column) for column in zip(*tables, strict=True))
