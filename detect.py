"""Find objects in pictures and videos.

    python detect.py --weights runs/train/exp/weights/best.pt --source data/images

From Python: ``detect.predict(weights=..., source=...)`` does what the command does; ``detect.load(weights)`` gives a
detector for pictures in memory.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from utils.config.parser import CommandParser
from utils.detection.options import DetectKeywords, DetectOptions

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    GIVEN = CommandParser(DetectOptions).given()

import torch

from utils.config.checks import warn_without
from utils.config.console import run_main
from utils.detection.detector import Detector, load_detector
from utils.detection.files import DetectionFiles, check_screen
from utils.detection.result import Result
from utils.errors import UserError
from utils.files import increment_path
from utils.inference import select_device

log = logging.getLogger(__name__)


def load(
    weights: str | Path | Sequence[str | Path],
    device: str | torch.device = "cpu",
    *,
    conf: float | str = "auto",
    calibrate: str = "none",
    augment: bool = False,
    cfg: str | Path | None = None,
) -> Detector:
    """Load a checkpoint for detection.

    Args:
        weights: checkpoint file, or several with the same classes, which are one ensemble.
        device: ``cpu``, ``0``, ``cuda:0``, ``mps``.
        conf: least score of a detection; ``auto`` takes the LRP-optimal threshold of each class from the checkpoint, or
            0.25 where it has none.
        calibrate: ``isotonic`` or ``platt`` shows probabilities for scores, by the map of each class in the checkpoint;
            a number given as ``conf`` then is a probability. ``none`` shows scores as the network gives them.
        augment: look at each image at three sizes, once mirrored.
        cfg: model YAML, where the file holds a state dict alone.

    Raises:
        UserError: no such file or device, a file of another kind, other classes, or a checkpoint without what ``conf``
            or ``calibrate`` asks for.
    """
    return load_detector(weights, device, conf, calibrate, augment, cfg)[0]


def predict(**options: Unpack[DetectKeywords]) -> list[Result]:
    """Detect in everything that a source holds; the command line as a function.

    Args:
        options: see :class:`utils.detection.options.DetectOptions`, e.g. ``weights="best.pt"``, ``source="images/"``.
            ``source`` may be anything that :class:`Detector` takes.

    Returns:
        One result per image or video frame, without the pixels, which ``Result.image`` reads again from image files.
        Frames of cameras and streams are not kept: iterate over :meth:`Detector.stream` to get those.

    Raises:
        UserError: an invalid option or file, or a source without a single readable image.
    """
    asked = DetectOptions.of(options)
    warn_without("--save-txt", asked.save_txt, save_conf=asked.save_conf, save_format=asked.save_format)
    if asked.view_img:
        check_screen()
    device = select_device(asked.device)
    detector, thresholds = load_detector(
        asked.weights, device, asked.conf_thres, asked.calibrate, asked.augment, asked.cfg
    )
    detector.iou, detector.max_det = asked.iou_thres, asked.max_det
    detector.classes, detector.agnostic, detector.half = asked.classes, asked.agnostic_nms, asked.half
    files = DetectionFiles(
        lambda: increment_path(asked.project, asked.name, asked.exist_ok),
        media=not asked.nosave,
        txt=asked.save_txt,
        conf=asked.save_conf,
        pixel_corners=asked.save_format == 1,
        save_csv=asked.save_csv,
        crop=asked.save_crop,
        view=asked.view_img,
        line_thickness=asked.line_thickness,
        hide_labels=asked.hide_labels,
        hide_conf=asked.hide_conf,
        vid_stride=asked.vid_stride,
    )
    results, totals = [], _Totals()
    with files:
        for result in detector.stream(asked.source, _size(asked.imgsz, detector), asked.vid_stride):
            totals.add(result)
            if not result.is_live:
                results.append(dataclasses.replace(result, pixels=None))
            if not files.add(result):
                break
    totals.report(asked.source, thresholds, detector.advice, detector.calibrations is not None, files.save_dir)
    return results


def _size(imgsz: tuple[int, ...] | None, detector: Detector) -> int | Sequence[int]:
    """The image size: the one or two numbers given, else the detector's own."""
    if imgsz is None:
        log.info("image size: %s, as in training", detector.image_size)
        return detector.image_size
    return imgsz[0], imgsz[-1]


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

    def report(self, source: object, thresholds: str, advice: str, calibrated: bool, folder: Path | None) -> None:
        """Say how it went: a run without a picture is an error, one without a detection tells why."""
        if not self.num_pictures:
            raise UserError(f"{source}: expected at least one readable picture but found none")
        speed = ", ".join(f"{total / self.num_pictures:.1f} ms {section}" for section, total in self.speed_ms.items())
        log.info("speed per picture: %s", speed)
        if not self.num_detections:
            best = f"{self.best_score:.3g}" + (" before calibration" if calibrated else "")
            cure = f". {advice}" if advice else ""
            log.warning("nothing passed the %s: the highest score seen is %s%s", thresholds, best, cure)
        if folder is not None:
            log.info("results are in %s", folder)


if __name__ == "__main__":
    run_main(lambda: predict(**GIVEN))
