"""Everything that a training run holds between epochs, how it is saved, and how it is put back."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils.config.hyperparameters import Hyperparameters
from utils.inference import describe_type
from utils.training.optim import ModelEMA, Schedule, pending_gradients, restore_gradients

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Session:
    """A training run.

    Attributes:
        options: flags in full.
        hyp: resolved hyper-parameters.
        device, autocast_type: where and in which type the network computes; None is float32.
        save_dir: folder of the run.
        model: the network with its own parameter names.
        network: what the training step calls: the model, or its data-parallel wrapper.
        ema: moving average of the model; what is validated and kept.
        criterion, optimizer, schedule, scaler: of the training step.
        train_loader, val_loader: batches; only the main process has the latter.
        start_epoch: first epoch of this process, above 0 after --resume.
        last_step: iteration of the last optimiser step.
        best_fitness, best_epoch: so far.
        class_ap: AP of each class at the last validation, 0 before it.
        on_epoch: called by the main process after each epoch, see ``train.run``.
    """

    options: argparse.Namespace
    hyp: Hyperparameters
    device: torch.device
    autocast_type: torch.dtype | None
    save_dir: Path
    model: nn.Module
    network: nn.Module
    ema: ModelEMA
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    train_loader: Any
    val_loader: Any
    start_epoch: int = 0
    last_step: int = -1
    best_fitness: float = -math.inf
    best_epoch: int = -1
    class_ap: tuple[float, ...] = ()
    on_epoch: Callable[[int, Any], None] | None = None

    def __post_init__(self) -> None:
        self.class_ap = self.class_ap or (0.0,) * len(self.model.names)

    def note_metrics(self, metrics: Mapping[str, Any] | None) -> None:
        """Remember what the next epoch depends on. A class that the validation split lacks counts as the mean.

        Args:
            metrics: of a validation, ``Metrics.to_dict()``; None changes nothing.
        """
        if metrics is not None:
            found = [entry["map"] for entry in metrics["classes"]]
            self.class_ap = tuple(metrics["map"] if value is None else value for value in found)

    def state(self, epoch: int, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
        """A complete checkpoint after an epoch: plain tensors and data.

        Args:
            epoch: finished epoch, from 0.
            metrics: of its validation, or None.
        """
        options = {name: value for name, value in vars(self.options).items() if name != "resume"}
        ema = self.ema.state_dict()
        return {
            "epoch": epoch,
            "best_fitness": self.best_fitness,
            "best_epoch": self.best_epoch,
            "metrics": metrics,
            "model": self.model.state_dict(),
            "ema": ema["model"],
            "ema_updates": ema["updates"],
            "autocast": describe_type(self.autocast_type),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "criterion": self.criterion.state_dict(),
            "gradients": pending_gradients(self.model),
            "last_step": self.last_step,
            "cfg": self.model.cfg,
            "names": self.model.names,
            "hyp": self.hyp.to_mapping(),
            "opt": options,
            "data": options["data"],
            "image_size": options["imgsz"],
        }

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on behind :meth:`state`, as if the run had never stopped."""
        self.model.load_state_dict(checkpoint["model"])
        self.ema.load_state_dict({"model": checkpoint["ema"], "updates": checkpoint["ema_updates"]})
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if self.scaler.is_enabled() and checkpoint["scaler"]:
            self.scaler.load_state_dict(checkpoint["scaler"])
        if checkpoint["autocast"] != describe_type(self.autocast_type):
            now = describe_type(self.autocast_type)
            log.warning("the run began in %s and goes on in %s: results will differ", checkpoint["autocast"], now)
        self.criterion.load_state_dict(checkpoint["criterion"])
        restore_gradients(self.model, checkpoint["gradients"])
        self.start_epoch = checkpoint["epoch"] + 1
        self.last_step = checkpoint["last_step"]
        self.best_fitness, self.best_epoch = checkpoint["best_fitness"], checkpoint["best_epoch"]
        self.note_metrics(checkpoint["metrics"])
