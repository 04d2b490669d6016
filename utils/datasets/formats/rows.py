"""Rows of text or CSV files: ``file x1 y1 x2 y2 class`` for many images, or without ``file`` one such file an image."""

from __future__ import annotations

import csv
import functools
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.datasets.formats.base import Annotation, LabelledSplit, background
from utils.datasets.formats.yolo_txt import label_path
from utils.datasets.image_files import IMAGE_SUFFIXES, list_source
from utils.datasets.objects import Polygons
from utils.errors import UserError, unknown_name

SPLITS = ("train", "val", "test")
UNITS = ("pixels", "fractions")
BOXES = {"xyxy": ("x1", "y1", "x2", "y2"), "xywh": ("cx", "cy", "w", "h"), "ltwh": ("x1", "y1", "w", "h")}
SUFFIXES = (".txt", ".csv", ".tsv")
IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "Images")
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " "}
TOLERANCE = 1e-3  # so far beyond [0, 1] a fraction is a rounding error
# What a column holds, to the names that people give it, without case, blanks and underscores.
COLUMNS = {
    "file": ("file", "filename", "image", "imageid", "imagename", "path", "imagepath", "img"),
    "class": ("class", "classname", "classid", "label", "labelname", "name", "category"),
    "x1": ("x1", "xmin", "left", "xtl"),
    "y1": ("y1", "ymin", "top", "ytl"),
    "x2": ("x2", "xmax", "right", "xbr"),
    "y2": ("y2", "ymax", "bottom", "ybr"),
    "cx": ("cx", "xc", "xcenter", "xcentre", "centerx", "centrex"),
    "cy": ("cy", "yc", "ycenter", "ycentre", "centery", "centrey"),
    "x": ("x",),
    "y": ("y",),
    "w": ("w", "width", "boxwidth"),
    "h": ("h", "height", "boxheight"),
    "ignore": ("ignore", "difficult", "iscrowd", "crowd"),
}
SKIP = ("_", "-")  # a column that means nothing here
ROLES = {name: role for role, names in COLUMNS.items() for name in names}


class Row(NamedTuple):
    """One line of a file: where it stands, and the text of each column by what the column holds."""

    file: str
    line: int
    values: Mapping[str, str]

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


def role_of(column: str) -> str | None:
    """What a column of this name holds, ``x1`` for ``xmin``; None for other names."""
    return ROLES.get(column.strip().lower().replace("_", "").replace(" ", ""))


def check_columns(value: Any) -> tuple[str, ...]:
    """The key ``columns``: a name for each column, in order; ``_`` for one without a meaning here.

    Raises:
        UserError: an unknown name, one that stands twice, or no list.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise UserError(f"expected a list of column names but got {value!r:.80}")
    for name in value:
        if name not in SKIP and role_of(name) is None:
            raise unknown_name("column", name, [*COLUMNS, SKIP[0]])
    roles = [role_of(name) for name in value if name not in SKIP]
    for name in value:
        if roles.count(role_of(name)) > 1:
            raise UserError(f"expected different columns but {name!r} stands twice, perhaps by another name")
    return tuple(value)


def check_separator(value: Any) -> str:
    """The key ``separator``: a word or the character.

    Raises:
        UserError: anything else.
    """
    if value in SEPARATORS:
        return SEPARATORS[value]
    if isinstance(value, str) and len(value) == 1 and not value.isalnum():
        return value
    raise unknown_name("separator", value, SEPARATORS)


def check_image_name(value: Any) -> str:
    """The key ``image_name``: the name of an image without its suffix, ``{stem}`` stands for that of its rows.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, str) or value.count("{stem}") != 1:
        raise UserError(f"expected a name with '{{stem}}' in it, such as '{{stem}}_test', but got {value!r:.80}")
    return value


def check_places(value: Any) -> str | dict[str, str]:
    """The key ``annotations``: a file of rows, a folder of them, or a file for each split.

    Raises:
        UserError: anything else.
    """
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, Mapping) or not all(isinstance(file, str) for file in value.values()):
        raise UserError(f"expected a file, a folder, or a file for each split but got {value!r:.80}")
    for split in value:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
    return dict(value)


class Rows:
    """``format: rows``: an object a row.

    With a column ``file`` one file holds the rows of many images. It is the entry of the split itself, and then the
    images are those that it names; or ``annotations`` names it, and the entry holds the images. Without such a column
    each image has a file of its own, of the same name: in the folder ``annotations``, else below that of the images.
    A row whose other fields are empty names an image without objects.

    Args:
        columns: name of each column; None reads them from the first line.
        units: of the coordinates, ``pixels`` or ``fractions`` of the image's size. Pixels are edges: a box from 0 to
            the width of the image covers it.
        box: ``xyxy`` corners, ``xywh`` centre and size, ``ltwh`` left, top and size; None goes by the columns.
        first_class: number of the first class; None takes class names, and numbers from 0.
        separator: character between two fields, a blank stands for any white space; None finds out.
        annotations: where the rows are, absolute or relative to the data set.
        image_name: image without suffix of the file ``{stem}`` of rows.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        units: str = "pixels",
        box: str | None = None,
        first_class: int | None = None,
        separator: str | None = None,
        annotations: str | Mapping[str, str] | None = None,
        image_name: str = "{stem}",
    ) -> None:
        self.columns, self.units, self.box, self.first_class = columns, units, box, first_class
        self.separator, self.annotations, self.image_name = separator, annotations, image_name

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        """See :class:`~utils.datasets.formats.base.LabelFormat`."""
        place = self._place(split, root)
        if place is not None and place.is_file():
            return self._of_annotations(place, split, sources, root, names)
        if place is not None or not self._are_tables(sources):
            return self._of_files(place, sources, root, names)
        found: dict[str, list[Row]] = defaultdict(list)
        for source in sources:
            find = _ImageFinder(source.parent, root)
            for row in self.rows(source):
                found[find(_image_of(row))].append(row)
        return self._of_table(found, list(found), str(sources[0]), names)

    def class_texts(self, split: str, sources: Sequence[Path], root: Path) -> list[str]:
        """Different texts in the column of the class, sorted; nothing where there is no such column.

        Raises:
            UserError: a file that cannot be read.
        """
        place = self._place(split, root)
        if place is not None and place.is_file():
            files = [place]
        elif place is None and self._are_tables(sources):
            files = list(sources)
        else:
            opened = self._of_files(place, sources, root, ())
            files = sorted({Path(opened.label_file(image)) for image in opened.images})
        rows = (row for file in files if file.is_file() for row in self.rows(file))
        return sorted({row.values["class"] for row in rows if row.values.get("class")})

    def rows(self, file: Path) -> list[Row]:
        """Every row of a file.

        Raises:
            UserError: no text file, or columns that make no box; names file and line.
        """
        lines = _lines(file)
        if not lines:
            return []
        separator = self._separator_of(lines)
        split = functools.partial(_fields, separator=separator)
        first = split(*lines[0], file)
        roles = None if self.columns is None else [role_of(name) or "" for name in self.columns]
        if roles is None:
            roles = [role_of(name) or "" for name in first]
            self._check_header(roles, first, f"{file}:{lines[0][0]}")
            lines = lines[1:]
        elif _is_header(first, roles):
            lines = lines[1:]
        self.box_form(roles, str(file))
        return [_row(file, number, split(number, line, file), roles, separator) for number, line in lines]

    def box_form(self, roles: Sequence[str], where: str = "") -> str:
        """The form of boxes that columns make: a name of ``BOXES``, or ``xywh`` and ``ltwh`` of ``x y w h``.

        Raises:
            UserError: they make no box, or another than ``box`` says.
        """
        forms = [form for form, sides in BOXES.items() if set(sides) <= set(roles)]
        if not forms and {"x", "y", "w", "h"} <= set(roles):
            forms = [form for form in ("xywh", "ltwh") if form == self.box]
            if not forms:
                raise UserError(
                    f"{where}: x y w h: expected to be told whether x and y are the centre (box xywh) or the left top "
                    "corner (box ltwh)"
                )
        if "xyxy" in forms:
            forms = ["xyxy"]  # then width and height are those of the image
        if not forms:
            sides = ", or ".join(" ".join(sides) for sides in BOXES.values())
            found = " ".join(filter(None, roles)) or "nothing"
            raise UserError(f"{where}: expected the columns of a box, {sides}, but found {found}")
        if self.box not in (None, *forms):
            raise UserError(f"{where}: box: the columns make {forms[0]} but box says {self.box}")
        return forms[0]

    def _check_header(self, roles: Sequence[str], fields: Sequence[str], where: str) -> None:
        known = [role for role in roles if role]
        if not known:
            raise UserError(
                f"{where}: expected a line with the names of the columns but got {' '.join(fields)[:80]!r}. Name them "
                "with 'columns', for example: file x1 y1 x2 y2 class"
            )
        repeated = sorted({role for role in known if known.count(role) > 1})
        if repeated:
            raise UserError(f"{where}: more than one column holds {', '.join(repeated)}: {' '.join(fields)[:80]!r}")

    def _place(self, split: str, root: Path) -> Path | None:
        if self.annotations is None:
            return None
        if isinstance(self.annotations, Mapping) and split not in self.annotations:
            raise UserError(f"annotations: expected a file for the split {split!r} but found none")
        named = self.annotations if isinstance(self.annotations, str) else self.annotations[split]
        place = root / Path(named).expanduser()
        if not place.exists():
            raise UserError(f"annotations: there is no such file or folder: {place}")
        return place

    def _are_tables(self, sources: Sequence[Path]) -> bool:
        """Whether the entries of a split are files of rows that name images.

        Raises:
            UserError: the columns name images, but an entry is a folder.
        """
        folder = next((source for source in sources if source.is_dir()), None)
        if folder is not None:
            if self.columns is not None and "file" in map(role_of, self.columns):
                raise UserError(
                    f"{folder}: expected a file of rows that name images ('file' is one of the columns) but this is a "
                    "folder: 'annotations' names the file of the rows of its images"
                )
            return False
        return all(source.suffix.lower() not in IMAGE_SUFFIXES and self._has_file_column(source) for source in sources)

    def _has_file_column(self, file: Path) -> bool:
        if self.columns is not None:
            return "file" in map(role_of, self.columns)
        lines = _lines(file)
        if not lines or lines[0][1].strip().lower().endswith(IMAGE_SUFFIXES):
            return False  # a list of images
        fields = _fields(*lines[0], file, self._separator_of(lines))
        self._check_header([role_of(field) or "" for field in fields], fields, f"{file}:{lines[0][0]}")
        return "file" in map(role_of, fields)

    def _separator_of(self, lines: Sequence[tuple[int, str]]) -> str:
        if self.separator is not None:
            return self.separator
        return next((mark for mark in ("\t", ";", ",") if mark in lines[0][1]), " ")

    def _of_annotations(
        self, file: Path, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]
    ) -> LabelledSplit:
        if not self._has_file_column(file):
            raise UserError(f"{file}: expected a column 'file' in the rows of many images but found none")
        images = [image for source in sources for image in list_source(source, root)]
        bases = [*sources, *(source.parent for source in sources), root, file.parent]
        matched, strays = _match(self.rows(file), images, bases)
        notes: tuple[str, ...] = ()
        if strays and (not matched or not isinstance(self.annotations, str)):  # one file may be that of all splits
            notes = (
                f"{strays[0].where}: {strays[0].values['file']!r} is not among the images; so are {len(strays) - 1} "
                "more rows; they are left out",
            )
        return self._of_table(matched, images, str(file), names, notes)

    def _of_table(
        self,
        rows: Mapping[str, Sequence[Row]],
        images: Sequence[str],
        file: str,
        names: Sequence[str],
        notes: tuple[str, ...] = (),
    ) -> LabelledSplit:
        """One file of rows; ``notes`` are problems that belong to no image."""

        def label_file(image: str) -> str:
            files = {row.file for row in rows.get(image, ())}
            return max(files, key=os.path.getmtime) if files else file  # whichever changes last tells of the change

        def read(image: str, size_hw: tuple[int, int]) -> Annotation:
            found = self.annotation(rows[image], size_hw, names) if image in rows else background(found=False)
            return found._replace(problems=notes + found.problems) if image == images[0] else found

        return LabelledSplit(images, label_file, read)

    def _of_files(
        self, folder: Path | None, sources: Sequence[Path], root: Path, names: Sequence[str]
    ) -> LabelledSplit:
        """One file of rows for each image."""
        images = [image for source in sources for image in list_source(source, root)]
        index: dict[str, list[str]] = defaultdict(list)
        for base in [folder] if folder is not None else [source for source in sources if source.is_dir()]:
            for path in _files_below(base, SUFFIXES):
                index[os.path.splitext(os.path.basename(path))[0]].append(path)

        def label_file(image: str) -> str:
            name = self.stem(image) or ""
            found = index.get(name, [])
            shared = [len(os.path.commonpath([os.path.dirname(image), os.path.dirname(path)])) for path in found]
            nearest = [path for path, length in zip(found, shared, strict=True) if length == max(shared)]
            if len(nearest) > 1:
                raise UserError(f"{image}: its rows may be in {nearest[0]} or in {nearest[1]}: name the folder of one")
            if nearest:
                return nearest[0]
            return label_path(image) if folder is None else str(folder / f"{name}.txt")

        def read(image: str, size_hw: tuple[int, int]) -> Annotation:
            file = label_file(image)
            if not os.path.isfile(file):
                return background(found=False)
            return self.annotation(self.rows(Path(file)), size_hw, names)

        return LabelledSplit([image for image in images if self.stem(image) is not None], label_file, read)

    def stem(self, image: str) -> str | None:
        """Name of the file of rows of an image, without suffix; None where its name does not fit ``image_name``."""
        before, after = self.image_name.split("{stem}")
        name = os.path.splitext(os.path.basename(image))[0]
        fits = name.startswith(before) and name.endswith(after) and len(name) > len(before + after)
        return name[len(before) : len(name) - len(after)] if fits else None

    def annotation(self, rows: Sequence[Row], size_hw: tuple[int, int], names: Sequence[str]) -> Annotation:
        """The objects of one image. Rows that cannot be right are left out and told; so are repeated ones.

        Raises:
            UserError: an unknown class, or fractions where pixels are expected; names file and line.
        """
        parsed: dict[tuple[float, ...], Row] = {}
        ignored: list[tuple[float, ...]] = []
        problems = []
        all_small = self.units == "pixels"
        for row in rows:
            if not any(text for role, text in row.values.items() if role != "file"):
                continue
            try:
                sides, small = self._box(row.values, size_hw)
                is_ignored = _truth(row.values.get("ignore", ""))
            except ValueError as error:
                problems.append(f"{row.where}: {error}; the row is left out")
                continue
            all_small &= small
            label = (float(self._class(row, names)), *sides)
            if is_ignored:
                ignored.append(label)
                continue
            if label in parsed:
                problems.append(f"{row.where}: repeats line {parsed[label].line}; the row is left out")
            parsed.setdefault(label, row)
        if all_small and parsed:
            raise UserError(
                f"{next(iter(parsed.values())).where}: no coordinate of this image is above 1: if they are fractions "
                "of its size, say so: units fractions"
            )
        labels = np.array(list(parsed), np.float32).reshape(-1, 5)
        regions = np.array(ignored, np.float32).reshape(-1, 5)
        return Annotation(labels, Polygons.none(), True, tuple(problems), regions)

    def _box(self, values: Mapping[str, str], size_hw: tuple[int, int]) -> tuple[tuple[float, ...], bool]:
        """The ``xywhn`` of a row, and whether all its numbers are within [0, 1].

        Raises:
            ValueError: no numbers, or no box inside the image.
        """
        form = self.box_form(list(values))
        sides = BOXES[form]
        if "cx" not in values and "x1" not in values:
            sides = ("x", "y", "w", "h")
        texts = [values[side] for side in sides]
        try:
            a, b, c, d = map(float, texts)
        except ValueError:
            raise ValueError(f"expected numbers for {' '.join(sides)} but got {' '.join(texts)[:80]!r}") from None
        if not all(map(math.isfinite, (a, b, c, d))):
            raise ValueError(f"expected finite numbers for {' '.join(sides)} but got {' '.join(texts)[:80]!r}")
        height, width = size_hw if self.units == "pixels" else (1, 1)
        if self.units == "fractions":
            wrong = next((value for value in (a, b, c, d) if not -TOLERANCE <= value <= 1 + TOLERANCE), None)
            if wrong is not None:
                raise ValueError(f"expected fractions of the image's size, from 0 to 1, but got {wrong:g}")
        x1, x2 = interval(form, a, c)
        y1, y2 = interval(form, b, d)
        left, right = min(max(x1, 0.0), width), min(max(x2, 0.0), width)
        top, bottom = min(max(y1, 0.0), height), min(max(y2, 0.0), height)
        if right <= left or bottom <= top:
            size = f"{size_hw[1]} x {size_hw[0]} pixels"
            raise ValueError(f"expected a box inside the image of {size} but got {' '.join(texts)} for {form}")
        box = (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height
        return box, all(0 <= value <= 1 for value in (a, b, c, d))

    def _class(self, row: Row, names: Sequence[str]) -> int:
        text = row.values.get("class")
        if text is None:
            if len(names) == 1:
                return 0
            raise UserError(f"{row.where}: expected a column 'class', for there are {len(names)} classes: {names}")
        if self.first_class is None and text in names:
            return names.index(text)
        try:
            number = float(text)
            index = int(number) - (self.first_class or 0)
        except (ValueError, OverflowError):
            raise unknown_name("class", text, names, row.where) from None
        if number != int(number) or not 0 <= index < len(names):
            first = self.first_class or 0
            advice = " Are they numbered from 1? Say so: first_class 1" if not first and index == len(names) else ""
            raise UserError(
                f"{row.where}: expected a class from {first} to {first + len(names) - 1} ({', '.join(names)}) "
                f"but got {text}.{advice}"
            )
        return index


def interval(form: str, first: float, second: float) -> tuple[float, float]:
    """Low and high end of a box along one axis, of its two numbers in a form of ``BOXES``; also for arrays."""
    if form == "xyxy":
        return first, second
    return (first, first + second) if form == "ltwh" else (first - second / 2, first + second / 2)


def _files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        yield from (os.path.join(place, name) for name in sorted(names) if name.lower().endswith(suffixes))


def _lines(file: Path) -> list[tuple[int, str]]:
    """Lines of a file with their numbers, without empty ones and comments."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: expected a text or CSV file with a row per object: {error}") from None
    numbered = ((number, line.strip("\r\n")) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in numbered if line.strip() and not line.lstrip().startswith("#")]


def _fields(number: int, line: str, file: Path, separator: str) -> list[str]:
    """The fields of a line, without blanks around them.

    Raises:
        UserError: quotes that do not match; names file and line.
    """
    if separator == " ":
        return line.split()
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator, strict=True))]
    except csv.Error as error:
        raise UserError(f"{file}:{number}: {error}: {line[:80]!r}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_header(fields: Sequence[str], roles: Sequence[str]) -> bool:
    """A first line whose numbers are words."""
    numbers = [
        text for text, role in zip(fields, roles, strict=False) if role not in ("", "file", "class", "ignore") and text
    ]
    return bool(numbers) and not any(map(_is_number, numbers))


def _row(file: Path, number: int, fields: list[str], roles: Sequence[str], separator: str) -> Row:
    extra = len(fields) - len(roles)
    if extra > 0 and separator == " ":  # a name with blanks, if it is clear which one
        texts = [position for position, role in enumerate(roles) if role in ("file", "class")]
        if len(texts) == 1:
            start = texts[0]
            fields = [*fields[:start], " ".join(fields[start : start + extra + 1]), *fields[start + extra + 1 :]]
    empty = separator == " " and len(fields) == 1 and roles[0] == "file"  # an image without objects
    if len(fields) != len(roles) and not empty:
        expected = " ".join(role or SKIP[0] for role in roles)
        raise UserError(
            f"{file}:{number}: expected {len(roles)} columns, {expected}, but found {len(fields)}: "
            f"{' '.join(fields)[:80]!r}"
        )
    padded = [*fields, *[""] * (len(roles) - len(fields))]
    return Row(str(file), number, {role: text for role, text in zip(roles, padded, strict=True) if role})


def _truth(text: str) -> bool:
    if text.lower() in ("", "0", "false", "no"):
        return False
    if text.lower() in ("1", "true", "yes"):
        return True
    raise ValueError(f"expected 0 or 1 for ignore but got {text[:40]!r}")


def _image_of(row: Row) -> str:
    name = row.values["file"]
    if not name:
        raise UserError(f"{row.where}: expected the file of an image but the field is empty")
    return name


class _ImageFinder:
    """Names in rows to image files: below the folder of the rows, that of the data set, or their folders of images."""

    def __init__(self, *bases: Path) -> None:
        homes = dict.fromkeys(bases)
        self._bases = [*homes, *(base / name for base in homes for name in IMAGE_FOLDERS)]
        self._stems: dict[Path, dict[str, str]] = {}
        self._found: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> str:
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            for base in self._bases:
                if (base / spelling).is_file():
                    return os.path.normpath(base / spelling)
            for base in self._bases:
                folder = (base / spelling).parent
                if folder not in self._stems:
                    names = sorted(os.listdir(folder), reverse=True) if folder.is_dir() else []
                    images = [each for each in names if each.lower().endswith(IMAGE_SUFFIXES)]
                    self._stems[folder] = {os.path.splitext(each)[0]: str(folder / each) for each in images}
                if Path(spelling).name in self._stems[folder]:
                    return self._stems[folder][Path(spelling).name]
        return os.path.normpath(self._bases[0] / name)


def _match(rows: Iterable[Row], images: Sequence[str], bases: Sequence[Path]) -> tuple[dict[str, list[Row]], list[Row]]:
    """Rows to the images that they name: by path, else by name, else by name without suffix; and those of no image.

    Raises:
        UserError: a name that fits several images; names file and line.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in dict.fromkeys(images):
        name = os.path.basename(image)
        for key in dict.fromkeys((image, name, os.path.splitext(name)[0])):
            by_name[key].append(image)
    found: dict[str, list[Row]] = defaultdict(list)
    strays = []
    for row in rows:
        name = _image_of(row).replace("\\", "/")
        keys = [*(os.path.normpath(base / name) for base in bases), os.path.basename(name)]
        fitting = next((by_name[key] for key in keys if key in by_name), [])
        if len(fitting) > 1:
            raise UserError(f"{row.where}: {name!r} may be {fitting[0]} or {fitting[1]}: expected a path that tells")
        if fitting:
            found[fitting[0]].append(row)
        else:
            strays.append(row)
    return found, strays
