"""The runs of a study: which there are, what each is trained with, and how much of it is done."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from utils.checkpoint import load_checkpoint
from utils.config.hyperparameters import Hyperparameters
from utils.config.yaml_files import load_yaml
from utils.errors import UserError
from utils.files import find_file, write_text_atomically
from utils.inference import select_device
from utils.study.rows import Row, flat_metrics, settings_differences, text_of
from utils.training.identity import run_settings
from utils.training.log import read_results
from utils.training.options import TrainOptions
from utils.training.resolve import run_hyperparameters

# What the presets of a fair comparison may differ in: the loss, the assigner, the gains of the parts.
LOSS_KEYS = ("loss", "assigner", "box", "obj", "cls")
_CLOCK = "study.json"


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One run of the grid.

    Attributes:
        preset: short name, ``sca`` of ``hyp.sca.yaml``.
        hyp: its hyper-parameter file.
        seed: of weights, order and augmentation.
        folder: where it is trained.
        settings: the columns ``KEY`` and ``SETTINGS`` of its row.
    """

    preset: str
    hyp: str
    seed: int
    folder: Path
    settings: Row

    @property
    def last(self) -> Path:
        """Its newest checkpoint."""
        return self.folder / "weights" / "last.pt"


def preset_names(hyps: Sequence[str | Path]) -> dict[str, str]:
    """Short name to hyper-parameter file, in the order given.

    Raises:
        UserError: none, an unknown one, or two of one name.
    """
    if not hyps:
        raise UserError("--hyps: expected at least one hyper-parameter file, for example hyp.iou.yaml hyp.sca.yaml")
    presets: dict[str, str] = {}
    for file in map(str, hyps):
        find_file(file, "hyper-parameter file", ("data/hyps",))
        name = Path(file).stem.removeprefix("hyp.")
        if name in presets:
            raise UserError(f"--hyps: {presets[name]} and {file} would both be the preset {name!r}: rename one of them")
        presets[name] = file
    return presets


def load_presets(
    presets: Mapping[str, str], options: TrainOptions, allow_differences: bool
) -> dict[str, Hyperparameters]:
    """The resolved hyper-parameters of each preset. They differ only in the loss unless differences are allowed.

    Args:
        presets: short name to file.
        options: of the training, of which ``set`` and ``label_smoothing`` change hyper-parameters.
        allow_differences: accept presets that differ in other keys too.

    Raises:
        UserError: an invalid preset, or one that differs from the first in more than ``LOSS_KEYS``.
    """
    resolved = {name: run_hyperparameters(dataclasses.replace(options, hyp=file)) for name, file in presets.items()}
    first = next(iter(resolved))
    for name, hyp in resolved.items():
        pairs = [(key, getattr(resolved[first], key), getattr(hyp, key)) for key in hyp.to_mapping()]
        differing = [f"{key} ({one} and {other})" for key, one, other in pairs if one != other and key not in LOSS_KEYS]
        if differing and not allow_differences:
            raise UserError(
                f"{presets[first]} and {presets[name]} differ in more than the loss: {', '.join(differing)}. "
                f"A fair comparison varies only {', '.join(LOSS_KEYS)}; --allow-differences compares them anyway"
            )
    return resolved


def progress_of(run: StudyRun) -> float:
    """The fraction of a run that is done, read from its folder: 0 if there is nothing to continue, 1 if it is finished.

    Raises:
        UserError: the folder holds a run with other settings.
    """
    if not run.last.is_file():
        return 0.0
    content = load_checkpoint(run.last)
    found = {"preset": run.preset, **run_settings(content["opt"], content["hyp"])}
    if differences := settings_differences(found, run.settings):
        raise UserError(
            f"{run.folder}: holds a run with other settings: {differences}. "
            "Choose another --name, or remove that folder"
        )
    if content["epoch"] < 0:
        return 1.0
    return min((content["epoch"] + 1) / int(run.settings["epochs"]), 0.999)


def begin_clock(run: StudyRun) -> float:
    """Record that a run starts now; returns the minutes that it trained before it was interrupted."""
    clock = run.folder / _CLOCK
    if not run.last.is_file():
        clock.unlink(missing_ok=True)
        return 0.0
    earlier = minutes_in_folder(run)
    write_text_atomically(clock, json.dumps({"earlier": earlier, "resumed": time.time()}))
    return earlier


def minutes_in_folder(run: StudyRun) -> float:
    """Minutes of training up to the newest checkpoint, without pauses between interruption and restart.

    Training after the newest checkpoint, which has to be repeated, does not count.
    """
    clock, settings = run.folder / _CLOCK, run.folder / "opt.yaml"
    earlier, begun = 0.0, settings.stat().st_mtime
    if clock.is_file():
        noted = load_yaml(clock)
        earlier, begun = noted["earlier"], noted["resumed"]
    return earlier + max(run.last.stat().st_mtime - begun, 0.0) / 60


def row_of(run: StudyRun, minutes: float, device: str) -> Row:
    """The row of a finished run, read from its folder.

    Args:
        run: finished.
        minutes: of training, over all interruptions.
        device: option of that name.
    """
    best, last = load_checkpoint(run.last.with_name("best.pt")), load_checkpoint(run.last)
    where = select_device(device)
    origin = {
        "commit": last["git"],
        "date": last["date"],
        "minutes": float(minutes),
        "epochs_trained": len(read_results(run.folder / "results.csv")),
        "best_epoch": best["best_epoch"] + 1,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "torch": last["versions"]["torch"],
    }
    return {**run.settings, **{name: text_of(value) for name, value in origin.items()}, **flat_metrics(best["metrics"])}
