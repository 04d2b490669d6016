"""The evaluator's rules one by one, on pictures that can be worked out by hand, and its independence of the order."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.coco_sets import coco_arrays, pycocotools_evaluation, random_coco
from utils.errors import UserError
from utils.metrics import DetectionEvaluator, Metrics, matching, read_coco
from utils.structures import Detections

Box = tuple[float, float, float, float]
SQUARE: Box = (200, 0, 300, 100)
FAR: Box = (500, 500, 600, 600)


def evaluated(found: list[tuple[Box, float]], objects: list[Box], max_dets=(1, 10, 100), **flags) -> Metrics:
    """One image, one class: boxes with scores, and objects with their flags."""
    evaluator = DetectionEvaluator(1, max_dets=max_dets)
    evaluator.update(detections_of(found), np.array(objects), np.zeros(len(objects), dtype=np.int64), **flags)
    return evaluator.compute()


def detections_of(found: list[tuple[Box, float]], index: int = 0) -> Detections:
    boxes = torch.tensor([box for box, _ in found], dtype=torch.float64).reshape(-1, 4)
    scores = torch.tensor([score for _, score in found], dtype=torch.float64)
    return Detections(boxes, scores, torch.full((len(found),), index))


def test_any_number_of_detections_may_lie_in_a_crowd():
    # Five boxes of 10 x 10 in a crowd of 100 x 100: IoU 0.01, but all of each box lies in the crowd. They are neither
    # right nor wrong, and the object that comes after them has precision 1.
    inside = [((10.0 * i, 0, 10.0 * i + 10, 10), 0.9) for i in range(5)]
    objects, crowd = [(0, 0, 100, 100), SQUARE], [True, False]
    assert evaluated([*inside, (SQUARE, 0.5)], objects, gt_crowd=np.array(crowd)).map == 1.0
    # As an object it would be missed, and the five boxes wrong: one right detection of six, half of the objects.
    assert evaluated([*inside, (SQUARE, 0.5)], objects).map == pytest.approx(51 / 101 / 6)


def test_an_object_to_be_ignored_takes_one_detection():
    # The first detection upon it counts for nothing, the second is wrong: one right of two that count.
    objects, flags = [FAR, SQUARE], np.array([True, False])
    found = [(FAR, 0.9), (FAR, 0.8), (SQUARE, 0.3)]
    metrics = evaluated(found, objects, gt_ignore=flags)
    assert metrics.map == pytest.approx(1 / 2)
    assert metrics.num_instances.tolist() == [1]
    assert evaluated(found, objects, gt_crowd=flags).map == 1.0


def test_a_wanted_object_comes_before_one_to_be_ignored_that_fits_better():
    # The detection covers 60 of 100 of the wanted object's height, and is the ignored object itself. From IoU 0.65 on
    # it can only match the ignored one: then nothing is found, but nothing is wrong either.
    box = (200, 0, 300, 60)
    metrics = evaluated([(box, 0.9), (SQUARE, 0.8)], [box, SQUARE], gt_ignore=np.array([True, False]))
    np.testing.assert_allclose(metrics.ap_per_iou, 1.0)
    metrics = evaluated([(box, 0.9)], [box, SQUARE], gt_ignore=np.array([True, False]))
    np.testing.assert_allclose(metrics.ap_per_iou, [1] * 3 + [0] * 7)
    assert metrics.reliability.count.sum() == 1  # at IoU 0.5 it counts


def test_ranges_of_areas():
    # A small object of 900 pixels, found by a box of 33 x 33 = 1089; a false alarm of 40 x 40 before it. Among small
    # ones the false alarm is out of range; the match counts though its box is medium.
    found = [((500, 500, 540, 540), 0.9), ((0, 0, 33, 33), 0.8)]  # IoU 900 / 1089 = 0.83
    metrics = evaluated(found, [(0, 0, 30, 30)])
    stats = metrics.coco_stats
    assert stats["APs"] == pytest.approx(7 / 10)
    assert stats["AP"] == pytest.approx(7 / 10 / 2)
    assert np.isnan([stats["APm"], stats["APl"], stats["ARm"]]).all()


def test_the_objects_own_area_decides():
    metrics = evaluated([((0, 0, 30, 30), 0.9)], [(0, 0, 30, 30)], gt_area=np.array([9216.0]))
    stats = metrics.coco_stats
    # 96 x 96 lies on the border: both medium and large.
    assert (stats["APm"], stats["APl"]) == (1.0, 1.0)
    assert np.isnan(stats["APs"])


def test_limits_of_detections_are_per_image_and_class():
    boxes: list[Box] = [(100.0 * i, 0, 100.0 * i + 50, 50) for i in range(3)]
    metrics = evaluated([(box, 0.9) for box in boxes], boxes)
    stats = metrics.coco_stats
    assert (stats["AR1"], stats["AR10"]) == (pytest.approx(1 / 3), 1.0)
    # With two of three found, precision is 1 up to recall 0.66: 67 of the 101 levels.
    limited = evaluated([(box, 0.9) for box in boxes], boxes, max_dets=(2,))
    assert limited.map == pytest.approx(67 / 101)
    assert limited.coco_stats["AR2"] == limited.average_recall == pytest.approx(2 / 3)
    two_classes = DetectionEvaluator(2)
    found = Detections(torch.tensor(boxes[:2]), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))
    two_classes.update(found, np.array(boxes[:2]), np.array([0, 1]))
    assert two_classes.compute().coco_stats["AR1"] == 1.0


def test_equal_scores_are_ordered_by_image():
    # One right and one wrong detection of equal score in two images: the one in the image of the lower number is first.
    right, wrong = (detections_of([(SQUARE, 0.5)]), [SQUARE]), (detections_of([(FAR, 0.5)]), [])
    for numbers, expected in (((0, 1), 1.0), ((1, 0), 0.5)):
        for images in ((right, wrong), (wrong, right)):
            evaluator = DetectionEvaluator(1)
            for found, objects in images:
                image = numbers[0] if objects else numbers[1]
                evaluator.update(found, np.array(objects).reshape(-1, 4), np.zeros(len(objects), int), image=image)
            assert evaluator.compute().map == expected


def fill(evaluator: DetectionEvaluator, gt: dict, found: list[dict], images: list[int]) -> DetectionEvaluator:
    """Image by image, in the order given."""
    classes = {number: index for index, number in enumerate(sorted(entry["id"] for entry in gt["categories"]))}

    def corners(rows: list[dict]) -> np.ndarray:
        boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
        return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)

    for image in images:
        mine = [row for row in gt["annotations"] if row["image_id"] == image]
        rows = [row for row in found if row["image_id"] == image]
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        labels = torch.tensor([classes[row["category_id"]] for row in rows], dtype=torch.int64)
        evaluator.update(
            Detections(torch.from_numpy(corners(rows)), scores, labels),
            corners(mine),
            np.array([classes[row["category_id"]] for row in mine], dtype=np.int64),
            gt_crowd=np.array([row["iscrowd"] for row in mine]),
            gt_area=np.array([row["area"] for row in mine]),
            image=image,
        )
    return evaluator


@pytest.mark.parametrize("seed", [3, 5, 11, 17])
def test_image_by_image_in_any_order_equals_pycocotools(seed: int):
    gt, found = random_coco(seed)
    images = [entry["id"] for entry in gt["images"]]
    precision, recall = coco_arrays(pycocotools_evaluation(gt, found))
    one = fill(DetectionEvaluator(len(gt["categories"])), gt, found, images).compute()
    np.testing.assert_allclose(one.precision_curves, precision, atol=1e-9, rtol=0)
    np.testing.assert_allclose(one.recalls, recall, atol=1e-9, rtol=0)
    other = fill(DetectionEvaluator(len(gt["categories"])), gt, found, images[::-1]).compute()
    assert other.to_dict() == one.to_dict()
    np.testing.assert_array_equal(other.curves.f1, one.curves.f1)


def test_pairs_are_the_same_in_portions(monkeypatch: pytest.MonkeyPatch):
    gt, found = random_coco(6)
    whole = read_coco(gt, found)
    expected, matrix = whole.compute().to_dict(), whole.confusion_matrix()
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", 3)
    portions = read_coco(gt, found)
    assert portions.compute().to_dict() == expected
    np.testing.assert_array_equal(portions.confusion_matrix(), matrix)


def test_results_hold_after_looking_at_lower_thresholds():
    evaluator = read_coco(*random_coco(4))
    before = evaluator.compute().to_dict()
    assert evaluator.outcomes(0.1).correct.sum() > evaluator.outcomes(0.5).correct.sum()
    assert evaluator.compute().to_dict() == before


def test_reliability_is_that_of_the_detections_one_would_keep():
    evaluator = read_coco(*random_coco(4))
    metrics, outcomes = evaluator.compute(), evaluator.outcomes(0.5)
    kept = outcomes.scores >= metrics.lrp.threshold[outcomes.classes]
    assert metrics.reliability.count.sum() == kept.sum() < len(kept)


def test_everything_as_plain_data():
    gt, found = random_coco(6)
    evaluator = fill(DetectionEvaluator(len(gt["categories"])), gt, found, [entry["id"] for entry in gt["images"]])
    metrics = evaluator.compute()
    plain = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    stats = [plain[name] for name in ("map", "map50", "map75", "map_small", "map_medium", "map_large")]
    stats += [plain[f"average_recall_{name}"] for name in (1, 10, 100, "small", "medium", "large")]
    expected = pycocotools_evaluation(gt, found).stats
    np.testing.assert_allclose([-1 if value is None else value for value in stats], expected, atol=1e-9)
    assert (plain["olrp"], plain["laece"], plain["d_ece"]) == (
        metrics.olrp,
        metrics.reliability.laece,
        metrics.reliability.d_ece,
    )
    thresholds = [entry["olrp_threshold"] for entry in plain["classes"]]
    np.testing.assert_array_equal(np.array(thresholds, dtype=np.float64), metrics.lrp.threshold)


def test_what_cannot_be_right_is_refused():
    nothing, no_boxes, none = detections_of([]), np.zeros((0, 4)), np.zeros(0)
    evaluator = DetectionEvaluator(1)
    evaluator.update(nothing, no_boxes, none, image=4)
    with pytest.raises(ValueError, match="image 4 came again"):
        evaluator.update(nothing, no_boxes, none, image=4)
    with pytest.raises(ValueError, match="NaN"):
        evaluator.update(detections_of([(FAR, float("nan"))]), no_boxes, none)
    with pytest.raises(ValueError, match="finite numbers in ground-truth boxes"):
        evaluator.update(nothing, np.array([[0, 0, 5, float("nan")]]), np.zeros(1))
    with pytest.raises(ValueError, match="every column"):
        evaluator.update(nothing, np.array([FAR]), np.zeros(1), gt_area=np.zeros(2))
    with pytest.raises(ValueError, match=r"boxes \(n, 4\) but got \(1, 5\)"):
        evaluator.update(nothing, np.zeros((1, 5)), np.zeros(1))


@pytest.mark.parametrize(
    "options",
    [{"iou_thresholds": [0.5, 1.1]}, {"iou_thresholds": []}, {"max_dets": (10, 1)}, {"max_dets": (0,)}, {"tau": 1.0}],
)
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(UserError, match="expected"):
        DetectionEvaluator(1, **options)


def test_lookups_out_of_range_are_refused():
    with pytest.raises(UserError, match="tau"):
        DetectionEvaluator(1).optimal_lrp(0.0)
    with pytest.raises(UserError, match="IoU"):
        DetectionEvaluator(1).outcomes(0.0)
    with pytest.raises(UserError, match="IoU"):
        DetectionEvaluator(1).confusion_matrix(iou=0.0)
    with pytest.raises(UserError, match="one for each of 1"):
        DetectionEvaluator(1).confusion_matrix([0.1, 0.2])
