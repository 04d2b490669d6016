"""A training run: its configuration, what is built from it, its progress; saving and resuming."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import DetectionModel
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.criterion import Criterion
from utils.datasets import DetectionDataset, Loader
from utils.inference import describe_type
from utils.metrics import Metrics
from utils.training.optim import ModelEMA, Schedule, pending_gradients, restore_gradients
from utils.training.options import TrainOptions

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Configuration of a run, fully resolved.

    Attributes:
        options: of the command.
        hyp: hyper-parameters.
        image_size: pixels; ``options.imgsz`` rounded up to the network's stride.
        device, autocast_type: where and in which type the network computes; None is float32.
        save_dir: folder of the run.
    """

    options: TrainOptions
    hyp: Hyperparameters
    image_size: int
    device: torch.device
    autocast_type: torch.dtype | None
    save_dir: Path

    def option_values(self) -> dict[str, Any]:
        """Options as plain data, for opt.yaml and checkpoints: the resolved image size, and no ``resume``."""
        values = {**self.options.to_mapping(), "imgsz": self.image_size}
        return {name: value for name, value in values.items() if name != "resume"}


@dataclasses.dataclass(frozen=True)
class RunParts:
    """The parts of a run.

    Attributes:
        model: the network with its own parameter names.
        network: what the training step calls: the model, or its data-parallel wrapper.
        ema: moving average of the model; what is validated and kept.
        criterion, optimizer, schedule, scaler: of the training step.
        train_set, val_set: images; only the main process has the latter.
        train_loader, val_loader: their batches.
    """

    model: DetectionModel
    network: nn.Module
    ema: ModelEMA[DetectionModel]
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    train_set: DetectionDataset
    val_set: DetectionDataset | None
    train_loader: Loader
    val_loader: Loader | None

    def validation(self) -> tuple[DetectionDataset, Loader]:
        """Images and batches to validate on, in the main process."""
        assert self.val_set is not None and self.val_loader is not None, "only the main process validates"
        return self.val_set, self.val_loader


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        class_ap: AP of each class at the last validation, 0 before it.
        start_epoch: first epoch of this process, above 0 after --resume.
        last_step: iteration of the last optimiser step.
        best_fitness, best_epoch: of the best validation so far.
    """

    class_ap: tuple[float, ...]
    start_epoch: int = 0
    last_step: int = -1
    best_fitness: float = -math.inf
    best_epoch: int = -1

    def note(self, epoch: int, metrics: Metrics) -> bool:
        """Take in the validation of an epoch, counted from 0; returns whether it is the best so far."""
        self.class_ap = class_ap(metrics.to_dict())
        improved = metrics.fitness > self.best_fitness
        if improved:
            self.best_fitness, self.best_epoch = metrics.fitness, epoch
        return improved


@dataclasses.dataclass(frozen=True)
class Session:
    """A training run: :class:`RunConfig`, :class:`RunParts` and :class:`Progress`."""

    config: RunConfig
    parts: RunParts
    progress: Progress

    def checkpoint(self, epoch: int, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
        """Content of a checkpoint that the run can resume from: plain tensors and data.

        Args:
            epoch: finished epoch, from 0.
            metrics: of its validation, or None.
        """
        config, parts, progress = self.config, self.parts, self.progress
        options, ema = config.option_values(), parts.ema.state_dict()
        return {
            "epoch": epoch,
            "best_fitness": progress.best_fitness,
            "best_epoch": progress.best_epoch,
            "metrics": metrics,
            "model": parts.model.state_dict(),
            "ema": ema["model"],
            "ema_updates": ema["updates"],
            "autocast": describe_type(config.autocast_type),
            "optimizer": parts.optimizer.state_dict(),
            "scaler": parts.scaler.state_dict(),
            "criterion": parts.criterion.state_dict(),
            "gradients": pending_gradients(parts.model),
            "last_step": progress.last_step,
            "cfg": parts.model.cfg,
            "names": parts.model.names,
            "hyp": config.hyp.to_mapping(),
            "opt": options,
            "data": options["data"],
            "image_size": config.image_size,
        }


def restore(parts: RunParts, autocast_type: torch.dtype | None, checkpoint: Mapping[str, Any]) -> Progress:
    """Put what is built back to where :meth:`Session.checkpoint` was taken, as if the run had never stopped.

    Args:
        parts: new ones of the same configuration.
        autocast_type: that the network computes in now; a warning says where it differs.
        checkpoint: content of the file.
    """
    parts.model.load_state_dict(checkpoint["model"])
    parts.ema.load_state_dict({"model": checkpoint["ema"], "updates": checkpoint["ema_updates"]})
    parts.optimizer.load_state_dict(checkpoint["optimizer"])
    if parts.scaler.is_enabled() and checkpoint["scaler"]:
        parts.scaler.load_state_dict(checkpoint["scaler"])
    if checkpoint["autocast"] != describe_type(autocast_type):
        now = describe_type(autocast_type)
        log.warning("the run started in %s and continues in %s: results will differ", checkpoint["autocast"], now)
    parts.criterion.load_state_dict(checkpoint["criterion"])
    restore_gradients(parts.model, checkpoint["gradients"])
    metrics = checkpoint["metrics"]
    return Progress(
        class_ap=class_ap(metrics) if metrics is not None else (0.0,) * parts.model.nc,
        start_epoch=checkpoint["epoch"] + 1,
        last_step=checkpoint["last_step"],
        best_fitness=checkpoint["best_fitness"],
        best_epoch=checkpoint["best_epoch"],
    )


def class_ap(metrics: Mapping[str, Any]) -> tuple[float, ...]:
    """AP of each class; a class without objects in the validation split counts as the mean.

    Args:
        metrics: ``Metrics.to_dict()``.
    """
    found = [entry["map"] for entry in metrics["classes"]]
    return tuple(metrics["map"] if value is None else value for value in found)


def should_stop(epoch: int, best_epoch: int, patience: int) -> bool:
    """Whether a run ends early: no better epoch among the last ``patience``; 0 never stops.

    Args:
        epoch, best_epoch: the one just validated, and the best so far, both from 0.
        patience: epochs.
    """
    return 0 < patience <= epoch - best_epoch
