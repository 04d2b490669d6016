"""Records of a run: results.csv with YOLOv5's column names, TensorBoard events, opt.yaml and hyp.yaml."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from utils.errors import UserError
from utils.files import write_text_atomically

if TYPE_CHECKING:
    import pandas as pd
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = (
    "epoch",
    *(f"train/{part}_loss" for part in ("box", "obj", "cls")),
    *(f"metrics/{name}" for name in ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95")),
    *(f"val/{part}_loss" for part in ("box", "obj", "cls")),
    *(f"x/lr{group}" for group in range(3)),
    # ours, behind all of YOLOv5's
    *(f"metrics/{name}" for name in ("mAP_0.75", "mAP_0.8", "mAP_0.9")),
    *(f"metrics/{name}" for name in ("oLRP", "oLRP_localisation", "oLRP_false_positive", "oLRP_false_negative")),
)

log = logging.getLogger(__name__)


class RunLog:
    """The record of one run. Use it in one process only.

    Args:
        save_dir: folder of the run, which must exist.
        resume: continue its results.csv; otherwise the file is started afresh.
        tensorboard: also write event files; without the package one warning is logged.
    """

    def __init__(self, save_dir: str | Path, resume: bool = False, tensorboard: bool = True) -> None:
        self.save_dir = Path(save_dir)
        self.csv_path = self.save_dir / "results.csv"
        self._rows = _read_rows(self.csv_path) if resume and self.csv_path.exists() else []
        self._columns = list(dict.fromkeys([*COLUMNS, *(name for row in self._rows for name in row)]))
        self._written = False
        self._tensorboard = tensorboard
        self._writer: SummaryWriter | None = None

    def save_settings(self, opt: Mapping[str, Any], hyp: Mapping[str, Any]) -> None:
        """Write the resolved options and hyper-parameters, opt.yaml and hyp.yaml, in the order given."""
        save_yaml(self.save_dir / "opt.yaml", opt)
        save_yaml(self.save_dir / "hyp.yaml", hyp)

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """Add one epoch to results.csv and to TensorBoard.

        Args:
            epoch: from 0. Earlier rows of this epoch and later ones, left by an interrupted run, are dropped.
            values: numbers by column name. A name that YOLOv5 lacks becomes a new column; a missing one stays empty.
        """
        row = {"epoch": str(epoch), **{name: f"{float(value):.9g}" for name, value in values.items()}}
        kept = [earlier for earlier in self._rows if int(earlier["epoch"]) < epoch]
        new_columns = [name for name in row if name not in self._columns]
        append = self._written and len(kept) == len(self._rows) and not new_columns
        self._columns += new_columns
        self._rows = [*kept, row]
        self._append_row(row) if append else self._write_rows()
        self._log_tensorboard(epoch, values)

    def close(self) -> None:
        """Flush the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append_row(self, row: Mapping[str, str]) -> None:
        with self.csv_path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _write_rows(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text_atomically(self.csv_path, text.getvalue())
        self._written = True

    def _log_tensorboard(self, epoch: int, values: Mapping[str, Any]) -> None:
        if self._tensorboard and self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.warning("TensorBoard is not installed: results go to %s alone", self.csv_path)
                self._tensorboard = False
            else:
                self._writer = SummaryWriter(str(self.save_dir), purge_step=epoch)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, float(value), epoch)
            self._writer.flush()


def save_yaml(path: str | Path, mapping: Mapping[str, Any]) -> None:
    """Write a mapping as plain YAML in its own order; paths are written as text, tuples as lists."""
    text = yaml.safe_dump(_yaml_value(mapping), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def read_results(path: str | Path) -> pd.DataFrame:
    """Read a results.csv of ours or of YOLOv5, whose padded names are stripped; one row per epoch.

    Raises:
        UserError: no such file, or one without the column ``epoch``.
    """
    import pandas as pd

    path = Path(path)
    try:
        frame = pd.read_csv(path, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' own errors derive from ValueError
        raise UserError(f"{path}: cannot be read as results: {error}") from None
    frame.columns = frame.columns.str.strip()
    if "epoch" not in frame.columns:
        raise UserError(f"{path}: expected a column 'epoch' but found {', '.join(frame.columns)}")
    return frame


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows as text. An unfinished last line of an interrupted run is dropped."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    if not lines or "epoch" not in lines[0]:
        raise UserError(f"{path}:1: expected the column names of results, 'epoch' among them")
    header, *rows = lines
    complete = [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]
    return [row for row in complete if row["epoch"].isdecimal()]


def _yaml_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _yaml_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_yaml_value(entry) for entry in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
