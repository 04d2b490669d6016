"""Compare losses fairly: ``python study.py train --data D --cfg M --hyps hyp.iou.yaml hyp.sca.yaml --seeds 0 1 2``.

Runs of one seed begin with the same weights and see the same batches in the same order: only the loss differs.
``python study.py table`` prints what came out, ``python study.py plot`` draws it epoch by epoch. :func:`run`,
:func:`table` and :func:`plot` are the same from Python.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

import train
from models.loading import new_model
from utils import distributed
from utils.checkpoint import load_checkpoint
from utils.config.console import run_main, setup_logging
from utils.config.parser import CommandParser
from utils.datasets import read_data_yaml
from utils.errors import UserError
from utils.files import find_file
from utils.inference import fitting_image_size
from utils.study.curves import DEFAULT_CURVES, plot_study, read_curves
from utils.study.rows import Row, append_row, find_row, read_rows
from utils.study.runs import (
    StudyRun,
    begin_clock,
    load_presets,
    minutes_in_folder,
    preset_names,
    progress_of,
    row_of,
    run_settings,
)
from utils.study.table import DEFAULT_METRICS, build_table
from utils.training.options import FREE_ON_RESUME, complete_options, make_parser
from utils.training.reproducibility import reproducible

PROJECT, NAME = "runs/study", "exp"
# Options of train.py that the study itself decides, and what to write instead.
DECIDED = {
    "hyp": "--hyps names the presets",
    "seed": "--seeds names the seeds",
    "resume": "the same command again goes on where it stopped",
    "evolve": "search.py searches hyper-parameters",
    "exist_ok": "the same command again goes on where it stopped",
    "image_weights": "each run would draw images by its own results, and runs of one seed would no longer see the same",
}

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


def run(
    *,
    hyps: Sequence[str | Path],
    seeds: Sequence[int],
    name: str = NAME,
    project: str | Path = PROJECT,
    csv: str | Path | None = None,
    allow_differences: bool = False,
    **options: Any,
) -> StudyResult:
    """Train every preset with every seed; what is finished is skipped, what was interrupted goes on.

    Args:
        hyps: hyper-parameter files, the presets.
        seeds: whole numbers from 0 on.
        name, project: runs are trained in ``project/name/<preset>/<seed>``.
        csv: file that takes a row for each finished run; None is ``project/name/results.csv``.
        allow_differences: also compare presets that differ in more than the loss.
        options: of train.py, e.g. ``data="bccd.yaml"``, ``cfg="yolov5n.yaml"``, ``imgsz=320``, ``set=["lr0=0.02"]``.

    Raises:
        UserError: an option, file, key or name that cannot be right, presets that differ in more than the loss, or a
            row or folder of this study that was made with other settings.
    """
    started = time.monotonic()
    folder = Path(project) / name
    path = folder / "results.csv" if csv is None else Path(csv)
    grid = plan(hyps, seeds, folder, allow_differences, options)
    rows = _rows(path)
    for cell in grid:  # what cannot be right is said before anything slow begins
        if find_row(rows, cell.settings, str(path)) is None:
            progress_of(cell)
    trained, durations = 0, []
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
            minutes = _train(cell, done, options)
            durations.append(minutes)
            trained += 1
        else:
            minutes = minutes_in_folder(cell)
        row = row_of(cell, minutes, options.get("device", ""))
        append_row(path, row)
        score = float(row["map"])
        log.info("%s: finished in %.1f min, mAP50-95 %.4f; row added to %s", title, minutes, score, path)
    minutes = (time.monotonic() - started) / 60
    log.info("%d runs, %d of them trained now, in %.1f min; rows are in %s", len(grid), trained, minutes, path)
    rows = _rows(path)
    return StudyResult(path, [find_row(rows, cell.settings, str(path)) for cell in grid], trained, minutes)


def plan(
    hyps: Sequence[str | Path],
    seeds: Sequence[int],
    folder: Path,
    allow_differences: bool,
    options: Mapping[str, Any],
) -> list[StudyRun]:
    """The grid, seed after seed and preset after preset: a study that is stopped has all presets equally often.

    Args:
        folder: of the study.
        options: of train.py, as given.
    """
    if distributed.world_size() > 1:
        raise UserError("study.py trains in one process: start it without torchrun")
    actions = make_parser().option_actions()
    for name, advice in DECIDED.items():
        if any(given in actions and actions[given].dest == name for given in options):
            raise UserError(f"--{name.replace('_', '-')} is not an option of a study: {advice}")
    if not seeds:
        raise UserError("--seeds: expected at least one whole number")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 or list(seeds).count(seed) > 1:
            raise UserError(f"--seeds: expected different whole numbers from 0 on but got {', '.join(map(str, seeds))}")
    presets = preset_names(hyps)
    data = str(options.get("data", make_parser().get_default("data")))
    description = read_data_yaml(find_file(data, "data file"))
    complete = complete_options(options, description.defaults, data)
    hyperparameters = load_presets(presets, complete, allow_differences)
    complete.imgsz = _network_image_size(complete, description.names)
    return [
        StudyRun(
            preset,
            file,
            seed,
            folder / preset / str(seed),
            {
                "preset": preset,
                **run_settings(vars(complete) | {"seed": seed}, hyperparameters[preset].to_mapping()),
            },
        )
        for seed in seeds
        for preset, file in presets.items()
    ]


def _network_image_size(options: argparse.Namespace, names: Sequence[str]) -> int:
    """Side in pixels that the network is trained with, a multiple of its stride."""
    cfg = options.cfg or load_checkpoint(options.weights)["cfg"]
    with reproducible(options.seed, torch.device("cpu")):  # weights are drawn here, and leave no trace
        return fitting_image_size(options.imgsz, max(new_model(cfg, names).stride))


def _train(cell: StudyRun, done: float, options: Mapping[str, Any]) -> float:
    """Train a run, or the rest of it; returns its minutes over all interruptions."""
    earlier = begin_clock(cell)
    try:
        if done > 0:
            free = {name: value for name, value in options.items() if name in FREE_ON_RESUME}
            return earlier + train.run(resume=str(cell.last), **free).minutes
        place = {"project": cell.folder.parent, "name": cell.folder.name, "exist_ok": True}
        return train.run(**{**options, "hyp": cell.hyp, "seed": cell.seed, **place}).minutes
    except UserError as error:
        raise UserError(f"preset {cell.preset}, seed {cell.seed}: {error}") from None


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


def table(
    csv: str | Path | None = None,
    *,
    metric: Sequence[str] = DEFAULT_METRICS,
    baseline: str = "",
    name: str = NAME,
    project: str | Path = PROJECT,
) -> pd.DataFrame:
    """Print, as Markdown, mean and standard deviation over seeds and the difference to the first preset seed by seed.

    Args:
        csv: file of a study; None is that of ``project/name``.
        metric: columns, e.g. ``map``, ``ap90``, ``red/map``.
        baseline: preset that the others are compared to; empty is the first in the file.

    Returns:
        the same as numbers, see :class:`utils.study.table.StudyTable`.

    Raises:
        UserError: no CSV, or an unknown metric or preset.
    """
    path = Path(project) / name / "results.csv" if csv is None else Path(csv)
    result = build_table(read_rows(path), [metric] if isinstance(metric, str) else metric, baseline)
    log.info("%s", result.markdown)
    return result.frame


def plot(
    *,
    metric: Sequence[str] = DEFAULT_CURVES,
    presets: Sequence[str] = (),
    name: str = NAME,
    project: str | Path = PROJECT,
    output: str | Path | None = None,
) -> Path:
    """Draw metrics epoch by epoch: for each preset the mean over its seeds, with a band of the standard deviation.

    Args:
        metric: ``map``, ``map50``, ``map75``, ``ap80``, ``ap90``, ``olrp``, ``precision``, ``recall``, ``box_loss``.
        presets: those to draw, in this order; empty is all.
        name, project: the runs are in ``project/name/<preset>/<seed>``.
        output: PNG; None is ``project/name/curves.png``.

    Raises:
        UserError: no runs, or an unknown metric or preset.
    """
    folder = Path(project) / name
    path = folder / "curves.png" if output is None else Path(output)
    plot_study(read_curves(folder, presets), [metric] if isinstance(metric, str) else metric, path)
    log.info("curves are in %s", path)
    return path


def train_parser() -> CommandParser:
    """Flags of ``study.py train``: its own, and those of train.py."""
    parser = make_parser()
    parser.prog, parser.description = "study.py train", "Train every preset with every seed; flags are train.py's."
    for action in parser._actions:
        if action.dest in DECIDED:
            action.help = argparse.SUPPRESS
        if action.dest in ("name", "project"):
            action.default = NAME if action.dest == "name" else PROJECT
            action.help = "runs go to PROJECT/NAME/<preset>/<seed>"
    add, no_default = parser.add_argument, {"default": argparse.SUPPRESS}  # nothing that the help could show
    add("--hyps", nargs="+", required=True, metavar="FILE", help="hyper-parameter files, the presets", **no_default)
    add("--seeds", nargs="+", required=True, type=int, metavar="N", help="whole numbers", **no_default)
    add("--csv", help="file that takes a row for each finished run (default: results.csv of the study)", **no_default)
    add("--allow-differences", action="store_true", help="compare presets that differ in more than the loss, too")
    return parser


def table_parser() -> CommandParser:
    """Flags of ``study.py table``."""
    parser = CommandParser(prog="study.py table", description="Mean, standard deviation and paired differences.")
    add = parser.add_argument
    add("--csv", help="file of a study (default: that of --name)")
    add("--name", default=NAME, help="study below --project")
    add("--project", default=PROJECT)
    add("--metric", nargs="+", default=list(DEFAULT_METRICS), help="columns of the CSV: map, map75, ap90, recall, ...")
    add("--baseline", default="", help="preset that the others are compared to (default: the first)")
    return parser


def plot_parser() -> CommandParser:
    """Flags of ``study.py plot``."""
    parser = CommandParser(prog="study.py plot", description="Curves over epochs, mean and spread over seeds.")
    add = parser.add_argument
    add("--name", default=NAME, help="study below --project")
    add("--project", default=PROJECT)
    add("--metric", nargs="+", default=list(DEFAULT_CURVES), help="a panel each: map, map75, ap90, olrp, box_loss, ...")
    add("--presets", nargs="+", default=[], help="those to draw, in this order (default: all)")
    add("--output", help="PNG (default: curves.png of the study)")
    return parser


def main() -> None:
    """Run the command line."""
    setup_logging()
    parser = CommandParser(prog="study.py", description="Compare losses: train a grid, then see its table and curves.")
    parser.add_argument("command", choices=("train", "table", "plot"), help="each has its own --help")
    arguments = parser.parse_args(sys.argv[1:2])
    if arguments.command == "table":
        table(**table_parser().given(sys.argv[2:]))
        return
    if arguments.command == "plot":
        plot(**plot_parser().given(sys.argv[2:]))
        return
    result = run(**train_parser().given(sys.argv[2:]))
    table(result.csv)


if __name__ == "__main__":
    run_main(main)
