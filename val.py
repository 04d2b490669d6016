"""Measure a trained network on a data set.

    python val.py --weights runs/train/exp/weights/best.pt --data bccd.yaml --img 320

From Python: ``val.evaluate(weights=..., data=...)`` returns the metrics; ``validate`` is the loop that training shares.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.loading import class_names, load_model
from utils.boxes import xywh_to_xyxy
from utils.commandline import images_bar
from utils.config import (
    ROOT,
    CommandParser,
    find_file,
    increment_path,
    load_yaml,
    run_main,
    select_device,
    setup_logging,
)
from utils.datasets import DataDescription, DetectionDataset, Loader, build_loader, read_data_yaml
from utils.errors import UserError, unknown_name
from utils.image_size import DEFAULT_IMAGE_SIZE, fitting_image_size
from utils.metrics import DetectionEvaluator, Metrics
from utils.metrics.report import iou_table, metrics_table
from utils.network_input import to_network_input
from utils.postprocess import non_max_suppression, scale_boxes
from utils.prediction_files import category_ids
from utils.setting_checks import check_counts, check_fractions, warn_without
from utils.stopwatch import Stopwatch
from utils.structures import Batch, Detections, LossOutput
from utils.validation_files import OutputFiles, ValidatedBatch

log = logging.getLogger(__name__)

TASKS = ("train", "val", "test")
SAFE_CONF_THRES = 0.001
UNAVAILABLE = {  # flags of YOLOv5's val.py
    "augment": "a larger --imgsz finds more small objects",
    "dnn": "checkpoints of this program run in PyTorch",
    "save_hybrid": "labels among the detections would inflate the metrics; --save-txt writes the detections alone",
}


class Validation(NamedTuple):
    """What :func:`validate` measured.

    Attributes:
        metrics: precision, recall, AP.
        losses: mean weighted loss parts over the images; empty without a criterion.
        speed_ms: milliseconds per image of ``preprocess``, ``inference`` and ``nms``.
    """

    metrics: Metrics
    losses: dict[str, float]
    speed_ms: dict[str, float]


class Evaluation(NamedTuple):
    """What :func:`evaluate` returns: metrics, milliseconds per image, and the folder with the files."""

    metrics: Metrics
    speed_ms: dict[str, float]
    save_dir: Path


@torch.no_grad()  # not inference_mode: tables cached here by model or criterion must serve the next training step
def validate(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    names: Mapping[int, str],
    device: torch.device,
    criterion: Callable[[list[Tensor], Tensor], LossOutput] | None = None,
    conf_thres: float = 0.001,
    iou_thres: float = 0.6,
    max_det: int = 300,
    single_cls: bool = False,
    half: bool = False,
    progress: bool = True,
    on_batch: Callable[[ValidatedBatch], None] | None = None,
) -> Validation:
    """Run a network over a loader and measure it. The network's training flag is as before afterwards.

    Args:
        model: has ``raw(images)`` and ``decode(raw)``; expects images in [0, 1].
        loader: batches whose geometries are known (no mosaic).
        names: class index to name, one for each class.
        device: where the network lives.
        criterion: for the losses; gets raw maps in float32.
        conf_thres: candidates need more than this score; above 0.001 it cuts the precision-recall curve.
        iou_thres: overlap above which the lower of two boxes is suppressed.
        max_det: detections per image.
        single_cls: all classes count as class 0.
        half: 16 bits in the network (float16 on a GPU, else bfloat16); boxes, losses and metrics stay float32.
        progress: show a progress bar on a terminal.
        on_batch: called with each finished batch.
    """
    evaluator = DetectionEvaluator(len(names), names)
    watch, losses, num_images = Stopwatch(device), {}, 0
    bar = images_bar(len(loader.dataset) if isinstance(loader, Loader) else None, "validating", progress)
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
            predictions = model.decode(raw)
            watch.lap("inference")
            found = non_max_suppression(
                predictions,
                conf_thres=conf_thres,
                iou_thres=iou_thres,
                agnostic=single_cls,
                multi_label=True,
                max_det=max_det,
            )
            found = [Detections(*(column.cpu() for column in entry)) for entry in found]
            watch.lap("nms")
            if single_cls:
                found = [entry._replace(classes=torch.zeros_like(entry.classes)) for entry in found]
            if criterion is not None:
                parts = criterion(raw, batch.targets.to(device)).parts
                losses = {name: losses.get(name, 0.0) + float(part) * len(images) for name, part in parts.items()}
            native = _update(evaluator, batch, found)
            num_images += len(images)
            bar.update(len(images))
            if on_batch is not None:
                on_batch(ValidatedBatch(index, batch, found, native))
    finally:
        bar.close()
        model.train(was_training)
    per_image = max(num_images, 1)
    speed_ms = {section: 1000 * seconds / per_image for section, seconds in watch.seconds.items()}
    return Validation(evaluator.compute(), {name: total / per_image for name, total in losses.items()}, speed_ms)


def _update(evaluator: DetectionEvaluator, batch: Batch, found: list[Detections]) -> list[Detections]:
    """Give a batch to the evaluator; returns its detections in pixels of the original images."""
    height, width = batch.images.shape[2:]
    targets = batch.targets
    gt_boxes = xywh_to_xyxy(targets[:, 2:] * targets.new_tensor([width, height, width, height]))
    native = []
    for index, (entry, geometry) in enumerate(zip(found, batch.geometries, strict=True)):
        mine = targets[:, 0] == index
        native.append(entry._replace(boxes=scale_boxes(entry.boxes, geometry)))
        evaluator.update(native[-1], scale_boxes(gt_boxes[mine], geometry), targets[mine, 1].long())
    return native


def evaluate(
    *,
    weights: str | Path,
    data: str | Path | None = None,
    batch_size: int = 32,
    imgsz: int | None = None,
    conf_thres: float = 0.001,
    iou_thres: float = 0.6,
    max_det: int = 300,
    task: str = "val",
    device: str = "",
    workers: int = 8,
    single_cls: bool = False,
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
        weights: checkpoint file.
        data: data YAML; None takes the one that the network was trained on.
        imgsz: image size in pixels, rounded up to the network's stride; None takes the training size.
        task: split of the data: ``train``, ``val`` or ``test``.
        plots: draw the first batches with their labels and predictions.

    Raises:
        UserError: a file, class count or setting that cannot be right.
    """
    check_fractions(conf_thres=conf_thres, iou_thres=iou_thres)
    check_counts(max_det=max_det, batch_size=batch_size)
    _check_task(task, conf_thres)
    warn_without("--save-txt", save_txt, save_conf=save_conf)
    target = select_device(device)
    model, checkpoint = load_model(weights, target)
    model.to_channels_last()
    description = read_data_yaml(_data_file(data, checkpoint, weights))
    _check_classes(description, class_names(model.names), single_cls, weights)
    stride = max(model.stride)
    imgsz = _image_size(imgsz, checkpoint, stride)
    dataset = _make_dataset(description, task, imgsz, stride, batch_size, single_cls)
    loader = build_loader(dataset, batch_size, workers=workers, pin_memory=target.type == "cuda")
    names = class_names(dataset.names)
    categories = _categories(dataset.names) if save_json else None
    settings = {"weights": str(weights), "data": str(description.file), "task": task, "imgsz": imgsz}
    settings |= {"batch_size": batch_size, "conf_thres": conf_thres, "iou_thres": iou_thres, "max_det": max_det}
    settings |= {"single_cls": single_cls, "half": half, "device": str(target)}
    _print_settings(settings, dataset)
    save_dir = increment_path(project, name, exist_ok)
    output = OutputFiles(save_dir, names, txt=save_txt, conf=save_conf, plots=plots, categories=categories)
    result = validate(
        model,
        loader,
        names=names,
        device=target,
        conf_thres=conf_thres,
        iou_thres=iou_thres,
        max_det=max_det,
        single_cls=single_cls,
        half=half,
        on_batch=output.add,
    )
    if save_json:
        _write_json(save_dir / f"{Path(weights).stem}_predictions.json", output.json_rows)
    _report(result, settings, save_dir, per_class=verbose or 1 < len(names) < 50)
    return Evaluation(result.metrics, result.speed_ms, save_dir)


def _check_task(task: str, conf_thres: float) -> None:
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if conf_thres > SAFE_CONF_THRES:
        log.warning("conf-thres %g is above %g: it cuts the curve, AP comes out too low", conf_thres, SAFE_CONF_THRES)


def _print_settings(settings: Mapping[str, Any], dataset: DetectionDataset) -> None:
    log.info("settings: %s", ", ".join(f"{setting} {value}" for setting, value in settings.items()))
    log.info("data: %d images, classes: %s", len(dataset), ", ".join(dataset.names))


def _make_dataset(
    description: DataDescription, task: str, imgsz: int, stride: int, batch_size: int, single_cls: bool
) -> DetectionDataset:
    """For rectangular batches of images of like aspect ratio, not augmented."""
    return DetectionDataset(
        description,
        task,
        image_size=imgsz,
        rect=True,
        batch_size=batch_size,
        stride=stride,
        pad=0.5,
        single_cls=single_cls,
    )


def _categories(names: Sequence[str]) -> tuple[int, ...]:
    """Category numbers of the classes in the JSON; says which."""
    categories = category_ids(names, load_yaml(ROOT / "data" / "coco.yaml")["names"])
    is_coco = categories != tuple(range(len(names)))
    kind = "COCO's, 1 to 90, since the classes are COCO's" if is_coco else f"the class indices, 0 to {len(names) - 1}"
    log.info("category numbers in the JSON: %s", kind)
    return categories


def _report(result: Validation, settings: Mapping[str, Any], save_dir: Path, per_class: bool) -> None:
    """Print the metrics, and write them with the settings that they were measured with."""
    log.info("%s\n%s", metrics_table(result.metrics, per_class), iou_table(result.metrics))
    speed = ", ".join(f"{value:.1f} ms {section}" for section, value in result.speed_ms.items())
    log.info("speed per image at %d pixels, batch %d: %s", settings["imgsz"], settings["batch_size"], speed)
    content = result.metrics.to_dict() | {"speed_ms": result.speed_ms} | dict(settings)
    _write_json(save_dir / "metrics.json", content, indent=2)
    log.info("results are in %s", save_dir)


def _data_file(data: str | Path | None, checkpoint: Mapping[str, Any], weights: str | Path) -> Path:
    """The data file to use: the one given, else the one that the checkpoint names."""
    if data is not None:
        return find_file(data, "data file", ("data",))
    named = (checkpoint.get("opt") or {}).get("data")
    if not named:
        raise UserError(f"--data: expected a data YAML, since {weights} names none")
    try:
        found = find_file(named, "data file", ("data",))
    except UserError as error:
        raise UserError(f"--data: expected a data YAML, since the one that {weights} names is gone: {error}") from None
    log.info("data: %s, as in training", found)
    return found


def _check_classes(
    description: DataDescription, weights_names: Mapping[int, str], single_cls: bool, weights: str | Path
) -> None:
    """The network must know as many classes as the data, in the same order, unless all count as one."""
    if single_cls:
        return
    names = class_names(description.names)
    if len(weights_names) != len(names):
        raise UserError(
            f"{description.file}: expected {len(weights_names)} classes as in {weights} "
            f"({', '.join(weights_names.values())}) but found {len(names)} ({', '.join(names.values())})"
            + ("; --single-cls takes all classes as one" if len(weights_names) == 1 else "")
        )
    ours, theirs = list(names.values()), list(weights_names.values())
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise UserError(f"{description.file}: expected the classes in the order {theirs} of {weights} but found {ours}")
    if ours != theirs:
        log.warning("class names of the data, %s, differ from those of the weights, %s", ours, theirs)


def _image_size(imgsz: int | None, checkpoint: Mapping[str, Any], stride: int) -> int:
    """The size to validate at, a multiple of the stride: the one given, else that of the training, else 640."""
    if imgsz is not None:
        check_counts(imgsz=imgsz)
        return fitting_image_size(imgsz, stride)
    trained = checkpoint.get("image_size")
    size = fitting_image_size(trained or DEFAULT_IMAGE_SIZE, stride)
    log.info("image size: %d, %s", size, "as in training" if trained else "the default")
    return size


def _write_json(path: Path, content: Any, indent: int | None = None) -> None:
    path.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def make_parser() -> CommandParser:
    """The flags of the command line; their defaults are those of :func:`evaluate`."""
    parser = CommandParser(
        prog="val.py", description="Measure a trained network on a data set.", unavailable=UNAVAILABLE
    )
    add = parser.add_argument
    add("--weights", required=True, help="checkpoint, for example runs/train/exp/weights/best.pt")
    add("--data", help="data YAML (default: the one of the training)")
    add("--batch-size", type=int, help="images per batch (default 32)")
    add("--imgsz", "--img", "--img-size", type=int, help="image size in pixels (default: the one of the training)")
    add("--conf-thres", type=float, help="least score of a detection (default 0.001)")
    add("--iou-thres", type=float, help="overlap above which the lower of two boxes goes (default 0.6)")
    add("--max-det", type=int, help="detections per image (default 300)")
    add("--task", choices=TASKS, help="split of the data (default val)")
    add("--device", help="cpu, 0, mps (default: the first GPU, else the CPU)")
    add("--workers", type=int, help="processes that load images (default 8)")
    add("--single-cls", action="store_true", help="treat all classes as one")
    add("--verbose", action="store_true", help="a row per class, also with 50 classes and more")
    add("--save-txt", action="store_true", help="write detections as labels/*.txt")
    add("--save-conf", action="store_true", help="with --save-txt: add the confidence to each row")
    add("--save-json", action="store_true", help="write detections as COCO JSON")
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
