"""Detection: the detector against a network whose answers are known, the command against a network from a file."""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import detect
from tests.painted_objects import NAMES, SCENES, SCORES, OracleNetwork, boxes_of, paint, write_checkpoint
from utils.config.parser import CommandParser
from utils.detection.options import DetectOptions
from utils.detection.result import Result
from utils.detection.sources import read_media
from utils.errors import UserError

NUM_FRAMES = 6


@pytest.fixture
def detector() -> detect.Detector:
    network = OracleNetwork().eval()
    return detect.Detector(network, network.names, image_size=256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scenes as pictures, and a text file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in SCENES:
        cv2.imwrite(str(folder / f"{name}.png"), paint(name))
    (folder / "notes.md").write_text("nothing to see")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    file = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (200, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write mp4 videos")
    for _ in range(NUM_FRAMES):
        writer.write(paint("1"))
    writer.release()
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt")


def assert_right(result: Result, name: str, atol: float = 1.5) -> None:
    expected = boxes_of(name)
    order = result.xyxy[:, 5].argsort()
    assert result.xyxy[order, 5].tolist() == expected[:, 4].tolist()
    np.testing.assert_allclose(result.xyxy[order, :4].numpy(), expected[:, :4], atol=atol)
    assert result.xyxy[:, 4].tolist() == pytest.approx([SCORES[int(index)] for index in result.xyxy[:, 5]])


@pytest.mark.parametrize("imgsz", [None, 128, (96, 320)])
def test_boxes_are_pixels_of_the_original(detector: detect.Detector, folder: Path, imgsz: int | None) -> None:
    results = detector(folder, imgsz)
    assert [Path(result.path).stem for result in results] == sorted(SCENES)
    for result in results:
        assert_right(result, Path(result.path).stem, atol=3.0)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        lambda image: Image.fromarray(image[..., ::-1].copy()),
        as_tensor,
        lambda image: as_tensor(image) / 255,
        lambda image: as_tensor(image)[None].repeat(2, 1, 1, 1),
    ],
    ids=["numpy BGR", "PIL", "uint8 tensor", "float tensor", "batch"],
)
def test_pictures_in_memory(detector: detect.Detector, convert) -> None:
    results = detector(convert(paint("1")))
    for result in results:
        assert_right(result, "1")
        np.testing.assert_array_equal(result.image, paint("1"))
    assert [result.path for result in results] == [f"image{index}.jpg" for index in range(len(results))]


def test_a_list_mixes_kinds(detector: detect.Detector, folder: Path) -> None:
    results = detector([paint("1"), str(folder / "2.png"), Image.fromarray(paint("street")[..., ::-1].copy())])
    for result, name in zip(results, ("1", "2", "street"), strict=True):
        assert_right(result, name)


def test_grey_pictures_are_taken(detector: detect.Detector) -> None:
    (result,) = detector(np.zeros((40, 60), np.uint8))
    assert (result.original_hw, len(result)) == ((40, 60), 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3)), r"expected a \(H, W, 3\) uint8 BGR array but got \(4, 4, 3\) float64"),
        (np.zeros((3, 4, 4), np.uint8), r"but got \(3, 4, 4\)"),
        (torch.zeros(4, 4), r"RGB tensor but got \(4, 4\)"),
        (torch.full((3, 4, 4), 255.0), r"values in \[0, 1\] but got 255 to 255"),
        (3.5, "but got float"),
    ],
)
def test_pictures_of_another_form_are_refused(detector: detect.Detector, source: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        detector(source)


def test_forms_of_a_result(detector: detect.Detector) -> None:
    (result,) = detector(paint("1"))  # 120 x 200: red 20,30 - 90,80 and blue 120,10 - 180,110
    np.testing.assert_allclose(result.xywh[0, :4], [55, 55, 70, 50], atol=1.5)
    np.testing.assert_allclose(result.xyxyn[0, :4], [0.1, 0.25, 0.45, 80 / 120], atol=0.01)
    np.testing.assert_allclose(result.xywhn[0, :4], [0.275, 55 / 120, 0.35, 50 / 120], atol=0.01)
    for form in (result.xyxy, result.xywh, result.xyxyn, result.xywhn):
        assert form[0, 4:].tolist() == pytest.approx([0.9, 0])
    table = result.pandas()
    assert list(table.columns) == ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert table["name"].tolist() == ["red", "blue"]
    assert str(result) == "120x200 1 red, 1 blue"
    assert "(no detections)" in str(detector(paint("3"))[0])


def test_counts_are_plural(detector: detect.Detector) -> None:
    (result,) = detector(paint("1"))
    names = {0: "RBC", 1: "WBC", 2: "Platelets"}
    boxes = result.xyxy[[0, 0, 0, 1, 1]]
    doubled = Result("a.jpg", (480, 640), boxes, names, result.speed_ms, 0.9)
    assert str(doubled) == "480x640 3 RBCs, 2 Platelets"


def test_drawing_leaves_the_picture_alone(detector: detect.Detector) -> None:
    (result,) = detector(paint("1"))
    drawn = result.plot(line_thickness=2)
    np.testing.assert_array_equal(result.image, paint("1"))
    changed = (drawn != paint("1")).any(axis=2)
    assert changed[30:80, 18:23].any()  # the left side of the red box
    assert not changed[50:60, 100:110].any()  # far from both boxes
    bare = result.plot(line_thickness=2, hide_labels=True)
    assert (bare != paint("1")).any(axis=2).sum() < changed.sum()


def test_crops_show_the_object_and_a_little_more(detector: detect.Detector, tmp_path: Path) -> None:
    (result,) = detector(paint("1"))
    files = result.crop(tmp_path / "crops")
    assert [file.relative_to(tmp_path / "crops").as_posix() for file in files] == [
        "red/image0_1.jpg",
        "blue/image0_1.jpg",
    ]
    height, width = cv2.imread(str(files[0])).shape[:2]
    assert height == pytest.approx(1.02 * 50 + 10, abs=3)
    assert width == pytest.approx(1.02 * 70 + 10, abs=3)


def test_settings_of_the_detector(detector: detect.Detector) -> None:
    detector.conf = 0.75
    assert detector(paint("street"))[0].xyxy[:, 5].tolist() == [0, 1]
    detector.conf, detector.classes = 0.25, [2]
    assert detector(paint("street"))[0].xyxy[:, 5].tolist() == [2]
    detector.classes, detector.max_det = None, 1
    assert detector(paint("street"))[0].xyxy[:, 5].tolist() == [0]
    detector.classes = [7]
    with pytest.raises(UserError, match=r"unknown class index '7'. Known: 0 \(red\), 1 \(green\), 2 \(blue\)"):
        detector(paint("street"))
    detector.classes = []
    with pytest.raises(UserError, match="classes: expected at least one class index"):
        detector(paint("street"))


def test_videos_are_read_frame_by_frame(video: Path) -> None:
    frames = list(read_media([video]))
    assert [frame.number for frame in frames] == list(range(NUM_FRAMES))
    assert frames[0].fps == pytest.approx(10.0)
    assert [frame.number for frame in read_media([video], vid_stride=3)] == [0, 3]


def test_bad_files_are_reported_and_left_out(
    detector: detect.Detector, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "1.png").write_bytes(b"no picture")
    (folder / "2.png").write_bytes(b"")
    (folder / "4.mp4").write_bytes(b"no video")
    assert [Path(result.path).stem for result in detector(folder)] == ["3", "street"]
    for name in ("1.png", "2.png", "4.mp4"):
        assert str(folder / name) in caplog.text


def run_predict(tmp_path: Path, weights: Path, source: object, **options) -> list[Result]:
    return detect.predict(weights=weights, source=source, project=tmp_path / "runs", **options)


def test_command_writes_what_it_promises(
    tmp_path: Path, weights: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    results = run_predict(
        tmp_path, weights, folder, save_txt=True, save_conf=True, save_crop=True, conf_thres=0.1, max_det=5
    )
    save_dir = tmp_path / "runs" / "exp"
    assert {file.name for file in save_dir.glob("*.png")} == {f"{name}.png" for name in SCENES}
    for result in results:
        labels = np.loadtxt(save_dir / "labels" / f"{Path(result.path).stem}.txt", ndmin=2)
        np.testing.assert_allclose(labels[:, 0], result.xyxy[:, 5])
        np.testing.assert_allclose(labels[:, 1:], result.xywhn[:, :5], atol=1e-5)
        assert f"{result.path}: {result}" in caplog.text
        np.testing.assert_array_equal(result.image, paint(Path(result.path).stem))  # read again
    num_boxes = sum(map(len, results))
    assert num_boxes == 5 * len(SCENES)
    assert len(list((save_dir / "crops").rglob("*.jpg"))) == num_boxes
    assert f"results are in {save_dir}" in caplog.text
    assert "image size: 128, as in training" in caplog.text


def test_the_file_and_the_function_agree(tmp_path: Path, weights: Path, folder: Path) -> None:
    detector = detect.load(weights)
    assert detector.names == dict(enumerate(NAMES))
    assert not detector.network.training
    kernels = [weight for weight in detector.network.parameters() if weight.ndim == 4 and weight.shape[-1] > 1]
    assert kernels and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    expected = detector(folder)
    for ours, theirs in zip(run_predict(tmp_path, weights, folder, nosave=True), expected, strict=True):
        assert torch.equal(ours.xyxy, theirs.xyxy)
    assert not (tmp_path / "runs").exists()  # nothing to save, so no folder


def test_classes_and_agnostic_suppression(tmp_path: Path, weights: Path, folder: Path) -> None:
    everything = run_predict(tmp_path, weights, folder / "1.png", conf_thres=0.1, nosave=True)[0]
    assert len(set(everything.xyxy[:, 5].tolist())) > 1
    one = run_predict(tmp_path, weights, folder / "1.png", conf_thres=0.1, classes=[1], nosave=True)[0]
    named = run_predict(tmp_path, weights, folder / "1.png", conf_thres=0.1, classes=[NAMES[1]], nosave=True)[0]
    assert torch.equal(named.xyxy, one.xyxy)
    assert set(one.xyxy[:, 5].tolist()) == {1}
    merged = run_predict(tmp_path, weights, folder / "1.png", conf_thres=0.1, agnostic_nms=True, nosave=True)[0]
    assert len(merged) < len(everything)


def test_no_detection_is_explained(
    tmp_path: Path, weights: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    results = run_predict(tmp_path, weights, folder, conf_thres=1.0, save_txt=True)
    best = max(result.best_score for result in results)
    assert 0 < best < 1
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (message,) = warnings
    assert message.startswith(f"nothing passed the confidence threshold 1: the highest score seen is {best:.3g}. ")
    assert "a lower threshold shows more; python val.py --weights" in message
    assert not (tmp_path / "runs" / "exp" / "labels").exists()


def test_options_without_effect_are_warned_about(
    tmp_path: Path, weights: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"save_conf": True, "save_format": 1, "nosave": True}
    run_predict(tmp_path, weights, folder / "1.png", **options)
    for flag in ("--save-conf", "--save-format"):
        assert f"{flag} does nothing without --save-txt" in caplog.text
    caplog.clear()
    run_predict(tmp_path, weights, folder / "1.png", save_txt=True, **options)
    assert "does nothing" not in caplog.text


def test_video_in_video_out(tmp_path: Path, weights: Path, video: Path) -> None:
    results = run_predict(tmp_path, weights, video, save_txt=True, conf_thres=0.1, vid_stride=2)
    assert [result.number for result in results] == [0, 2, 4]
    capture = cv2.VideoCapture(str(tmp_path / "runs" / "exp" / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)  # half the frames, the same duration
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (200, 120)
    names = {file.name for file in (tmp_path / "runs" / "exp" / "labels").iterdir()}
    assert names == {"clip_0.txt", "clip_2.txt", "clip_4.txt"}
    with pytest.raises(UserError, match="no longer held"):
        _ = results[0].image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf_thres": "best"}, "--conf-thres: expected a number from 0 to 1 or 'auto' but got 'best'"),
        ({"conf_thres": 2.0}, "--conf-thres: expected a number from 0 to 1 or 'auto' but got 2"),
        ({"vid_stride": 0}, "--vid-stride: expected a whole number of at least 1 but got 0"),
        ({"classes": [3]}, "unknown class index '3'"),
        ({"classes": ["gren"]}, "unknown class 'gren'. Known: blue, green, red. Did you mean 'green'"),
        ({"classes": []}, "classes: expected at least one class index"),
        ({"save_format": 2}, "--save-format: expected a whole number from 0 to 1 but got 2"),
        ({"imgsz": [1, 2, 3]}, "--imgsz: expected 1 to 2 values"),
        ({"device": "gpu"}, "device"),
    ],
)
def test_wrong_settings_are_explained(tmp_path: Path, weights: Path, folder: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_predict(tmp_path, weights, folder, **options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells by the environment")
def test_a_missing_screen_is_explained(
    tmp_path: Path, weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="--view-img: there is no display"):
        run_predict(tmp_path, weights, folder, view_img=True)


def test_a_source_without_readable_pictures_is_an_error(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="at least one readable picture"):
        run_predict(tmp_path, weights, tmp_path / "bad.png")


def test_weights_that_fit_nothing_are_explained(tmp_path: Path, weights: Path) -> None:
    content = torch.load(weights, weights_only=True)
    content["names"] = ["one", "two"]
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="do not fit its own architecture"):
        detect.load(tmp_path / "odd.pt")
    del content["cfg"]
    torch.save(content, tmp_path / "bare.pt")
    with pytest.raises(UserError, match="--cfg must name the model file"):
        detect.load(tmp_path / "bare.pt")


def test_command_line(
    tmp_path: Path, weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--weights", str(weights), "--source", str(folder / "1.png"), "--classes", "0", "2", "--img", "96", "160"]
    monkeypatch.setattr(sys, "argv", ["detect.py", *flags, "--project", str(tmp_path / "runs"), "--conf", "0.1"])
    runpy.run_module("detect", run_name="__main__")
    assert (tmp_path / "runs" / "exp" / "1.png").is_file()
    with pytest.raises(SystemExit) as exit_status:
        CommandParser(DetectOptions).given([*flags, "--agnostic-nsm"])
    assert exit_status.value.code == 2
    assert "Did you mean '--agnostic-nms'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        CommandParser(DetectOptions).given([*flags, "--data", "coco.yaml"])
    assert "'--data' is an option of YOLOv5 that is not available here: class names are in" in capsys.readouterr().err


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras and streams that end after two pictures."""

    class Capture:
        """Two pictures, then the end."""

        def __init__(self, source: str) -> None:
            self.left = 2

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def set(self, *setting: float) -> None: ...

        def get(self, setting: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return self.left >= 0, paint("1")

        def release(self) -> None: ...

    monkeypatch.setattr(cv2, "VideoCapture", Capture)


@pytest.mark.usefixtures("live")
def test_streams_take_turns() -> None:
    frames: Iterator = read_media(["rtsp://a", 0])
    assert [(frame.path, frame.number) for frame in frames] == [("rtsp://a", 0), ("0", 0), ("rtsp://a", 1), ("0", 1)]


@pytest.mark.usefixtures("live")
def test_frames_of_endless_sources_are_not_kept(
    tmp_path: Path, weights: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    results = run_predict(
        tmp_path, weights, ["rtsp://a/b", 0, folder / "2.png"], save_txt=True, nosave=True, conf_thres=0.1
    )
    assert [Path(result.path).name for result in results] == ["2.png"]
    labels = {file.name for file in (tmp_path / "runs" / "exp" / "labels").iterdir()}
    assert labels == {"rtsp___a_b_0.txt", "rtsp___a_b_1.txt", "0_0.txt", "0_1.txt", "2.txt"}
    assert caplog.text.count("rtsp://a/b frame") == 2
    assert "speed per picture" in caplog.text


def test_a_detector_prints_as_one_line(tmp_path: Path) -> None:
    detector = detect.load(write_checkpoint(tmp_path / "best.pt"))
    assert repr(detector) == "Detector(DetectionModel of 3 classes on cpu, 128 pixels, conf 0.25)"


def test_the_screen_is_no_source(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(UserError, match="screen 0: the screen cannot be a source here"):
        run_predict(tmp_path, weights, "screen 0")
