"""Find objects in pictures and videos.

    python detect.py --weights runs/train/exp/weights/best.pt --source data/images

From Python: ``detect.predict(weights=..., source=...)`` does what the command does; ``detect.load(weights)`` gives a
detector for pictures in memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from utils.config.checks import check_counts, check_fractions, warn_without
from utils.config.console import run_main, setup_logging
from utils.config.parser import CommandParser
from utils.detection.detector import Detector, load_detector
from utils.detection.files import DetectionFiles, check_screen
from utils.detection.result import Result
from utils.detection.sources import Source
from utils.errors import UserError, unknown_name
from utils.files import increment_path
from utils.inference import select_device
from utils.operating_points import AUTO, CALIBRATIONS

log = logging.getLogger(__name__)

BOX_FORMS = (0, 1)  # of label files: YOLO's, Pascal VOC's
UNAVAILABLE = {  # flags of YOLOv5's detect.py
    "data": "class names are in the checkpoint",
    "dnn": "checkpoints of this program run in PyTorch",
    "update": "checkpoints are stripped when their training ends",
    "visualize": "",
}


def load(
    weights: str | Path | Sequence[str | Path],
    device: str | torch.device = "cpu",
    *,
    conf: float | str = 0.25,
    calibrate: str = "none",
    augment: bool = False,
) -> Detector:
    """Load a checkpoint for detection.

    Args:
        weights: checkpoint file, or several with the same classes, which are one ensemble.
        device: ``cpu``, ``0``, ``cuda:0``, ``mps``.
        conf: least score of a detection; ``auto`` takes the LRP-optimal threshold of each class from the checkpoint.
        calibrate: ``isotonic`` or ``platt`` shows probabilities for scores, by the map of each class in the checkpoint;
            a number given as ``conf`` then is a probability. ``none`` shows scores as the network gives them.
        augment: look at each image at three sizes, once mirrored.

    Raises:
        UserError: no such file or device, a file of another kind, other classes, or a checkpoint without what ``conf``
            or ``calibrate`` asks for.
    """
    return load_detector(weights, device, conf, calibrate, augment)[0]


def predict(
    *,
    weights: str | Path | Sequence[str | Path],
    source: Source | Sequence[Source] = "data/images",
    imgsz: int | Sequence[int] | None = None,
    conf_thres: float | str = 0.25,
    iou_thres: float = 0.45,
    max_det: int = 1000,
    calibrate: str = "none",
    augment: bool = False,
    device: str = "",
    view_img: bool = False,
    save_txt: bool = False,
    save_format: int = 0,
    save_csv: bool = False,
    save_conf: bool = False,
    save_crop: bool = False,
    nosave: bool = False,
    classes: Sequence[int] | None = None,
    agnostic_nms: bool = False,
    project: str | Path = "runs/detect",
    name: str = "exp",
    exist_ok: bool = False,
    line_thickness: int = 3,
    hide_labels: bool = False,
    hide_conf: bool = False,
    half: bool = False,
    vid_stride: int = 1,
) -> list[Result]:
    """The command line as a function; options as there.

    Args:
        source: as for :class:`Detector`.
        imgsz: one size, or height and width; None takes the training size.
        conf_thres, calibrate, augment: as for :func:`load`.
        save_format: boxes of label files: 0 for ``x y w h`` (``xywhn``), 1 for corners in pixels.

    Returns:
        One result a picture, or a frame of a video; without the pixels, which ``Result.image`` reads again from image
        files. Frames of cameras and streams are not kept: iterate over :meth:`Detector.stream` to get those.

    Raises:
        UserError: a file or setting that cannot be right, or a source without a single readable picture.
    """
    check_fractions(iou_thres=iou_thres)
    check_counts(max_det=max_det, vid_stride=vid_stride, line_thickness=line_thickness)
    _check_output(save_txt, save_conf, save_format, view_img)
    detector, thresholds = load_detector(weights, select_device(device), conf_thres, calibrate, augment)
    log.info("%s", thresholds)
    detector.iou, detector.max_det = iou_thres, max_det
    detector.classes, detector.agnostic, detector.half = classes, agnostic_nms, half
    files = DetectionFiles(
        lambda: increment_path(project, name, exist_ok),
        media=not nosave,
        txt=save_txt,
        conf=save_conf,
        pixel_corners=save_format == 1,
        csv=save_csv,
        crop=save_crop,
        view=view_img,
        line_thickness=line_thickness,
        hide_labels=hide_labels,
        hide_conf=hide_conf,
        vid_stride=vid_stride,
    )
    results, totals = [], _Totals()
    with files:
        for result in detector.stream(source, _size(imgsz, detector), vid_stride):
            totals.add(result)
            if not result.is_live:
                results.append(dataclasses.replace(result, pixels=None))
            if not files.add(result):
                break
    totals.report(source, thresholds, detector.calibrations is not None, files.save_dir)
    return results


def _check_output(save_txt: bool, save_conf: bool, save_format: int, view_img: bool) -> None:
    if save_format not in BOX_FORMS:
        raise unknown_name("save-format", save_format, BOX_FORMS)
    warn_without("--save-txt", save_txt, save_conf=save_conf, save_format=save_format)
    if view_img:
        check_screen()


def _size(imgsz: int | Sequence[int] | None, detector: Detector) -> int | tuple[int, int]:
    """The size to use: the one given, of which the command line makes a list of one or two numbers, or the default."""
    if imgsz is None:
        log.info("image size: %s, as in training", detector.image_size)
        return detector.image_size
    return imgsz if isinstance(imgsz, int) else tuple(imgsz)


def _label(result: Result) -> str:
    return result.path if result.number is None else f"{result.path} frame {result.number}"


class _Totals:
    """What is said at the end of a run, however many pictures it had."""

    def __init__(self) -> None:
        self.num_pictures, self.num_detections, self.best_score = 0, 0, 0.0
        self.speed_ms: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Count a picture, and say what is in it."""
        log.info("%s: %s, %.1f ms", _label(result), result, sum(result.speed_ms.values()))
        self.num_pictures += 1
        self.num_detections += len(result)
        self.best_score = max(self.best_score, result.best_score)
        self.speed_ms.update(result.speed_ms)

    def report(self, source: object, thresholds: str, calibrated: bool, folder: Path | None) -> None:
        """Say how it went: a run without a picture is an error, one without a detection tells why."""
        if not self.num_pictures:
            raise UserError(f"{source}: expected at least one readable picture but found none")
        speed = ", ".join(f"{total / self.num_pictures:.1f} ms {section}" for section, total in self.speed_ms.items())
        log.info("speed per picture: %s", speed)
        if not self.num_detections:
            best = f"{self.best_score:.3g}" + (" before calibration" if calibrated else "")
            log.warning("nothing passed the %s: the highest score seen is %s", thresholds, best)
        if folder is not None:
            log.info("results are in %s", folder)


def _threshold(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1 or {AUTO!r} but got {text!r}") from None


def make_parser() -> CommandParser:
    """The flags of the command line; their defaults are those of :func:`predict`."""
    parser = CommandParser(
        prog="detect.py", description="Find objects in pictures and videos.", unavailable=UNAVAILABLE
    )
    add = parser.add_argument
    add("--weights", required=True, nargs="+", help="checkpoint, for example .../weights/best.pt; several: an ensemble")
    add("--source", help="image, folder, pattern, .txt list, video, camera number, stream (default data/images)")
    add("--imgsz", "--img", "--img-size", type=int, nargs="+", help="size, or height width (default: of the training)")
    least = "least score of a detection, or 'auto': the best for each class as stored in the checkpoint (default 0.25)"
    add("--conf-thres", type=_threshold, metavar="CONF", help=least)
    add("--iou-thres", type=float, help="overlap above which the lower of two boxes goes (default 0.45)")
    add("--max-det", type=int, help="detections per picture (default 1000)")
    add(
        "--calibrate",
        choices=CALIBRATIONS,
        help="show probabilities, by the map in the checkpoint (default none)",
    )
    add("--augment", action="store_true", help="look at each picture at three sizes, once mirrored")
    add("--device", help="cpu, 0, mps (default: the first GPU, else the CPU)")
    add("--view-img", action="store_true", help="show the pictures; q or Esc ends the run")
    add("--save-txt", action="store_true", help="write detections as labels/*.txt")
    add("--save-format", type=int, choices=BOX_FORMS, help="boxes in labels/*.txt: 0 YOLO (default), 1 Pascal VOC")
    add("--save-csv", action="store_true", help="write detections as predictions.csv")
    add("--save-conf", action="store_true", help="with --save-txt: add the confidence to each row")
    add("--save-crop", action="store_true", help="write every detection as a picture of its own")
    add("--nosave", action="store_true", help="write no annotated pictures and videos")
    add("--classes", type=int, nargs="+", help="class indices to keep, for example --classes 0 2")
    add("--agnostic-nms", action="store_true", help="suppress overlapping boxes across classes")
    add("--project", help="folder of runs (default runs/detect)")
    add("--name", help="name of this run (default exp)")
    add("--exist-ok", action="store_true", help="write into an existing run folder")
    add("--line-thickness", type=int, help="of the boxes, in pixels (default 3)")
    add("--hide-labels", action="store_true", help="draw boxes without names")
    add("--hide-conf", action="store_true", help="draw names without confidences")
    add("--half", action="store_true", help="run the network in 16 bits")
    add("--vid-stride", type=int, help="use every k-th frame of videos (default 1)")
    return parser


def main() -> None:
    """Run the command line."""
    setup_logging()
    predict(**make_parser().given())


if __name__ == "__main__":
    run_main(main)
