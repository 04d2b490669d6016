"""The validation loop: a network over a data set, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from utils.config.console import images_bar
from utils.datasets import DetectionDataset, Loader
from utils.evaluation.budget import ClassBudget
from utils.evaluation.coco_json import ids_of_images
from utils.inference import DetectionNetwork, Stopwatch, decoding_type, to_network_input
from utils.metrics import DetectionEvaluator, Metrics
from utils.postprocess import best_per_class, scale_boxes
from utils.structures import Detections, LossOutput, Predictions, ValidatedBatch

BUDGET = 50_000  # detections of a class that an evaluation keeps; ten an image on large sets


class Validation(NamedTuple):
    """What :func:`validate` measured.

    Attributes:
        metrics: precision, recall, AP.
        losses: mean weighted loss parts over the images; empty without a criterion.
        speed_ms: milliseconds per image of ``preprocess``, ``inference`` and ``nms``.
        detections: what was found, in the order of the data set, boxes in pixels of the original images.
        evaluator: holds these and the ground truth, for metrics of your own.
    """

    metrics: Metrics
    losses: dict[str, float]
    speed_ms: dict[str, float]
    detections: list[Detections]
    evaluator: DetectionEvaluator


@torch.no_grad()  # not inference_mode: tables cached here by model or criterion must serve the next training step
def validate(
    model: DetectionNetwork,
    loader: Loader,
    *,
    names: Mapping[int, str],
    device: torch.device,
    criterion: Callable[..., LossOutput] | None = None,
    conf_thres: float = 0.0,
    iou_thres: float = 0.6,
    max_det: int = 100,
    single_cls: bool = False,
    half: bool = False,
    progress: bool = True,
    on_batch: Callable[[ValidatedBatch], None] | None = None,
) -> Validation:
    """Run a network over a loader and measure it. The network's training flag is as before afterwards.

    The best detections of each class and image count, with any score.

    Args:
        model: has ``raw(images)`` and ``decode(raw)``; expects images in [0, 1].
        loader: of a data set that is not augmented.
        names: class index to name, one for each class.
        device: where the network lives.
        criterion: for the losses; gets raw maps in float32, targets, and regions to ignore where a batch has some.
        conf_thres: candidates need more than this score; above 0 it cuts the precision-recall curve.
        iou_thres: overlap above which the lower of two boxes is suppressed.
        max_det: detections per image and class; COCO counts 100.
        single_cls: all classes count as class 0.
        half: 16 bits in the network (float16 on a GPU, else bfloat16); boxes, losses and metrics stay wider.
        progress: show a progress bar on a terminal.
        on_batch: called with each finished batch.
    """
    found: dict[int, Detections] = {}
    budget = ClassBudget(len(names), max(BUDGET, 10 * len(loader.images)))
    watch = Stopwatch(device)
    losses: dict[str, float] = {}
    bar = images_bar(len(loader.images), "validating", progress)
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
                regions = () if batch.regions is None else (batch.regions,)
                parts = criterion(raw, batch.targets.to(device), *regions).parts
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
    losses = {name: total / per_image for name, total in losses.items()}
    evaluator = _evaluator(loader.images, names, detections)
    return Validation(evaluator.compute(), losses, speed_ms, detections, evaluator)


def _decoded_one_by_one(model: DetectionNetwork, raw: Sequence[Tensor], single_cls: bool) -> Iterator[Tensor]:
    """Predictions (1, N, 5 + C) of each image in turn: all at once they would take gigabytes in float64."""
    dtype = decoding_type(raw[0].device)
    for image in range(len(raw[0])):
        predictions = model.decode([level[image : image + 1].to(dtype) for level in raw])
        if single_cls:
            named = Predictions.of(predictions)
            likeliest = named.classes.amax(dim=-1, keepdim=True)
            predictions = torch.cat((named.boxes, named.objectness[..., None], likeliest), dim=-1)
        yield predictions


def _evaluator(
    dataset: DetectionDataset, names: Mapping[int, str], detections: Sequence[Detections]
) -> DetectionEvaluator:
    """An evaluator with all images, numbered as their ids are ordered in COCO's JSON: ties count alike there."""
    evaluator = DetectionEvaluator(len(names), names)
    ids = ids_of_images(dataset)
    for number, index in enumerate(sorted(range(len(ids)), key=ids.__getitem__)):
        truth = dataset.ground_truth(index)
        evaluator.update(
            detections[index], truth.boxes, truth.classes, gt_crowd=truth.crowd, gt_area=truth.area, image=number
        )
    return evaluator
