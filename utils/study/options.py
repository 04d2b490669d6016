"""The options of the commands of study.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Required, TypedDict

from utils.config.options import Options, option, required, switch
from utils.config.schema import Many, Text, Whole
from utils.training.options import TrainKeywords, TrainOptions

PROJECT, NAME = "runs/study", "exp"
DEFAULT_METRICS = ("map", "map50", "map75", "ap90")
DEFAULT_CURVES = ("map", "map75", "ap90", "olrp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOptions(TrainOptions):
    """Options of ``study.py train``: its own, and those of the trainings."""

    command: ClassVar[str] = "study.py train"
    purpose: ClassVar[str] = "Train every preset with every seed."
    decided: ClassVar[Mapping[str, str]] = {
        "hyp": "--hyps names the presets",
        "seed": "--seeds names the seeds",
        "resume": "repeat the same command to continue the study",
        "evolve": "search.py searches hyper-parameters",
        "exist_ok": "repeat the same command to continue the study",
        "image_weights": "it samples by a run's own results, so runs of one seed would no longer see the same images",
    }

    project: str = option(Text(PROJECT), "folder of studies; runs are in PROJECT/NAME/<preset>/<seed>")
    name: str = option(Text(NAME), "name of the study")
    hyps: tuple[str, ...] = required(Many(None, Text(), 0), "hyper-parameter files, the presets", metavar="FILE")
    seeds: tuple[int, ...] = required(Many(None, Whole(low=0), 0), "seeds, whole numbers", metavar="N")
    csv: str | None = option(
        Text(None), "file that collects one row per finished run (default: the study's results.csv)"
    )
    allow_differences: bool = switch("compare presets even if they differ in more than the loss")


class StudyKeywords(TrainKeywords, total=False):
    """Keywords of ``study.run``; see :class:`StudyOptions`."""

    hyps: Required[str | Path | Sequence[str | Path]]
    seeds: Required[int | Sequence[int]]
    csv: str | Path | None
    allow_differences: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """Options of ``study.py table``."""

    command: ClassVar[str] = "study.py table"
    purpose: ClassVar[str] = "Mean, standard deviation and paired differences over seeds."

    csv: str | None = option(Text(None), "file of a study (default: results.csv of --name)")
    name: str = option(Text(NAME), "name of the study")
    project: str = option(Text(PROJECT), "folder of studies")
    metric: tuple[str, ...] = option(
        Many(DEFAULT_METRICS, Text()), "columns of the file: map, map75, ap90, recall, <class>/map, ..."
    )
    baseline: str = option(Text(""), "preset that the others are compared with (default: the first)")


class TableKeywords(TypedDict, total=False):
    """Keywords of ``study.table`` beside ``csv``, which comes first; see :class:`TableOptions`."""

    name: str
    project: str | Path
    metric: str | Sequence[str]
    baseline: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotOptions(Options):
    """Options of ``study.py plot``."""

    command: ClassVar[str] = "study.py plot"
    purpose: ClassVar[str] = "Curves over epochs, mean and spread over seeds."

    name: str = option(Text(NAME), "name of the study")
    project: str = option(Text(PROJECT), "folder of studies")
    metric: tuple[str, ...] = option(
        Many(DEFAULT_CURVES, Text()), "one panel each: map, map50, map75, ap80, ap90, olrp, precision, recall, box_loss"
    )
    presets: tuple[str, ...] = option(Many((), Text(), 0), "presets to draw, in this order (default: all)")
    output: str | None = option(Text(None), "PNG file (default: curves.png of the study)")


class PlotKeywords(TypedDict, total=False):
    """Keywords of ``study.plot``; see :class:`PlotOptions`."""

    name: str
    project: str | Path
    metric: str | Sequence[str]
    presets: Sequence[str]
    output: str | Path | None


COMMANDS: dict[str, type[Options]] = {"train": StudyOptions, "table": TableOptions, "plot": PlotOptions}
