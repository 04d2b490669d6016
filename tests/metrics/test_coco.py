"""COCO files: equal to pycocotools and the official LRP code; files that cannot be right are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cases import case
from tests.coco_sets import coco_arrays, pycocotools_evaluation, random_coco
from tests.golden import golden_file
from utils.errors import UserError
from utils.metrics import evaluate_coco, read_coco

NUM_SETS = 120


def assert_close(found: object, expected: object, place: str = "") -> None:
    """Equal texts, None and keys; numbers within 1e-6."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and set(found) == set(expected), place
        for key, value in expected.items():
            assert_close(found[key], value, f"{place}/{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{place}/{index}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6, rel=0), place
    else:
        assert found == expected, place


def test_golden_numbers_from_files_and_from_their_content():
    files = golden_file("eval_gt.json"), golden_file("eval_dets.json")
    expected = json.loads(golden_file("eval_expected.json").read_text())
    found = evaluate_coco(*files)
    assert_close(found, expected)
    assert evaluate_coco(*(json.loads(file.read_text()) for file in files)) == found
    json.dumps(found, allow_nan=False)


def test_random_sets_equal_pycocotools() -> None:
    """Precision of every class, IoU, recall point and range of areas, every recall, and the 12 numbers."""
    for seed in range(NUM_SETS):
        with case(seed):
            gt, detections = random_coco(seed)
            oracle, metrics = pycocotools_evaluation(gt, detections), read_coco(gt, detections).compute()
            precision, recall = coco_arrays(oracle)
            close = {
                "atol": 1e-9,
                "rtol": 0,
            }
            np.testing.assert_allclose(metrics.precision_curves, precision, **close)
            np.testing.assert_allclose(metrics.recalls, recall, **close)
            np.testing.assert_allclose(evaluate_coco(gt, detections)["coco_stats"], oracle.stats, **close)


def test_the_random_sets_hold_what_makes_evaluation_hard():
    """Without these the comparison above would say little."""
    seen = set()
    for seed in range(60):
        gt, detections = random_coco(seed)
        annotations = gt["annotations"]
        keys = [(d["image_id"], d["category_id"]) for d in detections]
        ties = [(d["category_id"], d["score"]) for d in detections]
        boxes = [(a["image_id"], a["category_id"], *a["bbox"]) for a in annotations]
        listed = {image["id"] for image in gt["images"]}
        seen |= {
            name
            for name, present in {
                "crowd": any(a["iscrowd"] for a in annotations),
                "ignored": any(a["area"] > 1e10 for a in annotations),
                "border": any(a["area"] in (1024, 9216) for a in annotations),
                "ties": len(ties) > len(set(ties)),
                "same box": len(boxes) > len(set(boxes)),
                "many": any(keys.count(key) > 100 for key in set(keys)),
                "no objects": listed > {a["image_id"] for a in annotations},
                "no detections": listed > {d["image_id"] for d in detections},
                "absent class": {c["id"] for c in gt["categories"]} > {a["category_id"] for a in annotations},
            }.items()
            if present
        }
    assert len(seen) == 9


def one_object() -> tuple[dict, list[dict]]:
    box = [10, 20, 30, 40]
    gt = {
        "images": [{"id": 7}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": box, "area": 1200, "iscrowd": 0}],
    }
    return gt, [{"image_id": 7, "category_id": 3, "bbox": box, "score": 0.5}]


def test_what_is_undefined():
    gt, detections = one_object()
    found = evaluate_coco(gt, detections)
    stats = dict(zip(found["coco_stat_names"], found["coco_stats"], strict=True))
    assert (stats["AP"], stats["APm"], stats["AR1"]) == (1.0, 1.0, 1.0)
    assert (stats["APs"], stats["APl"], stats["ARs"]) == (-1.0, -1.0, -1.0)  # an object of 1200 pixels is medium
    assert (found["oLRP"], found["per_class"]["threshold"]) == (0.0, [0.5])
    nothing = evaluate_coco(gt | {"annotations": []}, detections)
    assert nothing["coco_stats"] == [-1.0] * 12
    assert (nothing["oLRP"], nothing["ap_per_iou"]["0.50"], nothing["per_class"]["oLRP"]) == (None, None, [None])
    missed = evaluate_coco(gt, [])
    assert (missed["oLRP"], missed["oLRP_false_negative"], missed["oLRP_localisation"]) == (1.0, 1.0, None)


def test_an_iou_of_one_is_reached_by_equal_boxes():
    # (Left + width) - left is not always the width to the last digit: half of these overlap by a little less than 1.
    gt, detections = one_object()
    boxes = (np.random.default_rng(0).random((50, 4)) * [100, 100, 10, 10]).tolist()
    gt["images"] = [{"id": image} for image in range(50)]
    gt["annotations"] = [gt["annotations"][0] | {"id": i + 1, "image_id": i, "bbox": b} for i, b in enumerate(boxes)]
    found = [detections[0] | {"image_id": image, "bbox": box} for image, box in enumerate(boxes)]
    assert read_coco(gt, found).outcomes(1.0).correct.all()


def test_annotations_of_images_and_categories_that_are_not_listed_do_not_count():
    gt, detections = one_object()
    extra = [gt["annotations"][0] | {"id": 2, "image_id": 8}, gt["annotations"][0] | {"id": 3, "category_id": 4}]
    more = gt | {"annotations": gt["annotations"] + extra}
    assert evaluate_coco(more, detections) == evaluate_coco(gt, detections)
    assert pycocotools_evaluation(more, detections).stats[0] == pytest.approx(1.0)


def test_names_and_order_of_the_classes():
    gt, detections = one_object()
    gt["categories"] = [{"id": 9, "name": "dog"}, *gt["categories"], {"id": 1}]
    assert read_coco(gt, detections).names == ("1", "cat", "dog")


def test_a_detection_that_cannot_be_right_is_refused() -> None:
    for change, message in [
        ({"image_id": 8}, "image 8"),
        ({"category_id": 2}, "category 2"),
        ({"bbox": [1, 2, 3]}, r"4 numbers as 'bbox' of every entry but number 1 has \[1, 2, 3\]"),
        ({"bbox": "box"}, "4 numbers as 'bbox' of every entry but number 1 has 'box'"),
        ({"score": "high"}, "a number as 'score' of every entry but number 1 has 'high'"),
        ({"score": None}, "scores to be numbers"),
        ({"bbox": [1, 2, float("inf"), 4]}, "finite numbers in detection boxes"),
    ]:
        with case(change, message):
            gt, detections = one_object()
            with pytest.raises(UserError, match=message):
                evaluate_coco(gt, [detections[0], detections[0] | change])


def test_entries_without_a_key_are_refused():
    gt, detections = one_object()
    del detections[0]["score"]
    with pytest.raises(UserError, match="'score' in every entry but number 0"):
        evaluate_coco(gt, detections)
    with pytest.raises(UserError, match="images, annotations and categories"):
        evaluate_coco({"images": []}, detections)
    with pytest.raises(UserError, match="list of detections"):
        evaluate_coco(gt, {"annotations": []})


def test_files_that_cannot_be_read_are_refused(tmp_path: Path):
    gt, _ = one_object()
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        evaluate_coco(gt, tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(UserError, match=r"broken\.json: cannot be read"):
        evaluate_coco(gt, tmp_path / "broken.json")
