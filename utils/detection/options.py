"""The options of detect.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Required, TypedDict

from utils.config.choices import AUTO, CALIBRATIONS
from utils.config.options import Options, option, required, switch
from utils.config.schema import Anything, IndexOrName, Many, NumberOr, Text, Whole
from utils.parameters import Choice, Number

if TYPE_CHECKING:
    from utils.detection.sources import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectOptions(Options):
    """Options of a detection in full."""

    command: ClassVar[str] = "detect.py"
    purpose: ClassVar[str] = "Detect objects in images and videos."
    unavailable: ClassVar[Mapping[str, str]] = {
        "data": "class names are in the checkpoint",
        "dnn": "checkpoints of this program run in PyTorch",
        "update": "checkpoints are stripped when their training ends",
        "visualize": "",
    }

    weights: tuple[str, ...] = required(Many(None, Text()), "checkpoint, e.g. .../best.pt; several form an ensemble")
    cfg: str = option(Text(""), "model YAML, for weights that are a state dict alone")
    source: Source | Sequence[Source] = option(
        Anything("data/images"), "image, folder, glob pattern, .txt list, video, camera number or stream"
    )
    imgsz: tuple[int, ...] | None = option(
        Many(None, Whole(low=1), most=2),
        "image size, or height and width, pixels (default: the training size)",
        aliases=("--img", "--img-size"),
    )
    conf_thres: float | str = option(
        NumberOr(AUTO, 0, 1, AUTO),
        "confidence threshold; 'auto' uses the best one of each class, as stored in the checkpoint, or 0.25 without",
        metavar="CONF",
    )
    iou_thres: float = option(Number(0.45, 0, 1), "IoU threshold of NMS")
    max_det: int = option(Whole(1000, 1), "maximum detections per image")
    calibrate: str = option(
        Choice("none", CALIBRATIONS), "show probabilities instead of scores, with the checkpoint's maps"
    )
    augment: bool = switch("test-time augmentation: three scales, one of them mirrored")
    device: str = option(Text(""), "cpu, 0 or mps (default: the first GPU, else the CPU)")
    view_img: bool = switch("show the results in a window; q or Esc quits")
    save_txt: bool = switch("save detections as labels/*.txt")
    save_format: int = option(Whole(0, 0, 1), "boxes in labels/*.txt: 0 YOLO, 1 Pascal VOC")
    save_csv: bool = switch("save detections as predictions.csv")
    save_conf: bool = switch("with --save-txt: add the confidence to each row")
    save_crop: bool = switch("save every detection as an image of its own")
    nosave: bool = switch("save no annotated images and videos")
    classes: tuple[int | str, ...] | None = option(
        Many(None, IndexOrName(), 0), "keep only these classes, by index or name, e.g. --classes 0 person"
    )
    agnostic_nms: bool = switch("class-agnostic NMS: suppress overlapping boxes across classes")
    project: str = option(Text("runs/detect"), "folder that holds the run folders")
    name: str = option(Text("exp"), "name of the run folder")
    exist_ok: bool = switch("write into an existing run folder")
    line_thickness: int = option(Whole(3, 1), "line width of the boxes, pixels")
    hide_labels: bool = switch("draw boxes without names")
    hide_conf: bool = switch("draw names without confidences")
    half: bool = switch("run the network in 16 bits")
    vid_stride: int = option(Whole(1, 1), "use every k-th frame of a video")


class DetectKeywords(TypedDict, total=False):
    """Keywords of ``detect.predict``; see :class:`DetectOptions`."""

    weights: Required[str | Path | Sequence[str | Path]]
    cfg: str | Path
    source: Source | Sequence[Source]
    imgsz: int | Sequence[int] | None
    conf_thres: float | str
    iou_thres: float
    max_det: int
    calibrate: str
    augment: bool
    device: str
    view_img: bool
    save_txt: bool
    save_format: int
    save_csv: bool
    save_conf: bool
    save_crop: bool
    nosave: bool
    classes: Sequence[int | str] | None
    agnostic_nms: bool
    project: str | Path
    name: str
    exist_ok: bool
    line_thickness: int
    hide_labels: bool
    hide_conf: bool
    half: bool
    vid_stride: int
