"""Thresholds and calibrations of the classes: from the checkpoint to what detection shows."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from tests.painted_objects import NAMES, paint, write_checkpoint
from utils.checkpoint import add_to_checkpoint
from utils.config.parser import CommandParser
from utils.detection.options import DetectOptions
from utils.detection.result import Result
from utils.errors import UserError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "1.png"), paint("1"))
    return tmp_path / "1.png"


def run_predict(weights: object, source: Path, **options) -> list[Result]:
    return detect.predict(weights=weights, source=source, nosave=True, **options)


def with_points(weights: Path, path: Path, thresholds: list[float | None]) -> Path:
    """A copy of the checkpoint with thresholds, and with maps that halve the score, and square it."""
    line = {"kind": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.0, 0.5]}
    curve = {"kind": "platt", "slope": 2.0, "offset": 0.0}
    points = {
        "names": list(NAMES),
        "thresholds": thresholds,
        "calibration": {"isotonic": [line] * 3, "platt": [curve] * 3},
        "measured": {"data": "data/painted.yaml", "imgsz": 128},
    }
    shutil.copyfile(weights, path)
    add_to_checkpoint(path, operating_points=points)
    return path


def test_automatic_thresholds_are_those_of_each_class(
    tmp_path: Path, weights: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    detector = detect.load(weights, conf=0.0)
    detector.multi_label, detector.max_det = True, 10_000  # the reds as if there were no other class
    (everything,) = detector(source)
    reds = everything.xyxy[everything.xyxy[:, 5] == 0, 4]
    cut = float(reds[len(reds) // 2])
    stored = with_points(weights, tmp_path / "stored.pt", [cut - 1e-6, 0.9999, None])
    (found,) = run_predict(stored, source, conf_thres="auto")
    mean = (cut - 1e-6 + 0.9999) / 2
    assert len(found) == (reds > cut - 1e-6).sum() > 1
    assert set(found.xyxy[:, 5].tolist()) == {0}
    assert (
        f"LRP-optimal thresholds of painted.yaml at 128 pixels: red {cut:.4g}, green 0.9999, blue {mean:.4g} (no"
        in caplog.text
    )


def test_thresholds_that_nobody_measured_are_explained(
    tmp_path: Path, weights: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without thresholds ``auto`` is 0.25, and that is said; a calibration cannot be made up."""
    caplog.set_level("INFO")
    with pytest.raises(UserError, match=r"it holds none; python val.py --weights .*best.pt --save-thresholds"):
        run_predict(weights, source, calibrate="platt")
    stored = with_points(weights, tmp_path / "stored.pt", [None, None, None])
    (quarter,) = detect.load(weights, conf=0.25)(source)
    for files, reason in (
        (weights, r"confidence threshold 0.25, since .*best\.pt holds no thresholds"),
        (stored, r"confidence threshold 0.25, since .*stored\.pt holds no thresholds"),
        ([stored, stored], "confidence threshold 0.25, since an ensemble has no thresholds"),
    ):
        caplog.clear()
        (found,) = run_predict(files, source)
        assert torch.equal(found.xyxy, quarter.xyxy) and re.search(reason, caplog.text)
    with pytest.raises(
        UserError, match=r"--calibrate: unknown value 'plat'. Known: isotonic, none, platt. Did you mean 'platt'"
    ):
        run_predict(stored, source, calibrate="plat")


@pytest.mark.parametrize(
    ("kind", "shown"), [("isotonic", lambda s: s / 2), ("platt", lambda s: s**2 / (s**2 + (1 - s) ** 2))]
)
def test_calibrated_scores_are_shown_and_compared(
    tmp_path: Path, weights: Path, source: Path, kind: str, shown: Callable
) -> None:
    """Platt's map with slope 2: the odds are squared."""
    stored = with_points(weights, tmp_path / "stored.pt", [0.1, 0.1, 0.1])
    (plain,) = detect.load(stored, conf=0.3)(source)
    (calibrated,) = detect.load(stored, conf=shown(0.3), calibrate=kind)(source)
    assert len(plain) > 0
    np.testing.assert_allclose(calibrated.xyxy[:, 4], shown(plain.xyxy[:, 4]), rtol=1e-5)
    assert torch.equal(calibrated.xyxy[:, :4], plain.xyxy[:, :4])
    (none,) = detect.load(stored, conf=1.0, calibrate=kind)(source)
    assert len(none) == 0


def test_a_word_that_is_no_threshold_is_refused_on_the_command_line(capsys) -> None:
    with pytest.raises(SystemExit):
        CommandParser(DetectOptions).given(["--weights", "best.pt", "--conf-thres", "autoo"])
    assert "--conf-thres: expected a number from 0 to 1 or 'auto' but got 'autoo'" in capsys.readouterr().err


def test_stored_thresholds_are_the_default_and_named_as_the_cure(
    tmp_path: Path, weights: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stored = with_points(weights, tmp_path / "stored.pt", [0.1, 0.1, 0.1])
    (found,) = run_predict(stored, source)
    assert len(found) > 0 and "LRP-optimal thresholds" in caplog.text
    run_predict(stored, source, conf_thres=1.0)
    assert "'auto' as threshold takes those of each class" in caplog.text
    detector = detect.load(stored, conf=1.0)
    with pytest.warns(UserWarning, match="nothing passed; the highest score is 0.*'auto' as threshold takes those"):
        detector(source)
