"""The input of a conversion: a data YAML, or folders and lists with the format of their labels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.conversion.options import ConvertOptions
from utils.datasets.description import DataDescription, read_data_yaml
from utils.datasets.formats import LABEL_FORMATS
from utils.datasets.formats.coco_json import CocoJson, first_image
from utils.datasets.formats.rows import Rows
from utils.datasets.formats.voc_xml import VocXml
from utils.datasets.formats.yolo_txt import YoloTxt, label_path
from utils.datasets.image_files import read_lines
from utils.errors import UserError
from utils.files import find_file

POOL = "train"  # the split that stands for all images of --source
ROWS_OPTIONS = ("columns", "units", "box", "first_class", "separator", "image_name")
OF_SOURCE = ("source_format", "annotations", "names", "image_name")
NAME_FILES = ("classes.txt", "obj.names", "names.txt")


def describe_input(asked: ConvertOptions) -> DataDescription:
    """What is read: with ``--source`` one split, ``POOL``. Nothing is ignored: labels are taken as the files have them.

    Raises:
        UserError: options that contradict each other, files that do not exist, or class names that are not known.
    """
    if bool(asked.data) == bool(asked.source):
        raise UserError("expected an input: either --data (a data YAML) or --source (folders or lists) with --from")
    defaults = ConvertOptions.defaults()
    if asked.data:
        given = [name for name in OF_SOURCE if getattr(asked, name) != defaults[name]]
        description = read_data_yaml(find_file(asked.data, "data file"))
        if asked.source_format == description.format and "source_format" in given:
            given.remove("source_format")
        if given:
            shown = ", ".join("--from" if name == "source_format" else f"--{name.replace('_', '-')}" for name in given)
            raise UserError(f"{shown}: {asked.data} says this already (its format is {description.format})")
        rows_given = [name for name in ROWS_OPTIONS if getattr(asked, name) != defaults[name]]
        if rows_given and asked.to != "rows":
            raise UserError(f"--{rows_given[0].replace('_', '-')} is for rows, but the conversion has none")
        return dataclasses.replace(description, names=description.label_names, ignored=(), ignore_as="region")
    if asked.source_format is None:
        raise UserError("--source: expected the format of the labels as well, --from coco, rows, voc or yolo")
    rows_given = [name for name in ROWS_OPTIONS if getattr(asked, name) != defaults[name]]
    if rows_given and "rows" not in (asked.to, asked.source_format):
        raise UserError(f"--{rows_given[0].replace('_', '-')} is for rows, but the conversion has none")
    return _describe_source(asked)


def _describe_source(asked: ConvertOptions) -> DataDescription:
    sources = [Path(entry).expanduser().absolute() for entry in asked.source]
    for entry, source in zip(asked.source, sources, strict=True):
        if not source.exists():
            raise UserError(f"--source: there is no {entry}")
    annotations = Path(asked.annotations).expanduser().absolute() if asked.annotations else None
    if annotations is not None and not annotations.exists():
        raise UserError(f"--annotations: there is no {asked.annotations}")
    if asked.source_format == "coco" and annotations is None and [s.suffix.lower() for s in sources] == [".json"]:
        annotations, sources = sources[0], [_images_beside(sources[0])]
    root = sources[0].parent
    settings: dict[str, Any] = {}
    if annotations is not None:
        if asked.source_format == "yolo":
            raise UserError("--annotations: labels of YOLO are found by the paths of the images: images/ and labels/")
        by_split = asked.source_format == "coco" or annotations.is_file()
        settings["annotations"] = {POOL: str(annotations)} if by_split else str(annotations)
    if asked.source_format == "rows":
        settings |= rows_settings(asked)
    names = tuple(asked.names) or _found_names(asked, sources, root, settings)
    return DataDescription(
        file=sources[0],
        root=root,
        names=names,
        format=str(asked.source_format),
        splits={POOL: tuple(sources)},
        format_settings=settings,
    )


def rows_settings(asked: ConvertOptions) -> dict[str, Any]:
    """The options about rows that were given, as keys of a data YAML.

    Raises:
        UserError: a value that such a key cannot have.
    """
    defaults, settings = ConvertOptions.defaults(), {}
    for name in ROWS_OPTIONS:
        value = getattr(asked, name)
        if value == defaults[name]:
            continue
        settings[name] = list(value) if isinstance(value, tuple) else value
        try:
            LABEL_FORMATS.entry("rows").parameters[name].check(settings[name])
        except UserError as error:
            raise UserError(f"--{name.replace('_', '-')}: {error}") from None
    return settings


def _images_beside(file: Path) -> Path:
    """The folder of the images of a JSON file: its own, or a usual one beside it."""
    first = first_image(file)
    split = file.stem.removeprefix("instances_")
    homes = [file.parent, file.parent.parent]
    places = [home / name for home in homes for name in (".", split, f"images/{split}", "images", "JPEGImages")]
    found = next((place for place in places if first and (place / first).is_file()), None)
    if found is None:
        raise UserError(
            f"{file}: its images, such as {first!r}, are not beside it: name their folder with --source and the "
            "JSON file with --annotations"
        )
    return Path(os.path.normpath(found))


def _found_names(
    asked: ConvertOptions, sources: Sequence[Path], root: Path, settings: dict[str, Any]
) -> tuple[str, ...]:
    """Class names as the labels have them.

    Raises:
        UserError: labels have numbers, or there are none.
    """
    if asked.source_format == "coco":
        names = CocoJson(settings.get("annotations")).class_names(POOL, sources, root)
    elif asked.source_format == "voc":
        names = VocXml(settings.get("annotations")).class_names(POOL, sources, root)
    elif asked.source_format == "yolo":
        names = _names_beside(sources, root)
    else:
        names = _names_in_rows(sources, root, settings)
    if not names:
        raise UserError(f"{', '.join(asked.source)}: expected objects with classes but found none; is --from right?")
    return tuple(names)


def _names_beside(sources: Sequence[Path], root: Path) -> list[str]:
    images = YoloTxt().open_split(POOL, sources, root, ()).images
    folders = [*sources, *(source.parent for source in sources)]
    if images:
        label_folder = Path(label_path(images[0])).parent
        folders += [label_folder, label_folder.parent]
    files = [folder / name for folder in folders for name in NAME_FILES]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise UserError(
            f"{sources[0]}: the classes of YOLO labels are numbers, and there is no {' or '.join(NAME_FILES)}: give "
            "their names in order with --names"
        )
    return read_lines(file)


def _names_in_rows(sources: Sequence[Path], root: Path, settings: dict[str, Any]) -> list[str]:
    rows = LABEL_FORMATS.build("rows", **settings)
    assert isinstance(rows, Rows)
    texts = rows.class_texts(POOL, sources, root)
    if not texts:
        return ["object"]
    try:
        numbers = sorted({int(float(text)) for text in texts})
    except ValueError:
        return texts
    raise UserError(
        f"{sources[0]}: the classes are numbers, from {numbers[0]} to {numbers[-1]}: give their names in order with "
        "--names, and --first-class 1 if the first of them is number 1"
    )
