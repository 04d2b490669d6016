"""Measure a trained network on a data set.

    python val.py --weights runs/train/exp/weights/best.pt --data bccd.yaml --img 320

From Python: ``val.evaluate(weights=..., data=...)`` returns the metrics; ``validate`` is the loop that training shares.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.loading import class_names, load_networks
from utils.class_budget import ClassBudget
from utils.coco_files import gt_boxes
from utils.commandline import images_bar
from utils.config import CommandParser, increment_path, run_main, select_device, setup_logging
from utils.datasets import DataDescription, DetectionDataset, Loader, build_loader, read_data_yaml
from utils.metrics import DetectionEvaluator, Metrics
from utils.metrics.report import iou_table, metrics_table
from utils.network_input import to_network_input
from utils.postprocess import best_per_class, scale_boxes
from utils.setting_checks import check_counts, check_fractions, warn_without
from utils.size_study import study_row, write_study
from utils.stopwatch import Stopwatch
from utils.structures import Detections, LossOutput
from utils.validation_files import OutputFiles, ValidatedBatch
from utils.validation_settings import SPLIT_TASKS, TASKS, check_classes, check_task, data_file, image_sizes

log = logging.getLogger(__name__)

BUDGET = 50_000  # detections of a class that an evaluation keeps; ten an image on large sets
SPEED_SETTINGS = {"conf_thres": 0.25, "iou_thres": 0.45}  # of the task speed: as one would detect
WARM_UP = 3  # batches before times are taken
UNAVAILABLE = {  # flags of YOLOv5's val.py
    "dnn": "checkpoints of this program run in PyTorch",
    "save_hybrid": "labels among the detections would inflate the metrics; --save-txt writes the detections alone",
}


class Validation(NamedTuple):
    """What :func:`validate` measured.

    Attributes:
        metrics: precision, recall, AP.
        losses: mean weighted loss parts over the images; empty without a criterion.
        speed_ms: milliseconds per image of ``preprocess``, ``inference`` and ``nms``.
        detections: what was found, in the order of the data set, boxes in pixels of the original images.
    """

    metrics: Metrics
    losses: dict[str, float]
    speed_ms: dict[str, float]
    detections: list[Detections]


class Evaluation(NamedTuple):
    """What :func:`evaluate` returns: metrics, milliseconds per image, and the folder with the files."""

    metrics: Metrics
    speed_ms: dict[str, float]
    save_dir: Path


@torch.no_grad()  # not inference_mode: tables cached here by model or criterion must serve the next training step
def validate(
    model: nn.Module,
    loader: Loader,
    *,
    names: Mapping[int, str],
    device: torch.device,
    criterion: Callable[[list[Tensor], Tensor], LossOutput] | None = None,
    conf_thres: float = 0.0,
    iou_thres: float = 0.6,
    max_det: int = 100,
    single_cls: bool = False,
    half: bool = False,
    progress: bool = True,
    on_batch: Callable[[ValidatedBatch], None] | None = None,
) -> Validation:
    """Run a network over a loader and measure it. The network's training flag is as before afterwards.

    The best of each class in each image count, whatever their scores. Boxes and scores are decoded in float64 where
    the device has it: a ranking loss may drive logits to where neighbouring ones are one number in float32.

    Args:
        model: has ``raw(images)`` and ``decode(raw)``; expects images in [0, 1].
        loader: of a data set that is not augmented.
        names: class index to name, one for each class.
        device: where the network lives.
        criterion: for the losses; gets raw maps in float32.
        conf_thres: candidates need more than this score; above 0 it cuts the precision-recall curve.
        iou_thres: overlap above which the lower of two boxes is suppressed.
        max_det: detections per image and class; COCO counts 100.
        single_cls: all classes count as class 0.
        half: 16 bits in the network (float16 on a GPU, else bfloat16); boxes, losses and metrics stay wider.
        progress: show a progress bar on a terminal.
        on_batch: called with each finished batch.
    """
    found: dict[int, Detections] = {}
    budget = ClassBudget(len(names), max(BUDGET, 10 * len(loader.dataset)))
    watch, losses = Stopwatch(device), {}
    bar = images_bar(len(loader.dataset), "validating", progress)
    half_type = torch.float16 if device.type == "cuda" else torch.bfloat16
    was_training = model.training
    model.eval()
    try:
        for index, batch in enumerate(loader):
            watch.start()
            images = to_network_input(batch.images, device)
            watch.lap("preprocess")
            with torch.autocast(device.type, half_type, enabled=half):
                raw = model.raw(images)
            raw = [level.float() for level in raw]
            watch.lap("inference")
            in_input = []
            for predictions in _decoded_one_by_one(model, raw, single_cls):
                watch.lap("inference")
                thresholds = budget.thresholds.clamp(min=conf_thres)
                (best,) = best_per_class(predictions, conf_thres=thresholds, iou_thres=iou_thres, max_det=max_det)
                in_input.append(Detections(*(column.cpu() for column in best)))
                budget.add(in_input[-1])
                watch.lap("nms")
            if criterion is not None:
                parts = criterion(raw, batch.targets.to(device)).parts
                losses = {name: losses.get(name, 0.0) + float(part) * len(images) for name, part in parts.items()}
            for row, entry, geometry in zip(batch.indices, in_input, batch.geometries, strict=True):
                found[row] = entry._replace(boxes=scale_boxes(entry.boxes, geometry))
            bar.update(len(images))
            if on_batch is not None:
                on_batch(ValidatedBatch(index, batch, in_input))
    finally:
        bar.close()
        model.train(was_training)
    per_image = max(len(found), 1)
    speed_ms = {section: 1000 * seconds / per_image for section, seconds in watch.seconds.items()}
    detections = [budget.keep(found[row]) for row in sorted(found)]
    metrics = _measure(loader.dataset, names, detections)
    return Validation(metrics, {name: total / per_image for name, total in losses.items()}, speed_ms, detections)


def _decoded_one_by_one(model: nn.Module, raw: Sequence[Tensor], single_cls: bool) -> Iterator[Tensor]:
    """Predictions (1, N, 5 + C) of each image in turn: all at once they would take gigabytes in float64."""
    dtype = torch.float32 if raw[0].device.type == "mps" else torch.float64
    for image in range(len(raw[0])):
        predictions = model.decode([level[image : image + 1].to(dtype) for level in raw])
        if single_cls:
            likeliest = predictions[..., 5:].amax(dim=-1, keepdim=True)
            predictions = torch.cat((predictions[..., :5], likeliest), dim=-1)
        yield predictions


def _measure(dataset: DetectionDataset, names: Mapping[int, str], detections: Sequence[Detections]) -> Metrics:
    """Metrics of the first images of a data set, as many as there are detections."""
    evaluator = DetectionEvaluator(len(names), names)
    for index, entry in enumerate(detections):
        evaluator.update(entry, *gt_boxes(dataset, index))
    return evaluator.compute()


@dataclasses.dataclass(frozen=True)
class _Job:
    """What to measure, and how; everything but the image size."""

    model: nn.Module
    description: DataDescription
    split: str
    device: torch.device
    batch_size: int
    workers: int
    single_cls: bool
    settings: Mapping[str, Any]  # of validate

    def loader(self, imgsz: int, rect: bool = True) -> Loader:
        """Images that are not augmented; in rectangular batches of like aspect ratio, or square."""
        shape = {"image_size": imgsz, "rect": rect, "batch_size": self.batch_size, "stride": max(self.model.stride)}
        pad = 0.5 if rect else 0.0
        dataset = DetectionDataset(self.description, self.split, pad=pad, single_cls=self.single_cls, **shape)
        return build_loader(dataset, self.batch_size, workers=self.workers, pin_memory=self.device.type == "cuda")

    def validate(self, loader: Loader, on_batch: Callable[[ValidatedBatch], None] | None = None) -> Validation:
        """Run the network over the loader."""
        names = class_names(loader.dataset.names)
        settings = {"device": self.device, "single_cls": self.single_cls, **self.settings}
        return validate(self.model, loader, names=names, on_batch=on_batch, **settings)


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
        plots: draw pictures.

    Returns:
        Evaluation: of ``study``, the one at the size of the highest AP.

    Raises:
        UserError: a file, class count or setting that cannot be right.
    """
    check_fractions(conf_thres=conf_thres, iou_thres=iou_thres)
    check_counts(max_det=max_det, batch_size=batch_size)
    check_task(task, conf_thres)
    warn_without("--save-txt", save_txt, save_conf=save_conf)
    target, files = select_device(device), [weights] if isinstance(weights, str | Path) else list(weights)
    model, contents = load_networks(files, target, augment)
    description = read_data_yaml(data_file(data, contents[0], files[0]))
    check_classes(description, model.names, single_cls, files[0])
    sizes = image_sizes(imgsz, task, contents[0], max(model.stride))
    settings = {"conf_thres": conf_thres, "iou_thres": iou_thres, "max_det": max_det, "half": half}
    settings |= SPEED_SETTINGS if task == "speed" else {}
    split = task if task in SPLIT_TASKS else "val"
    job = _Job(model, description, split, target, batch_size, workers, single_cls, settings)
    shown = {"weights": ", ".join(map(str, files)), "data": str(description.file), "task": task}
    shown |= {"imgsz": sizes[0] if len(sizes) == 1 else list(sizes), "batch_size": batch_size, **settings}
    shown |= {"single_cls": single_cls, "augment": augment, "device": str(target)}
    log.info("settings: %s", ", ".join(f"{setting} {value}" for setting, value in shown.items()))
    if task == "study":
        return _study(job, sizes, increment_path(project, name, exist_ok), Path(files[0]).stem)
    loader = job.loader(sizes[0], rect=task != "speed")
    log.info("data: %d images, classes: %s", len(loader.dataset), ", ".join(loader.dataset.names))
    save_dir = increment_path(project, name, exist_ok)
    if task == "speed":
        return _speed(job, loader, shown, save_dir)
    output = OutputFiles(
        save_dir, loader.dataset, Path(files[0]).stem, txt=save_txt, conf=save_conf, json=save_json, plots=plots
    )
    result = job.validate(loader, output.add)
    output.finish(result.detections)
    if output.has_labels:
        per_class = verbose or 1 < len(loader.dataset.names) < 50
        log.info("%s\n%s", metrics_table(result.metrics, per_class), iou_table(result.metrics))
    _report(result, shown, save_dir)
    return Evaluation(result.metrics, result.speed_ms, save_dir)


def _study(job: _Job, sizes: Sequence[int], save_dir: Path, stem: str) -> Evaluation:
    """Measure at each size: a table and its picture tell what a larger image costs and brings."""
    rows, best = [], None
    for size in sizes:
        result = job.validate(job.loader(size))
        rows.append(study_row(size, result.metrics, result.speed_ms))
        log.info("%d pixels: mAP50-95 %.4g, %.1f ms per image", size, result.metrics.map, rows[-1]["total_ms"])
        if best is None or result.metrics.map > best.metrics.map:
            best = result
    write_study(save_dir / f"study_{job.description.file.stem}_{stem}.txt", rows)
    log.info("results are in %s", save_dir)
    return Evaluation(best.metrics, best.speed_ms, save_dir)


def _speed(job: _Job, loader: Loader, shown: Mapping[str, Any], save_dir: Path) -> Evaluation:
    """Time the network on square images, with the thresholds of detection."""
    size = loader.dataset.image_size
    probe = torch.zeros(min(job.batch_size, len(loader.dataset)), 3, size, size, device=job.device)
    with torch.no_grad():
        for _ in range(WARM_UP):
            job.model.raw(probe)
    result = job.validate(loader)
    _report(result, shown, save_dir)
    return Evaluation(result.metrics, result.speed_ms, save_dir)


def _report(result: Validation, shown: Mapping[str, Any], save_dir: Path) -> None:
    """Print the speed, and write the metrics with the settings that they were measured with."""
    speed = ", ".join(f"{value:.1f} ms {section}" for section, value in result.speed_ms.items())
    log.info("speed per image at %d pixels, batch %d: %s", shown["imgsz"], shown["batch_size"], speed)
    content = result.metrics.to_dict() | {"speed_ms": result.speed_ms} | dict(shown)
    text = json.dumps(content, indent=2, allow_nan=False)
    (save_dir / "metrics.json").write_text(text + "\n", encoding="utf-8")
    log.info("results are in %s", save_dir)


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
