"""Compare losses fairly: ``python study.py train --data D --cfg M --hyps hyp.iou.yaml hyp.sca.yaml --seeds 0 1 2``.

Runs of one seed begin with the same weights and see the same batches in the same order: only the loss differs.
``python study.py table`` prints what came out, ``python study.py plot`` draws it epoch by epoch. :func:`run`,
:func:`table` and :func:`plot` are the same from Python.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from utils.config.parser import given_command
from utils.study.options import (
    COMMANDS,
    PlotKeywords,
    PlotOptions,
    StudyKeywords,
    StudyOptions,
    TableKeywords,
    TableOptions,
)

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    COMMAND, GIVEN = given_command(COMMANDS, "study.py", "Compare losses: train a grid, then see its table and curves.")

import pandas as pd
import torch

import train
from models.loading import new_model
from utils import distributed
from utils.checkpoint import load_checkpoint
from utils.config.console import run_main
from utils.datasets import read_data_yaml
from utils.errors import UserError
from utils.files import find_file
from utils.inference import fitting_image_size
from utils.study.curves import plot_study, read_curves
from utils.study.rows import Row, append_row, find_row, read_rows
from utils.study.runs import (
    StudyRun,
    begin_clock,
    load_presets,
    minutes_in_folder,
    preset_names,
    progress_of,
    row_of,
)
from utils.study.table import build_table
from utils.training.identity import run_settings
from utils.training.options import FREE_ON_RESUME, TrainOptions
from utils.training.report import TrainResult
from utils.training.reproducibility import reproducible
from utils.training.resolve import complete_options

log = logging.getLogger(__name__)


class StudyResult(NamedTuple):
    """What a study returns.

    Attributes:
        csv: file with a row for each finished run.
        rows: those of this grid in its order, as texts.
        trained: runs that were trained or continued by this call.
        minutes: duration of this call.
    """

    csv: Path
    rows: list[Row]
    trained: int
    minutes: float


def run(**options: Unpack[StudyKeywords]) -> StudyResult:
    """Train every preset with every seed; finished runs are skipped, interrupted ones continued.

    Args:
        options: see :class:`utils.study.options.StudyOptions`: ``hyps=["hyp.iou.yaml", "hyp.sca.yaml"]``,
            ``seeds=[0, 1, 2]``, ``name``, ``project``, ``csv``, ``allow_differences``, and those of ``train.run``,
            e.g. ``data="bccd.yaml"``, ``imgsz=320``.

    Raises:
        UserError: an invalid option, file, key or name, presets that differ in more than the loss, or a row or folder
            of this study that was made with other settings.
    """
    started = time.monotonic()
    asked = StudyOptions.of(options)
    folder = Path(asked.project) / asked.name
    path = folder / "results.csv" if asked.csv is None else Path(asked.csv)
    given = StudyOptions.checked(options)
    training = {name: value for name, value in given.items() if name in TrainOptions.specs()}
    grid = plan(asked, training)
    rows = _rows(path)
    for cell in grid:  # mistakes are reported before anything slow begins
        if find_row(rows, cell.settings, str(path)) is None:
            progress_of(cell)
    durations: list[float] = []
    for index, cell in enumerate(grid):
        title = f"run {index + 1} of {len(grid)}, preset {cell.preset}, seed {cell.seed}"
        rows = _rows(path)
        if find_row(rows, cell.settings, str(path)) is not None:
            log.info("%s: finished, its row is in %s", title, path)
            continue
        done = progress_of(cell)
        if done < 1:
            so_far = (time.monotonic() - started) / 60
            log.info("%s, %.1f min so far, %s", title, so_far, _left_text(grid[index:], rows, path, durations, done))
            minutes = _train(cell, done, training)
            durations.append(minutes)
        else:
            minutes = minutes_in_folder(cell)
        row = row_of(cell, minutes, asked.device)
        append_row(path, row)
        score = float(row["map"])
        log.info("%s: finished in %.1f min, mAP50-95 %.4f; row added to %s", title, minutes, score, path)
    minutes, trained = (time.monotonic() - started) / 60, len(durations)
    log.info("%d runs, %d of them trained now, in %.1f min; rows are in %s", len(grid), trained, minutes, path)
    rows = _rows(path)
    found = [find_row(rows, cell.settings, str(path)) for cell in grid]
    return StudyResult(path, [row for row in found if row is not None], trained, minutes)


def plan(asked: StudyOptions, training: Mapping[str, Any]) -> list[StudyRun]:
    """The grid, seed after seed and preset after preset: a study that is stopped has all presets equally often.

    Args:
        asked: of the study.
        training: options of train.py, as given.
    """
    if distributed.world_size() > 1:
        raise UserError("study.py trains in one process: start it without torchrun")
    seeds = asked.seeds
    if not seeds or len({*seeds}) < len(seeds):
        raise UserError(f"--seeds: expected one or more different seeds but got {', '.join(map(str, seeds)) or 'none'}")
    presets = preset_names(asked.hyps)
    description = read_data_yaml(find_file(asked.data, "data file", ("data",)))
    defaults = {name: value for name, value in description.defaults.items() if name != "hyp"}  # --hyps says it
    complete = complete_options(training, defaults, asked.data)
    hyperparameters = load_presets(presets, complete, asked.allow_differences)
    complete = dataclasses.replace(complete, imgsz=_network_image_size(complete, description.names))
    options = complete.to_mapping()
    return [
        StudyRun(
            preset,
            file,
            seed,
            Path(asked.project) / asked.name / preset / str(seed),
            {"preset": preset, **run_settings(options | {"seed": seed}, hyperparameters[preset].to_mapping())},
        )
        for seed in seeds
        for preset, file in presets.items()
    ]


def _network_image_size(options: TrainOptions, names: Sequence[str]) -> int:
    """Side in pixels that the network is trained with, a multiple of its stride."""
    cfg = options.cfg or load_checkpoint(options.weights)["cfg"]
    with reproducible(options.seed, torch.device("cpu")):  # weights are drawn here, and leave no trace
        return fitting_image_size(options.imgsz, max(new_model(cfg, names).stride))


def _train(cell: StudyRun, done: float, training: Mapping[str, Any]) -> float:
    """Train a run, or the rest of it; returns its minutes over all interruptions."""
    earlier = begin_clock(cell)
    try:
        if done > 0:
            free = {name: value for name, value in training.items() if name in FREE_ON_RESUME}
            return earlier + _minutes({**free, "resume": str(cell.last)})
        place = {"project": cell.folder.parent, "name": cell.folder.name, "exist_ok": True}
        return _minutes({**training, "hyp": cell.hyp, "seed": cell.seed, **place})
    except UserError as error:
        raise UserError(f"preset {cell.preset}, seed {cell.seed}: {error}") from None


def _minutes(options: Mapping[str, Any]) -> float:
    result = train.run(**options)
    assert isinstance(result, TrainResult), "a single training in a single process"
    return result.minutes


def _rows(path: Path) -> list[Row]:
    return read_rows(path) if path.exists() else []


def _left_text(
    cells: Sequence[StudyRun], rows: Sequence[Row], path: Path, durations: Sequence[float], done: float
) -> str:
    """Time left from the mean duration of a run: of those of this call, else of those like them in the CSV.

    Args:
        cells: this run and those behind it.
        durations: minutes of the runs of this call.
        done: fraction of this run that is trained already.
    """
    found = [find_row(rows, cell.settings, str(path)) for cell in cells]
    setup = ("data", "cfg", "image_size", "epochs", "options")
    alike = [row for row in rows if all(row.get(name) == cells[0].settings[name] for name in setup)]
    known = durations or [float(row["minutes"]) for row in alike if row.get("minutes")]
    if not known:
        return "time left is known after the first run"
    return f"{sum(known) / len(known) * (found.count(None) - done):.1f} min left"


def table(csv: str | Path | None = None, **options: Unpack[TableKeywords]) -> pd.DataFrame:
    """Print a Markdown table: mean and standard deviation over seeds, and paired differences to the first preset.

    Args:
        csv: file of a study; None is that of ``project/name``.
        options: see :class:`utils.study.options.TableOptions`: ``metric=["map", "ap90", "red/map"]``, ``baseline``,
            ``name``, ``project``.

    Returns:
        the same as numbers, see :class:`utils.study.table.StudyTable`.

    Raises:
        UserError: no CSV, or an unknown metric or preset.
    """
    asked = TableOptions.of({"csv": csv, **options})
    path = Path(asked.project) / asked.name / "results.csv" if asked.csv is None else Path(asked.csv)
    result = build_table(read_rows(path), asked.metric, asked.baseline)
    log.info("%s", result.markdown)
    return result.frame


def plot(**options: Unpack[PlotKeywords]) -> Path:
    """Draw metrics epoch by epoch: for each preset the mean over its seeds, with a band of one standard deviation.

    Args:
        options: see :class:`utils.study.options.PlotOptions`: ``metric=["map", "box_loss"]``, ``presets``, ``name``,
            ``project``, ``output``.

    Returns:
        the PNG file.

    Raises:
        UserError: no runs, or an unknown metric or preset.
    """
    asked = PlotOptions.of(options)
    folder = Path(asked.project) / asked.name
    path = folder / "curves.png" if asked.output is None else Path(asked.output)
    plot_study(read_curves(folder, asked.presets), asked.metric, path)
    log.info("curves are in %s", path)
    return path


def main(command: str, given: Mapping[str, Any]) -> None:
    """Run one of ``COMMANDS`` with the options given; training ends with the table."""
    if command == "table":
        table(**given)
    elif command == "plot":
        plot(**given)
    else:
        table(run(**given).csv)


if __name__ == "__main__":
    run_main(lambda: main(COMMAND, GIVEN))
