"""What val.py leaves behind: COCO's JSON, pictures, thresholds in the checkpoint, speed and size studies."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

import detect
import val
from tests.painted_objects import NAMES, SCENES, boxes_of, paint, write_checkpoint, write_data_set
from utils.checkpoint import add_to_checkpoint, load_checkpoint
from utils.config.yaml_files import load_yaml
from utils.errors import UserError
from utils.evaluation.coco_json import image_ids
from utils.evaluation.image_sizes import COLUMNS, write_study
from utils.files import ROOT
from utils.metrics import evaluate_coco


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data") / "painted")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt", data)


def run_evaluate(tmp_path: Path, weights: Path, **options) -> val.Evaluation:
    options = {"workers": 0, "batch_size": 2, "plots": False, **options}
    return val.evaluate(weights=weights, project=tmp_path / "runs", **options)


def test_the_json_files_are_the_set_that_was_measured(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Read by pycocotools, they hold the boxes painted; evaluated, they give our numbers, and theirs are printed."""
    caplog.set_level(logging.INFO)
    result = run_evaluate(tmp_path, weights, coco_api=True)
    ground_truth, results = result.save_dir / "ground_truth.json", result.save_dir / "best_predictions.json"
    coco = COCO(str(ground_truth))
    for image in coco.imgs.values():
        name = image["id"]
        assert (image["file_name"], image["height"], image["width"]) == (f"{name}.png", *SCENES[name][:2])
        rows = coco.loadAnns(coco.getAnnIds(imgIds=[name]))
        found = [[*row["bbox"], row["category_id"]] for row in sorted(rows, key=lambda row: row["category_id"])]
        expected = boxes_of(name)
        expected[:, 2:4] -= expected[:, :2]
        np.testing.assert_allclose(np.array(found).reshape(-1, 5), expected, atol=1e-4)
        assert all(
            row["area"] == pytest.approx(row["bbox"][2] * row["bbox"][3]) and row["iscrowd"] == 0 for row in rows
        )
    assert {entry["id"]: entry["name"] for entry in coco.cats.values()} == dict(enumerate(NAMES))
    assert min(coco.anns) == 1 and len(coco.anns) == 6  # 0 is no id: pycocotools takes it for unmatched
    ours = evaluate_coco(ground_truth, results)
    assert ours["coco_stats"][0] == pytest.approx(result.metrics.map, abs=1e-12)
    assert ours["oLRP"] == pytest.approx(result.metrics.olrp, abs=1e-12)
    assert "pycocotools   difference" in caplog.text
    largest = float(caplog.text.split("largest difference: ")[1].split()[0])
    assert largest < 1e-9


def test_published_annotations_are_preferred_for_cocos_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of three objects is a crowd there, which the labels in text files cannot say."""
    caplog.set_level(logging.INFO)
    names = load_yaml(ROOT / "data" / "coco.yaml")["names"]
    root = tmp_path / "coco"
    for kind in ("images", "labels", "annotations"):
        (root / kind / "val2017" if kind != "annotations" else root / kind).mkdir(parents=True)
    rows = [(0, 0.25, 0.5, 0.3, 0.6), (0, 0.75, 0.5, 0.3, 0.6), (79, 0.5, 0.2, 0.2, 0.2)]
    cv2.imwrite(str(root / "images" / "val2017" / "000000000139.jpg"), np.zeros((64, 96, 3), np.uint8))
    text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    (root / "labels" / "val2017" / "000000000139.txt").write_text(text)
    (root / "val2017.txt").write_text("./images/val2017/000000000139.jpg\n")
    data = root / "coco.yaml"
    data.write_text(yaml.safe_dump({"train": "val2017.txt", "val": "val2017.txt", "names": names}))
    weights = write_checkpoint(tmp_path / "best.pt", data, nc=80)
    add_to_checkpoint(weights, names=dict(enumerate(names)))
    result = run_evaluate(tmp_path, weights, save_json=True, imgsz=64)
    truth = json.loads((result.save_dir / "ground_truth.json").read_text())
    assert [row["category_id"] for row in truth["annotations"]] == [1, 1, 90]
    assert truth["images"][0]["id"] == 139
    truth["annotations"][1]["iscrowd"] = 1
    published = root / "annotations" / "instances_val2017.json"
    published.write_text(json.dumps(truth))
    caplog.clear()
    run_evaluate(tmp_path, weights, coco_api=True, imgsz=64)
    assert f"boxes of best_predictions.json in {published}" in caplog.text
    assert float(caplog.text.split("largest difference: ")[1].split()[0]) < 1e-9


def test_a_set_without_labels_gives_the_submission_alone(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "test" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "test" / "images" / "7.png"), paint("1"))
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({"train": "x", "val": "x", "test": "test/images", "names": list(NAMES)}))
    result = run_evaluate(tmp_path, weights, data=data, task="test", plots=True)
    rows = json.loads((result.save_dir / "best_predictions.json").read_text())
    assert {row["image_id"] for row in rows} == {7}
    assert set(rows[0]) == {"image_id", "category_id", "bbox", "score"}
    assert {file.name for file in result.save_dir.iterdir()} == {
        *("best_predictions.json", "metrics.json", "val_batch0_labels.jpg", "val_batch0_pred.jpg")
    }
    assert "the data set has no labels" in caplog.text and "mAP50-95" not in caplog.text


def test_image_ids_are_different_and_of_one_kind() -> None:
    assert image_ids(["a/000000000139.jpg", "a/2.png"]) == [139, 2]
    assert image_ids(["a/1.jpg", "a/street.jpg"]) == ["1", "street"]
    assert image_ids(["a/1.jpg", "b/1.jpg", "b/01.jpg"]) == ["1", "1-2", "01"]
    assert image_ids([]) == []


def test_thresholds_are_measured_stored_and_used(
    tmp_path: Path, weights: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own = Path(shutil.copyfile(weights, tmp_path / "own.pt"))
    result = run_evaluate(tmp_path, own, save_thresholds=True)
    content = load_checkpoint(own)
    points = content["operating_points"]
    assert points["names"] == list(NAMES)
    np.testing.assert_array_equal(np.array(points["thresholds"], float), result.metrics.lrp.threshold)
    assert (points["measured"]["imgsz"], points["measured"]["task"]) == (128, "val")
    assert [entry["kind"] for entry in points["calibration"]["isotonic"]] == ["isotonic"] * 3
    before = load_checkpoint(weights)
    assert {name: content[name] for name in ("date", "names", "opt")} == {
        name: before[name] for name in ("date", "names", "opt")
    }
    detector = detect.load(own, conf="auto")
    blue = points["thresholds"][2]  # the only class of which this network finds anything
    assert points["thresholds"][:2] == [None, None]
    assert detector.conf == [np.nextafter(blue, 0)] * 3
    calibrated = run_evaluate(tmp_path, own, calibrate="isotonic")
    assert "the calibration was fitted to these very images" in caplog.text
    assert calibrated.metrics.map == result.metrics.map
    assert calibrated.metrics.reliability.d_ece < result.metrics.reliability.d_ece
    with pytest.raises(UserError, match="--save-thresholds: expected a threshold for each class"):
        run_evaluate(tmp_path, own, save_thresholds=True, single_cls=True)


def test_speed_is_timed_as_one_would_detect(tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    result = run_evaluate(tmp_path, weights, task="speed", imgsz=96, save_txt=True)
    written = json.loads((result.save_dir / "metrics.json").read_text())
    assert (written["conf_thres"], written["iou_thres"], written["task"]) == (0.25, 0.45, "speed")
    assert set(written["speed_ms"]) == {"preprocess", "inference", "nms"}
    assert "speed per image at 96 pixels" in caplog.text
    assert "--save-txt does nothing without --task train, val or test" in caplog.text
    assert [file.name for file in result.save_dir.iterdir()] == ["metrics.json"]


def test_a_study_of_sizes_is_a_table_and_a_picture(tmp_path: Path, weights: Path) -> None:
    result = run_evaluate(tmp_path, weights, task="study", imgsz=[64, 100, 128])
    stem = result.save_dir / "study_data_best"
    table = np.loadtxt(f"{stem}.txt")
    assert table[:, 0].tolist() == [64, 128]  # 100 is rounded up
    alone = [run_evaluate(tmp_path, weights, imgsz=size).metrics for size in (64, 128)]
    expected = [[metrics.precision, metrics.recall, metrics.map50, metrics.map] for metrics in alone]
    np.testing.assert_allclose(table[:, 1:5], expected, rtol=1e-5)
    np.testing.assert_allclose(table[:, 5:8].sum(axis=1), table[:, 8], rtol=1e-4)
    assert result.metrics.map == max(metrics.map for metrics in alone)
    assert Path(f"{stem}.png").exists()


def test_the_picture_of_a_study_has_both_metrics_against_time_and_size(tmp_path: Path) -> None:
    sizes = {64: 0.2, 128: 0.6, 256: 0.8}
    rows = [dict(zip(COLUMNS, (size, 0, 0, ap, ap / 2, 1, 2, 3, size / 8), strict=True)) for size, ap in sizes.items()]
    write_study(tmp_path / "study.txt", rows)
    picture = cv2.imread(str(tmp_path / "study.png"))
    for half in np.array_split(picture, 2, axis=1):
        for colour in ((180, 119, 31), (14, 127, 255)):  # matplotlib's first two, BGR
            rows_of_curve = np.flatnonzero((half == colour).all(axis=2).sum(axis=1))
            assert np.ptp(rows_of_curve) > 0.2 * len(half), "a curve that rises"


def test_pictures_of_metrics_and_of_labels_beside_detections(tmp_path: Path, weights: Path) -> None:
    folder = run_evaluate(tmp_path, weights, plots=True).save_dir
    pictures = {file.name: cv2.imread(str(file)) for file in folder.iterdir() if file.suffix != ".json"}
    curves = {f"{name}_curve.png" for name in ("PR", "P", "R", "F1")}
    batches = {f"val_batch{index}_{kind}.jpg" for index in range(2) for kind in ("labels", "pred")}
    assert set(pictures) == curves | batches | {"confusion_matrix.png", "reliability_diagram.png"}
    assert all(picture is not None for picture in pictures.values())
    for index in range(2):
        labels, beside = (pictures[f"val_batch{index}_{kind}.jpg"] for kind in ("labels", "pred"))
        assert beside.shape[0] > labels.shape[0]  # two rows of pairs in place of one row of images
