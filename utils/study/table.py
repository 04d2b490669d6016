"""The table of a study: mean and spread over seeds, and the difference to the first preset seed by seed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from utils.errors import UserError, unknown_name
from utils.study.options import DEFAULT_METRICS
from utils.study.rows import KEY, ORIGIN, SETTINGS, Row

SETUP = ("data", "cfg", "image_size", "epochs", "options")  # only runs that share these are compared
SEEDS_FOR_SIGNIFICANCE = 6
ERRORS = {"olrp", "olrp_localisation", "olrp_false_positive", "olrp_false_negative", "laece", "d_ece"}  # less is better
_MISSING = "missing"


class StudyTable(NamedTuple):
    """A table in two forms.

    Attributes:
        frame: a line for each setup and preset: ``SETUP``, preset, seeds, minutes, for each metric its mean, ``std``,
            ``difference``, ``difference std``, ``better`` and ``pairs``, and ``least p``; NaN where there is nothing.
        markdown: the same to read, with notes.
    """

    frame: pd.DataFrame
    markdown: str


def known_metrics(rows: Sequence[Row]) -> list[str]:
    """Columns of numbers that a run came out with; those of single classes hold a ``/``."""
    names = dict.fromkeys(name for row in rows for name in row if name not in (*KEY, *SETTINGS, *ORIGIN))
    return [name for name in names if any(_present(row, name) for row in rows)]


def is_error(metric: str) -> bool:
    """Whether lower is better for a metric, or for that of one class (``cell/olrp``)."""
    return metric.rpartition("/")[2] in ERRORS


def build_table(rows: Sequence[Row], metrics: Sequence[str] = DEFAULT_METRICS, baseline: str = "") -> StudyTable:
    """Summarise the rows of a CSV.

    Args:
        rows: of finished runs, of one or several setups.
        metrics: columns.
        baseline: preset that the others are compared to; empty is the first of each setup.

    Raises:
        UserError: no rows, an unknown metric or preset, or one preset with different hyper-parameters.
    """
    if not rows:
        raise UserError("expected the row of at least one finished run but found none")
    if not metrics:
        raise UserError("--metric: expected at least one column")
    known = known_metrics(rows)
    for name in metrics:
        if name not in known:
            raise unknown_name("metric", name, [entry for entry in known if ("/" in entry) == ("/" in name)])
    presets = dict.fromkeys(row["preset"] for row in rows)
    if baseline and baseline not in presets:
        raise unknown_name("preset", baseline, presets)
    lines, parts = [], []
    for setup in dict.fromkeys(tuple(row[name] for name in SETUP) for row in rows):
        members = [row for row in rows if tuple(row[name] for name in SETUP) == setup]
        records = _records(members, metrics, baseline)
        lines += [dict(zip(SETUP, setup, strict=True)) | record for record in records]
        parts.append(_markdown(members, records, metrics, setup))
    return StudyTable(pd.DataFrame(lines), "\n\n".join(parts))


def _records(rows: Sequence[Row], metrics: Sequence[str], baseline: str) -> list[dict]:
    """One record for each preset of a setup, the baseline first."""
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    for preset in presets:
        if len({row["hyp"] for row in rows if row["preset"] == preset}) > 1:
            raise UserError(f"preset {preset}: its rows were trained with different hyper-parameters; see column hyp")
    if baseline in presets:
        presets = [baseline, *(preset for preset in presets if preset != baseline)]
    wanted = ["minutes", *metrics]
    values = {
        preset: pd.DataFrame(
            {
                int(row["seed"]): {name: _number(row.get(name)) for name in wanted}
                for row in rows
                if row["preset"] == preset
            }
        ).T
        for preset in presets
    }
    return [
        _record(preset, values[preset], values[presets[0]], metrics, not index) for index, preset in enumerate(presets)
    ]


def _record(preset: str, own: pd.DataFrame, first: pd.DataFrame, metrics: Sequence[str], is_first: bool) -> dict:
    """Statistics of a preset.

    Args:
        own, first: rows by seed and columns by metric, of this preset and of the baseline.
    """
    record = {"preset": preset, "seeds": len(own), "minutes": own["minutes"].mean()}
    nan = math.nan
    counts = []
    for name in metrics:
        difference = pd.Series(dtype=float) if is_first else (own[name] - first[name]).dropna()
        counts.append(len(difference))
        some = len(difference) > 0
        gain = -difference if is_error(name) else difference
        record |= {
            name: own[name].mean(),
            f"{name} std": own[name].std(ddof=1),
            f"{name} difference": difference.mean() if some else nan,
            f"{name} difference std": difference.std(ddof=1) if some else nan,
            f"{name} better": int((gain > 0).sum()) if some else nan,
            f"{name} pairs": len(difference),
        }
    return record | {"least p": 2 / 2 ** min(counts) if min(counts) else nan}


def _markdown(rows: Sequence[Row], records: Sequence[dict], metrics: Sequence[str], setup: Sequence[str]) -> str:
    data, cfg, size, epochs, options = setup
    extra = "".join(f", {name} {value}" for name, value in json.loads(options or "{}").items())
    first = records[0]["preset"]
    header = ["preset", "seeds", "minutes"]
    for name in metrics:
        header += [name, f"{name} − {first}", "better"]
    header.append("least p")
    body = [header, ["---"] * len(header)]
    for record in records:
        cells = [record["preset"], str(record["seeds"]), _cell(record["minutes"], math.nan, ".1f")]
        for name in metrics:
            cells.append(_cell(record[name], record[f"{name} std"], ".4f"))
            cells += ["", ""] if record is records[0] else _difference_cells(record, name)
        least = record["least p"]
        cells.append("" if record is records[0] else _MISSING if math.isnan(least) else f"{least:g}")
        body.append(cells)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
    title = f"**{data}, {cfg}, {size} pixels, {epochs} epochs{extra}**"
    return "\n\n".join([title, table, "\n".join(f"- {note}" for note in _notes(rows, records, metrics))])


def _difference_cells(record: dict, name: str) -> list[str]:
    mean, std, pairs = record[f"{name} difference"], record[f"{name} difference std"], record[f"{name} pairs"]
    return [_cell(mean, std, "+.4f"), f"{record[f'{name} better']} of {pairs}" if pairs else _MISSING]


def _cell(mean: float, std: float, form: str) -> str:
    """Mean ± standard deviation; the mean alone where one value has no deviation."""
    if math.isnan(mean):
        return _MISSING
    return f"{mean:{form}}" + ("" if math.isnan(std) else f" ± {std:{form.lstrip('+')}}")


def _notes(rows: Sequence[Row], records: Sequence[dict], metrics: Sequence[str]) -> list[str]:
    """Notes below the table: how to read it, and what is missing or differs."""
    presets = [record["preset"] for record in records]
    notes = [
        "Mean ± standard deviation (n - 1) over seeds; differences are taken seed by seed. Minutes are means of a run."
    ]
    if errors := [name for name in metrics if is_error(name)]:
        notes.append(f"For {', '.join(errors)} lower is better, and counts as better.")
    counts = [min(record[f"{name} pairs"] for name in metrics) for record in records[1:]]
    if few := sorted({count for count in counts if 0 < count < SEEDS_FOR_SIGNIFICANCE}):
        smallest = ", ".join(f"2/2^{count} = {2 / 2**count:g} with {count}" for count in few)
        notes.append(
            f"With fewer than {SEEDS_FOR_SIGNIFICANCE} seeds, a two-sided sign-flip test cannot reach p < 0.05: "
            f"its smallest p is {smallest}."
        )
    cells = {(row["preset"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows}, key=int)
    missing = []
    for preset in presets:
        for seed in seeds:
            row = cells.get((preset, seed))
            absent = [name for name in metrics if row and not _present(row, name)]
            missing += [f"{preset} seed {seed}"] if row is None else [f"{preset} seed {seed} {name}" for name in absent]
    if missing:
        notes.append(f"Missing: {', '.join(missing)}.")
    plain = [{k: v for k, v in json.loads(row["hyp"] or "{}").items() if k != "loss"} for row in rows]
    if differing := sorted({key for one in plain for key in one if any(one[key] != two.get(key) for two in plain)}):
        notes.append(f"Besides the loss, the presets differ in: {', '.join(differing)}.")
    for column in ("commit", "torch", "device"):
        found = dict.fromkeys(row.get(column) or "unknown" for row in rows)
        notes.append(f"{column}: {', '.join(entry[:12] if column == 'commit' else entry for entry in found)}.")
    return notes


def _number(text: str | None) -> float:
    """The number in a cell; NaN where there is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _present(row: Row, name: str) -> bool:
    return not math.isnan(_number(row.get(name)))
