"""Train a detector: ``python train.py --data bccd.yaml --cfg yolov5n.yaml --hyp hyp.sca.yaml --img 320``.

Without any flag it trains yolov5n from scratch on generated shapes. :func:`run` is the same from Python.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import DetectionModel
from models.loading import load_model, model_from_weights, new_model
from models.yolo import describe
from utils import distributed
from utils.checkpoint import add_to_checkpoint, load_checkpoint, save_checkpoint, strip_checkpoint
from utils.config.console import images_bar, run_main, setup_logging
from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.criterion.build import check_loss_settings
from utils.criterion.criterion import Criterion
from utils.datasets import DataDescription, DetectionDataset, build_loader, multi_scale_size, read_data_yaml
from utils.evaluation.files import OutputFiles
from utils.evaluation.loop import Validation, validate
from utils.evaluation.operating_points import KEY, fit_operating_points
from utils.evaluation.report import iou_table, validation_table
from utils.files import find_file, increment_path
from utils.inference import autocast_type, fitting_image_size, rescale, select_device, to_network_input
from utils.metrics import Metrics
from utils.plots.boxes import NUM_PLOTTED_BATCHES, plot_batch
from utils.plots.training import plot_labels, plot_results
from utils.search.run import evolve
from utils.training.anchors import fit_anchors
from utils.training.log import RunLog
from utils.training.optim import ModelEMA, Schedule, build_optimizer, freeze
from utils.training.options import complete_options, make_parser, resumed_options
from utils.training.report import TrainResult, data_text, epoch_line, finite_means, metric_values, settings_text
from utils.training.reproducibility import reproducible
from utils.training.session import Session

MAX_GRADIENT_NORM = 10.0
CHECK_EVERY = 10  # iterations between looks at the losses, each of which waits for the device

log = logging.getLogger(__name__)


def train_one_epoch(session: Session, epoch: int) -> dict[str, float]:
    """One pass over the training set.

    Returns:
        mean of each weighted loss part over the epoch.

    Raises:
        UserError: a loss part is not finite.
    """
    options, device, network = session.options, session.device, session.network
    network.train()
    session.criterion.train()
    session.train_loader.set_epoch(epoch)
    if options.image_weights:
        session.train_loader.weigh_images(session.class_ap)
    num_batches, enlargement = len(session.train_loader), session.train_loader.enlargement
    sums: dict[str, Tensor] = {}
    bar = images_bar(len(session.train_loader.dataset), f"epoch {epoch + 1}/{options.epochs}")
    for index, batch in enumerate(session.train_loader):
        iteration = epoch * num_batches + index
        accumulate = session.schedule.apply(session.optimizer, iteration)
        images = to_network_input(batch.images, device)
        if options.multi_scale:
            stride = max(session.model.stride)
            size = multi_scale_size(options.imgsz * enlargement, stride, options.seed, epoch, index)
            images = rescale(images, size, stride)
        with torch.autocast(device.type, session.autocast_type, enabled=session.autocast_type is not None):
            raw = network(images)
        loss = session.criterion(raw, batch.targets.to(device, non_blocking=True))
        # data-parallel training averages gradients over processes, and an image of --quad stands for four
        session.scaler.scale(loss.total * distributed.world_size() * enlargement**2).backward()
        if iteration - session.last_step >= accumulate:
            optimizer_step(session)
            session.last_step = iteration

        sums = {name: sums.get(name, 0) + part for name, part in loss.parts.items()}
        if epoch == 0 and index < NUM_PLOTTED_BATCHES and distributed.is_main() and not options.noplots:
            picture = session.save_dir / f"train_batch{index}.jpg"
            plot_batch(batch.images, batch.targets, picture, session.model.names, batch.paths)
        if index % CHECK_EVERY == 0 or index + 1 == num_batches:
            means = finite_means(sums, index + 1, epoch)
            shown = {name: f"{value:.4f}" for name, value in means.items()}
            bar.set_postfix(shown | {"objects": len(batch.targets), "size": images.shape[-1]}, refresh=False)
        bar.update(len(images) * distributed.world_size())
    bar.close()
    session.criterion.end_epoch()
    return means


def optimizer_step(session: Session) -> None:
    """Clip, step, clear, and let the average follow."""
    session.scaler.unscale_(session.optimizer)
    nn.utils.clip_grad_norm_(session.model.parameters(), MAX_GRADIENT_NORM)
    session.scaler.step(session.optimizer)
    session.scaler.update()
    session.optimizer.zero_grad()
    session.ema.update(session.model)


def run(*, on_epoch: Callable[[int, Metrics | None], None] | None = None, **options: Any) -> TrainResult | None:
    """Train; the command line as a function. With ``evolve`` it is ``search.run``, and returns what that returns.

    Args:
        on_epoch: called by the main process after each epoch with its number, from 0, and the metrics of its
            validation, None where there was none. An exception that it raises ends the training, and comes out here.
        options: flags of the command line by name, e.g. ``data="bccd.yaml"``, ``batch_size=8``, ``set=["lr0=0.02"]``.

    Returns:
        TrainResult; None in all processes but the main one under torchrun.

    Raises:
        UserError: an option, file, key or name that cannot be right.
    """
    if options.get("evolve") is not None:
        return evolve(run, options)
    started = time.monotonic()
    checkpoint, save_dir = None, None
    if options.get("resume"):
        complete, checkpoint, save_dir = resumed_options(options)
        description = read_data_yaml(find_file(complete.data, "data file"))
    else:
        data = options.get("data", make_parser().get_default("data"))
        description = read_data_yaml(find_file(data, "data file"))
        complete = complete_options(options, description.defaults, str(data))
    device = select_device(complete.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    grouped = distributed.init_process_group(device)
    try:
        with reproducible(complete.seed, device):
            session = build_session(complete, description, device, checkpoint, save_dir)
            session.on_epoch = on_epoch
            epochs = train(session)
            return finish(session, epochs, started) if distributed.is_main() else None
    finally:
        if grouped:
            distributed.destroy_process_group()


def build_session(
    options: argparse.Namespace,
    description: DataDescription,
    device: torch.device,
    checkpoint: Mapping[str, Any] | None,
    save_dir: Path | None,
) -> Session:
    """Build network, data, criterion and optimiser; with a checkpoint, put them back to where it was written.

    Args:
        checkpoint, save_dir: of the run to continue, or None.
    """
    hyp = _hyperparameters(options, checkpoint)
    dtype = autocast_type(options.amp, device)
    model = _build_network(options, hyp, description.names, checkpoint)
    freeze(model, options.freeze)
    options.imgsz = fitting_image_size(options.imgsz, max(model.stride))
    train_set, val_set = _datasets(options, hyp, description, max(model.stride))
    if checkpoint is None:
        keep = options.noautoanchor
        log.info("%s", fit_anchors(model, train_set, options.imgsz, hyp.anchor_t, seed=options.seed, keep=keep))
    model.to(device).to_channels_last()
    criterion = Criterion(model.anchors_px, model.stride, model.nc, options.imgsz, hyp).to(device)
    if save_dir is None:  # only now: a wrong setting leaves no empty folder behind
        save_dir = distributed.broadcast_object(_new_folder(options) if distributed.is_main() else None)
    workers = min(options.workers, (os.cpu_count() or 1) // distributed.local_world_size(), options.batch_size)
    loading = {"workers": workers, "pin_memory": device.type == "cuda"}
    train_loader = build_loader(
        train_set,
        options.batch_size,
        shuffle=not options.rect,
        quad=options.quad,
        seed=options.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        **loading,
    )
    session = Session(
        options=options,
        hyp=hyp,
        device=device,
        autocast_type=dtype,
        save_dir=save_dir,
        model=model,
        network=distributed.data_parallel(model, device, options.sync_bn),
        ema=ModelEMA(model),
        criterion=criterion,
        optimizer=build_optimizer(model, options.optimizer, hyp, options.batch_size),
        schedule=Schedule(hyp, options.epochs, len(train_loader), options.batch_size, options.cos_lr),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        train_loader=train_loader,
        val_loader=build_loader(val_set, val_set.batch_size, **loading) if val_set else None,
    )
    if checkpoint is not None:
        session.restore(checkpoint)
    if distributed.is_main():
        _prepare_folder(session)
        log.info("%s", settings_text(options, hyp))
        log.info("%s", describe(model, Path(options.cfg or options.weights).stem))
        log.info("%s", data_text(device, dtype, (len(train_set), len(val_set)), model.names))
        log.info("results go to %s", save_dir)
    return session


def _prepare_folder(session: Session) -> None:
    """A new run starts without checkpoints of an earlier one (--exist-ok), and with a picture of its labels."""
    options, weights = session.options, session.save_dir / "weights"
    weights.mkdir(exist_ok=True)
    if options.resume:
        return
    for name in ("last.pt", "best.pt"):
        (weights / name).unlink(missing_ok=True)
    if not options.noplots:
        plot_labels(session.train_loader.dataset.labels, session.model.names, session.save_dir / "labels.jpg")


def _hyperparameters(options: argparse.Namespace, checkpoint: Mapping[str, Any] | None) -> Hyperparameters:
    if checkpoint is not None:
        return Hyperparameters.from_mapping(checkpoint["hyp"], "checkpoint")
    direct = {} if options.label_smoothing is None else {"label_smoothing": options.label_smoothing}
    return load_hyperparameters(options.hyp, options.set, validate=check_loss_settings, **direct)


def _build_network(
    options: argparse.Namespace, hyp: Hyperparameters, data_names: Sequence[str], checkpoint: Mapping[str, Any] | None
) -> DetectionModel:
    """The network of a run: new, with the weights of --weights that fit, or that of the run continued."""
    names = ("object",) if options.single_cls and len(data_names) > 1 else data_names
    per_level = None if hyp.anchors is None else round(hyp.anchors)
    if checkpoint is not None:
        return new_model(checkpoint["cfg"], names)
    if not options.weights:
        return new_model(options.cfg, names, anchors_per_level=per_level)
    return model_from_weights(options.weights, names, cfg=options.cfg, anchors_per_level=per_level)


def _datasets(
    options: argparse.Namespace, hyp: Hyperparameters, description: DataDescription, stride: int
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Training set, and validation set in the main process, where batches are twice as large as one process trains."""
    common = {"image_size": options.imgsz, "single_cls": options.single_cls, "seed": options.seed, "stride": stride}
    train_set = DetectionDataset(
        description,
        "train",
        hyp=hyp,
        augment=True,
        rect=options.rect,
        batch_size=options.batch_size,
        cache=None if options.cache == "val" else options.cache,
        **common,
    )
    if not distributed.is_main():
        return train_set, None
    batch_size = 2 * options.batch_size // distributed.world_size()
    cache = "ram" if options.cache == "val" else options.cache
    return train_set, DetectionDataset(
        description, "val", rect=True, batch_size=batch_size, pad=0.5, cache=cache, **common
    )


def _new_folder(options: argparse.Namespace) -> Path:
    name = Path(options.cfg or options.weights).stem if options.name == "cfg" else options.name
    return increment_path(options.project, name, options.exist_ok)


def train(session: Session) -> int:
    """Train, validate and save, epoch by epoch; returns how many epochs the run has had."""
    options, is_main = session.options, distributed.is_main()
    run_log = RunLog(session.save_dir, resume=bool(options.resume)) if is_main else None
    if is_main and not options.resume:
        run_log.save_settings({k: v for k, v in vars(options).items() if k != "resume"}, session.hyp.to_mapping())
    begin, epoch, stop = time.monotonic(), session.start_epoch - 1, False
    with run_log or contextlib.nullcontext():
        for epoch in range(session.start_epoch, options.epochs):
            losses = train_one_epoch(session, epoch)
            if is_main:
                stop = finish_epoch(session, epoch, losses, run_log, begin)
            stop, session.class_ap = distributed.broadcast_object((stop, session.class_ap))
            if stop:
                break
    return epoch + 1


def finish_epoch(session: Session, epoch: int, losses: Mapping[str, float], run_log: RunLog, begin: float) -> bool:
    """Validate the average, log the epoch, save checkpoints; returns whether to stop early."""
    options, weights = session.options, session.save_dir / "weights"
    final = epoch + 1 == options.epochs
    values = {f"train/{name}_loss": value for name, value in losses.items()}
    rates = {f"x/lr{index}": group["lr"] for index, group in enumerate(session.optimizer.param_groups)}
    metrics, record = None, None
    if final or not options.noval:
        result = validate_average(session)
        metrics, record = result.metrics, result.metrics.to_dict()
        session.note_metrics(record)
        values |= metric_values(metrics) | {f"val/{name}_loss": value for name, value in result.losses.items()}
    improved = metrics is not None and metrics.fitness > session.best_fitness
    if improved:
        session.best_fitness, session.best_epoch = metrics.fitness, epoch
    stop = 0 < options.patience <= epoch - session.best_epoch and metrics is not None
    run_log.log(epoch, values | rates)
    done, elapsed = epoch + 1 - session.start_epoch, time.monotonic() - begin
    left = elapsed / done * (options.epochs - epoch - 1)
    log.info("%s", epoch_line(epoch, options.epochs, values, elapsed / done, left, session.device))

    # last.pt comes last: a run that dies between two files repeats this epoch, and writes all of them again
    periodic = options.save_period > 0 and epoch % options.save_period == 0
    files = ["best.pt"] * improved + [f"epoch{epoch}.pt"] * periodic
    if final or stop or not options.nosave:
        state = session.state(epoch, record)
        for file in [*files, "last.pt"]:
            save_checkpoint(weights / file, state)
    if stop:
        log.info("stopped early: nothing better than epoch %d in %d epochs", session.best_epoch + 1, options.patience)
    if session.on_epoch is not None:
        session.on_epoch(epoch, metrics)
    return stop


def validate_average(session: Session) -> Validation:
    """Measure the moving average of the weights on the validation split, in float32."""
    session.criterion.eval()  # what it remembers is of training steps, and no other process takes part
    return validate(
        session.ema.model,
        session.val_loader,
        criterion=session.criterion,
        names=session.model.names,
        device=session.device,
        single_cls=session.options.single_cls,
    )


def finish(session: Session, epochs: int, started: float) -> TrainResult:
    """Strip the checkpoints, measure the best one once more, draw, and say where everything is."""
    options, save_dir = session.options, session.save_dir
    last, best = save_dir / "weights" / "last.pt", save_dir / "weights" / "best.pt"
    if not best.exists():  # --nosave: the last epoch is the only one there is
        shutil.copyfile(last, best)
    best_epoch = load_checkpoint(best)["epoch"]
    for path in (last, best):
        strip_checkpoint(path)
    model, _ = load_model(best, session.device)
    output = OutputFiles(save_dir, session.val_loader.dataset, plots=not options.noplots)
    result = validate(
        model,
        session.val_loader,
        names=model.names,
        device=session.device,
        single_cls=options.single_cls,
        on_batch=output.add,
    )
    output.finish(result.detections, result.evaluator, result.metrics)
    measured = {"data": options.data, "task": "val", "imgsz": options.imgsz}
    add_to_checkpoint(best, **{KEY: fit_operating_points(result.evaluator, result.metrics, measured)})
    if not options.noplots:
        plot_results(save_dir / "results.csv", save_dir / "results.png")
    minutes = (time.monotonic() - started) / 60
    log.info("\n%s (epoch %d) on the val split:", best, best_epoch + 1)
    log.info("%s\n%s", validation_table(result.metrics, 1 < model.nc < 50), iou_table(result.metrics))
    log.info("%d epochs in %.1f minutes; results are in %s", epochs - session.start_epoch, minutes, save_dir)
    return TrainResult(save_dir, best, last, result.metrics, result.metrics.fitness, epochs, minutes)


def main() -> None:
    """Run the command line."""
    setup_logging()
    run(**make_parser().given())


if __name__ == "__main__":
    run_main(main)
