"""The CSV of a study: one row per finished run. Rows can be added, files committed, concatenated and read back.

A row is a mapping of texts. ``KEY`` says which run it is, ``SETTINGS`` what it was trained with, the other columns hold
its results. Numbers keep every digit; an empty cell means unknown.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import write_text_atomically

KEY = ("preset", "seed", "data", "cfg", "image_size", "epochs")
SETTINGS = ("options", "hyp")  # JSON of what differs from the defaults
ORIGIN = ("commit", "date", "minutes", "epochs_trained", "best_epoch", "device", "torch")

Row = dict[str, str]


def text_of(value: Any) -> str:
    """A cell: None is empty, a float keeps every digit."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def flat_metrics(metrics: Mapping[str, Any]) -> Row:
    """``Metrics.to_dict()`` as cells: ``map``, ``ap50`` to ``ap95``, ..., and ``<class>/map`` and so on for each class.

    Args:
        metrics: plain numbers, ``ap_per_iou`` by threshold, and a list ``classes``.
    """
    curve, classes = metrics["ap_per_iou"], metrics["classes"]
    labels = [_ap_label(threshold) for threshold in curve]
    row = {name: text_of(value) for name, value in metrics.items() if name not in ("ap_per_iou", "classes")}
    row |= {label: text_of(value) for label, value in zip(labels, curve.values(), strict=True)}
    named = Counter(entry["name"] for entry in classes)
    for entry in classes:
        title = entry["name"] if named[entry["name"]] == 1 else f"{entry['class']} {entry['name']}"
        plain = {name: value for name, value in entry.items() if name not in ("class", "name", "ap_per_iou")}
        plain |= dict(zip(labels, entry["ap_per_iou"], strict=True))
        row |= {f"{title}/{name}": text_of(value) for name, value in plain.items()}
    return row


def _ap_label(threshold: str) -> str:
    """``0.50`` to ``ap50``, ``0.525`` to ``ap52.5``."""
    return f"ap{round(100 * float(threshold), 6):g}"


def read_rows(path: str | Path) -> list[Row]:
    """Read a CSV, or several of them one after the other in one file, each with its own line of column names.

    Returns:
        rows in the order of the file; of a run that occurs twice, the later row.

    Raises:
        UserError: no such file, no column names, a line of another length (with its number), or two rows of one run
            with different settings.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(reader.line_num, line) for reader in [csv.reader(file)] for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"{path}: cannot be read as the rows of a study: {reason}") from None
    columns: Sequence[str] = ()
    rows: list[Row] = []
    for number, line in lines:
        if set(KEY) <= set(line):
            columns = line
        elif not columns:
            missing = ", ".join(name for name in (*KEY, *SETTINGS) if name not in line)
            raise UserError(f"{path}:{number}: expected the column names of a study, but {missing} are missing")
        elif len(line) != len(columns):
            raise UserError(f"{path}:{number}: expected {len(columns)} cells but found {len(line)}")
        else:
            rows = with_row(rows, dict(zip(columns, line, strict=True)), f"{path}:{number}")
    return rows


def find_row(rows: Iterable[Row], wanted: Mapping[str, str], where: str) -> Row | None:
    """The row of a run, or None.

    Args:
        rows: to look among.
        wanted: at least ``KEY`` and ``SETTINGS``.
        where: file name for the error message.

    Raises:
        UserError: there is one with the same key that was trained with other settings.
    """
    for row in rows:
        if all(row[name] == wanted[name] for name in KEY):
            if differences := settings_differences(row, wanted):
                raise UserError(
                    f"{where}: preset {row['preset']}, seed {row['seed']} is already there with other settings: "
                    f"{differences}. Choose another file, or another name for the preset"
                )
            return row
    return None


def settings_differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """In which settings two runs differ, e.g. ``epochs 3 instead of 5``; empty if in none. Presets are not compared."""
    pairs = [(name, found.get(name, ""), wanted[name]) for name in KEY if name != "preset"]
    for column in SETTINGS:
        first, second = (_flat(json.loads(row.get(column) or "{}")) for row in (found, wanted))
        default = "the default"
        pairs += [(name, first.get(name, default), second.get(name, default)) for name in sorted({*first, *second})]
    return ", ".join(f"{name} {one} instead of {other}" for name, one, other in pairs if one != other)


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """``{"loss": {"box": "iou"}, "lr0": 0.1}`` as ``{"loss.box": "iou", "lr0": "0.1"}``."""
    loss = settings.get("loss") or {}
    flat = {f"loss.{name}": value for name, value in loss.items()}
    flat |= {name: value for name, value in settings.items() if name != "loss"}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}


def with_row(rows: Sequence[Row], row: Row, where: str) -> list[Row]:
    """The rows with one more, which replaces an earlier row of the same run.

    Raises:
        UserError: the earlier row has other settings.
    """
    earlier = find_row(rows, row, where)
    return [row if other is earlier else other for other in rows] if earlier is not None else [*rows, row]


def append_row(path: str | Path, row: Row) -> None:
    """Add a row to the file, made where it is missing. The file is whole at every moment; no column is ever dropped.

    Raises:
        UserError: the file cannot be written, or holds this run with other settings.
    """
    path = Path(path)
    try:
        rows = with_row(read_rows(path) if path.exists() else [], row, str(path))
        columns = dict.fromkeys((*KEY, *SETTINGS, *ORIGIN)) | dict.fromkeys(name for entry in rows for name in entry)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text_atomically(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
