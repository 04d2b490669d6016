"""The options of val.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Required, TypedDict

from utils.config.choices import CALIBRATIONS
from utils.config.options import Options, option, required, switch
from utils.config.schema import Many, Text, Whole
from utils.parameters import Choice, Number

SPLIT_TASKS = ("train", "val", "test")
TASKS = (*SPLIT_TASKS, "speed", "study")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValOptions(Options):
    """Options of a validation in full."""

    command: ClassVar[str] = "val.py"
    purpose: ClassVar[str] = "Measure a trained network on a data set."
    unavailable: ClassVar[Mapping[str, str]] = {
        "dnn": "checkpoints of this program run in PyTorch",
        "save_hybrid": "labels among the detections would inflate the metrics; --save-txt writes the detections alone",
    }

    weights: tuple[str, ...] = required(Many(None, Text()), "checkpoint, e.g. .../best.pt; several form an ensemble")
    cfg: str = option(Text(""), "model YAML, for weights that are a state dict alone")
    data: str | None = option(Text(None), "data YAML (default: the one of the training)")
    batch_size: int = option(Whole(32, 1), "batch size")
    imgsz: tuple[int, ...] | None = option(
        Many(None, Whole(low=1)),
        "image size, pixels (default: the training size); for --task study the sizes to go through "
        "(default: 256 to 1536)",
        aliases=("--img", "--img-size"),
    )
    conf_thres: float = option(Number(0.0, 0, 1), "confidence threshold; above 0.001 it cuts the curve behind AP")
    iou_thres: float = option(Number(0.6, 0, 1), "IoU threshold of NMS")
    max_det: int = option(Whole(100, 1), "maximum detections per image and class; COCO's is 100")
    task: str = option(Choice("val", TASKS), "split to measure on; or timings, or a study of image sizes")
    device: str = option(Text(""), "cpu, 0 or mps (default: the first GPU, else the CPU)")
    workers: int = option(Whole(8, 0), "maximum number of data-loading workers")
    single_cls: bool = switch("treat all classes as one")
    augment: bool = switch("test-time augmentation: three scales, one of them mirrored")
    verbose: bool = switch("one row per class, also for 50 classes and more")
    save_txt: bool = switch("save detections as labels/*.txt")
    save_conf: bool = switch("with --save-txt: add the confidence to each row")
    save_json: bool = switch("save labels and detections as COCO JSON")
    coco_api: bool = switch("evaluate that JSON with pycocotools too, and print the differences")
    save_thresholds: bool = switch("store the thresholds and calibrations of the classes in the checkpoint")
    calibrate: str = option(
        Choice("none", CALIBRATIONS), "calibrate scores with the checkpoint's maps before measuring their reliability"
    )
    project: str = option(Text("runs/val"), "folder that holds the run folders")
    name: str = option(Text("exp"), "name of the run folder")
    exist_ok: bool = switch("write into an existing run folder")
    half: bool = switch("run the network in 16 bits")
    plots: bool = switch("save plots", default=True, has_flag=False)


class ValKeywords(TypedDict, total=False):
    """Keywords of ``val.evaluate``; see :class:`ValOptions`."""

    weights: Required[str | Path | Sequence[str | Path]]
    cfg: str | Path
    data: str | Path | None
    batch_size: int
    imgsz: int | Sequence[int] | None
    conf_thres: float
    iou_thres: float
    max_det: int
    task: str
    device: str
    workers: int
    single_cls: bool
    augment: bool
    verbose: bool
    save_txt: bool
    save_conf: bool
    save_json: bool
    coco_api: bool
    save_thresholds: bool
    calibrate: str
    project: str | Path
    name: str
    exist_ok: bool
    half: bool
    plots: bool
