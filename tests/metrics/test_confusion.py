"""Which class was taken for which: a picture by hand, and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.coco_sets import random_coco
from utils.metrics import DetectionEvaluator, read_coco
from utils.structures import Detections

NAN = float("nan")


def matrix_of(found: list[tuple], objects: list[tuple], **options) -> list[list[int]]:
    """Two classes; found: left, right, class, score; objects: left, right, class; all 100 high."""
    evaluator = DetectionEvaluator(2)
    boxes = torch.tensor([[left, 0.0, right, 100.0] for left, right, *_ in found]).reshape(-1, 4)
    # Not float32: 0.02 would not reach a threshold of 0.02.
    scores = torch.tensor([row[3] for row in found], dtype=torch.float64)
    classes = torch.tensor([row[2] for row in found])
    gt = np.array([[left, 0, right, 100] for left, right, _ in objects]).reshape(-1, 4)
    flags = {name: options.pop(name) for name in ("gt_crowd", "gt_ignore") if name in options}
    evaluator.update(Detections(boxes, scores, classes), gt, np.array([row[2] for row in objects]), **flags)
    return evaluator.confusion_matrix(**options).tolist()


def test_rows_are_predictions_columns_are_objects_the_background_is_last():
    objects = [(0, 100, 0), (200, 300, 0), (400, 500, 1), (600, 700, 1)]
    found = [
        (0, 100, 0, 0.9),  # right
        (200, 300, 1, 0.8),  # class 0 taken for 1
        (400, 460, 1, 0.7),  # right, IoU 0.6
        (600, 640, 1, 0.6),  # IoU 0.4 is too little: missed, and a false alarm
        (800, 900, 0, 0.5),  # a false alarm
        (0, 100, 0, 0.2),  # too low a score
    ]
    assert matrix_of(found, objects) == [[1, 0, 1], [1, 1, 1], [0, 1, 0]]
    assert matrix_of(found, objects, iou=0.4) == [[1, 0, 1], [1, 2, 0], [0, 0, 0]]
    assert matrix_of(found, objects, confidence=0.75) == [[1, 0, 0], [1, 0, 0], [0, 2, 0]]


def test_of_several_detections_the_one_that_fits_best_has_found_the_object():
    # The better box wins against the better score; of equal boxes the better score.
    assert matrix_of([(0, 90, 0, 0.9), (0, 100, 1, 0.5)], [(0, 100, 0)]) == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert matrix_of([(0, 100, 0, 0.6), (0, 100, 1, 0.5)], [(0, 100, 0)]) == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_thresholds_per_class():
    objects, found = [(0, 100, 0), (200, 300, 1)], [(0, 100, 0, 0.02), (200, 300, 1, 0.6)]
    assert matrix_of(found, objects, confidence=[0.02, 0.6]) == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix_of(found, objects, confidence=[0.02, 0.61]) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert matrix_of(found, objects, confidence=[0.02, NAN]) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_crowds_and_objects_to_be_ignored_count_nowhere():
    # Two boxes of class 0 in a crowd of class 0 are no false alarms; one of class 1 is.
    found = [(0, 10, 0, 0.9), (20, 30, 0, 0.9), (40, 50, 1, 0.9)]
    assert matrix_of(found, [(0, 100, 0)], gt_crowd=np.array([True])) == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert matrix_of(found, [(0, 100, 0)]) == [[0, 0, 2], [0, 0, 1], [1, 0, 0]]
    ignored = matrix_of([(0, 100, 0, 0.9)], [(0, 100, 0)], gt_ignore=np.array([True]))
    assert ignored == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_nothing_at_all():
    assert DetectionEvaluator(1).confusion_matrix().tolist() == [[0, 0], [0, 0]]


def plain_iou(box: list[float], other: list[float], crowd: bool) -> float:
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area, inside = box[2] * box[3], width * height
    return inside / (area if crowd else area + other[2] * other[3] - inside)


def plain_matrix(gt: dict, detections: list[dict], confidence: float, iou: float) -> np.ndarray:
    """One image, one detection after the other."""
    numbers = sorted(entry["id"] for entry in gt["categories"])
    matrix = np.zeros((len(numbers) + 1, len(numbers) + 1), dtype=int)
    for image in sorted(entry["id"] for entry in gt["images"]):
        objects = [a for a in gt["annotations"] if a["image_id"] == image]
        found = [d for d in detections if d["image_id"] == image and d["score"] >= confidence]
        overlap = [[plain_iou(d["bbox"], a["bbox"], a["iscrowd"]) for a in objects] for d in found]
        suitors: dict[int, list[tuple[float, float, int]]] = {}
        for row, detection in enumerate(found):
            own = [(overlap[row][i], -i) for i, a in enumerate(objects) if not a["iscrowd"] and overlap[row][i] >= iou]
            if own:
                best, place = max(own)
                suitors.setdefault(-place, []).append((best, detection["score"], -row))
        winners = {place: -max(rows)[2] for place, rows in suitors.items()}
        for place, annotation in enumerate(objects):
            if not annotation["iscrowd"]:
                column = numbers.index(annotation["category_id"])
                row = numbers.index(found[winners[place]]["category_id"]) if place in winners else -1
                matrix[row, column] += 1
        for row, detection in enumerate(found):
            in_crowd = any(
                a["iscrowd"] and a["category_id"] == detection["category_id"] and overlap[row][i] >= iou
                for i, a in enumerate(objects)
            )
            if row not in winners.values() and not in_crowd:
                matrix[numbers.index(detection["category_id"]), -1] += 1
    return matrix


@pytest.mark.parametrize(("confidence", "iou"), [(0.25, 0.45), (0.0, 0.2)])
def test_random_sets_equal_a_plain_loop(confidence: float, iou: float):
    total = 0
    for seed in range(25):
        gt, detections = random_coco(seed)
        for annotation in gt["annotations"]:
            annotation["area"] = 100.0  # no object beyond all ranges: the area plays no part here
        matrix = read_coco(gt, detections).confusion_matrix(confidence, iou)
        np.testing.assert_array_equal(matrix, plain_matrix(gt, detections, confidence, iou), err_msg=f"seed {seed}")
        total += np.trace(matrix[:-1, :-1])
    assert total > 50
