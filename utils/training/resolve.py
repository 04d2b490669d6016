"""From the options given to those of a run: defaults of the data YAML, checks, and what --resume continues."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils import distributed
from utils.checkpoint import load_checkpoint, newest_checkpoint
from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.criterion.build import check_loss_settings
from utils.datasets import check_batch_size
from utils.errors import UserError
from utils.training.options import FREE_ON_RESUME, TrainOptions

log = logging.getLogger(__name__)


def complete_options(given: Mapping[str, Any], data_defaults: Mapping[str, Any], data_file: str) -> TrainOptions:
    """Options in full: those given, else those of the data YAML, else the defaults of the command.

    Where the data YAML suggests hyper-parameters and others are given, its epochs are not taken either.

    Raises:
        UserError: unknown option, or a value that its flag would refuse; bad entries of the data YAML name its file.
    """
    given = TrainOptions.checked(given)
    try:
        defaults = TrainOptions.checked(data_defaults)
    except UserError as error:
        raise UserError(f"{data_file}: defaults: {error}") from None
    left_out = set(given)
    if "hyp" in given and "hyp" in defaults:
        left_out.add("epochs")  # they were suggested for the other hyper-parameters
    taken = {name: value for name, value in defaults.items() if name not in left_out}
    if taken:
        log.info("from %s: %s", data_file, ", ".join(f"{name} {value}" for name, value in taken.items()))
    options = TrainOptions(**{**taken, **given})
    if options.weights and "cfg" not in given:
        options = dataclasses.replace(options, cfg="")
    _check(options)
    return options


def _check(options: TrainOptions) -> None:
    """Refuse options that contradict each other, and warn of those without effect."""
    check_batch_size("--batch-size", options.batch_size, distributed.world_size(), options.quad)
    if options.rect and options.image_weights:
        raise UserError("--rect fixes which images form a batch, --image-weights samples them anew: choose one")
    if options.noval and options.image_weights:
        log.warning("--image-weights with --noval: without validation, images are sampled by class frequency alone")
    if options.sync_bn and distributed.world_size() == 1:
        log.warning("--sync-bn has no effect in a single process")
    if options.nosave and options.save_period > 0:
        log.warning("--save-period has no effect with --nosave")
    if options.weights and Path(options.weights).suffix != ".pt":
        raise UserError(f"--weights: expected a .pt checkpoint or '' but got {options.weights!r}")


def run_hyperparameters(options: TrainOptions, overrides: Sequence[str] = ()) -> Hyperparameters:
    """The hyper-parameters of a training, complete and checked.

    Args:
        options: in full, of which ``hyp``, ``set`` and ``label_smoothing`` matter.
        overrides: texts as of ``--set``, applied after those of the options.

    Raises:
        UserError: an invalid file, key or value, or a loss or assigner that cannot be built.
    """
    direct = {} if options.label_smoothing is None else {"label_smoothing": options.label_smoothing}
    return load_hyperparameters(options.hyp, [*options.set, *overrides], validate=check_loss_settings, **direct)


def resumed_options(given: Mapping[str, Any]) -> tuple[TrainOptions, dict[str, Any], Path]:
    """What --resume continues.

    Returns:
        options of the interrupted run, its checkpoint, its folder.

    Raises:
        UserError: no such run, a finished one, or a flag beside --resume that would change results.
    """
    given = TrainOptions.checked(given)
    fixed = [name for name in given if name not in FREE_ON_RESUME]
    if fixed:
        raise UserError(
            f"--resume continues a run with its own settings: {', '.join(fixed)} cannot change. Only "
            f"{', '.join(FREE_ON_RESUME[1:])} can. To train on with other settings, start a new run with --weights"
        )
    path = newest_checkpoint() if given["resume"] is True else Path(given["resume"])
    if path.is_dir():  # of a run, or its weights
        path = next((file for file in (path / "weights/last.pt", path / "last.pt") if file.is_file()), None) or path
        if path.is_dir():
            raise UserError(f"--resume {path}: expected a last.pt, or the folder of a run, but it holds no last.pt")
    checkpoint = load_checkpoint(path)
    if checkpoint.get("epoch", -1) < 0 or "optimizer" not in checkpoint:
        raise UserError(f"{path}: this run is finished; to train on, start a new run with --weights {path}")
    options = TrainOptions.of({**checkpoint["opt"], **given, "resume": str(path)})
    return options, checkpoint, path.resolve().parent.parent
