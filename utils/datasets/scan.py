"""Reading and checking every image header and label of a split once, and remembering the result."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from utils.datasets.cache_folder import cache_folder
from utils.datasets.description import DataDescription
from utils.datasets.formats import LABEL_FORMATS
from utils.datasets.formats.base import NO_ROWS, Annotation, LabelledSplit
from utils.datasets.image_files import IMAGE_SUFFIXES, check_image
from utils.datasets.objects import Polygons
from utils.errors import UserError
from utils.files import write_atomically

LOGGER = logging.getLogger(__name__)
CACHE_VERSION = 4  # of the cache file, and of the rules by which labels are read
SHOWN_PROBLEMS = 20


class ScanReport(NamedTuple):
    """Result of a scan.

    Attributes:
        found: images with a label file.
        missing: images without one; they are background.
        empty: images whose label file holds no object.
        corrupt: images that were skipped.
        regions: regions to ignore: crowds, difficult objects, objects of ignored classes.
        problems: messages about skipped rows and images, each once.
    """

    found: int
    missing: int
    empty: int
    corrupt: int
    regions: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.found} with labels ({self.empty} of them empty), {self.missing} without a label file, "
            f"{self.corrupt} unreadable, skipped" + (f", {self.regions} regions to ignore" if self.regions else "")
        )


class ScannedSplit(NamedTuple):
    """The n usable images of a split.

    Attributes:
        paths: n image files.
        sizes_hw: (n, 2) int64 heights and widths.
        labels: n arrays (objects, 5) float32 of class and ``xywhn``.
        polygons: n outlines in [0, 1].
        crowds: n arrays (regions, 5) as in ``labels``, see :class:`Annotation`.
        areas: n arrays (objects,) float64, or None, and
        masks: n tuples of texts, or None: see :class:`Annotation`.
        image_ids, class_ids, published: see :class:`LabelledSplit`; the ids of the n images in their order.
        report: counts and problems.
    """

    paths: list[str]
    sizes_hw: np.ndarray
    labels: list[np.ndarray]
    polygons: list[Polygons]
    crowds: list[np.ndarray]
    areas: list[np.ndarray] | None
    masks: list[tuple[str, ...]] | None
    report: ScanReport
    image_ids: list[int | str] | None = None
    class_ids: tuple[int, ...] | None = None
    published: Path | None = None


def open_split(description: DataDescription, split: str) -> LabelledSplit:
    """The images of a split, sorted, and how to read their labels.

    Raises:
        UserError: the split or its files do not exist, or hold no image.
    """
    label_format = LABEL_FORMATS.build(description.format, **description.format_settings)
    opened = label_format.open_split(split, description.require(split), description.root, description.label_names)
    if opened.class_ids is not None:
        opened = opened._replace(class_ids=tuple(opened.class_ids[index] for index in description.kept_labels))
    if not opened.images:
        sources = ", ".join(map(str, description.splits[split]))
        known = " ".join(IMAGE_SUFFIXES)
        raise UserError(f"{description.file}: {split}: expected images in {sources} but found none. Suffixes: {known}")
    return opened._replace(images=sorted(opened.images))


def list_images(description: DataDescription, split: str) -> list[str]:
    """Every image of a split, sorted; one that is listed twice comes twice. The image files are not opened.

    Raises:
        UserError: as :func:`open_split`.
    """
    return list(open_split(description, split).images)


def scan_split(description: DataDescription, split: str, *, progress: bool = True) -> ScannedSplit:
    """Read the labels of a split, from the cache where no file has changed since.

    Args:
        description: the data set.
        split: ``train``, ``val`` or ``test``.
        progress: show a bar where stderr is a terminal.

    Raises:
        UserError: as :func:`open_split`; a class index or name that the data set does not have.
    """
    opened = open_split(description, split)
    cache, key = _cache_file(description, opened.images), _key(description, opened)
    scanned = _load(cache, key)
    source = "cached labels"
    if scanned is None:
        scanned, source = _scan(opened, description, split, progress), "labels"
        try:
            write_atomically(cache, lambda file: _save(file, scanned, key))
        except OSError as error:
            LOGGER.warning("labels are not cached: %s", error)
    report = scanned.report
    for problem in report.problems[:SHOWN_PROBLEMS]:
        LOGGER.warning(problem)
    if len(report.problems) > SHOWN_PROBLEMS:
        LOGGER.warning("... and %d more problems in the labels of %s", len(report.problems) - SHOWN_PROBLEMS, split)
    LOGGER.info("%s, %s of %d images: %s", split, source, len(opened.images), report)
    ids = None if opened.image_ids is None else [opened.image_ids[path] for path in scanned.paths]
    return scanned._replace(image_ids=ids, class_ids=opened.class_ids, published=opened.published)


def _scan(opened: LabelledSplit, description: DataDescription, split: str, progress: bool) -> ScannedSplit:
    def read(path: str) -> tuple[tuple[int, int], Annotation] | str:
        try:
            size_hw = check_image(path)
            return size_hw, without_ignored(opened.read(path, size_hw), description)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            return f"{path}: {error}; image skipped"

    with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
        results = list(
            tqdm(
                pool.imap(read, opened.images, chunksize=16),
                desc=f"reading {split} labels",
                total=len(opened.images),
                disable=None if progress else True,
                leave=False,
            )
        )
    usable = [
        (path, *result) for path, result in zip(opened.images, results, strict=True) if not isinstance(result, str)
    ]
    annotations = [annotation for _, _, annotation in usable]
    problems = [result for result in results if isinstance(result, str)]
    problems += [problem for annotation in annotations for problem in annotation.problems]
    found = sum(annotation.found for annotation in annotations)
    empty = sum(annotation.found and len(annotation.labels) == 0 for annotation in annotations)
    regions = sum(len(annotation.crowds) for annotation in annotations)
    corrupt = len(opened.images) - len(usable)
    report = ScanReport(found, len(usable) - found, empty, corrupt, regions, tuple(dict.fromkeys(problems)))
    areas = [_areas(annotation, size_hw) for _, size_hw, annotation in usable]
    masks = [annotation.masks or ("",) * len(annotation.labels) for annotation in annotations]
    return ScannedSplit(
        [path for path, _, _ in usable],
        np.array([size_hw for _, size_hw, _ in usable], np.int64).reshape(-1, 2),
        [annotation.labels for annotation in annotations],
        [annotation.polygons for annotation in annotations],
        [annotation.crowds for annotation in annotations],
        areas if any(annotation.areas is not None for annotation in annotations) else None,
        masks if any(map(any, masks)) else None,
        report,
    )


def _areas(annotation: Annotation, size_hw: tuple[int, int]) -> np.ndarray:
    if annotation.areas is not None:
        return annotation.areas
    return annotation.labels[:, 3:].astype(np.float64).prod(axis=1) * size_hw[0] * size_hw[1]


def without_ignored(annotation: Annotation, description: DataDescription) -> Annotation:
    """Labels in the numbers of the classes that are trained; objects of ignored classes become regions of any class.

    With ``ignore_as: background`` there are no regions: what is ignored is background.
    """
    if not description.ignored and description.ignore_as == "region":
        return annotation
    to_class = np.full(len(description.label_names), -1.0, np.float32)
    to_class[list(description.kept_labels)] = np.arange(description.nc)
    classes = to_class[annotation.labels[:, 0].astype(np.int64)]
    ignored = classes < 0
    labels = np.concatenate((classes[:, None], annotation.labels[:, 1:]), axis=1)
    crowds = annotation.crowds.copy()
    named = crowds[:, 0] >= 0
    crowds[named, 0] = to_class[crowds[named, 0].astype(np.int64)]
    crowds = np.concatenate((crowds, labels[ignored]))
    kept = np.flatnonzero(~ignored).tolist()
    return annotation._replace(
        labels=labels[~ignored],
        polygons=annotation.polygons.select(~ignored),
        areas=None if annotation.areas is None else annotation.areas[~ignored],
        masks=tuple(annotation.masks[index] for index in kept) if annotation.masks else (),
        crowds=NO_ROWS if description.ignore_as == "background" else crowds,
        rows=tuple(annotation.rows[index] for index in kept) if annotation.rows else (),
        overhang=None if annotation.overhang is None else annotation.overhang[kept],
    )


def _cache_file(description: DataDescription, images: Sequence[str]) -> Path:
    """One file for each list of images, so that a changed data set replaces its own entry."""
    digest = hashlib.sha256("\n".join((description.format, *images)).encode(errors="surrogateescape")).hexdigest()
    return cache_folder() / "labels" / f"{digest[:32]}.npz"


def _key(description: DataDescription, opened: LabelledSplit) -> str:
    """Changes with the class names, the settings of the format, and the size or time of any image or label file."""
    settings = [CACHE_VERSION, description.names, description.label_names, description.ignore_as]
    settings.append(dict(description.format_settings))
    digest = hashlib.sha256(json.dumps(settings, default=str).encode())
    for file in opened.images:
        digest.update(_size_and_time(file))
    for file in dict.fromkeys(map(opened.label_file, opened.images)):  # once, where it holds all labels
        digest.update(_size_and_time(file))
    return digest.hexdigest()


def _size_and_time(file: str) -> bytes:
    try:
        status = os.stat(file)
    except OSError:
        return b"- "
    return f"{status.st_size} {status.st_mtime_ns} ".encode()


def _save(file: BinaryIO, scanned: ScannedSplit, key: str) -> None:
    text = json.dumps({"key": key, "paths": scanned.paths, "report": scanned.report._asdict()})
    masks = [mask.encode() for masks in scanned.masks or () for mask in masks]
    # not compressed: COCO's outlines would take longer to unpack than to read
    np.savez(
        file,
        text=np.frombuffer(text.encode(), np.uint8),
        sizes_hw=scanned.sizes_hw,
        counts=np.array([len(labels) for labels in scanned.labels], np.int64),
        labels=np.concatenate([NO_ROWS, *scanned.labels]),
        crowd_counts=np.array([len(crowds) for crowds in scanned.crowds], np.int64),
        crowds=np.concatenate([NO_ROWS, *scanned.crowds]),
        areas=np.concatenate([np.zeros(0), *(scanned.areas or [])]),
        mask_lengths=np.array([len(mask) for mask in masks], np.int64),
        masks=np.frombuffer(b"".join(masks), np.uint8),
        point_counts=np.array([len(polygons.owner) for polygons in scanned.polygons], np.int64),
        points=np.concatenate([np.zeros((0, 2), np.float32), *(polygons.points for polygons in scanned.polygons)]),
        owner=np.concatenate([np.zeros(0, np.int64), *(polygons.owner for polygons in scanned.polygons)]),
    )


def _load(cache: Path, key: str) -> ScannedSplit | None:
    """The cached result, or None where there is none, a damaged one, or one of other files."""
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            text = json.loads(arrays["text"].tobytes())
            if text["key"] != key:
                return None
            points = _split(arrays["points"], arrays["point_counts"])
            owners = _split(arrays["owner"], arrays["point_counts"])
            report = ScanReport(**{**text["report"], "problems": tuple(text["report"]["problems"])})
            return ScannedSplit(
                text["paths"],
                arrays["sizes_hw"],
                _split(arrays["labels"], arrays["counts"]),
                [Polygons(*pair) for pair in zip(points, owners, strict=True)],
                _split(arrays["crowds"], arrays["crowd_counts"]),
                _split(arrays["areas"], arrays["counts"]) if len(arrays["areas"]) else None,
                _masks(arrays["masks"].tobytes(), arrays["mask_lengths"], arrays["counts"]),
                report,
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        LOGGER.warning("the label cache %s is damaged and will be rebuilt: %s", cache, error)
        return None


def _masks(text: bytes, lengths: np.ndarray, counts: np.ndarray) -> list[tuple[str, ...]] | None:
    """Masks of all objects, one after another, to those of each image; None where no object has one."""
    if not len(lengths):
        return None
    ends = np.cumsum(lengths).tolist()
    masks = [text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
    return [tuple(masks[end - count : end]) for end, count in zip(np.cumsum(counts), counts, strict=True)]


def _split(rows: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Rows of all images, one after another, to those of each."""
    return np.split(rows, np.cumsum(counts)[:-1])
