"""What a training prints: its settings before, a line after each epoch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import torch

from utils.hyperparameters import Hyperparameters
from utils.precision import describe_type


def settings_text(options: argparse.Namespace, hyp: Hyperparameters) -> str:
    """The resolved settings; options that are off are left out."""
    shown = {name: value for name, value in vars(options).items() if value not in (None, False, [], "", [0])}
    lines = ["options: " + ", ".join(f"{name} {value}" for name, value in shown.items())]
    flat = {name: value for name, value in hyp.to_mapping().items() if value is not None and name != "loss"}
    lines.append("hyper-parameters: " + ", ".join(f"{name} {_short(value)}" for name, value in flat.items()))
    loss = hyp.to_mapping()["loss"]
    lines.append("loss: " + ", ".join(f"{name} {value}" for name, value in loss.items()))
    return "\n".join(lines)


def data_text(
    device: torch.device, autocast_type: torch.dtype | None, num_images: Sequence[int], names: Mapping
) -> str:
    """Device, precision, and sizes of the training and validation sets."""
    train, val = num_images
    return (
        f"device: {device}, network in {describe_type(autocast_type)}\n"
        f"data: {train} training and {val} validation images, classes: {', '.join(names.values())}"
    )


def epoch_line(
    epoch: int, epochs: int, losses: Mapping[str, float], scores: Mapping[str, float], seconds: float, left: float
) -> str:
    """What is printed after an epoch.

    Args:
        epoch: finished epoch, from 0, of ``epochs``.
        losses: mean weighted parts.
        scores: metrics by short name; empty where nothing was validated.
        seconds: mean duration of an epoch.
        left: seconds until the end.
    """
    parts = [f"epoch {epoch + 1:>3}/{epochs}"]
    parts += [f"{name} {value:.4f}" for name, value in losses.items()]
    parts += [f"{name} {value:.3f}" for name, value in scores.items()]
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.max_memory_reserved() / 2**30:.1f} GiB")
    return "  ".join([*parts, f"{seconds:.1f} s/epoch", f"{duration(left)} left"])


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as on a clock."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
