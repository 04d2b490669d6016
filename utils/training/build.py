"""Builds a training run from its options: hyper-parameters, network, data, criterion and optimiser."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from models import DetectionModel
from models.loading import model_from_weights, new_model
from utils import distributed
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.build import anchor_ratio_limit
from utils.criterion.criterion import Criterion
from utils.datasets import DataDescription, DetectionDataset, Loader, build_loader
from utils.datasets.pixels import CacheKind
from utils.files import increment_path
from utils.inference import autocast_type, fitting_image_size
from utils.training.anchors import fit_anchors
from utils.training.optim import ModelEMA, Schedule, build_optimizer, freeze
from utils.training.options import TrainOptions
from utils.training.resolve import run_hyperparameters
from utils.training.session import Progress, RunConfig, RunParts, Session, restore

log = logging.getLogger(__name__)


def build_session(
    options: TrainOptions,
    description: DataDescription,
    device: torch.device,
    checkpoint: Mapping[str, Any] | None,
    save_dir: Path | None,
    on_data: Callable[[DetectionDataset, DetectionDataset | None, int], None] | None = None,
) -> Session:
    """Build a run; with a checkpoint, put it back to where that was written.

    Args:
        options: of the command.
        description: the data set.
        device: where to train.
        checkpoint, save_dir: of the run to continue, or None.
        on_data: called by the main process with training set, validation set and image size, before a run folder is
            made; what it raises ends the run.

    Raises:
        UserError: an invalid file, key, name or value. No run folder is made then.
    """
    hyp = _hyperparameters(options, checkpoint)
    dtype = autocast_type(options.amp, device)
    model = _build_model(options, hyp, description.names, checkpoint)
    freeze(model, options.freeze)
    image_size = fitting_image_size(options.imgsz, max(model.stride))
    train_set, val_set = _datasets(options, hyp, description, image_size, max(model.stride))
    if on_data is not None and distributed.is_main():
        on_data(train_set, val_set, image_size)
    if checkpoint is None:
        keep, limit = options.noautoanchor, anchor_ratio_limit(hyp)
        log.info("%s", fit_anchors(model, train_set, image_size, limit, seed=options.seed, keep=keep))
    model.to(device).to_channels_last()
    criterion = Criterion(model.anchors_px, model.stride, model.nc, image_size, hyp).to(device)
    if save_dir is None:  # only now: a wrong setting leaves no empty folder behind
        save_dir = distributed.broadcast_object(_new_folder(options) if distributed.is_main() else None)
    train_loader, val_loader = _loaders(options, train_set, val_set, pin_memory=device.type == "cuda")
    parts = RunParts(
        model=model,
        network=distributed.data_parallel(model, device, options.sync_bn),
        ema=ModelEMA(model),
        criterion=criterion,
        optimizer=build_optimizer(model, options.optimizer, hyp, options.batch_size),
        schedule=Schedule(hyp, options.epochs, len(train_loader), options.batch_size, options.cos_lr),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        train_set=train_set,
        val_set=val_set,
        train_loader=train_loader,
        val_loader=val_loader,
    )
    progress = Progress((0.0,) * model.nc) if checkpoint is None else restore(parts, dtype, checkpoint)
    return Session(RunConfig(options, hyp, image_size, device, dtype, save_dir), parts, progress)


def _hyperparameters(options: TrainOptions, checkpoint: Mapping[str, Any] | None) -> Hyperparameters:
    if checkpoint is not None:
        return Hyperparameters.from_mapping(checkpoint["hyp"], "checkpoint")
    return run_hyperparameters(options)


def _build_model(
    options: TrainOptions, hyp: Hyperparameters, data_names: Sequence[str], checkpoint: Mapping[str, Any] | None
) -> DetectionModel:
    """A new network, one with the weights of --weights that fit, or that of the run continued."""
    names = ("object",) if options.single_cls and len(data_names) > 1 else data_names
    per_level = None if hyp.anchors is None else round(hyp.anchors)
    if checkpoint is not None:
        return new_model(checkpoint["cfg"], names)
    if not options.weights:
        return new_model(options.cfg, names, anchors_per_level=per_level)
    return model_from_weights(options.weights, names, cfg=options.cfg, anchors_per_level=per_level)


def _datasets(
    options: TrainOptions, hyp: Hyperparameters, description: DataDescription, image_size: int, stride: int
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Training set; and validation set, in the main process alone, whose batches are twice one process's share."""
    train_set = DetectionDataset(
        description,
        "train",
        image_size=image_size,
        hyp=hyp,
        augment=True,
        rect=options.rect,
        batch_size=options.batch_size,
        stride=stride,
        cache=_cache_of(options.cache, "train"),
        single_cls=options.single_cls,
        seed=options.seed,
    )
    if not distributed.is_main():
        return train_set, None
    val_set = DetectionDataset(
        description,
        "val",
        image_size=image_size,
        rect=True,
        batch_size=2 * options.batch_size // distributed.world_size(),
        stride=stride,
        pad=0.5,
        cache=_cache_of(options.cache, "val"),
        single_cls=options.single_cls,
        seed=options.seed,
    )
    return train_set, val_set


def _cache_of(choice: str | None, split: str) -> CacheKind:
    """What --cache means for a split."""
    if choice == "val":
        return "ram" if split == "val" else None
    return "disk" if choice == "disk" else "ram" if choice == "ram" else None


def _loaders(
    options: TrainOptions, train_set: DetectionDataset, val_set: DetectionDataset | None, pin_memory: bool
) -> tuple[Loader, Loader | None]:
    workers = min(options.workers, (os.cpu_count() or 1) // distributed.local_world_size(), options.batch_size)
    train_loader = build_loader(
        train_set,
        options.batch_size,
        shuffle=not options.rect,
        quad=options.quad,
        workers=workers,
        seed=options.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        pin_memory=pin_memory,
    )
    if val_set is None:
        return train_loader, None
    return train_loader, build_loader(val_set, val_set.batch_size, workers=workers, pin_memory=pin_memory)


def _new_folder(options: TrainOptions) -> Path:
    name = Path(options.cfg or options.weights).stem if options.name == "cfg" else options.name
    return increment_path(options.project, name, options.exist_ok)
