"""YOLO label files: ``class x y w h`` or ``class x1 y1 x2 y2 ...`` per line, as fractions of the image's size."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.datasets.formats.base import Annotation, LabelledSplit, background
from utils.datasets.image_files import list_source
from utils.datasets.objects import Polygons
from utils.errors import UserError

TOLERANCE = 1e-3  # so far beyond [0, 1] a coordinate is a rounding error, and is clipped


class YoloTxt:
    """``format: yolo``: images in folders or lists of files; the labels of ``images/a.jpg`` are ``labels/a.txt``."""

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        """See :class:`~utils.datasets.formats.base.LabelFormat`."""
        images = [image for source in sources for image in list_source(source, root)]
        return LabelledSplit(images, label_path, functools.partial(read_yolo_labels, names=names))


def label_path(image_path: str) -> str:
    """The label file of an image: the last folder ``images`` becomes ``labels``, the suffix ``.txt``."""
    folder = f"{os.sep}images{os.sep}"
    stem = os.path.splitext(image_path)[0]
    return f"{os.sep}labels{os.sep}".join(stem.rsplit(folder, 1)) + ".txt"


def read_yolo_labels(image_path: str, size_hw: tuple[int, int], names: Sequence[str]) -> Annotation:
    """Read the labels of an image. A missing or empty file means an image without objects.

    One line of more than 6 columns makes all lines of the file polygons. Invalid lines are skipped and reported in
    ``problems``; so are repeated ones.

    Args:
        image_path: the image.
        size_hw: its height and width; coordinates are relative, so nothing here depends on it.
        names: class names.

    Raises:
        UserError: a class index that is not in ``names``.
        ValueError: the file exists but cannot be read as text.
    """
    path = label_path(image_path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            rows = [(number, line.split()) for number, line in enumerate(file, start=1) if line.strip()]
    except FileNotFoundError:
        return background(found=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the label file {path} cannot be read: {error}") from None
    if not rows:
        return background(found=True)
    problems: list[str] = []
    repeated: list[str] = []
    are_polygons = any(len(columns) > 6 for _, columns in rows)
    parsed: dict[tuple[float, ...], int] = {}  # keyed by value: a repeated line changes nothing
    for number, columns in rows:
        try:
            values = _parse(columns, are_polygons)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}; row skipped")
            continue
        _check_class(values[0], names, f"{path}:{number}")
        if values in parsed:
            repeated.append(f"{path}:{number}: repeats line {parsed[values]}; row skipped")
            problems.append(repeated[-1])
        parsed.setdefault(values, number)
    labels, polygons = _polygon_labels(list(parsed)) if are_polygons else _box_labels(list(parsed))
    if are_polygons:
        problems += [
            f"{path}:{number}: 5 columns among polygons: read as the corners x1 y1 x2 y2"
            for row, number in parsed.items()
            if len(row) == 5
        ]
    empty = np.any(labels[:, 3:] <= 0, axis=1)
    lines = np.array(list(parsed.values()))
    if empty.any():
        problems += [f"{path}:{line}: the object has no width or height; row skipped" for line in lines[empty]]
        labels, polygons, lines = labels[~empty], polygons.select(~empty), lines[~empty]
    return Annotation(labels, polygons, True, tuple(problems), repeated=tuple(repeated), rows=tuple(lines.tolist()))


def _parse(columns: list[str], is_polygon: bool) -> tuple[float, ...]:
    """The numbers of a line; coordinates clipped to [0, 1].

    Raises:
        ValueError: not numbers, a wrong count of them, or a coordinate outside [0, 1].
    """
    expected = "class x1 y1 x2 y2 ..." if is_polygon else "class x y w h"
    if len(columns) < 5 or len(columns) % 2 == 0 or (len(columns) > 5 and not is_polygon):
        raise ValueError(f"expected the columns '{expected}' but got {len(columns)} columns")
    try:
        values = [float(column) for column in columns]
    except ValueError:
        raise ValueError(f"expected numbers, '{expected}', but got {' '.join(columns)[:80]!r}") from None
    if not all(map(math.isfinite, values)) or values[0] != int(values[0]):
        raise ValueError(f"expected a whole class index and finite numbers but got {' '.join(columns)[:80]!r}")
    wrong = next((value for value in values[1:] if not -TOLERANCE <= value <= 1 + TOLERANCE), None)
    if wrong is not None:
        raise ValueError(f"expected coordinates divided by the image's size, from 0 to 1, but got {wrong:g}")
    return (values[0], *(min(max(value, 0.0), 1.0) for value in values[1:]))


def _check_class(index: float, names: Sequence[str], where: str) -> None:
    if not 0 <= index < len(names):
        known = ", ".join(f"{number} {name}" for number, name in enumerate(names[:20]))
        raise UserError(
            f"{where}: expected a class index from 0 to {len(names) - 1} but got {index:g}. "
            f"The data YAML has {len(names)} names: {known}{', ...' if len(names) > 20 else '.'}"
        )


def _box_labels(rows: list[tuple[float, ...]]) -> tuple[np.ndarray, Polygons]:
    return np.array(rows, np.float32).reshape(-1, 5), Polygons.none()


def _polygon_labels(rows: list[tuple[float, ...]]) -> tuple[np.ndarray, Polygons]:
    lengths = [len(row) // 2 for row in rows]
    points = np.array([value for row in rows for value in row[1:]], np.float32).reshape(-1, 2)
    polygons = Polygons(points, np.repeat(np.arange(len(rows)), lengths))
    _, bounds = polygons.bounds()
    classes = np.array([row[0] for row in rows], np.float32)[:, None]
    low, high = bounds[:, :2], bounds[:, 2:]
    return np.concatenate((classes, (low + high) / 2, high - low), axis=1), polygons
