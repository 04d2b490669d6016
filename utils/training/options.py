"""The flags of train.py: YOLOv5's names and defaults, the defaults a data YAML may bring, and --resume."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils import distributed
from utils.checkpoint import load_checkpoint, newest_checkpoint
from utils.config.parser import CommandParser, options_from
from utils.datasets import check_batch_size
from utils.errors import UserError
from utils.inference import AMP_CHOICES
from utils.training.optim import OPTIMIZERS

# What may change between a run and its continuation, because results do not depend on it.
FREE_ON_RESUME = ("resume", "device", "workers", "cache", "noplots", "save_period")

# Flags of YOLOv5's train.py that this program does not have, and what to do instead.
UNAVAILABLE = {
    "evolve_population": "--evolve N is a search of N trials, see search.py",
    "resume_evolve": "the same --evolve command again goes on where it stopped",
    "bucket": "results stay in the run folder",
    "local_rank": "torchrun sets it for each process",
    "entity": "runs are logged to files in the run folder",
    "upload_dataset": "runs are logged to files in the run folder",
    "bbox_interval": "runs are logged to files in the run folder",
    "artifact_alias": "runs are logged to files in the run folder",
}

log = logging.getLogger(__name__)


def make_parser() -> CommandParser:
    """All flags with their defaults."""
    parser = CommandParser(
        prog="train.py",
        description="Train a detector.",
        unavailable=UNAVAILABLE,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", default="", help="checkpoint to start from; none trains from scratch")
    add("--cfg", default="yolov5n.yaml", help="model YAML; with --weights the default is the checkpoint's")
    add("--data", default="shapes.yaml", help="data YAML")
    add("--hyp", default="hyp.scratch-low.yaml", help="hyper-parameter YAML")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override hyper-parameters")
    add("--epochs", type=int, default=100, help="passes over the training set")
    add("--batch-size", type=int, default=16, help="images per batch over all processes")
    add("--imgsz", "--img", "--img-size", type=int, default=640, help="image size in pixels, training and validation")
    add("--resume", nargs="?", const=True, default=False, help="continue a run: its last.pt, or the newest one")
    add("--rect", action="store_true", help="rectangular batches in a fixed order, no mosaic")
    add("--nosave", action="store_true", help="save only the final checkpoint")
    add("--noval", action="store_true", help="validate only after the last epoch")
    add("--noautoanchor", action="store_true", help="keep the anchors however they fit")
    add("--noplots", action="store_true", help="draw nothing")
    add(
        "--cache",
        nargs="?",
        const="ram",
        default=None,
        choices=("ram", "disk", "val"),
        help="keep decoded images; val: only those of the val split, in memory",
    )
    add(
        "--image-weights",
        action="store_true",
        help="draw images with replacement, those with objects of rare and badly found classes more often",
    )
    add("--device", default="", help="cpu, 0 or mps; none is the first GPU, else the CPU")
    add("--amp", default="auto", choices=AMP_CHOICES, help="network arithmetic; auto is 16 bits where it is fast")
    add("--multi-scale", action="store_true", help="vary the image size by half, batch by batch")
    add("--single-cls", action="store_true", help="treat all classes as one")
    add("--optimizer", default="SGD", choices=OPTIMIZERS, help="how weights are updated")
    add("--sync-bn", action="store_true", help="batch norm over all processes (GPUs under torchrun)")
    add("--workers", type=int, default=8, help="processes that load images, at most")
    add("--project", default="runs/train", help="folder of runs")
    add("--name", default="exp", help="name of this run; 'cfg' takes the model's name")
    add("--exist-ok", action="store_true", help="write into an existing run folder")
    add("--quad", action="store_true", help="of each four images make one of twice the size: all four, or one enlarged")
    add("--cos-lr", action="store_true", help="cosine learning-rate schedule")
    add("--label-smoothing", type=float, default=None, help="overrides the hyper-parameter of that name")
    add("--patience", type=int, default=100, help="stop after so many epochs without a better one; 0 never stops")
    add("--freeze", nargs="+", type=int, default=[0], help="n: rows 0 to n-1 of the model; several: exactly these")
    add("--save-period", type=int, default=-1, help="also save epochN.pt every so many epochs")
    evolving = "search hyper-parameters in N trainings, 300 where no number is given; see search.py"
    add("--evolve", nargs="?", type=int, const=300, metavar="N", help=evolving)
    add("--seed", type=int, default=0, help="of initial weights, order and augmentation")
    return parser


def complete_options(given: Mapping[str, Any], data_defaults: Mapping[str, Any], data_file: str) -> argparse.Namespace:
    """Options in full: those given, else those of the data YAML, else the parser's.

    Raises:
        UserError: unknown option, or a value that its flag would refuse; bad entries of the data YAML name its file.
    """
    parser = make_parser()
    actions = parser.option_actions()
    named = {actions[name].dest for name in given if name in actions}
    try:
        options_from(parser, data_defaults)
    except UserError as error:
        raise UserError(f"{data_file}: defaults: {error}") from None
    taken = {name: value for name, value in data_defaults.items() if actions[name].dest not in named}
    if taken:
        log.info("from %s: %s", data_file, ", ".join(f"{name} {value}" for name, value in taken.items()))
    options = options_from(parser, {**taken, **given})
    if options.weights and "cfg" not in named:
        options.cfg = ""
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    least = {"epochs": 1, "batch_size": 1, "imgsz": 32, "workers": 0, "patience": 0, "seed": 0}
    for name, low in least.items():
        if getattr(options, name) < low:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag}: expected a whole number from {low} on but got {getattr(options, name)}")
    check_batch_size("--batch-size", options.batch_size, distributed.world_size(), options.quad)
    if options.rect and options.image_weights:
        raise UserError("--rect fixes which images make a batch, --image-weights draws them anew: choose one")
    if options.noval and options.image_weights:
        log.warning("--image-weights with --noval: without validation images are drawn by class frequency alone")
    if options.sync_bn and distributed.world_size() == 1:
        log.warning("--sync-bn does nothing in a single process")
    if options.nosave and options.save_period > 0:
        log.warning("--save-period does nothing with --nosave")
    if options.weights and Path(options.weights).suffix != ".pt":
        raise UserError(f"--weights: expected a .pt checkpoint or '' but got {options.weights!r}")


def resumed_options(given: Mapping[str, Any]) -> tuple[argparse.Namespace, dict[str, Any], Path]:
    """What --resume continues.

    Returns:
        options of the interrupted run, its checkpoint, its folder.

    Raises:
        UserError: no such run, a finished one, or a flag beside --resume that would change results.
    """
    fixed = [name for name in given if name not in FREE_ON_RESUME]
    if fixed:
        raise UserError(
            f"--resume continues a run with its own settings: {', '.join(fixed)} cannot change. "
            f"Free are {', '.join(FREE_ON_RESUME[1:])}. To train on with others, start from --weights"
        )
    path = newest_checkpoint() if given["resume"] is True else Path(given["resume"])
    checkpoint = load_checkpoint(path)
    if checkpoint.get("epoch", -1) < 0 or "optimizer" not in checkpoint:
        raise UserError(f"{path}: this run is finished; to train on, start a new run with --weights {path}")
    options = options_from(make_parser(), {**checkpoint["opt"], **given, "resume": str(path)})
    return options, checkpoint, path.resolve().parent.parent
