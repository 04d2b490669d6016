"""COCO's JSON as labels: gaps in ids, crowds, masks, ignored classes, and what cannot be right."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import val
from tests.painted_objects import NAMES, write_checkpoint
from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets.scan import scan_split
from utils.errors import UserError

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}, {"id": 90, "name": "crowd of cats"}]
SQUARE = [10, 10, 30, 10, 30, 40, 10, 40]


def annotation(number: int, image: int, category: int, bbox: list[float], **more: object) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def write_set(folder: Path, annotations: list[dict], settings: dict | None = None, **parts: object) -> Path:
    """Two images of 80 x 60 pixels with these annotations in train and val; returns the data YAML."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name in ("a.jpg", "b.jpg"):
            cv2.imwrite(str(folder / split / name), np.full((60, 80, 3), 90, np.uint8))
        images = [{"id": 7, "file_name": "b.jpg"}, {"id": 12, "file_name": "a.jpg"}]
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES} | parts
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    names = {"names": ["dog", "cat"], "ignore": ["crowd of cats"]}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"format": "coco", "train": "train", "val": "val", **names, **(settings or {})}))
    return file


OBJECTS = [
    annotation(1, 12, 3, [10, 10, 20, 30], segmentation=[SQUARE], area=600.0),
    annotation(2, 12, 17, [40.5, 20, 10, 10], segmentation={"size": [60, 80], "counts": "abc"}, area=55.5),
    annotation(3, 12, 17, [0, 0, 40, 20], iscrowd=1, segmentation={"size": [60, 80], "counts": [5]}),
    annotation(4, 7, 90, [0, 30, 80, 30]),
]


def test_labels_by_name_and_regions_to_ignore(tmp_path: Path) -> None:
    scanned = scan_split(read_data_yaml(write_set(tmp_path, OBJECTS)), "train")
    assert [Path(path).name for path in scanned.paths] == ["a.jpg", "b.jpg"] and scanned.image_ids == [12, 7]
    wanted = np.array([[1, 20 / 80, 25 / 60, 20 / 80, 30 / 60], [0, 45.5 / 80, 25 / 60, 10 / 80, 10 / 60]], np.float32)
    np.testing.assert_array_equal(scanned.labels[0], wanted)
    assert len(scanned.labels[1]) == 0
    np.testing.assert_allclose(scanned.crowds[0], [[0, 0.25, 1 / 6, 0.5, 1 / 3]], atol=1e-7)
    np.testing.assert_allclose(scanned.crowds[1], [[-1, 0.5, 0.75, 1, 0.5]], atol=1e-7)
    assert scanned.report.regions == 2 and "2 regions to ignore" in str(scanned.report)
    np.testing.assert_array_equal(scanned.areas[0], [600.0, 55.5])
    assert scanned.polygons[0].owner.tolist() == [0] * 4
    np.testing.assert_allclose(scanned.polygons[0].points[2], [30 / 80, 40 / 60])
    assert json.loads(scanned.masks[0][1]) == {"size": [60, 80], "counts": "abc"} and scanned.masks[0][0] == ""
    assert scanned.class_ids == (17, 3)


def test_the_cache_holds_all_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    description = read_data_yaml(write_set(tmp_path, OBJECTS))
    first, second = scan_split(description, "val"), scan_split(description, "val")
    assert "cached labels" in caplog.text
    for ours, theirs in zip(first, second, strict=True):
        assert repr(ours) == repr(theirs)
    changed = [*OBJECTS[:1], annotation(2, 12, 17, [40, 20, 10, 12])]
    write_set(tmp_path, changed)
    assert len(scan_split(description, "val").crowds[0]) == 0


def test_ignored_as_background(tmp_path: Path) -> None:
    scanned = scan_split(read_data_yaml(write_set(tmp_path, OBJECTS, {"ignore_as": "background"})), "train")
    assert scanned.report.regions == 0 and not any(map(len, scanned.crowds)) and len(scanned.labels[0]) == 2
    with pytest.raises(UserError, match=r"data\.yaml:\d+: unknown value of ignore_as 'nothing'"):
        read_data_yaml(write_set(tmp_path, OBJECTS, {"ignore_as": "nothing"}))


def test_ground_truth_has_crowds_of_every_class_and_areas_of_masks(tmp_path: Path) -> None:
    dataset = DetectionDataset(read_data_yaml(write_set(tmp_path, OBJECTS)), "val", image_size=64)
    truth = dataset.ground_truth(0)
    np.testing.assert_allclose(truth.boxes[0], [10, 10, 30, 40], atol=1e-5)
    assert truth.crowd.tolist() == [False, False, True] and truth.area[:2].tolist() == [600.0, 55.5]
    region = dataset.ground_truth(1)
    assert region.classes.tolist() == [0, 1] and region.crowd.all()
    np.testing.assert_allclose(region.boxes, [[0, 30, 80, 60]] * 2, atol=1e-5)


@pytest.mark.parametrize("augment", [False, True])
def test_regions_move_with_the_pixels(tmp_path: Path, augment: bool) -> None:
    """A region of all of one image stays around every pixel of it, through all augmentations."""
    annotations = [annotation(1, 12, 3, [10, 10, 20, 30]), annotation(2, 7, 90, [0, 0, 80, 60])]
    file = write_set(tmp_path, annotations)
    cv2.imwrite(str(tmp_path / "train" / "b.jpg"), np.full((60, 80, 3), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "train" / "a.jpg"), np.zeros((60, 80, 3), np.uint8))
    dataset = DetectionDataset(read_data_yaml(file), "train", image_size=64, augment=augment)
    met = 0
    for epoch in range(6 if augment else 1):
        for index in range(2):
            sample = dataset[epoch, index]
            mask = np.zeros(sample.image.shape[:2], bool)
            for x, y, w, h in [] if sample.regions is None else sample.regions * 64:
                mask[round(y - h / 2) : round(y + h / 2), round(x - w / 2) : round(x + w / 2)] = True
            white = sample.image.min(axis=2) > 235
            met += mask.any()
            assert (white & ~mask).sum() <= 0.02 * white.size and (sample.labels[:, 0] >= 0).all()
    assert met


@pytest.mark.parametrize(
    ("annotations", "parts", "message"),
    [
        ([annotation(1, 99, 3, [0, 0, 5, 5])], {}, r"annotations\[0\]: image_id 99 is not among the images"),
        ([annotation(1, 12, 4, [0, 0, 5, 5])], {}, r"annotations\[0\]: category_id 4 is not among the categories"),
        ([{"id": 1}], {}, r"annotations\[0\]: expected the keys image_id, category_id, bbox"),
        ([], {"categories": [{"id": 1, "name": "horse"}]}, "unknown category 'horse'.*list it under 'ignore'"),
        ([], {"images": 3}, "expected a list under 'images' but found int"),
        ([], {"images": [{"id": 1}]}, r"images\[0\]: expected the keys id, file_name"),
    ],
)
def test_what_cannot_be_right_is_told_with_its_place(
    annotations: list[dict], parts: dict, message: str, tmp_path: Path
) -> None:
    description = read_data_yaml(write_set(tmp_path, annotations, **parts))
    with pytest.raises(UserError, match=rf"instances_train\.json: {message}"):
        scan_split(description, "train")


def test_boxes_that_cannot_be_right_are_left_out_by_name(tmp_path: Path) -> None:
    wrong = [annotation(1, 12, 3, [10, 10, 0, 30]), annotation(2, 12, 3, [90, 0, 5, 5]), annotation(3, 12, 3, "box")]
    scanned = scan_split(read_data_yaml(write_set(tmp_path, [*OBJECTS, *wrong])), "train")
    assert len(scanned.labels[0]) == 2
    assert [f"annotation {number} of image 12" in scanned.report.problems[number - 1] for number in (1, 2, 3)]


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    file = write_set(tmp_path, OBJECTS)
    (tmp_path / "annotations" / "instances_train.json").rename(tmp_path / "train" / "_annotations.coco.json")
    assert len(scan_split(read_data_yaml(file), "train").labels[0]) == 2
    (tmp_path / "train" / "_annotations.coco.json").unlink()
    with pytest.raises(UserError, match=r"train: expected a JSON file.*instances_train\.json.*'annotations' can name"):
        scan_split(read_data_yaml(file), "train")
    write_set(tmp_path, OBJECTS, {"annotations": {"val": "annotations/instances_val.json"}})
    with pytest.raises(UserError, match="annotations: expected a JSON file for the split 'train'"):
        scan_split(read_data_yaml(file), "train")
    with pytest.raises(UserError, match=r"data\.yaml:\d+: annotations: expected a JSON file for each split"):
        read_data_yaml(write_set(tmp_path, OBJECTS, {"annotations": 3}))


def test_detections_carry_the_ids_of_the_labels_and_equal_pycocotools(tmp_path: Path, caplog) -> None:
    """val.py --coco-api on a set with crowds: equal numbers, and image and category ids as in the label file."""
    caplog.set_level("INFO")
    names = [{"id": 5 * (index + 1), "name": name} for index, name in enumerate(NAMES)]
    objects = [
        annotation(1, 12, 5, [10, 10, 20, 30], area=300.0),
        annotation(2, 7, 10, [0, 0, 60, 40], iscrowd=1, area=2400.0),
        annotation(3, 7, 5, [40, 20, 20, 20], area=400.0),
    ]
    file = write_set(tmp_path, objects, {"names": list(NAMES), "ignore": []}, categories=names)
    weights = write_checkpoint(tmp_path / "net.pt")
    done = val.evaluate(
        weights=weights, data=file, imgsz=64, coco_api=True, plots=False, workers=0, project=tmp_path / "runs"
    )
    rows = json.loads(next(done.save_dir.glob("*_predictions.json")).read_text())
    assert {row["image_id"] for row in rows} <= {7, 12} and {row["category_id"] for row in rows} <= {5, 10, 15}
    assert "instances_val.json" in caplog.text
