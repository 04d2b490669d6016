"""Measure a trained network on a data set.

    python val.py --weights runs/train/exp/weights/best.pt --data bccd.yaml --img 320

From Python: ``val.evaluate(weights=..., data=...)`` returns the metrics; ``validate`` is the loop that training shares.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from utils.config.parser import CommandParser
from utils.evaluation.options import SPLIT_TASKS, ValKeywords, ValOptions

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    GIVEN = CommandParser(ValOptions).given()

import torch

from models.loading import class_names, load_networks
from utils.checkpoint import add_to_checkpoint
from utils.config.console import run_main
from utils.datasets import DataDescription, DetectionDataset, Loader, build_loader, read_data_yaml
from utils.errors import UserError
from utils.evaluation.coco_json import published_annotations
from utils.evaluation.files import OutputFiles
from utils.evaluation.image_sizes import study_row, write_study
from utils.evaluation.inputs import check_classes, check_options, data_file, image_sizes
from utils.evaluation.loop import Validation, validate
from utils.evaluation.report import iou_table, validation_table
from utils.files import increment_path
from utils.inference import DetectionNetwork, select_device
from utils.metrics import Metrics
from utils.operating_points import (
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


class Evaluation(NamedTuple):
    """What :func:`evaluate` returns: metrics, milliseconds per image, and the folder with the files."""

    metrics: Metrics
    speed_ms: dict[str, float]
    save_dir: Path


@dataclasses.dataclass(frozen=True)
class _Job:
    """What :func:`evaluate` was asked for, with everything found and loaded."""

    options: ValOptions
    model: DetectionNetwork
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
        return Path(self.options.weights[0]).stem

    def loader(self, imgsz: int, rect: bool = True) -> Loader:
        """Images that are not augmented; in rectangular batches of like aspect ratio, or square."""
        batch_size, stride = self.options.batch_size, max(self.model.stride)
        dataset = DetectionDataset(
            self.description,
            self.split,
            image_size=imgsz,
            rect=rect,
            batch_size=batch_size,
            stride=stride,
            pad=0.5 if rect else 0.0,
            single_cls=self.options.single_cls,
        )
        workers, pin_memory = self.options.workers, self.device.type == "cuda"
        return build_loader(dataset, batch_size, workers=workers, pin_memory=pin_memory)

    def validate(self, loader: Loader, on_batch: Callable[[ValidatedBatch], None] | None = None) -> Validation:
        """Run the network over the loader, with the thresholds of detection where only its speed matters."""
        names = class_names(loader.images.names)
        settings = {key: getattr(self.options, key) for key in ("conf_thres", "iou_thres", "max_det", "half")}
        settings |= {"single_cls": self.options.single_cls, "device": self.device}
        settings |= SPEED_SETTINGS if self.options.task == "speed" else {}
        return validate(self.model, loader, names=names, on_batch=on_batch, **settings)

    def make_folder(self) -> Path:
        """The folder of the run."""
        return increment_path(self.options.project, self.options.name, self.options.exist_ok)

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, as plain data."""
        shown: dict[str, Any] = {"weights": ", ".join(self.options.weights), "data": str(self.description.file)}
        shown |= {"task": self.options.task, "imgsz": self.sizes[0] if len(self.sizes) == 1 else list(self.sizes)}
        for name in ("batch_size", "conf_thres", "iou_thres", "max_det", "half", "single_cls", "augment", "calibrate"):
            shown[name] = getattr(self.options, name)
        shown |= SPEED_SETTINGS if self.options.task == "speed" else {}
        return shown | {"device": str(self.device)}


def evaluate(**options: Unpack[ValKeywords]) -> Evaluation:
    """Measure a trained network; the command line as a function.

    Args:
        options: see :class:`utils.evaluation.options.ValOptions`, e.g. ``weights="best.pt"``, ``data="bccd.yaml"``,
            ``task="test"``.

    Returns:
        Evaluation: of the task ``study``, the one at the size of the highest AP.

    Raises:
        UserError: an invalid option or file, or data whose classes do not fit the network.
    """
    complete = ValOptions.of(options)
    check_options(complete)
    job = _prepare(complete)
    log.info("settings: %s", ", ".join(f"{setting} {value}" for setting, value in job.settings().items()))
    return {"study": _study, "speed": _speed}.get(complete.task, _measure)(job)


def _prepare(options: ValOptions) -> _Job:
    """Load the networks, find the data, and see that they go together."""
    device = select_device(options.device)
    files = options.weights
    model, contents = load_networks(files, device, options.augment, options.cfg or None)
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
    return _Job(options, model, description, device, sizes, calibrations)


def _measure(job: _Job) -> Evaluation:
    """Metrics of a split, with everything that was asked for written down."""
    options, loader = job.options, job.loader(job.sizes[0])
    names = loader.images.names
    log.info("data: %d images, classes: %s", len(loader.images), ", ".join(names))
    save_dir = job.make_folder()
    output = OutputFiles(
        save_dir,
        loader.images,
        job.stem,
        txt=options.save_txt,
        conf=options.save_conf,
        save_json=options.save_json,
        published=published_annotations(loader.images, job.description, job.split),
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
        add_to_checkpoint(job.options.weights[0], **{KEY: points})
        log.info("thresholds and calibrations of the classes are stored in %s", job.options.weights[0])
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
    shape = min(job.options.batch_size, len(loader.images)), 3, job.sizes[0], job.sizes[0]
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


if __name__ == "__main__":
    run_main(lambda: evaluate(**GIVEN))
