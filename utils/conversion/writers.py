"""Label formats as they are written: a writer gets the images of all splits one by one, and then finishes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np

from utils.conversion.decimals import VOC, Numbers, box_numbers, fraction_text, number_text, point_numbers
from utils.conversion.options import ConvertOptions
from utils.conversion.records import LabelledImage, Losses, first_of_equal
from utils.conversion.sources import rows_settings
from utils.datasets.formats.rows import BOXES, Rows, check_separator, role_of
from utils.datasets.image_files import IMAGE_SUFFIXES
from utils.errors import UserError

MASK_AREA = 0.01  # an area that differs by more than this share from that of the box is the area of a mask


class Writer(Protocol):
    """Writes the labels of a data set.

    Attributes:
        title: the format in a sentence.
        shares_images: one folder holds the images of all splits, so that their names must differ.
        needs_copies: labels are found by the paths of the images, which cannot stay where they are.
        form: of boxes, one of :data:`utils.conversion.decimals.FORMS`; empty where labels are written as they are.
        in_fractions: boxes are in fractions of the image's size, not in pixels.
        losses: what could not be written.
    """

    title: str
    shares_images: bool
    needs_copies: bool
    form: str
    in_fractions: bool
    losses: Losses

    def image_folder(self, split: str) -> str:
        """Folder of the images of a split in the output."""

    def write(self, split: str, name: str, image: LabelledImage, boxes: Numbers) -> None:
        """The labels of one image.

        Args:
            split: ``train``, ``val`` or ``test``.
            name: of the image: its path in the image folder, or an absolute one where images stay where they are.
            image: what is written.
            boxes: those of the objects, then those of the regions to ignore; see :func:`numbers_of`.
        """

    def finish(self) -> dict[str, Any]:
        """Write the rest; returns the entries of the data YAML besides the class names."""


def build_writer(
    asked: ConvertOptions, folder: Path, names: Sequence[str], splits: Sequence[str], has_regions: bool, from_rows: bool
) -> Writer:
    """The writer of the format that was asked for.

    Args:
        asked: ``to`` and what it says about rows.
        folder: output.
        names: class names.
        splits: those that there are.
        has_regions: some image has regions to ignore.
        from_rows: the options about rows describe the input.
    """
    if asked.to == "yolo":
        return YoloWriter(folder, splits)
    if asked.to == "voc":
        return VocWriter(folder, names, splits)
    if asked.to == "coco":
        return CocoWriter(folder, names, splits)
    return RowsWriter(folder, names, splits, {} if from_rows else rows_settings(asked), has_regions)


def numbers_of(images: Sequence[LabelledImage], writer: Writer) -> list[Numbers]:
    """The boxes of images as a writer wants them: objects, then regions to ignore."""
    labels = [np.concatenate((image.labels, image.crowds)) for image in images]
    if not writer.form:
        return [Numbers(np.zeros((0, 4)), np.zeros(0))] * len(images)
    counts = [len(rows) for rows in labels]
    sizes = np.repeat(np.array([image.size_hw for image in images], np.float64), counts, axis=0)
    found = box_numbers(np.concatenate(labels), np.ones_like(sizes) if writer.in_fractions else sizes, writer.form)
    if writer.in_fractions:
        found = found._replace(beyond=found.beyond * sizes.max(axis=1))
    ends = np.cumsum(counts)[:-1]
    return [Numbers(*parts) for parts in zip(*(np.split(values, ends) for values in found), strict=True)]


class YoloWriter:
    """Text files ``labels/SPLIT/NAME.txt`` beside ``images/SPLIT/NAME.jpg``."""

    title, shares_images, needs_copies, form, in_fractions = "YOLO txt", False, True, "", True

    def __init__(self, folder: Path, splits: Sequence[str]) -> None:
        self._folder, self._splits, self.losses = folder, splits, Losses(self.title)
        for split in splits:
            (folder / "labels" / split).mkdir(parents=True, exist_ok=True)

    def image_folder(self, split: str) -> str:
        """See :class:`Writer`."""
        return f"images/{split}"

    def write(self, split: str, name: str, image: LabelledImage, boxes: Numbers) -> None:
        """See :class:`Writer`."""
        self.losses.add("regions", len(image.crowds))
        self.losses.add("masks", sum(map(bool, image.masks)))
        _count_areas(image, self.losses)
        outlines = image.outlines()
        if outlines:
            rows = [self._outline(row, outlines.get(index)) for index, row in enumerate(image.labels)]
            self._count_outlines(image, outlines)
        else:
            rows = [" ".join((f"{row[0]:.0f}", *map(fraction_text, row[1:]))) for row in image.labels]
        keep = first_of_equal(rows)
        self.losses.add("repeated", len(rows) - sum(keep))
        lines = [f"{row}\n" for row, first in zip(rows, keep, strict=True) if first]
        path = self._folder / "labels" / split / f"{os.path.splitext(name)[0]}.txt"
        path.write_text("".join(lines), encoding="utf-8")

    def _outline(self, label: np.ndarray, points: np.ndarray | None) -> str:
        if points is None:
            self.losses.add("rectangles", 1)
            low, high = (label[1:3] - label[3:5] / 2).clip(0, 1), (label[1:3] + label[3:5] / 2).clip(0, 1)
            points = np.array([low, (high[0], low[1]), high, (low[0], high[1])], np.float32)
        return " ".join((f"{label[0]:.0f}", *map(fraction_text, points.ravel())))

    def _count_outlines(self, image: LabelledImage, outlines: Mapping[int, np.ndarray]) -> None:
        scale = np.array(image.size_hw[::-1], np.float64)
        for index, points in outlines.items():
            centre, half = image.labels[index, 1:3].astype(np.float64), image.labels[index, 3:5].astype(np.float64) / 2
            distances = np.abs(np.stack((points.min(axis=0) - (centre - half), points.max(axis=0) - (centre + half))))
            most = float((distances * scale).max())
            if most > 0.01:
                self.losses.add("moved", 1, most)

    def finish(self) -> dict[str, Any]:
        """See :class:`Writer`."""
        return {split: self.image_folder(split) for split in self._splits}


class CocoWriter:
    """``annotations/instances_SPLIT.json`` beside ``images/SPLIT``; ids count from 1."""

    title, shares_images, needs_copies, form, in_fractions = "COCO JSON", False, False, "ltwh", False

    def __init__(self, folder: Path, names: Sequence[str], splits: Sequence[str]) -> None:
        self._folder, self._names, self.losses = folder, names, Losses(self.title)
        self._images: dict[str, list[dict[str, Any]]] = {split: [] for split in splits}
        self._rows: dict[str, list[dict[str, Any]]] = {split: [] for split in splits}

    def image_folder(self, split: str) -> str:
        """See :class:`Writer`."""
        return f"images/{split}"

    def write(self, split: str, name: str, image: LabelledImage, boxes: Numbers) -> None:
        """See :class:`Writer`."""
        images, rows = self._images[split], self._rows[split]
        height, width = image.size_hw
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        areas = image.box_areas(image.labels) if image.areas is None else image.areas
        outlines = image.outlines()
        objects = [{} if not mask else {"segmentation": json.loads(mask)} for mask in image.masks]
        for index, points in outlines.items():
            numbers = point_numbers(points, image.size_hw).ravel()
            objects[index] = {"segmentation": [[_json_number(value) for value in numbers]]}
        objects += [{}] * len(image.crowds)
        labels = np.concatenate((image.labels, image.crowds))
        _count_beyond(boxes.beyond, self.losses)
        areas = np.concatenate((areas, image.box_areas(image.crowds)))
        if image.areas is None:
            areas = np.where(boxes.beyond > 0, boxes.values[:, 2:].prod(axis=1), areas)
        for index, (label, box, area) in enumerate(zip(labels, boxes.values, areas, strict=True)):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": len(images),
                    "category_id": int(label[0]) + 1,
                    "bbox": [_json_number(value) for value in box],
                    "area": _json_number(area),
                    "iscrowd": int(index >= len(image.labels)),
                    **objects[index],
                }
            )

    def finish(self) -> dict[str, Any]:
        """See :class:`Writer`."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self._names, start=1)]
        (self._folder / "annotations").mkdir()
        files, folders = {}, {}
        for split, images in self._images.items():
            folders[split] = self.image_folder(split)
            if os.path.isabs(images[0]["file_name"]):
                folders[split] = _common_folder([image["file_name"] for image in images])
                for image in images:
                    image["file_name"] = os.path.relpath(image["file_name"], folders[split])
            files[split] = f"annotations/instances_{split}.json"
            content = {"info": {}, "images": images, "annotations": self._rows[split], "categories": categories}
            (self._folder / files[split]).write_text(json.dumps(content), encoding="utf-8")
        return {"format": "coco", **folders, "annotations": files}


class VocWriter:
    """``Annotations/NAME.xml`` beside ``JPEGImages/NAME.jpg``, and lists of the splits in ``ImageSets/Main``."""

    title, shares_images, needs_copies, form, in_fractions = "Pascal VOC", True, False, VOC, False

    def __init__(self, folder: Path, names: Sequence[str], splits: Sequence[str]) -> None:
        self._folder, self._names, self.losses = folder, names, Losses(self.title)
        self._listed: dict[str, list[str]] = {split: [] for split in splits}
        self._written: set[str] = set()
        (folder / "Annotations").mkdir()

    def image_folder(self, split: str) -> str:
        """See :class:`Writer`."""
        return "JPEGImages"

    def write(self, split: str, name: str, image: LabelledImage, boxes: Numbers) -> None:
        """See :class:`Writer`."""
        self._listed[split].append(name)
        if name in self._written:  # for another split
            return
        self._written.add(name)
        _count_masks(image, self.losses)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "folder").text = os.path.basename(os.path.dirname(name)) or "JPEGImages"
        ElementTree.SubElement(root, "filename").text = os.path.basename(name)
        size = ElementTree.SubElement(root, "size")
        for key, value in zip(("height", "width", "depth"), (*image.size_hw, 3), strict=True):
            ElementTree.SubElement(size, key).text = str(value)
        _count_beyond(boxes.beyond, self.losses)
        keep = first_of_equal(list(map(bytes, image.labels)))
        self.losses.add("repeated", len(keep) - sum(keep))
        keep += [True] * len(image.crowds)
        labels = np.concatenate((image.labels, image.crowds))
        for index, (label, box, first) in enumerate(zip(labels, boxes.values, keep, strict=True)):
            if first:
                self._add_object(root, self._names[int(label[0])], box, difficult=index >= len(image.labels))
        ElementTree.indent(root, "\t")
        stem = os.path.splitext(os.path.basename(name))[0]
        text = ElementTree.tostring(root, encoding="unicode") + "\n"
        (self._folder / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")

    def _add_object(self, root: ElementTree.Element, name: str, box: np.ndarray, difficult: bool) -> None:
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = name
        ElementTree.SubElement(element, "difficult").text = str(int(difficult))
        sides = ElementTree.SubElement(element, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(sides, side).text = number_text(value)

    def finish(self) -> dict[str, Any]:
        """See :class:`Writer`."""
        lists = self._folder / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        files = {}
        stay = False
        for split, names in self._listed.items():
            stay |= os.path.isabs(names[0])
            stems = [os.path.splitext(name)[0] for name in names]
            paths = names if stay else [f"../../JPEGImages/{name}" for name in names]
            lines = paths if stay or _look_like_something_else(stems) else stems
            files[split] = f"ImageSets/Main/{split}.txt"
            (self._folder / files[split]).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return {"format": "voc", **files, **({"annotations": "Annotations"} if stay else {})}


class RowsWriter:
    """``SPLIT.csv`` beside ``images/SPLIT``; without a column ``file`` a file for each image in ``labels/SPLIT``."""

    title, shares_images = "rows", False

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        splits: Sequence[str],
        settings: Mapping[str, Any],
        has_regions: bool,
    ) -> None:
        self._folder, self._names, self.losses = folder, names, Losses(self.title)
        default = ["file", "x1", "y1", "x2", "y2", "class", *(["ignore"] if has_regions else [])]
        self._settings = {"columns": default, **settings}
        self._columns = [role_of(column) or "" for column in self._settings["columns"]]
        if "" in self._columns:
            raise UserError("--columns: expected what each column holds, but _ says nothing to write")
        if "class" not in self._columns and len(names) > 1:
            raise UserError(f"--columns: expected a column 'class', for there are {len(names)} classes")
        if "image_name" in settings:
            raise UserError("--image-name is for rows that are read")
        self.form = Rows(box=settings.get("box")).box_form(self._columns, "--columns")
        sides = ("x", "y", "w", "h") if "x" in self._columns else BOXES[self.form]
        self._sides = {side: position for position, side in enumerate(sides)}
        self._separator = check_separator(settings.get("separator", "comma"))
        self._first_class = settings.get("first_class")
        self.in_fractions = settings.get("units") == "fractions"
        self.needs_copies = "file" not in self._columns
        self._rows: dict[str, list[list[str]]] = {split: [] for split in splits}

    def image_folder(self, split: str) -> str:
        """See :class:`Writer`."""
        return f"images/{split}"

    def write(self, split: str, name: str, image: LabelledImage, boxes: Numbers) -> None:
        """See :class:`Writer`."""
        _count_masks(image, self.losses)
        _count_beyond(boxes.beyond, self.losses)
        keep = first_of_equal(list(map(bytes, image.labels)))
        self.losses.add("repeated", len(keep) - sum(keep))
        rows = self._fields(image.labels[keep], boxes.values[: len(keep)][keep], "0")
        if "ignore" in self._columns:
            rows += self._fields(image.crowds, boxes.values[len(keep) :], "1")
        else:
            self.losses.add("regions", len(image.crowds))
        if self.needs_copies:
            path = self._folder / "labels" / split / f"{os.path.splitext(name)[0]}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._text([[row[column] for column in self._columns] for row in rows]), encoding="utf-8")
            return
        file = name if os.path.isabs(name) else f"{self.image_folder(split)}/{name}"
        for row in rows or [dict.fromkeys(self._columns, "")]:
            self._rows[split].append([(row | {"file": file})[column] for column in self._columns])

    def _fields(self, labels: np.ndarray, boxes: np.ndarray, ignore: str) -> list[dict[str, str]]:
        rows = []
        for label, box in zip(labels, boxes, strict=True):
            index = int(label[0])
            text = self._names[index] if self._first_class is None else str(index + self._first_class)
            sides = {side: number_text(box[position]) for side, position in self._sides.items()}
            rows.append({"class": text, "ignore": ignore, **sides})
        return rows

    def _text(self, rows: Sequence[Sequence[str]]) -> str:
        if self._separator == " ":
            blank = next((field for row in rows for field in row if not field or field.split() != [field]), None)
            if blank is not None:
                raise UserError(f"--separator space: {blank!r} cannot stand between blanks: take comma or tab")
        text = io.StringIO()
        csv.writer(text, delimiter=self._separator, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def finish(self) -> dict[str, Any]:
        """See :class:`Writer`."""
        entries = {split: self.image_folder(split) for split in self._rows}
        if not self.needs_copies:
            entries = {split: f"{split}.csv" for split in self._rows}
            for split, rows in self._rows.items():
                text = self._text([self._settings["columns"], *rows])
                (self._folder / entries[split]).write_text(text, encoding="utf-8")
        return {"format": "rows", **entries, **self._settings}


def _json_number(value: float) -> int | float:
    """Whole numbers without a point."""
    return int(value) if float(value).is_integer() else float(value)


def _count_beyond(beyond: np.ndarray, losses: Losses) -> None:
    if beyond.any():
        losses.add("beyond", int((beyond > 0).sum()), float(beyond.max()))


def _count_masks(image: LabelledImage, losses: Losses) -> None:
    losses.add("outlines", len(image.outlines()))
    losses.add("masks", sum(map(bool, image.masks)))
    _count_areas(image, losses)


def _count_areas(image: LabelledImage, losses: Losses) -> None:
    if image.areas is not None and len(image.areas):
        boxes = image.box_areas(image.labels)
        losses.add("areas", int((np.abs(image.areas - boxes) > MASK_AREA * boxes).sum()))


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath([os.path.dirname(path) for path in paths])


def _look_like_something_else(ids: Sequence[str]) -> bool:
    """Ids that the reader of lists takes for file names, or for ids with a second column."""
    return (
        all(re.fullmatch(r".*\S\s+(?:-1|0|1)", name) for name in ids)
        or all(name.lower().endswith(IMAGE_SUFFIXES) for name in ids)
        or any(name != name.strip() for name in ids)
    )
