"""The evaluator against pycocotools, and against cases that can be worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.coco_sets import coco_arrays, pycocotools_evaluation
from utils.metrics import DetectionEvaluator
from utils.structures import Detections

NO_BOXES = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def random_set(seed: int, num_images: int = 40, num_classes: int = 5, crowded: bool = False) -> list[tuple]:
    """Images of (Detections, gt_boxes, gt_classes): jittered copies of the objects, duplicates and false alarms.

    The last class has no objects; images without objects and without detections occur; scores repeat; some boxes share
    one IoU exactly (integer pixels).
    """
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(num_images):
        num_gt = int(rng.integers(0, 9))
        low = rng.integers(0, 150, (num_gt, 2))
        gt_boxes = np.concatenate((low, low + rng.integers(4, 60, (num_gt, 2))), axis=1).astype(np.float64)
        gt_classes = rng.integers(0, num_classes - 1, num_gt)
        copies = np.repeat(np.arange(num_gt), rng.integers(0, 60 if crowded else 4, num_gt))
        jitter = rng.normal(0, 4, (len(copies), 4))
        boxes = gt_boxes[copies] + np.where(rng.random((len(copies), 1)) < 0.5, jitter.round(), jitter)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        classes = np.where(rng.random(len(copies)) < 0.9, gt_classes[copies], rng.integers(0, num_classes, len(copies)))
        scores = rng.random(len(copies)).round(2 if rng.random() < 0.5 else 9)
        detections = Detections(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes))
        images.append((detections, gt_boxes, gt_classes))
    return images


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def to_coco(images: list[tuple], num_classes: int) -> tuple[dict, list[dict]]:
    annotations, found = [], []
    for image, (detections, gt_boxes, gt_classes) in enumerate(images):
        for box, index in zip(to_xywh(gt_boxes).tolist(), gt_classes.tolist(), strict=True):
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": index, "bbox": box, "iscrowd": 0}
            annotations.append(row | {"area": box[2] * box[3]})
        rows = zip(to_xywh(detections.boxes.numpy()).tolist(), *(c.tolist() for c in detections[1:]), strict=True)
        found += [{"image_id": image, "category_id": c, "bbox": box, "score": score} for box, score, c in rows]
    gt = {
        "images": [{"id": image} for image in range(len(images))],
        "categories": [{"id": index, "name": str(index)} for index in range(num_classes)],
        "annotations": annotations,
    }
    return gt, found


def evaluated(images: list[tuple], num_classes: int, **options) -> DetectionEvaluator:
    evaluator = DetectionEvaluator(num_classes, **options)
    for image in images:
        evaluator.update(*image)
    return evaluator


@pytest.mark.parametrize(("seed", "crowded"), [(0, False), (1, False), (2, False), (3, True)])
def test_equal_to_pycocotools(seed: int, crowded: bool) -> None:
    images = random_set(seed, crowded=crowded)
    if crowded:  # the limit of 100 detections per image and class is reached
        assert (
            max(int(torch.bincount(detections.classes).max()) for detections, *_ in images if len(detections[1])) > 100
        )
    metrics = evaluated(images, 5).compute()
    oracle = pycocotools_evaluation(*to_coco(images, 5))
    assert 0.05 < metrics.map < 0.95
    np.testing.assert_allclose(metrics.map, oracle.stats[0], atol=1e-9)
    np.testing.assert_allclose(metrics.map50, oracle.stats[1], atol=1e-9)
    np.testing.assert_allclose(metrics.map75, oracle.stats[2], atol=1e-9)
    np.testing.assert_allclose(metrics.average_recall, oracle.stats[8], atol=1e-9)
    expected = coco_arrays(oracle)[0][0].mean(axis=-1)  # all areas
    np.testing.assert_allclose(metrics.ap, expected, atol=1e-9)
    np.testing.assert_allclose(metrics.ap_per_iou, np.nanmean(expected, axis=0), atol=1e-9)


def boxes_of_iou(*ious: float) -> torch.Tensor:
    """Boxes inside (0, 0, 100, 100) that cover the given share of it."""
    return torch.tensor([[0.0, 0.0, 100.0, 100.0 * iou] for iou in ious])


def evaluate_one(boxes: torch.Tensor, scores: list[float], num_gt: int = 1, **options) -> DetectionEvaluator:
    """One image, class 0 of 1, ``num_gt`` equal objects at (0, 0, 100, 100) shifted by 1000 each."""
    evaluator = DetectionEvaluator(1, **options)
    gt_boxes = np.array([[1000.0 * i, 0, 1000.0 * i + 100, 100] for i in range(num_gt)])
    detections = Detections(boxes, torch.tensor(scores), torch.zeros(len(scores), dtype=torch.int64))
    evaluator.update(detections, gt_boxes, np.zeros(num_gt, dtype=np.int64))
    return evaluator


def test_one_box_of_known_overlap() -> None:
    # IoU 0.72 passes 0.50, 0.55, 0.60, 0.65, 0.70: five of ten thresholds.
    metrics = evaluate_one(boxes_of_iou(0.72), [0.9]).compute()
    np.testing.assert_allclose(metrics.ap_per_iou, [1] * 5 + [0] * 5)
    assert metrics.map == pytest.approx(0.5)
    assert (metrics.ap_at(0.65), metrics.ap_at(0.75), metrics.map50, metrics.map75) == (1.0, 0.0, 1.0, 0.0)
    assert metrics.fitness == pytest.approx(0.1 * 1.0 + 0.9 * 0.5)


def test_the_better_score_takes_the_object_though_the_other_fits_better() -> None:
    # At IoU 0.5 both fit; the first takes the object, the perfect box is a false alarm after it: AP stays 1. From 0.65
    # on, the first is a false alarm before the right box: precision 1/2 at every recall.
    metrics = evaluate_one(boxes_of_iou(0.6, 1.0), [0.9, 0.8]).compute()
    np.testing.assert_allclose(metrics.ap_per_iou[[0, 1, 2]], 1.0)
    np.testing.assert_allclose(metrics.ap_per_iou[3:], 0.5)


def test_of_two_objects_that_fit_equally_the_last_is_taken() -> None:
    # The first detection lies halfway between two objects, IoU 70 / 130 with both; the second is the last object
    # itself, and finds it taken: one of two objects at IoU 0.5, and only the second detection right from 0.55 on.
    gt_boxes = np.array([[0.0, 0, 10, 10], [6, 0, 16, 10]])
    boxes = torch.tensor([[3.0, 0, 13, 10], [6, 0, 16, 10]], dtype=torch.float64)
    detections = Detections(boxes, torch.tensor([0.9, 0.8], dtype=torch.float64), torch.tensor([0, 0]))
    image = (detections, gt_boxes, np.array([0, 0]))
    metrics = evaluated([image], 1).compute()
    np.testing.assert_allclose(metrics.ap_per_iou, [51 / 101] + [51 / 101 / 2] * 9)
    np.testing.assert_allclose(metrics.map, pycocotools_evaluation(*to_coco([image], 1)).stats[0])


def test_half_of_the_objects_found() -> None:
    # Recall reaches 1/2: 51 of the 101 recall levels have precision 1, the others 0.
    metrics = evaluate_one(boxes_of_iou(1.0), [0.9], num_gt=2).compute()
    np.testing.assert_allclose(metrics.ap_per_iou, 51 / 101)
    np.testing.assert_allclose(metrics.recalls[0, ..., -1], 0.5)
    assert metrics.precision == 1.0
    assert metrics.recall == 0.5


def test_precision_and_recall_are_taken_at_the_best_f1() -> None:
    # Right at 0.9, wrong at 0.1: any confidence between has precision 1 and recall 1.
    boxes = torch.cat((boxes_of_iou(1.0), boxes_of_iou(1.0) + 5000))
    metrics = evaluate_one(boxes, [0.9, 0.1]).compute()
    assert metrics.recall == pytest.approx(1.0)
    assert metrics.precision > 0.9
    assert 0.1 < metrics.confidence < 0.9


def test_classes_never_match_each_other() -> None:
    evaluator = DetectionEvaluator(2, names=["cell", "platelet"])
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    evaluator.update(Detections(box, torch.tensor([0.9]), torch.tensor([1])), box, torch.tensor([0]))
    metrics = evaluator.compute()
    assert metrics.map == 0.0
    assert np.isnan(metrics.ap[1]).all()  # a class without objects counts in no mean
    assert metrics.names == ("cell", "platelet")


@pytest.mark.parametrize("num_gt", [0, 3])
def test_no_detections_and_no_objects(num_gt: int) -> None:
    metrics = evaluate_one(torch.zeros(0, 4), [], num_gt=num_gt).compute()
    assert (metrics.map, metrics.map50, metrics.precision, metrics.recall, metrics.fitness) == (0, 0, 0, 0, 0)
    assert metrics.num_instances.tolist() == [num_gt]
    assert metrics.class_images.tolist() == [min(num_gt, 1)]
    json.dumps(metrics.to_dict(), allow_nan=False)


def test_objects_absent_but_detections_present() -> None:
    metrics = evaluate_one(boxes_of_iou(1.0), [0.9], num_gt=0).compute()
    assert metrics.map == 0.0
    assert json.loads(json.dumps(metrics.to_dict(), allow_nan=False))["classes"][0]["map"] is None


def test_no_images() -> None:
    metrics = DetectionEvaluator(3).compute()
    assert (metrics.map, metrics.num_images) == (0.0, 0)


def test_reset_forgets() -> None:
    evaluator = evaluate_one(boxes_of_iou(1.0), [0.9])
    assert evaluator.compute().map == 1.0
    evaluator.reset()
    assert evaluator.compute().num_images == 0


def test_empty_boxes_match_nothing() -> None:
    evaluator = DetectionEvaluator(1)
    box = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    evaluator.update(Detections(box, torch.tensor([0.9]), torch.tensor([0])), box, torch.tensor([0]))
    assert evaluator.compute().map == 0.0


def test_own_thresholds() -> None:
    metrics = evaluate_one(boxes_of_iou(0.72), [0.9], iou_thresholds=[0.3, 0.71, 0.73]).compute()
    np.testing.assert_allclose(metrics.ap_per_iou, [1, 1, 0])
    assert np.isnan(metrics.map50)  # not evaluated, so not known
    assert metrics.to_dict()["map50"] is None


@pytest.mark.parametrize("index", [-1, 2])
def test_a_class_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=r"ground-truth classes in \[0, 2\)"):
        DetectionEvaluator(2).update(NO_BOXES, torch.zeros(1, 4), torch.tensor([index]))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"boxes \(n, 4\)"):
        DetectionEvaluator(2).update(NO_BOXES, torch.zeros(2, 4), torch.tensor([0]))
