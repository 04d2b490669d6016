"""Validation: the loop against a network whose answers are known, the command against a network from a file."""

from __future__ import annotations

import json
import logging
import runpy
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import val
from tests.painted_objects import NAMES, SCENES, OracleNetwork, boxes_of, write_checkpoint, write_data_set
from utils.config.parser import CommandParser
from utils.datasets import DetectionDataset, Loader, build_loader, read_data_yaml
from utils.errors import UserError
from utils.evaluation.options import ValOptions
from utils.inference import select_device

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data") / "painted")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt", data)


def make_loader(data: Path, image_size: int, batch_size: int = 1, single_cls: bool = False) -> Loader:
    """Batches of one image are rectangular, wide and high."""
    shape = {"image_size": image_size, "rect": True, "batch_size": batch_size, "pad": 0.5}
    dataset = DetectionDataset(read_data_yaml(data), "val", single_cls=single_cls, **shape)
    return build_loader(dataset, batch_size, workers=0)


@pytest.mark.parametrize(("image_size", "batch_size"), [(200, 1), (400, 1), (400, 4)])
def test_right_answers_give_full_marks(data: Path, image_size: int, batch_size: int) -> None:
    """Through letterbox, rectangular batches and back: the boxes are exact up to a pixel of the resized image."""
    network = OracleNetwork().train()
    loader = make_loader(data, image_size, batch_size)
    result = val.validate(network, loader, names=network.names, device=CPU, progress=False)
    metrics = result.metrics
    assert metrics.map50 == pytest.approx(1.0)
    assert metrics.map > 0.95
    assert (metrics.precision, metrics.recall) == pytest.approx((1.0, 1.0))
    assert metrics.num_images == len(SCENES)
    assert metrics.num_instances.tolist() == [2, 2, 2]
    assert set(result.speed_ms) == {"preprocess", "inference", "nms"}
    assert network.training  # as it was before


def test_detections_arrive_in_pixels_of_the_original_image(data: Path) -> None:
    network, loader = OracleNetwork(), make_loader(data, 400)
    found = val.validate(network, loader, names=network.names, device=CPU, progress=False).detections
    names = [Path(path).stem for path in loader.images.paths]
    assert sorted(names) == sorted(SCENES)
    for name, detections in zip(names, found, strict=True):
        expected = boxes_of(name)
        order = detections.classes.argsort()
        assert detections.classes[order].tolist() == expected[:, 4].tolist()
        np.testing.assert_allclose(detections.boxes[order].numpy(), expected[:, :4], atol=1.0)


def test_single_cls_merges_the_classes(data: Path) -> None:
    loader = make_loader(data, 400, single_cls=True)
    metrics = val.validate(
        OracleNetwork(), loader, names={0: "object"}, device=CPU, single_cls=True, progress=False
    ).metrics
    assert metrics.num_instances.tolist() == [6]
    assert metrics.map50 == pytest.approx(1.0)


class Loss(NamedTuple):
    total: Tensor
    parts: dict[str, Tensor]


def test_losses_are_means_over_images(data: Path) -> None:
    def criterion(raw: list[Tensor], targets: Tensor) -> Loss:
        return Loss(torch.zeros(()), {"objects": torch.tensor(len(targets) / len(raw[0]))})

    network = OracleNetwork()
    loader = make_loader(data, 200, batch_size=3)  # of three images, and of one
    result = val.validate(network, loader, names=network.names, device=CPU, criterion=criterion, progress=False)
    assert result.losses == pytest.approx({"objects": 6 / 4})


def test_losses_and_boxes_are_float32_whatever_the_network_computes_in(data: Path) -> None:
    class HalfOracle(OracleNetwork):
        def raw(self, images: Tensor) -> list[Tensor]:
            return [level.half() for level in super().raw(images)]

    def criterion(raw: list[Tensor], targets: Tensor) -> Loss:
        assert raw[0].dtype == torch.float32
        return Loss(torch.zeros(()), {})

    network = HalfOracle()
    loader = make_loader(data, 200)
    val.validate(network, loader, names=network.names, device=CPU, criterion=criterion, progress=False)


def test_what_validation_caches_can_be_trained_with(data: Path) -> None:
    """Tensors that a network or criterion keeps from a validation must not be barred from autograd."""
    network, kept = OracleNetwork(), []
    kept_from = network.raw
    network.raw = lambda images: [kept.append(images) or kept_from(images)[0]]
    val.validate(network, make_loader(data, 200), names=network.names, device=CPU, progress=False)
    (kept[0] * network.parameter).sum().backward()
    assert network.parameter.grad is not None


def run_evaluate(tmp_path: Path, weights: Path, **options) -> val.Evaluation:
    return val.evaluate(weights=weights, project=tmp_path / "runs", workers=0, batch_size=2, **options)


def test_command_writes_what_it_promises(tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    result = run_evaluate(tmp_path, weights, save_txt=True, save_conf=True, save_json=True, max_det=20)
    assert result.save_dir == tmp_path / "runs" / "exp"
    written = json.loads((result.save_dir / "metrics.json").read_text())
    assert written["map"] == result.metrics.map
    assert list(written["ap_per_iou"]) == [f"{t:.2f}" for t in np.linspace(0.5, 0.95, 10)]
    assert [row["name"] for row in written["classes"]] == list(NAMES)
    assert (written["half"], written["single_cls"], written["max_det"]) == (False, False, 20)
    assert written["device"] == str(select_device())
    assert "imgsz 128, batch_size 2, conf_thres 0.0, iou_thres 0.6, max_det 20" in caplog.text
    assert f"data: {len(SCENES)} images, classes: red, green, blue" in caplog.text
    assert "category numbers in the JSON: the class indices, 0 to 2" in caplog.text
    for batch in range(2):
        for kind in ("labels", "pred"):
            assert (result.save_dir / f"val_batch{batch}_{kind}.jpg").stat().st_size > 1000
    assert "mAP50-95" in caplog.text
    assert "AP per IoU threshold" in caplog.text
    assert "AP65" in caplog.text
    assert "image size: 128, as in training" in caplog.text
    assert "as in training" in caplog.text  # the data file too

    rows = json.loads((result.save_dir / "best_predictions.json").read_text())
    assert {row["image_id"] for row in rows} == set(SCENES)  # texts, as not all of them are numbers
    assert {row["category_id"] for row in rows} <= {0, 1, 2}
    scores = [row["score"] for row in rows]
    assert any(score != float(np.float32(score)) for score in scores)  # nothing was rounded
    assert any(side != round(side, 4) for row in rows for side in row["bbox"])
    for name, (height, width, _) in SCENES.items():
        mine = [row for row in rows if row["image_id"] == name]
        labels = np.loadtxt(result.save_dir / "labels" / f"{name}.txt", ndmin=2)
        assert labels.shape == (len(mine), 6)
        left, top, box_w, box_h = np.array([row["bbox"] for row in mine]).T
        assert min(left.min(), top.min()) >= 0
        assert (left + box_w <= width + 1e-3).all()
        np.testing.assert_allclose(labels[:, 1] * width, left + box_w / 2, atol=1e-2)
        np.testing.assert_allclose(labels[:, 4] * height, box_h, atol=1e-2)
        np.testing.assert_allclose(labels[:, 5], [row["score"] for row in mine], rtol=1e-5)


def test_two_runs_agree_and_have_folders_of_their_own(tmp_path: Path, weights: Path) -> None:
    first = run_evaluate(tmp_path, weights, plots=False)
    second = run_evaluate(tmp_path, weights, plots=False)
    assert second.save_dir.name == "exp2"
    assert first.metrics.to_dict() == second.metrics.to_dict()
    assert {file.name for file in first.save_dir.iterdir()} == {"metrics.json"}


def test_nothing_is_written_beside_the_data(tmp_path: Path, data: Path, weights: Path) -> None:
    before = sorted(data.parent.rglob("*"))
    run_evaluate(tmp_path, weights, save_txt=True, save_json=True)
    assert sorted(data.parent.rglob("*")) == before


def test_equal_names_from_two_folders_do_not_overwrite_each_other(tmp_path: Path, weights: Path) -> None:
    parts = [write_data_set(tmp_path / name).parent for name in ("a", "b")]
    both = tmp_path / "both.yaml"
    folders = ", ".join(f"{part.name}/images" for part in parts)
    both.write_text(f"train: a/images\nval: [{folders}]\nnames: [{', '.join(NAMES)}]\n")
    result = run_evaluate(tmp_path, weights, data=both, plots=False, save_txt=True, save_json=True)
    names = {file.stem for file in (result.save_dir / "labels").iterdir()}
    assert names == {*SCENES, *(f"{name}-2" for name in SCENES)}
    rows = json.loads((result.save_dir / "best_predictions.json").read_text())
    images = json.loads((result.save_dir / "ground_truth.json").read_text())["images"]
    assert {row["image_id"] for row in rows} == {image["id"] for image in images} == names


def test_confidences_without_label_files_are_warned_about(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_evaluate(tmp_path, weights, plots=False, save_conf=True)
    assert "--save-conf does nothing without --save-txt" in caplog.text


def test_half_precision_stays_close(tmp_path: Path, weights: Path) -> None:
    full = run_evaluate(tmp_path, weights, plots=False, save_json=True)
    half = run_evaluate(tmp_path, weights, plots=False, save_json=True, half=True)
    best = [
        max(row["score"] for row in json.loads((run.save_dir / "best_predictions.json").read_text()))
        for run in (full, half)
    ]
    assert best[0] != best[1]
    assert best[0] == pytest.approx(best[1], rel=0.05)


def test_image_size_is_rounded_up_to_the_stride(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    result = run_evaluate(tmp_path, weights, plots=False, imgsz=100)
    assert json.loads((result.save_dir / "metrics.json").read_text())["imgsz"] == 128
    assert "image size 100 is no multiple of the stride 32" in caplog.text


def test_a_high_threshold_is_warned_about(tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_evaluate(tmp_path, weights, plots=False, conf_thres=0.25)
    assert "0.25 is above 0.001" in caplog.text


class ShiftedOracle(OracleNetwork):
    """The oracle among wrong boxes, some of higher score; all scores squeezed together, their order unchanged."""

    stride = (32,)

    def __init__(self, shift: float, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.rand(1, 300, 8, generator=generator)
        self.noise[..., :2] *= 64
        self.noise[..., 2:4] = 4 + 20 * self.noise[..., 2:4]
        self.shift = shift

    def raw(self, images: Tensor) -> list[Tensor]:
        rows = torch.cat((super().raw(images)[0], self.noise.expand(len(images), -1, -1)), dim=1)
        return [rows]

    def decode(self, raw: list[Tensor]) -> Tensor:
        """Log-odds of the true score, moved."""
        rows = raw[0].clone()
        scores = (rows[..., 4:5] * rows[..., 5:]).clamp(1e-6, 1 - 1e-6)
        rows[..., 5:] = (scores.logit() + self.shift).sigmoid() * (rows[..., 4:5] * rows[..., 5:] > 0)
        rows[..., 4] = 1.0
        return rows


def test_only_the_order_of_the_scores_counts(data: Path) -> None:
    """All scores below 1e-6, or all above 1 - 1e-6, where float32 has no more room between them: equal metrics."""
    dicts = []
    for shift in (0.0, -30.0, 25.0):
        network = ShiftedOracle(shift)
        metrics = val.validate(network, make_loader(data, 128), names=network.names, device=CPU, progress=False).metrics
        dicts.append((metrics.ap, metrics.lrp.error, metrics.recalls))
    for other in dicts[1:]:
        for mine, theirs in zip(dicts[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert 0.02 < np.nanmean(dicts[0][0]) < 0.98


@pytest.mark.parametrize("threads", [1, 2])
def test_metrics_do_not_depend_on_the_load(tmp_path: Path, weights: Path, threads: int) -> None:
    """With a core kept busy and other batches of workers; equal to the last bit for one number of threads."""
    before = torch.get_num_threads()
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
    try:
        torch.set_num_threads(threads)
        first = run_evaluate(tmp_path, weights, plots=False).metrics.to_dict()
        busy.start()
        second = val.evaluate(weights=weights, project=tmp_path, workers=2, batch_size=2, plots=False).metrics.to_dict()
    finally:
        stop.set()
        torch.set_num_threads(before)
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_thres": 1.5}, "--iou-thres: expected a number from 0 to 1 but got 1.5"),
        ({"max_det": 0}, "--max-det: expected a whole number of at least 1 but got 0"),
        ({"imgsz": [64, 128]}, "--imgsz: expected one size, or several with --task study"),
        ({"save_thresholds": True, "conf_thres": 0.1}, "--save-thresholds: expected no --conf-thres to cut the curve"),
        ({"save_thresholds": True, "weights": ["a.pt", "b.pt"]}, "--save-thresholds: expected one checkpoint"),
        ({"calibrate": "iso"}, "--calibrate: unknown value 'iso'"),
        ({"calibrate": "platt"}, "--calibrate: expected thresholds of each class in"),
        ({"task": "vall"}, "Did you mean 'val'"),
        ({"imgsz": 0}, "--imgsz: expected a whole number of at least 1 but got 0"),
        ({"data": "coc.yaml"}, "Did you mean 'coco.yaml'"),
        ({"device": "gpu"}, "device"),
        ({"task": "test"}, "test"),
    ],
)
def test_wrong_settings_are_explained(tmp_path: Path, weights: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_evaluate(tmp_path, **{"weights": weights, **options})
    assert not (tmp_path / "runs").exists()


def test_class_counts_must_agree(tmp_path: Path, data: Path) -> None:
    weights = write_checkpoint(tmp_path / "one.pt", data, nc=1)
    with pytest.raises(UserError, match=r"expected 1 classes .*\(red\) but found 3 \(red, green, blue\)"):
        run_evaluate(tmp_path, weights)
    assert run_evaluate(tmp_path, weights, single_cls=True, plots=False).metrics.names == ("object",)


def test_class_order_must_agree(tmp_path: Path, data: Path, weights: Path) -> None:
    swapped = tmp_path / "swapped.yaml"
    swapped.write_text(data.read_text().replace("- red\n- green", "- green\n- red"))
    with pytest.raises(UserError, match=r"expected the classes in the order \['red', 'green', 'blue'\]"):
        run_evaluate(tmp_path, weights, data=swapped)


def test_a_checkpoint_without_data_needs_the_flag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data: expected a data YAML"):
        run_evaluate(tmp_path, write_checkpoint(tmp_path / "bare.pt"))


def test_command_line(
    tmp_path: Path, weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--weights", str(weights), "--data", str(data), "--img", "64", "--batch", "4", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["val.py", *flags, "--project", str(tmp_path / "runs"), "--name", "mine"])
    runpy.run_module("val", run_name="__main__")
    assert json.loads((tmp_path / "runs" / "mine" / "metrics.json").read_text())["imgsz"] == 64
    with pytest.raises(SystemExit) as exit_status:
        CommandParser(ValOptions).given([*flags, "--conf-tres", "0.1"])
    assert exit_status.value.code == 2
    assert "Did you mean '--conf-thres'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        CommandParser(ValOptions).given([*flags, "--save-hybrid"])
    assert "'--save-hybrid' is an option of YOLOv5 that is not available here" in capsys.readouterr().err
