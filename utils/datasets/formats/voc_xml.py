"""Pascal VOC annotations, read directly: ``Annotations/<id>.xml`` beside ``JPEGImages/<id>.jpg``."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from utils.datasets.formats.base import Annotation, LabelledSplit, background
from utils.datasets.image_files import IMAGE_SUFFIXES, read_lines
from utils.datasets.objects import Polygons
from utils.errors import UserError, unknown_name

SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocXml:
    """``format: voc``: lists of ids; the image ``JPEGImages/a.jpg`` has its labels in ``Annotations/a.xml``."""

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        """See :class:`~utils.datasets.formats.base.LabelFormat`."""
        images = [image for source in sources for image in _images(source)]
        return LabelledSplit(images, annotation_path, functools.partial(read_voc_labels, names=names))


def _images(source: Path) -> list[str]:
    """Images of a list of ids, ``<root>/ImageSets/Main/<split>.txt``, in ``<root>/JPEGImages``; or of image files."""
    if source.is_dir():
        raise UserError(f"{source}: expected a list of ids, such as ImageSets/Main/train.txt, but found a folder")
    lines = read_lines(source)
    if all(line.lower().endswith(IMAGE_SUFFIXES) for line in lines):
        return [os.path.normpath(source.parent / line) for line in lines]
    folder = source.parents[2] / "JPEGImages"
    files = {Path(name).stem: name for name in sorted(os.listdir(folder), reverse=True)} if folder.is_dir() else {}
    ids = [line.split()[0] for line in lines]  # lists of one class carry a second column
    return [str(folder / files.get(name, f"{name}.jpg")) for name in ids]


def annotation_path(image_path: str) -> str:
    """The annotation of an image."""
    image = Path(image_path)
    return str(image.parent.parent / "Annotations" / f"{image.stem}.xml")


def read_voc_labels(image_path: str, size_hw: tuple[int, int], names: Sequence[str]) -> Annotation:
    """Read the annotation of an image. A missing file stands for an image without objects.

    Boxes count pixels from 1 and include the last one, so ``xmin - 1, ymin - 1, xmax, ymax`` are its corners. Objects
    marked difficult are left out, silently; degenerate boxes are left out and told in ``problems``.

    Args:
        image_path: the image.
        size_hw: its real height and width (the XML's own are sometimes wrong); boxes are clipped to it.
        names: class names.

    Raises:
        UserError: an object whose name is not in ``names``.
        ValueError: the file exists but cannot be read as XML.
    """
    path = annotation_path(image_path)
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        return background(found=False)
    except OSError as error:
        raise ValueError(f"the annotation {path} cannot be read: {error}") from None
    try:
        objects = ElementTree.fromstring(text).findall("object")
    except ElementTree.ParseError as error:
        raise ValueError(f"the annotation {path} cannot be parsed as XML: {error}") from None
    indices = {name: index for index, name in enumerate(names)}
    rows: dict[tuple[float, ...], int] = {}  # keyed by value: a repeated object changes nothing
    problems = []
    for number, element in enumerate(objects):
        if (element.findtext("difficult") or "0").strip() == "1":
            continue
        name = (element.findtext("name") or "").strip()
        if name not in indices:
            raise unknown_name("class name", name, names, f"{path}:{_line(text, number)}")
        try:
            row = (float(indices[name]), *_box(element, size_hw))
        except ValueError as error:
            problems.append(f"{path}:{_line(text, number)}: {name}: {error}; the object is left out")
            continue
        if row in rows:
            problems.append(
                f"{path}:{_line(text, number)}: {name}: repeats line {_line(text, rows[row])}; the object is left out"
            )
        rows.setdefault(row, number)
    labels = np.array(list(rows), np.float32).reshape(-1, 5)
    return Annotation(labels, Polygons.none(), True, tuple(problems))


def _box(element: ElementTree.Element, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """The ``xywhn`` of an object.

    Raises:
        ValueError: a side is missing or no number, or the box is empty or outside the image.
    """
    texts = [element.findtext(f"bndbox/{side}") for side in SIDES]
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except (TypeError, ValueError):
        raise ValueError(f"expected numbers for {', '.join(SIDES)} but got {texts}") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError(f"expected finite numbers for {', '.join(SIDES)} but got {texts}")
    height, width = size_hw
    left, right = (min(max(value, 0.0), width) for value in (x1 - 1, x2))
    top, bottom = (min(max(value, 0.0), height) for value in (y1 - 1, y2))
    if right <= left or bottom <= top:
        raise ValueError(f"expected a box inside the image of {width} x {height} pixels but got {texts}")
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height


def _line(text: bytes, number: int) -> int:
    """The line at which object ``number`` begins."""
    position = -1
    for _ in range(number + 1):
        position = text.find(b"<object>", position + 1)
    return text.count(b"\n", 0, max(position, 0)) + 1
