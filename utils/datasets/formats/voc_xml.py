"""Pascal VOC annotations, read directly: an XML file for each image, in a folder of one of the usual names."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from utils.datasets.formats.base import Annotation, LabelledSplit, background
from utils.datasets.image_files import IMAGE_SUFFIXES, list_source, read_lines
from utils.datasets.objects import Polygons
from utils.errors import UserError, unknown_name

SIDES = ("xmin", "ymin", "xmax", "ymax")


# Folders of annotations, beside or in the folder of the images; of several the first that has the file counts.
FOLDERS = ("Annotations", "annotations", "annots", "labels", "xmls", "xml")
IMAGE_FOLDERS = ("JPEGImages", "images", "imgs", "Images", ".")


def check_folder(value: Any) -> str:
    """The key ``annotations`` of a data YAML: the folder of the XML files.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, str) or not value:
        raise UserError(f"expected a folder but got {value!r:.80}")
    return value


class VocXml:
    """``format: voc``: folders, lists of image files or lists of ids; the labels of ``a.jpg`` are in ``a.xml``.

    Args:
        annotations: folder of the XML files, absolute or relative to the data set; None looks beside the images, and in
            folders of the usual names beside and in that of the images.
    """

    def __init__(self, annotations: str | None = None) -> None:
        self.annotations = annotations

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        """See :class:`~utils.datasets.formats.base.LabelFormat`."""
        folder = None if self.annotations is None else root / Path(self.annotations).expanduser()
        if folder is not None and not folder.is_dir():
            raise UserError(f"annotations: expected a folder of XML files but there is none: {folder}")
        images = [image for source in sources for image in _images(source, root)]
        find = _AnnotationFinder(folder)
        return LabelledSplit(images, find, functools.partial(read_voc_labels, names=names, find=find))

    def class_names(self, split: str, sources: Sequence[Path], root: Path) -> list[str]:
        """Names in the annotations of a split, sorted.

        Raises:
            UserError: as :meth:`open_split`.
        """
        opened = self.open_split(split, sources, root, ())
        found = set()
        for file in dict.fromkeys(map(opened.label_file, opened.images)):
            # missing and damaged files are told when labels are read
            with contextlib.suppress(OSError, ElementTree.ParseError):
                elements = ElementTree.parse(file).getroot().iterfind("object/name")
                found |= {(element.text or "").strip() for element in elements}
        return sorted(found - {""})


class _AnnotationFinder:
    """Image to the file of its annotation; the folders of each folder of images are looked for once."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._of_images: dict[str, list[str]] = {}

    def __call__(self, image_path: str) -> str:
        folder, name = os.path.split(image_path)
        if folder not in self._of_images:
            self._of_images[folder] = self._candidates(folder)
        candidates = [os.path.join(place, f"{os.path.splitext(name)[0]}.xml") for place in self._of_images[folder]]
        return next(filter(os.path.isfile, candidates), candidates[0])

    def _candidates(self, folder: str) -> list[str]:
        if self._folder is not None:
            return [str(self._folder)]
        parent = os.path.dirname(folder)
        places = [os.path.join(base, name) for base in (parent, folder, os.path.dirname(parent)) for name in FOLDERS]
        return [*filter(os.path.isdir, places), folder]


def _images(source: Path, root: Path) -> list[str]:
    """Images of a folder and all below it, of a list of image files, or of a list of ids."""
    if source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES:
        return list_source(source, root)
    lines = read_lines(source)
    if lines and all(line.lower().endswith(IMAGE_SUFFIXES) for line in lines):
        return list_source(source, root)
    # lists of one class carry a second column, -1, 0 or 1, in every line; other ids may hold blanks
    columns = [re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line) for line in lines]
    ids = [column[1] for column in columns if column] if all(columns) else lines
    homes = [source.parents[2]] if len(source.parents) > 2 else []
    folders = [home / name for home in (*homes, root, source.parent) for name in IMAGE_FOLDERS]
    folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    files = {
        Path(name).stem: str(folder / name)
        for folder in reversed(folders)
        for name in sorted(os.listdir(folder), reverse=True)
        if name.lower().endswith(IMAGE_SUFFIXES)
    }
    missing = str(folders[0] if folders else root)
    return [files.get(name) or files.get(Path(name).stem) or os.path.join(missing, f"{name}.jpg") for name in ids]


def read_voc_labels(
    image_path: str, size_hw: tuple[int, int], names: Sequence[str], find: Callable[[str], str] | None = None
) -> Annotation:
    """Read the annotation of an image. A missing file means an image without objects.

    Boxes count pixels from 1 and include the last one, so ``xmin - 1, ymin - 1, xmax, ymax`` are its corners. Objects
    marked difficult are regions to ignore; degenerate boxes are skipped and reported in ``problems``.

    Args:
        image_path: the image.
        size_hw: its real height and width (the XML's own are sometimes wrong); boxes are clipped to it.
        names: class names.
        find: image to the file of its annotation; None looks in folders of the usual names.

    Raises:
        UserError: an object whose name is not in ``names``.
        ValueError: the file exists but cannot be read as XML.
    """
    path = (find or _AnnotationFinder(None))(image_path)
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
    overhang: list[float] = []
    difficult: list[tuple[float, ...]] = []
    problems: list[str] = []
    repeated: list[str] = []
    for line, element in zip(_object_lines(text, len(objects)), objects, strict=True):
        name = (element.findtext("name") or "").strip()
        if name not in indices:
            raise unknown_name("class name", name, names, f"{path}:{line}")
        try:
            box, beyond = _box(element, size_hw)
        except ValueError as error:
            problems.append(f"{path}:{line}: {name}: {error}; object skipped")
            continue
        row = (float(indices[name]), *box)
        if (element.findtext("difficult") or "0").strip() == "1":
            difficult.append(row)
            continue
        if row in rows:
            repeated.append(f"{path}:{line}: {name}: repeats line {rows[row]}; object skipped")
            problems.append(repeated[-1])
            continue
        rows[row] = line
        overhang.append(beyond)
    return Annotation(
        np.array(list(rows), np.float32).reshape(-1, 5),
        Polygons.none(),
        True,
        tuple(problems),
        np.array(difficult, np.float32).reshape(-1, 5),
        repeated=tuple(repeated),
        rows=tuple(rows.values()),
        overhang=np.array(overhang, np.float32),
    )


def _box(element: ElementTree.Element, size_hw: tuple[int, int]) -> tuple[tuple[float, float, float, float], float]:
    """The ``xywhn`` of an object, clipped to the image, and by how many pixels it reached beyond it.

    Raises:
        ValueError: a side is missing or no number, or the box is empty or outside the image.
    """
    texts = [element.findtext(f"bndbox/{side}") for side in SIDES]
    try:
        x1, y1, x2, y2 = (float(text or "") for text in texts)
    except ValueError:
        raise ValueError(f"expected numbers for {', '.join(SIDES)} but got {texts}") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError(f"expected finite numbers for {', '.join(SIDES)} but got {texts}")
    height, width = size_hw
    left, right = (min(max(value, 0.0), width) for value in (x1 - 1, x2))
    top, bottom = (min(max(value, 0.0), height) for value in (y1 - 1, y2))
    if right <= left or bottom <= top:
        raise ValueError(f"expected a box inside the image of {width} x {height} pixels but got {texts}")
    box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return box, max(1 - x1, 1 - y1, x2 - width, y2 - height, 0.0)


def _object_lines(text: bytes, count: int) -> list[int]:
    """The line at which each of so many objects begins; 1 for those that are written in an unusual way."""
    parts = re.split(rb"<object[\s>]", text)[:count]
    lines = (np.cumsum([part.count(b"\n") for part in parts], dtype=np.int64) + 1).tolist()
    return lines + [1] * (count - len(lines))
