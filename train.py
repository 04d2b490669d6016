"""Train a detector: ``python train.py --data bccd.yaml --cfg yolov5n.yaml --hyp hyp.sca.yaml --img 320``.

Without any flag it trains yolov5n from scratch on generated shapes. :func:`run` is the same from Python.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Unpack

from utils.config.parser import CommandParser
from utils.training.options import TrainKeywords, TrainOptions

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    GIVEN = CommandParser(TrainOptions).given()

import torch
from torch import Tensor, nn

from models.loading import load_model
from models.yolo import describe
from utils import distributed
from utils.checkpoint import add_to_checkpoint, load_checkpoint, save_checkpoint, strip_checkpoint
from utils.config.console import images_bar, run_main, shown_messages
from utils.criterion.criterion import Criterion
from utils.datasets import DetectionDataset, multi_scale_size, read_data_yaml
from utils.errors import UserError
from utils.evaluation.files import OutputFiles
from utils.evaluation.loop import Validation, validate
from utils.evaluation.report import iou_table, validation_table
from utils.files import find_file
from utils.inference import rescale, select_device, to_network_input
from utils.inspection.quick import quick_findings
from utils.metrics import Metrics
from utils.operating_points import KEY, fit_operating_points
from utils.plots.boxes import NUM_PLOTTED_BATCHES, plot_batch
from utils.plots.training import plot_labels, plot_results
from utils.search.run import SearchResult, evolve
from utils.structures import Batch
from utils.training.build import build_session
from utils.training.log import RunLog
from utils.training.optim import ModelEMA, Schedule
from utils.training.report import (
    EpochResult,
    TrainResult,
    data_text,
    epoch_line,
    epoch_values,
    finite_means,
    settings_text,
    steps_text,
    validation_values,
)
from utils.training.reproducibility import reproducible
from utils.training.resolve import complete_options, resumed_options
from utils.training.session import Session, should_stop

MAX_GRADIENT_NORM = 10.0
CHECK_EVERY = 10  # iterations between looks at the losses, each of which waits for the device

log = logging.getLogger(__name__)


def train_one_epoch(
    model: nn.Module,
    criterion: Criterion,
    loader: Iterable[Batch | tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    scaler: torch.amp.GradScaler,
    device: torch.device,
    epoch: int,
    *,
    last_step: int = -1,
    ema: ModelEMA | None = None,
    autocast_type: torch.dtype | None = None,
    images_per_item: int = 1,
    resize: Callable[[Tensor, int], Tensor] | None = None,
    on_batch: Callable[[int, Any], None] | None = None,
) -> EpochResult:
    """One pass over the training images. docs/training_loop.md calls it on a loader of the user's own.

    Args:
        model: images (B, 3, H, W) in [0, 1] to raw outputs, L x (B, A, H, W, 5 + C), while it trains.
        criterion: of the raw outputs and targets.
        loader: batches that begin with images (B, 3, H, W), uint8 or floats in [0, 1], and targets (M, 6): image,
            class, x, y, w, h (``xywhn``). :class:`Batch` is one, and so is a tuple of two tensors.
        optimizer, schedule, scaler: ``schedule`` sets the rates of each iteration; a disabled scaler does nothing.
        device: of model and criterion.
        epoch: from 0.
        last_step: iteration of the last optimiser step, as the call for the epoch before returned it.
        ema: follows the model after each step.
        autocast_type: type of the network's arithmetic; None is float32.
        images_per_item: images of the data set in each image of a batch: 4 with --quad.
        resize: of images on the device and the number of the batch, before the network sees them.
        on_batch: called with the number of each batch and the batch, after its backward pass.

    Returns:
        EpochResult: mean of each weighted loss part, and the iteration of the last optimiser step.

    Raises:
        UserError: no batch at all.
        DivergenceError: a loss part is not finite.
    """
    model.train()
    criterion.train()
    sums: dict[str, Tensor] = {}
    num_images = len(loader.dataset) if hasattr(loader, "dataset") else None
    with images_bar(num_images, f"epoch {epoch + 1}/{schedule.epochs}") as bar:
        for index, batch in enumerate(loader):
            iteration = epoch * schedule.num_batches + index
            accumulate = schedule.apply(optimizer, iteration)
            images, targets = to_network_input(batch[0], device), batch[1].to(device, non_blocking=True)
            if resize is not None:
                images = resize(images, index)
            with torch.autocast(device.type, autocast_type, enabled=autocast_type is not None):
                raw = model(images)
            loss = criterion(raw, targets, getattr(batch, "regions", None), across_processes=True)
            # data-parallel training averages gradients over processes
            scaler.scale(loss.total * distributed.world_size() * images_per_item).backward()
            if iteration - last_step >= accumulate:
                optimizer_step(model, optimizer, scaler)
                last_step = iteration
                if ema is not None:
                    ema.update(model)
            sums = {name: sums.get(name, 0) + part for name, part in loss.parts.items()}
            if on_batch is not None:
                on_batch(index, batch)
            if index % CHECK_EVERY == 0:
                shown = {name: f"{value:.4f}" for name, value in finite_means(sums, index + 1, epoch).items()}
                bar.set_postfix(shown | {"objects": len(targets), "size": images.shape[-1]}, refresh=False)
            bar.update(len(images) * distributed.world_size())
    if not sums:
        raise UserError(f"epoch {epoch + 1}: expected at least one batch from the loader but got none")
    criterion.end_epoch()
    return EpochResult(finite_means(sums, index + 1, epoch), last_step)


def optimizer_step(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Clip the gradients, step, and clear them."""
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def run(
    *, on_epoch: Callable[[int, Metrics | None], None] | None = None, **options: Unpack[TrainKeywords]
) -> TrainResult | SearchResult | None:
    """Train; the command line as a function.

    Args:
        on_epoch: called by the main process after each epoch with the epoch's index, from 0, and its validation
            metrics, None without validation. An exception that it raises ends the training and is passed on.
        options: see :class:`utils.training.options.TrainOptions`, e.g. ``data="bccd.yaml"``, ``batch_size=8``,
            ``set=["lr0=0.02"]``. Messages are shown where the caller has set up no logging, unless ``quiet``.

    Returns:
        TrainResult, None in all processes but the main one under torchrun; with ``evolve`` the SearchResult of
        ``search.run``.

    Raises:
        UserError: an invalid option, file, key or name.
    """
    given = TrainOptions.checked(options)
    with shown_messages(given.get("quiet", False)):
        return evolve(run, given) if given.get("evolve") is not None else _run(given, on_epoch)


def _run(given: Mapping[str, Any], on_epoch: Callable[[int, Metrics | None], None] | None) -> TrainResult | None:
    """:func:`run` of checked options."""
    started = time.monotonic()
    checkpoint, save_dir = None, None
    if given.get("resume"):
        complete, checkpoint, save_dir = resumed_options(given)
        description = read_data_yaml(find_file(complete.data, "data file", ("data",)))
    else:
        data = given.get("data", TrainOptions.data)
        description = read_data_yaml(find_file(data, "data file", ("data",)))
        complete = complete_options(given, description.defaults, data)
    device = select_device(complete.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    grouped = distributed.init_process_group(device)
    try:
        with reproducible(complete.seed, device):
            on_data = None if checkpoint else functools.partial(check_data, strict=complete.strict)
            session = build_session(complete, description, device, checkpoint, save_dir, on_data)
            epochs = train(session, on_epoch)
            return finish(session, epochs, started) if distributed.is_main() else None
    finally:
        if grouped:
            distributed.destroy_process_group()


def check_data(
    train_set: DetectionDataset, val_set: DetectionDataset | None, image_size: int, *, strict: bool = False
) -> None:
    """Say what looks wrong with the data, before anything is made of them.

    Args:
        train_set, val_set: of the training.
        image_size: pixels.
        strict: refuse such data.

    Raises:
        UserError: there are findings, and ``strict``.
    """
    findings = quick_findings(train_set, val_set, image_size)
    if findings and strict:
        raise UserError("\n  ".join(("--strict: the data have findings, check.py shows where:", *findings)))
    for finding in findings:
        log.warning("data: %s", finding)
    if findings:
        log.info("check.py shows where; --strict refuses such data")


def train(session: Session, on_epoch: Callable[[int, Metrics | None], None] | None = None) -> int:
    """Train, validate, log and save, epoch by epoch; returns how many epochs the run has had."""
    config, parts, progress = session.config, session.parts, session.progress
    options, begin, epoch = config.options, time.monotonic(), progress.start_epoch - 1
    run_log = start_run(session) if distributed.is_main() else None
    with run_log or contextlib.nullcontext():
        for epoch in range(progress.start_epoch, options.epochs):
            losses, stop = run_epoch(session, epoch), False
            if run_log is not None:
                final = epoch + 1 == options.epochs
                result = validate_average(session) if final or not options.noval else None
                metrics = result.metrics if result else None
                improved = metrics is not None and progress.note(epoch, metrics)
                stop = metrics is not None and should_stop(epoch, progress.best_epoch, options.patience)
                values = epoch_values(losses, parts.optimizer) | (validation_values(*result[:2]) if result else {})
                run_log.log(epoch, values)
                seconds = (time.monotonic() - begin) / (epoch + 1 - progress.start_epoch)
                log.info("%s", epoch_line(epoch, options.epochs, values, seconds, config.device))
                if final or stop or not options.nosave:
                    save(session, epoch, metrics, improved)
                if stop:
                    log.info("stopped early: no better epoch than %d in %d", progress.best_epoch + 1, options.patience)
                if on_epoch is not None:
                    on_epoch(epoch, metrics)
            stop, progress.class_ap = distributed.broadcast_object((stop, progress.class_ap))
            if stop:
                break
    return epoch + 1


def start_run(session: Session) -> RunLog:
    """Prepare the folder of the run, log the settings, and open its log. For the main process."""
    config, parts = session.config, session.parts
    options, weights = config.options, config.save_dir / "weights"
    weights.mkdir(exist_ok=True)
    run_log = RunLog(config.save_dir, resume=bool(options.resume))
    if not options.resume:
        for name in ("last.pt", "best.pt"):  # of an earlier run, with --exist-ok
            (weights / name).unlink(missing_ok=True)
        run_log.save_settings(config.option_values(), config.hyp.to_mapping())
        if not options.noplots:
            plot_labels(parts.train_set.labels, parts.model.names, config.save_dir / "labels.jpg")
    val_set, _ = parts.validation()
    log.info("%s", settings_text(options.to_mapping() | config.option_values(), config.hyp))
    if not options.resume:
        steps = parts.schedule.num_steps()
        log.info("%s", steps_text(steps, options.epochs, not options.weights, config.hyp))
    log.info("%s", describe(parts.model, Path(options.cfg or options.weights).stem))
    log.info(
        "%s", data_text(config.device, config.autocast_type, len(parts.train_set), len(val_set), parts.model.names)
    )
    log.info("results go to %s", config.save_dir)
    return run_log


def run_epoch(session: Session, epoch: int) -> dict[str, float]:
    """:func:`train_one_epoch` with the parts of a run; returns the mean of each weighted loss part."""
    config, parts, progress = session.config, session.parts, session.progress
    options, loader, stride = config.options, parts.train_loader, max(parts.model.stride)
    loader.set_epoch(epoch)
    if options.image_weights:
        loader.weigh_images(progress.class_ap)

    def vary_size(images: Tensor, index: int) -> Tensor:
        size = multi_scale_size(config.image_size * loader.enlargement, stride, options.seed, epoch, index)
        return rescale(images, size, stride)

    def plot(index: int, batch: Batch) -> None:
        if index < NUM_PLOTTED_BATCHES:
            file = config.save_dir / f"train_batch{index}.jpg"
            plot_batch(batch.images, batch.targets, file, parts.model.names, batch.paths)

    losses, progress.last_step = train_one_epoch(
        parts.network,
        parts.criterion,
        loader,
        parts.optimizer,
        parts.schedule,
        parts.scaler,
        config.device,
        epoch,
        last_step=progress.last_step,
        ema=parts.ema,
        autocast_type=config.autocast_type,
        images_per_item=loader.enlargement**2,
        resize=vary_size if options.multi_scale else None,
        on_batch=plot if epoch == 0 and distributed.is_main() and not options.noplots else None,
    )
    return losses


def validate_average(session: Session) -> Validation:
    """Measure the moving average of the weights on the validation split, in float32."""
    config, parts = session.config, session.parts
    return validate(
        parts.ema.model,
        parts.validation()[1],
        criterion=parts.criterion.evaluate,
        names=parts.model.names,
        device=config.device,
        single_cls=config.options.single_cls,
    )


def save(session: Session, epoch: int, metrics: Metrics | None, improved: bool) -> None:
    """Write the checkpoints of an epoch.

    ``last.pt`` is written last: a run that dies between two files repeats this epoch, and writes all of them again.

    Args:
        epoch: finished epoch, from 0.
        metrics: of its validation, or None.
        improved: whether they are the best so far.
    """
    options = session.config.options
    periodic = options.save_period > 0 and epoch % options.save_period == 0
    state = session.checkpoint(epoch, None if metrics is None else metrics.to_dict())
    for file in [*["best.pt"] * improved, *[f"epoch{epoch}.pt"] * periodic, "last.pt"]:
        save_checkpoint(session.config.save_dir / "weights" / file, state)


def finish(session: Session, epochs: int, started: float) -> TrainResult:
    """Strip the checkpoints, measure the best one once more, plot, and log where everything is."""
    config, parts = session.config, session.parts
    options, save_dir = config.options, config.save_dir
    last, best = save_dir / "weights" / "last.pt", save_dir / "weights" / "best.pt"
    if not best.exists():  # --nosave: only the last epoch was saved
        shutil.copyfile(last, best)
    best_epoch = load_checkpoint(best)["epoch"]
    for path in (last, best):
        strip_checkpoint(path)
    model, _ = load_model(best, config.device)
    val_set, val_loader = parts.validation()
    output = OutputFiles(save_dir, val_set, plots=not options.noplots)
    result = validate(
        model,
        val_loader,
        names=model.names,
        device=config.device,
        single_cls=options.single_cls,
        on_batch=output.add,
    )
    output.finish(result.detections, result.evaluator, result.metrics)
    measured = {"data": options.data, "task": "val", "imgsz": config.image_size}
    add_to_checkpoint(best, **{KEY: fit_operating_points(result.evaluator, result.metrics, measured)})
    if not options.noplots:
        plot_results(save_dir / "results.csv", save_dir / "results.png")
    minutes = (time.monotonic() - started) / 60
    log.info("\n%s (epoch %d) on the val split:", best, best_epoch + 1)
    log.info("%s\n%s", validation_table(result.metrics, 1 < model.nc < 50), iou_table(result.metrics))
    log.info("%d epochs in %.1f minutes; results are in %s", epochs - session.progress.start_epoch, minutes, save_dir)
    return TrainResult(save_dir, best, last, result.metrics, result.metrics.fitness, epochs, minutes)


if __name__ == "__main__":
    run_main(lambda: run(**GIVEN))
