"""What identifies a training: the settings that make its results comparable with those of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config.hyperparameters import Hyperparameters
from utils.training.options import FREE_ON_RESUME, TrainOptions

# Options that have an entry of their own, are resolved in the hyper-parameters, or do not change results.
_ELSEWHERE = {"seed", "data", "cfg", "imgsz", "epochs", "hyp", "set", "label_smoothing", "project", "name", "exist_ok"}
_ELSEWHERE |= {"strict", *FREE_ON_RESUME}


def run_settings(options: Mapping[str, Any], hyp: Mapping[str, Any]) -> dict[str, str]:
    """What tells a run from others, as texts; only results of equal settings may stand for each other.

    Args:
        options: of the training in full, as :meth:`TrainOptions.to_mapping` or a checkpoint's ``opt``.
        hyp: resolved hyper-parameters in full.

    Returns:
        ``seed``, ``data``, ``cfg``, ``image_size``, ``epochs``, and as JSON ``options`` and ``hyp``, what differs from
        the defaults.
    """
    defaults, usual = TrainOptions().to_mapping(), Hyperparameters().to_mapping()
    changed = {name: value for name, value in options.items() if name not in _ELSEWHERE and value != defaults.get(name)}
    if changed.get("weights"):
        changed["weights"] = file_identity(Path(changed["weights"]))
    other = {name: value for name, value in hyp.items() if name != "loss" and value != usual.get(name)}
    loss = {name: value for name, value in hyp["loss"].items() if value != usual["loss"].get(name)}
    return {
        "seed": str(options["seed"]),
        "data": Path(options["data"]).name,
        "cfg": Path(options["cfg"] or options["weights"]).name,
        "image_size": str(options["imgsz"]),
        "epochs": str(options["epochs"]),
        "options": json.dumps(changed, sort_keys=True),
        "hyp": json.dumps(other | ({"loss": loss} if loss else {}), sort_keys=True),
    }


def file_identity(path: Path) -> str:
    """Name and content of a file, without its folder, which differs between machines."""
    if not path.is_file():
        return path.name
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
