"""Measure a trained network on a data set.

    python val.py --weights runs/train/exp/weights/best.pt --data bccd.yaml --img 320

From Python: ``val.evaluate(weights=..., data=...)`` returns the metrics; ``validate`` is the loop that training shares.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

from models.loading import class_names, load_networks
from utils.checkpoint import add_to_checkpoint
from utils.config.console import run_main, setup_logging
from utils.config.parser import CommandParser
from utils.datasets import DataDescription, DetectionDataset, Loader, build_loader, read_data_yaml
from utils.errors import UserError
from utils.evaluation.coco_json import published_annotations
from utils.evaluation.files import OutputFiles
from utils.evaluation.image_sizes import study_row, write_study
from utils.evaluation.loop import Validation, validate
from utils.evaluation.options import SPLIT_TASKS, TASKS, check_classes, check_options, data_file, image_sizes
from utils.evaluation.report import iou_table, validation_table
from utils.files import increment_path
from utils.inference import select_device
from utils.metrics import Metrics
from utils.operating_points import (
    CALIBRATIONS,
    KEY,
    class_calibrations,
    fit_operating_points,
    operating_points,
    with_calibration,
)
from utils.structures import ValidatedBatch

log = logging.getLogger(__name__)

SPEED_SETTINGS = {"conf_thres": 0.25, "iou_thres": 0.45}  # of the task speed: as one would detect
WARM_UP = 3  # batches before times are taken
UNAVAILABLE = {  # flags of YOLOv5's val.py
    "dnn": "checkpoints of this program run in PyTorch",
    "save_hybrid": "labels among the detections would inflate the metrics; --save-txt writes the detections alone",
}


class Evaluation(NamedTuple):
    """What :func:`evaluate` returns: metrics, milliseconds per image, and the folder with the files."""

    metrics: Metrics
    speed_ms: dict[str, float]
    save_dir: Path


@dataclasses.dataclass(frozen=True)
class _Job:
    """What :func:`evaluate` was asked for, with everything found and loaded."""

    options: SimpleNamespace  # arguments of evaluate
    files: list[str | Path]  # checkpoints
    model: nn.Module
    description: DataDescription
    device: torch.device
    sizes: tuple[int, ...]
    calibrations: list[Mapping[str, Any]] | None

    @property
    def split(self) -> str:
        """Of the data set."""
        return self.options.task if self.options.task in SPLIT_TASKS else "val"

    @property
    def stem(self) -> str:
        """Name of the (first) checkpoint."""
        return Path(self.files[0]).stem

    def loader(self, imgsz: int, rect: bool = True) -> Loader:
        """Images that are not augmented; in rectangular batches of like aspect ratio, or square."""
        batch_size, stride = self.options.batch_size, max(self.model.stride)
        shape = {"image_size": imgsz, "rect": rect, "batch_size": batch_size, "stride": stride}
        pad, single_cls = 0.5 if rect else 0.0, self.options.single_cls
        dataset = DetectionDataset(self.description, self.split, pad=pad, single_cls=single_cls, **shape)
        workers, pin_memory = self.options.workers, self.device.type == "cuda"
        return build_loader(dataset, batch_size, workers=workers, pin_memory=pin_memory)

    def validate(self, loader: Loader, on_batch: Callable[[ValidatedBatch], None] | None = None) -> Validation:
        """Run the network over the loader, with the thresholds of detection where only its speed matters."""
        names = class_names(loader.dataset.names)
        settings = {key: getattr(self.options, key) for key in ("conf_thres", "iou_thres", "max_det", "half")}
        settings |= {"single_cls": self.options.single_cls, "device": self.device}
        settings |= SPEED_SETTINGS if self.options.task == "speed" else {}
        return validate(self.model, loader, names=names, on_batch=on_batch, **settings)

    def make_folder(self) -> Path:
        """The folder of the run."""
        return increment_path(self.options.project, self.options.name, self.options.exist_ok)

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, as plain data."""
        shown = {"weights": ", ".join(map(str, self.files)), "data": str(self.description.file)}
        shown |= {"task": self.options.task, "imgsz": self.sizes[0] if len(self.sizes) == 1 else list(self.sizes)}
        for name in ("batch_size", "conf_thres", "iou_thres", "max_det", "half", "single_cls", "augment", "calibrate"):
            shown[name] = getattr(self.options, name)
        shown |= SPEED_SETTINGS if self.options.task == "speed" else {}
        return shown | {"device": str(self.device)}


def evaluate(
    *,
    weights: str | Path | Sequence[str | Path],
    data: str | Path | None = None,
    batch_size: int = 32,
    imgsz: int | Sequence[int] | None = None,
    conf_thres: float = 0.0,
    iou_thres: float = 0.6,
    max_det: int = 100,
    task: str = "val",
    device: str = "",
    workers: int = 8,
    single_cls: bool = False,
    augment: bool = False,
    verbose: bool = False,
    save_txt: bool = False,
    save_conf: bool = False,
    save_json: bool = False,
    coco_api: bool = False,
    save_thresholds: bool = False,
    calibrate: str = "none",
    half: bool = False,
    plots: bool = True,
    project: str | Path = "runs/val",
    name: str = "exp",
    exist_ok: bool = False,
) -> Evaluation:
    """The command line as a function; options as there.

    Args:
        weights: checkpoint file; several of them are an ensemble.
        data: data YAML; None takes the one that the network was trained on.
        imgsz: image size in pixels, rounded up to the network's stride; None takes the training size. For the task
            ``study`` the sizes to go through.
        task: split of the data, ``train``, ``val`` or ``test``; or ``speed`` or ``study`` on the val split.
        coco_api: write COCO's JSON, evaluate it with pycocotools too, and print the differences.
        save_thresholds: store thresholds and calibrations of the classes in the checkpoint, as training does.
        calibrate: ``isotonic``, ``platt`` or ``none``: the map stored in the checkpoint that scores go through before
            their reliability is measured.
        plots: draw pictures.

    Returns:
        Evaluation: of ``study``, the one at the size of the highest AP.

    Raises:
        UserError: a file, class count or setting that cannot be right.
    """
    options = SimpleNamespace(**locals())
    check_options(options)
    job = _prepare(options)
    log.info("settings: %s", ", ".join(f"{setting} {value}" for setting, value in job.settings().items()))
    return {"study": _study, "speed": _speed}.get(task, _measure)(job)


def _prepare(options: SimpleNamespace) -> _Job:
    """Load the networks, find the data, and see that they go together."""
    device = select_device(options.device)
    files = [options.weights] if isinstance(options.weights, str | Path) else list(options.weights)
    model, contents = load_networks(files, device, options.augment)
    description = read_data_yaml(data_file(options.data, contents[0], files[0]))
    check_classes(description, model.names, options.single_cls, files[0])
    if options.save_thresholds and options.single_cls and model.nc > 1:
        raise UserError("--save-thresholds: expected a threshold for each class, but --single-cls merges them")
    calibrations = None
    if options.calibrate != "none":
        if len(files) > 1:
            raise UserError("--calibrate: expected one checkpoint, since its maps are for its scores, but got several")
        points = operating_points(contents[0], files[0], "--calibrate")
        calibrations = class_calibrations(points, options.calibrate)
        measured = points["measured"]
        if (Path(measured["data"]).name, measured["task"]) == (description.file.name, options.task):
            log.warning("the calibration was fitted to these very images: its errors come out too low")
    sizes = image_sizes(options.imgsz, options.task, contents[0], max(model.stride))
    return _Job(options, files, model, description, device, sizes, calibrations)


def _measure(job: _Job) -> Evaluation:
    """Metrics of a split, with everything that was asked for written down."""
    options, loader = job.options, job.loader(job.sizes[0])
    names = loader.dataset.names
    log.info("data: %d images, classes: %s", len(loader.dataset), ", ".join(names))
    save_dir = job.make_folder()
    output = OutputFiles(
        save_dir,
        loader.dataset,
        job.stem,
        txt=options.save_txt,
        conf=options.save_conf,
        json=options.save_json,
        published=published_annotations(job.description, job.split),
        coco_api=options.coco_api,
        plots=options.plots,
    )
    result = job.validate(loader, output.add)
    if job.calibrations:
        result = result._replace(metrics=with_calibration(result.metrics, result.evaluator, job.calibrations))
    output.finish(result.detections, result.evaluator, result.metrics)
    if output.has_labels:
        per_class = options.verbose or 1 < len(names) < 50
        log.info("%s\n%s", validation_table(result.metrics, per_class), iou_table(result.metrics))
    if options.save_thresholds:
        points = fit_operating_points(result.evaluator, result.metrics, job.settings())
        add_to_checkpoint(job.files[0], **{KEY: points})
        log.info("thresholds and calibrations of the classes are stored in %s", job.files[0])
    return _report(job, result, save_dir)


def _study(job: _Job) -> Evaluation:
    """Measure at each size: a table and its picture tell what a larger image costs and brings."""
    rows, results, save_dir = [], [], job.make_folder()
    for size in job.sizes:
        results.append(job.validate(job.loader(size)))
        rows.append(study_row(size, results[-1].metrics, results[-1].speed_ms))
        log.info("%d pixels: mAP50-95 %.4g, %.1f ms per image", size, rows[-1]["mAP50-95"], rows[-1]["total_ms"])
    write_study(save_dir / f"study_{job.description.file.stem}_{job.stem}.txt", rows)
    log.info("results are in %s", save_dir)
    best = max(results, key=lambda result: result.metrics.map)
    return Evaluation(best.metrics, best.speed_ms, save_dir)


def _speed(job: _Job) -> Evaluation:
    """Time the network on square images."""
    loader = job.loader(job.sizes[0], rect=False)
    shape = min(job.options.batch_size, len(loader.dataset)), 3, job.sizes[0], job.sizes[0]
    with torch.no_grad():
        for _ in range(WARM_UP):
            job.model.raw(torch.zeros(shape, device=job.device))
    return _report(job, job.validate(loader), job.make_folder())


def _report(job: _Job, result: Validation, save_dir: Path) -> Evaluation:
    """Print the speed, and write the metrics with the settings that they were measured with."""
    speed = ", ".join(f"{value:.1f} ms {section}" for section, value in result.speed_ms.items())
    log.info("speed per image at %d pixels, batch %d: %s", job.sizes[0], job.options.batch_size, speed)
    content = result.metrics.to_dict() | {"speed_ms": result.speed_ms} | job.settings()
    text = json.dumps(content, indent=2, allow_nan=False)
    (save_dir / "metrics.json").write_text(text + "\n", encoding="utf-8")
    log.info("results are in %s", save_dir)
    return Evaluation(result.metrics, result.speed_ms, save_dir)


def make_parser() -> CommandParser:
    """The flags of the command line; their defaults are those of :func:`evaluate`."""
    parser = CommandParser(
        prog="val.py", description="Measure a trained network on a data set.", unavailable=UNAVAILABLE
    )
    add = parser.add_argument
    add("--weights", required=True, nargs="+", help="checkpoint, for example .../weights/best.pt; several: an ensemble")
    add("--data", help="data YAML (default: the one of the training)")
    add("--batch-size", type=int, help="images per batch (default 32)")
    size = "image size in pixels (default: the one of the training); the sizes of --task study (default 256 ... 1536)"
    add("--imgsz", "--img", "--img-size", type=int, nargs="+", help=size)
    add("--conf-thres", type=float, help="least score of a detection (default 0: the best of each class count)")
    add("--iou-thres", type=float, help="overlap above which the lower of two boxes goes (default 0.6)")
    add("--max-det", type=int, help="detections per image and class (default 100, as COCO counts)")
    add("--task", choices=TASKS, help="split of the data, or timings, or a study of image sizes (default val)")
    add("--device", help="cpu, 0, mps (default: the first GPU, else the CPU)")
    add("--workers", type=int, help="processes that load images (default 8)")
    add("--single-cls", action="store_true", help="treat all classes as one")
    add("--augment", action="store_true", help="look at each image at three sizes, once mirrored")
    add("--verbose", action="store_true", help="a row per class, also with 50 classes and more")
    add("--save-txt", action="store_true", help="write detections as labels/*.txt")
    add("--save-conf", action="store_true", help="with --save-txt: add the confidence to each row")
    add("--save-json", action="store_true", help="write labels and detections as COCO JSON")
    add("--coco-api", action="store_true", help="evaluate that JSON with pycocotools too, and print the differences")
    add("--save-thresholds", action="store_true", help="store thresholds and calibrations of classes in the checkpoint")
    add("--calibrate", choices=CALIBRATIONS, help="calibrate scores before measuring their reliability (default none)")
    add("--project", help="folder of runs (default runs/val)")
    add("--name", help="name of this run (default exp)")
    add("--exist-ok", action="store_true", help="write into an existing run folder")
    add("--half", action="store_true", help="run the network in 16 bits")
    return parser


def main() -> None:
    """Run the command line."""
    setup_logging()
    evaluate(**make_parser().given())


if __name__ == "__main__":
    run_main(main)
