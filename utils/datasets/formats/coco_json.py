"""COCO's JSON files, read directly: one file holds the labels of a whole split."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from utils.datasets.cache_folder import cache_folder
from utils.datasets.formats.base import Annotation, LabelledSplit, background
from utils.datasets.objects import Polygons
from utils.errors import UserError, unknown_name
from utils.files import write_atomically

SPLITS = ("train", "val", "test")
INDEX_VERSION = 1  # of the cached list of images
REQUIRED = {"images": ("id", "file_name"), "categories": ("id", "name")}
OBJECT_KEYS = ("image_id", "category_id", "bbox")


class _Index(NamedTuple):
    """What is known of a JSON file without its annotations; kept in the cache folder.

    Attributes:
        images: file name to id.
        categories: name to id.
    """

    images: dict[str, int | str]
    categories: dict[str, int]


def check_annotations(value: Any) -> dict[str, str]:
    """The key ``annotations`` of a data YAML: a JSON file for each split.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(file, str) for file in value.values()):
        raise UserError(f"expected a JSON file for each split, {{train: ..., val: ...}}, but got {value!r:.100}")
    for split in value:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
    return dict(value)


class CocoJson:
    """``format: coco``: folders of images, and a JSON file with the labels of each split.

    Classes are matched by name, whatever their ids; the images are those that the file lists. Crowds become regions to
    ignore. Without ``annotations`` the file is looked for where COCO and its exporters put it.

    Args:
        annotations: split to JSON file, absolute or relative to the data set.
    """

    def __init__(self, annotations: Mapping[str, str] | None = None) -> None:
        self.annotations = annotations

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        """See :class:`~utils.datasets.formats.base.LabelFormat`."""
        file = self._file(split, sources, root)
        index, content = _read_index(file)
        for category in index.categories:
            if category not in names:
                advice = "list it under 'ignore' to leave it out"
                raise UserError(f"{unknown_name('category', category, names, str(file))} {advice}")
        find = _finder(sources, root, index.images)
        images = {find(name): image_id for name, image_id in index.images.items()}
        reader = _Reader(file, images, names, content)
        numbers = tuple(index.categories.get(name, -1) for name in names)
        return LabelledSplit(list(images), lambda _: str(file), reader, images, numbers, file)

    def class_names(self, split: str, sources: Sequence[Path], root: Path) -> list[str]:
        """Names of the categories of a split, in the order of their ids.

        Raises:
            UserError: as :meth:`open_split`.
        """
        categories = _read_index(self._file(split, sources, root))[0].categories
        return sorted(categories, key=lambda name: categories[name])

    def _file(self, split: str, sources: Sequence[Path], root: Path) -> Path:
        if self.annotations is not None:
            if split not in self.annotations:
                raise UserError(f"annotations: expected a JSON file for the split {split!r} but found none")
            file = root / Path(self.annotations[split]).expanduser()
            if not file.is_file():
                raise UserError(f"annotations: {split}: there is no file {file}")
            return file
        places = [
            place
            for source in sources
            for place in (
                root / "annotations" / f"instances_{source.name}.json",
                source / "_annotations.coco.json",
                root / "annotations" / f"{split}.json",
                root / f"{split}.json",
            )
        ]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            looked = ", ".join(map(str, places[:4]))
            raise UserError(
                f"{split}: expected a JSON file with the labels: none of {looked} exists. "
                "The key 'annotations' can name it"
            )
        return found


def first_image(file: Path) -> str:
    """Name of the first image in a JSON file, empty where it lists none.

    Raises:
        UserError: a file that cannot be read.
    """
    return next(iter(_read_index(file)[0].images), "")


def _finder(sources: Sequence[Path], root: Path, names: Mapping[str, Any]) -> Callable[[str], str]:
    """What turns a file name of the JSON into a path: below a source, or below a folder around it."""
    bases = [base for source in sources for base in (source, source.parent)] + [root]
    first = next(iter(names), "")
    bases = sorted(dict.fromkeys(bases), key=lambda base: not (base / first).is_file())
    if len(sources) == 1:  # asking the disk for every image would take longer than reading its labels
        return lambda name: os.path.normpath(bases[0] / name)

    def find(name: str) -> str:
        return os.path.normpath(next((base for base in bases if (base / name).is_file()), bases[0]) / name)

    return find


def _load_json(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8-sig") as text:
            content = _parse(text)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a mapping with images, annotations and categories but found {type(content)}")
    for part, keys in REQUIRED.items():
        rows = content.get(part)
        if not isinstance(rows, list):
            raise UserError(f"{file}: expected a list under {part!r} but found {type(rows).__name__}")
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or any(key not in row for key in keys):
                raise UserError(f"{file}: {part}[{number}]: expected the keys {', '.join(keys)} but found {row!r:.80}")
    return content


def _parse(text: IO[str]) -> Any:
    """``json.load`` without the garbage collector, which would look at millions of new lists again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.load(text)
    finally:
        if collects:
            gc.enable()


def _index_of(content: Mapping[str, Any], file: Path) -> _Index:
    images = {str(row["file_name"]): row["id"] for row in content["images"]}
    if len(images) < len(content["images"]):
        raise UserError(
            f"{file}: images: expected different file names, but {len(content['images']) - len(images)} repeat"
        )
    categories: dict[str, int] = {}
    for row in content["categories"]:
        if str(row["name"]) in categories:
            raise UserError(f"{file}: categories: expected different names but {row['name']!r} stands twice")
        categories[str(row["name"])] = row["id"]
    return _Index(images, categories)


def _read_index(file: Path) -> tuple[_Index, dict[str, Any] | None]:
    """Images and categories, from the cache where the file has not changed: the whole of COCO takes many seconds.

    Returns:
        The index, and the content of the file where it had to be read.
    """
    status = file.stat()
    identity = f"{INDEX_VERSION} {file.resolve()} {status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(str(file.resolve()).encode(errors="surrogateescape")).hexdigest()
    cache = cache_folder() / "coco" / f"{digest[:32]}.json"
    try:
        kept = json.loads(cache.read_text(encoding="utf-8"))
        if kept["identity"] == identity:
            return _Index(dict(kept["images"]), dict(kept["categories"])), None
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or a damaged one: read anew
    content = _load_json(file)
    index = _index_of(content, file)
    text = json.dumps({"identity": identity, "images": index.images, "categories": index.categories})
    with contextlib.suppress(OSError):  # then it is read again next time
        write_atomically(cache, lambda target: target.write(text.encode()))
    return index, content


class _Reader:
    """Labels of the images of one file, which is read when the first of them is asked for."""

    def __init__(
        self, file: Path, ids: Mapping[str, int | str], names: Sequence[str], content: dict[str, Any] | None
    ) -> None:
        self._file, self._ids, self._names = file, ids, tuple(names)
        self._content = content  # of the file, where it has been read already
        self._rows: dict[int | str, list[dict[str, Any]]] | None = None
        self._classes: dict[Any, int] = {}
        self._lock = threading.Lock()  # images are asked for by several threads

    def _read(self) -> None:
        content = _load_json(self._file) if self._content is None else self._content
        self._content = None
        index = {name: number for number, name in enumerate(self._names)}
        self._classes = {row["id"]: index[str(row["name"])] for row in content["categories"]}
        known = {row["id"] for row in content["images"]}
        rows: dict[int | str, list[dict[str, Any]]] = {}
        annotations = content.get("annotations")
        for number, row in enumerate(annotations if isinstance(annotations, list) else ()):
            if not isinstance(row, dict) or any(key not in row for key in OBJECT_KEYS):
                raise self._wrong(number, f"expected the keys {', '.join(OBJECT_KEYS)} but found {row!r:.80}")
            if row["image_id"] not in known:
                raise self._wrong(number, f"image_id {row['image_id']!r:.40} is not among the images")
            if row["category_id"] not in self._classes:
                raise self._wrong(number, f"category_id {row['category_id']!r:.40} is not among the categories")
            rows.setdefault(row["image_id"], []).append(row)
        self._rows = rows

    def _wrong(self, number: int, reason: str) -> UserError:
        return UserError(f"{self._file}: annotations[{number}]: {reason}")

    def __call__(self, image: str, size_hw: tuple[int, int]) -> Annotation:
        with self._lock:
            if self._rows is None:
                self._read()
        assert self._rows is not None
        rows = self._rows.get(self._ids[image])
        return background(found=False) if rows is None else self._annotation(rows, size_hw)

    def _annotation(self, rows: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]) -> Annotation:
        height, width = size_hw
        objects: list[tuple[float, ...]] = []
        crowds: list[tuple[float, ...]] = []
        areas: list[float] = []
        masks: list[str] = []
        numbers: list[int | str] = []
        overhang: list[float] = []
        outlines: list[tuple[int, np.ndarray]] = []
        problems = []
        for row in rows:
            try:
                box, beyond = _box(row["bbox"], height, width)
            except ValueError as error:
                problems.append(
                    f"{self._file}: annotation {row.get('id')} of image {row['image_id']}: {error}; skipped"
                )
                continue
            label = (float(self._classes[row["category_id"]]), *box)
            if row.get("iscrowd"):
                crowds.append(label)
                continue
            points, text = _outline(row.get("segmentation"), height, width)
            if points is not None:
                outlines.append((len(objects), points))
            objects.append(label)
            masks.append(text)
            numbers.append(row.get("id", "without id"))
            overhang.append(beyond)
            area = row.get("area")
            areas.append(float(area) if isinstance(area, int | float) else box[2] * width * box[3] * height)
        return Annotation(
            np.array(objects, np.float32).reshape(-1, 5),
            _join(outlines),
            True,
            tuple(problems),
            np.array(crowds, np.float32).reshape(-1, 5),
            np.array(areas, np.float64),
            tuple(masks),
            rows=tuple(numbers),
            overhang=np.array(overhang, np.float32),
        )


def _box(bbox: Any, height: int, width: int) -> tuple[tuple[float, float, float, float], float]:
    """The ``xywhn`` of ``[left, top, width, height]``, clipped to the image, and by how many pixels it went beyond.

    Raises:
        ValueError: another form, or nothing of it lies inside the image.
    """
    try:
        left, top, box_width, box_height = map(float, bbox)
    except (TypeError, ValueError):
        raise ValueError(f"expected the bbox [left, top, width, height] but got {bbox!r:.60}") from None
    right, bottom = left + box_width, top + box_height
    beyond = max(-left, -top, right - width, bottom - height, 0.0)
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    if not (right > left and bottom > top):  # false for NaN as well
        raise ValueError(f"expected a box inside the image of {width} x {height} pixels but got {bbox!r:.60}")
    box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return box, beyond


def _outline(segmentation: Any, height: int, width: int) -> tuple[np.ndarray | None, str]:
    """The outline (k, 2) in [0, 1] of a mask of one polygon; of other masks, of several parts or RLE, their JSON."""
    if not segmentation:
        return None, ""
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], list):
        try:
            points = np.array(segmentation[0], np.float64).reshape(-1, 2) / (width, height)
        except (TypeError, ValueError):
            return None, ""
        if len(points) >= 3 and np.isfinite(points).all():
            return points.clip(0, 1).astype(np.float32), ""
    return None, json.dumps(segmentation, separators=(",", ":"))


def _join(outlines: Sequence[tuple[int, np.ndarray]]) -> Polygons:
    if not outlines:
        return Polygons.none()
    owner = np.repeat([index for index, _ in outlines], [len(points) for _, points in outlines])
    return Polygons(np.concatenate([points for _, points in outlines]), owner.astype(np.int64))
