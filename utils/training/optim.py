"""Optimiser groups, the learning-rate schedule with its warm-up, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from models import DetectionModel
from utils.config.choices import OPTIMIZERS
from utils.config.hyperparameters import Hyperparameters
from utils.errors import UserError, unknown_name

NOMINAL_BATCH_SIZE = 64
LEAST_WARMUP_ITERATIONS = 100

ModelT = TypeVar("ModelT", bound=nn.Module)


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters as biases, weights that decay, and weights of norms."""
    biases: list[nn.Parameter] = []
    weights: list[nn.Parameter] = []
    norms: list[nn.Parameter] = []
    norm_types = tuple(kind for name, kind in vars(nn).items() if "Norm" in name and isinstance(kind, type))
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                norm_weight = isinstance(module, norm_types)
                (biases if name == "bias" else norms if norm_weight else weights).append(parameter)
    return biases, weights, norms


def build_optimizer(model: nn.Module, name: str, hyp: Hyperparameters, batch_size: int) -> torch.optim.Optimizer:
    """Three groups, in this order: 0 biases, 1 weights (the only ones that decay), 2 norm weights.

    Args:
        model: frozen parameters are skipped.
        name: ``SGD`` (Nesterov), ``Adam`` or ``AdamW``.
        hyp: lr0, momentum (Adam's first beta) and weight_decay, which is scaled by batch size times accumulation / 64.
        batch_size: images per batch over all processes.

    Raises:
        UserError: unknown name.
    """
    decay = hyp.weight_decay * batch_size * full_accumulation(batch_size) / NOMINAL_BATCH_SIZE
    groups = [
        {"params": parameters, "weight_decay": decay if index == 1 else 0.0, "initial_lr": hyp.lr0}
        for index, parameters in enumerate(parameter_groups(model))
    ]
    if name == "SGD":
        return torch.optim.SGD(groups, lr=hyp.lr0, momentum=hyp.momentum, nesterov=hyp.momentum > 0)
    if name in ("Adam", "AdamW"):
        kind = torch.optim.Adam if name == "Adam" else torch.optim.AdamW
        return kind(groups, lr=hyp.lr0, betas=(hyp.momentum, 0.999))
    raise unknown_name("optimizer", name, OPTIMIZERS)


def full_accumulation(batch_size: int) -> int:
    """Batches per optimiser step, so that a step sees about 64 images."""
    return max(round(NOMINAL_BATCH_SIZE / batch_size), 1)


def learning_rate_factor(epoch: int, epochs: int, lrf: float, cosine: bool = False) -> float:
    """Fraction of lr0 in an epoch, from 1 at epoch 0 towards lrf at ``epochs``: linear, or half a cosine."""
    if cosine:
        return (1 - math.cos(math.pi * epoch / epochs)) / 2 * (lrf - 1) + 1
    return (1 - epoch / epochs) * (1 - lrf) + lrf


class Schedule:
    """Learning rates, momentum and accumulation as functions of the iteration: nothing to save, nothing to restore.

    Warm-up lasts max(warmup_epochs in iterations, 100), or not at all where warmup_epochs is 0. During it the rates of
    weights rise from 0, those of biases fall from warmup_bias_lr, momentum and accumulation rise.

    Args:
        hyp: lr0, lrf, momentum and the warmup keys.
        epochs: length of the training.
        num_batches: iterations of an epoch.
        batch_size: images per batch over all processes.
        cosine: half a cosine in place of a straight line.
    """

    def __init__(self, hyp: Hyperparameters, epochs: int, num_batches: int, batch_size: int, cosine: bool) -> None:
        self.hyp, self.epochs, self.cosine = hyp, epochs, cosine
        self.num_batches, self.batch_size = num_batches, batch_size
        self.warmup = max(round(hyp.warmup_epochs * num_batches), LEAST_WARMUP_ITERATIONS) if hyp.warmup_epochs else 0

    def apply(self, optimizer: torch.optim.Optimizer, iteration: int) -> int:
        """Set the rates of an iteration (counted over all epochs, from 0).

        Returns:
            number of batches per optimiser step now.
        """
        hyp = self.hyp
        rate = hyp.lr0 * learning_rate_factor(iteration // self.num_batches, self.epochs, hyp.lrf, self.cosine)
        progress = self._progress(iteration)
        for index, group in enumerate(optimizer.param_groups):
            start = hyp.warmup_bias_lr if index == 0 else 0.0
            group["lr"] = start + (rate - start) * progress
            if "momentum" in group:
                group["momentum"] = hyp.warmup_momentum + (hyp.momentum - hyp.warmup_momentum) * progress
        return self.accumulation(iteration)

    def accumulation(self, iteration: int) -> int:
        """Number of batches per optimiser step at an iteration."""
        progress = self._progress(iteration)
        if progress < 1:
            return max(1, round(1 + (NOMINAL_BATCH_SIZE / self.batch_size - 1) * progress))
        return full_accumulation(self.batch_size)

    def num_steps(self) -> int:
        """Optimiser steps of the whole training."""
        total, last, steps = self.epochs * self.num_batches, -1, 0
        for iteration in range(min(self.warmup, total)):
            if iteration - last >= self.accumulation(iteration):
                last, steps = iteration, steps + 1
        return steps + max(total - 1 - last, 0) // full_accumulation(self.batch_size)

    def _progress(self, iteration: int) -> float:
        """How much of the warm-up is over, from 0 to 1."""
        return min(iteration / self.warmup, 1.0) if self.warmup else 1.0


class ModelEMA(Generic[ModelT]):
    """Exponential moving average of weights and buffers, with a decay that grows from 0 towards its limit.

    Args:
        model: network to follow; copied.
        decay: limit, d = decay (1 - exp(-updates / tau)).
        tau: updates until the decay has reached 63 % of its limit.
    """

    def __init__(self, model: ModelT, decay: float = 0.9999, tau: float = 2000.0) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.tau, self.updates = decay, tau, 0

    def decay_now(self) -> float:
        """Decay after the updates made so far."""
        return self.decay * (1 - math.exp(-self.updates / self.tau))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update with the current weights; integers, such as batch counters, are copied."""
        self.updates += 1
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [(average, current) for average, current in pairs if average.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [c for _, c in floats], 1 - self.decay_now())
        for average, current in pairs:
            if not average.is_floating_point():
                average.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights and the number of updates."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]


def pending_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Accumulated gradients that await the next optimiser step, by parameter name."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def restore_gradients(model: nn.Module, gradients: Mapping[str, Tensor]) -> None:
    """Put :func:`pending_gradients` back."""
    parameters = dict(model.named_parameters())
    for name, gradient in gradients.items():
        parameters[name].grad = gradient.to(parameters[name]).clone()


def freeze(model: DetectionModel, rows: Sequence[int]) -> None:
    """Stop training rows of a network: one number n freezes rows 0 to n-1, several numbers exactly these rows.

    Batch norms go on following their inputs, as in YOLOv5.

    Raises:
        UserError: a row that the network does not have.
    """
    num_rows = len(model.model)
    for row in rows:
        if not 0 <= row < num_rows:
            raise UserError(f"--freeze: expected rows from 0 to {num_rows - 1} but got {row}")
    prefixes = tuple(f"model.{row}." for row in (rows if len(rows) > 1 else range(rows[0])))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (prefixes and name.startswith(prefixes)))
