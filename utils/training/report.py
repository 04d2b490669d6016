"""Report of a training run: settings, one line per epoch, divergence, and the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.config.hyperparameters import Hyperparameters
from utils.errors import DivergenceError
from utils.inference import describe_type
from utils.metrics import Metrics

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


def settings_text(options: Mapping[str, Any], hyp: Hyperparameters) -> str:
    """The resolved settings; flags that are off are omitted.

    Args:
        options: by name.
        hyp: hyper-parameters.
    """
    shown = {name: value for name, value in options.items() if value is not None and value is not False}
    lines = ["options: " + ", ".join(f"{name} {value!r}" for name, value in shown.items())]
    flat = {name: value for name, value in hyp.to_mapping().items() if value is not None and name != "loss"}
    lines.append("hyper-parameters: " + ", ".join(f"{name} {_short(value)}" for name, value in flat.items()))
    loss = hyp.to_mapping()["loss"]
    lines.append("loss: " + ", ".join(f"{name} {value}" for name, value in loss.items()))
    return "\n".join(lines)


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
    return f"{value:g}" if isinstance(value, float) else str(value)
