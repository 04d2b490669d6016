"""The options of train.py: YOLOv5's names and defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypedDict

from utils.config.choices import AMP_CHOICES, OPTIMIZERS
from utils.config.options import Options, option, switch
from utils.config.schema import Many, Text, Whole
from utils.parameters import Choice, Number

# What may change between a run and its continuation, because results do not depend on it.
FREE_ON_RESUME = ("resume", "device", "workers", "cache", "noplots", "save_period", "quiet")

# Flags of YOLOv5's train.py that this program does not have, and what to do instead.
_UNAVAILABLE = {
    "evolve_population": "--evolve N is a search of N trials, see search.py",
    "resume_evolve": "repeat the same --evolve command to continue it",
    "bucket": "results stay in the run folder",
    "entity": "runs are logged to files in the run folder",
    "upload_dataset": "runs are logged to files in the run folder",
    "bbox_interval": "runs are logged to files in the run folder",
    "artifact_alias": "runs are logged to files in the run folder",
}


_NO_AUTO_BATCH = {-1: "finding a batch size that fits is not available; start with 16, and halve it if memory runs out"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Options of a training in full."""

    command: ClassVar[str] = "train.py"
    purpose: ClassVar[str] = "Train a detector."
    unavailable: ClassVar[Mapping[str, str]] = _UNAVAILABLE

    weights: str = option(Text(""), "checkpoint to start from (default: none, train from scratch)")
    cfg: str = option(Text("yolov5n.yaml"), "model YAML; with --weights the checkpoint's own is used unless given")
    data: str = option(Text("shapes.yaml"), "data YAML")
    hyp: str = option(Text("hyp.scratch-low.yaml"), "hyper-parameter YAML")
    set: tuple[str, ...] = option(Many((), Text(), 0), "override hyper-parameters", metavar="KEY=VALUE", extends=True)
    epochs: int = option(Whole(100, 1), "number of epochs")
    batch_size: int = option(Whole(16, 1, advice=_NO_AUTO_BATCH), "total batch size over all processes")
    imgsz: int = option(Whole(640, 32), "training and validation image size, pixels", aliases=("--img", "--img-size"))
    resume: bool | str = option(
        Text(False), "resume an interrupted run from its last.pt; without a path, the most recent run", bare=True
    )
    rect: bool = switch("rectangular batches in a fixed order, no mosaic")
    nosave: bool = switch("save only the final checkpoint")
    noval: bool = switch("validate only after the final epoch")
    noautoanchor: bool = switch("keep the model's anchors even if they fit the data badly")
    noplots: bool = switch("save no plots")
    quiet: bool = switch("show warnings and errors alone")
    cache: str | None = option(
        Choice(None, ("ram", "disk", "val")),
        "cache decoded images in memory (ram, also without a value) or on disk; val: validation images only, in memory",
        bare="ram",
    )
    image_weights: bool = switch("sample images with rare or badly detected classes more often, with replacement")
    device: str = option(Text(""), "cpu, 0 or mps (default: the first GPU, else the CPU)")
    amp: str = option(
        Choice("auto", AMP_CHOICES), "mixed precision; auto uses 16 bits where the hardware is fast at it"
    )
    multi_scale: bool = switch("vary the image size by +/- 50 % from batch to batch")
    single_cls: bool = switch("treat all classes as one")
    optimizer: str = option(Choice("SGD", OPTIMIZERS), "optimizer")
    sync_bn: bool = switch("synchronize batch norm over all processes (GPUs under torchrun)")
    workers: int = option(Whole(8, 0), "maximum number of data-loading workers")
    project: str = option(Text("runs/train"), "folder that holds the run folders")
    name: str = option(Text("exp"), "name of the run folder; 'cfg' uses the model's name")
    exist_ok: bool = switch("write into an existing run folder")
    quad: bool = switch("build batches of quads: four images tiled, or one enlarged, to twice the size")
    cos_lr: bool = switch("cosine learning-rate schedule")
    label_smoothing: float | None = option(Number(None, 0, 1), "overrides the hyper-parameter of that name")
    patience: int = option(Whole(100, 0), "stop after this many epochs without improvement; 0 never stops early")
    freeze: tuple[int, ...] = option(
        Many((0,), Whole()), "one number n freezes rows 0 to n-1 of the model, several freeze exactly these rows"
    )
    save_period: int = option(Whole(-1), "also save epochN.pt every this many epochs; -1 saves none")
    evolve: int | None = option(
        Whole(None),
        "search hyper-parameters in N trainings, 300 without a number; see search.py",
        bare=300,
        metavar="N",
    )
    strict: bool = switch("refuse data with findings, see check.py, instead of warning of them")
    seed: int = option(Whole(0, 0), "seed of initial weights, sample order and augmentation")


class TrainKeywords(TypedDict, total=False):
    """Keywords of ``train.run``; see :class:`TrainOptions`."""

    weights: str | Path
    cfg: str | Path
    data: str | Path
    hyp: str | Path
    set: Sequence[str]
    epochs: int
    batch_size: int
    imgsz: int
    resume: bool | str | Path
    rect: bool
    nosave: bool
    noval: bool
    noautoanchor: bool
    noplots: bool
    quiet: bool
    cache: str | None
    image_weights: bool
    device: str
    amp: str
    multi_scale: bool
    single_cls: bool
    optimizer: str
    sync_bn: bool
    workers: int
    project: str | Path
    name: str
    exist_ok: bool
    quad: bool
    cos_lr: bool
    label_smoothing: float | None
    patience: int
    freeze: int | Sequence[int]
    save_period: int
    evolve: int | None
    strict: bool
    seed: int
