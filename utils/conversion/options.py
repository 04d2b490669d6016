"""The options of convert.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Required, TypedDict

from utils.config.options import Options, option, required, switch
from utils.config.schema import Many, Text, Whole
from utils.parameters import Choice

FORMATS = ("coco", "rows", "voc", "yolo")
IMAGES = ("copy", "link", "symlink", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions(Options):
    """Options of a conversion in full."""

    command: ClassVar[str] = "convert.py"
    purpose: ClassVar[str] = "Convert a data set to another label format, or split it."

    to: str = required(Choice(None, FORMATS), "format of the labels to write; it may be that of the input")
    output: str = required(Text(), "new or empty folder for the data set, outside of the input")
    data: str = option(Text(""), "input: data YAML; or --source with --from")
    source: tuple[str, ...] = option(
        Many((), Text(), 0), "input: folders of images, lists of images, or files of rows that name images"
    )
    source_format: str | None = option(
        Choice(None, FORMATS), "format of the labels of --source (--data knows its own)", aliases=("--from",)
    )
    annotations: str = option(
        Text(""), "where the labels of --source are, if not in a usual place: a folder, or a JSON file or file of rows"
    )
    names: tuple[str, ...] = option(
        Many((), Text(), 0), "class names of --source in the order of their numbers (default: as found in the labels)"
    )
    columns: tuple[str, ...] = option(
        Many((), Text(), 0),
        "columns of rows: file x1 y1 x2 y2 cx cy x y w h class ignore, _ for others (default: the first line has them)",
    )
    units: str = option(Choice("pixels", ("pixels", "fractions")), "of the coordinates in rows")
    box: str | None = option(
        Choice(None, ("xyxy", "xywh", "ltwh")),
        "boxes in rows: xyxy corners, xywh centre and size, ltwh left, top and size (default: as the columns say)",
    )
    first_class: int | None = option(
        Whole(None, 0, 1), "number of the first class in rows, 0 or 1 (default: class names; numbers are from 0)"
    )
    separator: str = option(
        Text(""), "between two fields of a row: comma, semicolon, tab, space or a character (default: found out)"
    )
    image_name: str = option(
        Text("{stem}"), "image without suffix of the rows in {stem}.txt, such as {stem}_test, where each has a file"
    )
    images: str = option(
        Choice("copy", IMAGES), "how images get into the output; none leaves them where they are and writes paths"
    )
    split: tuple[str, ...] = option(
        Many((), Text(), 0),
        "split anew: 'ratio 0.8 0.1 0.1' (train, val, test) or 'lists train.txt val.txt' (default: as in --data; "
        "ratio 0.8 0.2 for --source)",
    )
    group: str = option(
        Text(""), "regular expression: images whose names match it with the same text, or first group, stay together"
    )
    seed: int = option(Whole(0, 0), "of the ratio split")
    boxes_only: bool = switch("leave out polygons and masks")


class ConvertKeywords(TypedDict, total=False):
    """Keywords of ``convert.run``; see :class:`ConvertOptions`."""

    to: Required[str]
    output: Required[str | Path]
    data: str | Path
    source: str | Path | Sequence[str | Path]
    source_format: str | None
    annotations: str | Path
    names: Sequence[str]
    columns: Sequence[str]
    units: str
    box: str | None
    first_class: int | None
    separator: str
    image_name: str
    images: str
    split: Sequence[str]
    group: str
    seed: int
    boxes_only: bool
