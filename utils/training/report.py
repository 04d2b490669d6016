"""Report of a training run: settings, one line per epoch, divergence, and the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.config.hyperparameters import Hyperparameters
from utils.criterion.compatibility import acting_settings
from utils.errors import DivergenceError
from utils.inference import describe_type
from utils.losses import SCORE_LOSSES
from utils.metrics import Metrics
from utils.training.options import TrainOptions

# metrics in the line after an epoch, by column of results.csv
SCORES = {
    "P": "metrics/precision",
    "R": "metrics/recall",
    "mAP50": "metrics/mAP_0.5",
    "mAP50-95": "metrics/mAP_0.5:0.95",
}


class EpochResult(NamedTuple):
    """Result of one epoch.

    Attributes:
        losses: mean of each weighted loss part.
        last_step: iteration of the last optimiser step.
    """

    losses: dict[str, float]
    last_step: int


class TrainResult(NamedTuple):
    """Result of a training run.

    Attributes:
        save_dir: folder of the run.
        best, last: checkpoints.
        metrics: of the best checkpoint on the val split.
        fitness: 0.1 mAP50 + 0.9 mAP50-95 of these.
        epochs: epochs trained, of this run and those it continued.
        minutes: duration of this call.
    """

    save_dir: Path
    best: Path
    last: Path
    metrics: Metrics
    fitness: float
    epochs: int
    minutes: float


def epoch_values(losses: Mapping[str, float], optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Mean training losses and learning rates of an epoch, by column of results.csv."""
    values = {f"train/{name}_loss": value for name, value in losses.items()}
    return values | {f"x/lr{index}": group["lr"] for index, group in enumerate(optimizer.param_groups)}


def validation_values(metrics: Metrics, losses: Mapping[str, float]) -> dict[str, float]:
    """Metrics and losses of a validation, by column of results.csv; undefined metrics are omitted."""
    values = {
        "metrics/precision": metrics.precision,
        "metrics/recall": metrics.recall,
        "metrics/mAP_0.5": metrics.map50,
        "metrics/mAP_0.5:0.95": metrics.map,
        "metrics/mAP_0.75": metrics.map75,
        "metrics/mAP_0.8": metrics.ap_at(0.8),
        "metrics/mAP_0.9": metrics.ap_at(0.9),
        "metrics/oLRP": metrics.olrp,
        "metrics/oLRP_localisation": metrics.olrp_localisation,
        "metrics/oLRP_false_positive": metrics.olrp_false_positive,
        "metrics/oLRP_false_negative": metrics.olrp_false_negative,
    }
    defined = {name: value for name, value in values.items() if not math.isnan(value)}
    return defined | {f"val/{name}_loss": value for name, value in losses.items()}


# Options that are shown even where they are the usual ones.
ALWAYS_SHOWN = ("data", "cfg", "weights", "hyp", "epochs", "batch_size", "imgsz", "seed")
# Optimiser steps from scratch below which a ranking loss is far ahead of cross-entropy (docs/results.md): on the shapes
# 0.58 against 0.71 to 0.73 mAP50-95 after 444 steps, on BCCD 0.52 against 0.59 after 349.
FEW_STEPS = 500
FAST_PRESET = "hyp.pap-published.yaml"


def settings_text(options: Mapping[str, Any], hyp: Hyperparameters) -> str:
    """The settings that differ from the usual ones, and the keys of the loss that act; opt.yaml and hyp.yaml hold all.

    Args:
        options: by name.
        hyp: hyper-parameters.
    """
    usual = {
        name: list(value) if isinstance(value, tuple) else value for name, value in TrainOptions.defaults().items()
    }
    shown = {
        name: value
        for name, value in options.items()
        if (name in ALWAYS_SHOWN or value != usual.get(name)) and not (value is None or value is False or value == "")
    }
    lines = ["options: " + ", ".join(f"{name} {_short(value)}" for name, value in shown.items())]
    flat, defaults = hyp.to_mapping(), Hyperparameters().to_mapping()
    apart = ("loss", "assigner")
    changed = {name: value for name, value in flat.items() if value != defaults[name] and name not in apart}
    others = ", ".join(f"{name} {_short(value)}" for name, value in changed.items())
    lines.append(f"hyper-parameters: {others + '; the others' if others else 'all'} as in hyp.scratch-low.yaml")
    lines.append("loss: " + ", ".join(f"{name} {_short(value)}" for name, value in acting_settings(hyp).items()))
    return "\n".join(lines)


def steps_text(steps: int, epochs: int, is_new: bool, hyp: Hyperparameters) -> str:
    """How long the training is, and what to do where it is short.

    Args:
        steps: optimiser steps in all.
        epochs: in all.
        is_new: the network starts from scratch.
        hyp: hyper-parameters.
    """
    text = f"training: {steps:,} optimiser steps in {epochs} epochs, from {'scratch' if is_new else 'weights'}"
    name, _ = SCORE_LOSSES.name_and_parameters(hyp.loss.score)
    if not is_new or steps >= FEW_STEPS or SCORE_LOSSES.entry(name).ranking:
        return text
    return f"{text}. Short for {name} from scratch: --hyp {FAST_PRESET} gets further in as many, and so do more epochs"


def data_text(
    device: torch.device,
    autocast_type: torch.dtype | None,
    num_train: int,
    num_val: int,
    names: Mapping[int, str],
) -> str:
    """Device, precision, and sizes of the training and validation sets."""
    return (
        f"device: {device}, network in {describe_type(autocast_type)}\n"
        f"data: {num_train} training and {num_val} validation images, classes: {', '.join(names.values())}"
    )


def epoch_line(
    epoch: int,
    epochs: int,
    values: Mapping[str, float],
    seconds: float,
    device: torch.device,
) -> str:
    """The line printed after an epoch.

    Args:
        epoch: finished epoch, from 0, of ``epochs``.
        values: by column of results.csv; metrics are absent where nothing was validated.
        seconds: mean duration of an epoch.
        device: of the network.
    """
    parts = [f"epoch {epoch + 1:>3}/{epochs}"]
    for name, value in values.items():
        if name.startswith("train/"):
            parts.append(f"{name.removeprefix('train/').removesuffix('_loss')} {value:.4f}")
    parts += [f"{name} {values[column]:.3f}" for name, column in SCORES.items() if column in values]
    if device.type == "cuda":
        parts.append(f"{torch.cuda.max_memory_reserved(device) / 2**30:.1f} GiB")
    return "  ".join([*parts, f"{seconds:.1f} s/epoch", f"{duration(seconds * (epochs - epoch - 1))} left"])


def finite_means(sums: Mapping[str, Tensor], count: int, epoch: int) -> dict[str, float]:
    """Mean loss parts of ``count`` iterations.

    Raises:
        DivergenceError: one is not finite; the message names it.
    """
    means = {name: float(value) / count for name, value in sums.items()}
    for name, value in means.items():
        if not math.isfinite(value):
            raise DivergenceError(
                f"epoch {epoch + 1}: expected a finite {name} loss but got {value}; "
                "a lower lr0, a longer warm-up or --amp off may help"
            )
    return means


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as on a clock."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _short(value: object) -> str:
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        return f"{len(value)} curves"
    return f"{value:g}" if isinstance(value, float) else str(value)
