"""What detection writes and shows: names of files, label rows, the table, the window."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect
from tests.painted_objects import NAMES, OracleNetwork, paint
from utils.detection.files import DetectionFiles
from utils.label_files import FileStems


@pytest.fixture
def detector() -> detect.Detector:
    network = OracleNetwork().eval()
    return detect.Detector(network, network.names, image_size=256)


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path, detector: detect.Detector) -> None:
    """Other folders, other suffixes, and a name that looks like a number of another one's crop."""
    sources = [tmp_path / name for name in ("a/1.png", "b/1.png", "b/1_2.bmp", "b/1_2.png")]
    for source, scene in zip(sources, ("1", "2", "street", "street"), strict=True):
        source.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(source), paint(scene))
    detector.names = dict.fromkeys(detector.names, "thing")
    results, out = detector(sources), tmp_path / "out"
    with DetectionFiles(lambda: out, txt=True, crop=True, save_csv=True) as files:
        assert all(files.add(result) for result in results)
    pictures = {file.name for file in out.iterdir() if file.is_file()} - {"predictions.csv"}
    assert pictures == {"1.png", "1-2.png", "1_2.bmp", "1_2-2.png"}
    assert {file.stem for file in (out / "labels").iterdir()} == {Path(name).stem for name in pictures}
    crops = {file.name for file in (out / "crops" / "thing").iterdir()}
    assert len(crops) == sum(map(len, results)) == 9
    assert crops >= {"1_1.jpg", "1-2_1.jpg", "1_2_1.jpg"}


def test_table_of_predictions(tmp_path: Path, detector: detect.Detector) -> None:
    with DetectionFiles(lambda: tmp_path, media=False, save_csv=True) as files:
        assert all(files.add(result) for result in detector([paint("1"), paint("3"), paint("2")]))
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["Image Name", "Prediction", "Confidence"],
        ["image0.jpg", NAMES[0], "0.9"],
        ["image0.jpg", NAMES[2], "0.7"],
        ["image2.jpg", NAMES[1], "0.8"],
    ]


def test_what_cannot_be_written_becomes_jpg_and_overwrites_none(tmp_path: Path, detector: detect.Detector) -> None:
    (result,) = detector(paint("1"))
    raw, jpg = (dataclasses.replace(result, path=f"pictures/1{suffix}") for suffix in (".dng", ".jpg"))
    with DetectionFiles(lambda: tmp_path / "out") as files:
        assert [files.add(entry) for entry in (raw, jpg, raw)] == [True] * 3
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"1.jpg", "1-2.jpg"}


@pytest.mark.parametrize("video_first", [True, False])
def test_names_of_frames_are_theirs_alone(video_first: bool) -> None:
    stems = FileStems()
    asked = [("clip", "clip.mp4", True), ("clip_3", "clip_3.png", False)]
    given = [stems.stem(*entry) for entry in (asked if video_first else asked[::-1])]
    assert given == (["clip", "clip_3-2"] if video_first else ["clip_3", "clip-2"])
    assert stems.stem("clip_4", "b/clip_4.png") == ("clip_4-2" if video_first else "clip_4")
    assert stems.stem("Clip", "Clip.avi", True) == ("Clip-2" if video_first else "Clip-3")
    assert stems.stem("clip", "clip.mp4", True) == given[0 if video_first else 1]  # as before


def test_label_rows_may_hold_corners_in_pixels(tmp_path: Path, detector: detect.Detector) -> None:
    (result,) = detector(paint("1"))
    with DetectionFiles(lambda: tmp_path, media=False, txt=True, conf=True, pixel_corners=True) as files:
        files.add(result)
    rows = np.loadtxt(tmp_path / "labels" / "image0.txt", ndmin=2)
    np.testing.assert_allclose(rows, result.xyxy[:, [5, 0, 1, 2, 3, 4]], rtol=1e-5)


def test_the_window_ends_the_run(tmp_path: Path, detector: detect.Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, keys = [], iter([-1, ord("q")])
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(name))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append("closed"))
    with DetectionFiles(lambda: tmp_path, media=False, view=True) as files:
        assert [files.add(result) for result in detector([paint("1"), paint("2")])] == [True, False]
    assert shown == ["image0.jpg", "image1.jpg", "closed"]
