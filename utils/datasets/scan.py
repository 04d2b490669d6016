"""Reading and checking every image header and label of a split once, and remembering the result."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.datasets.annotation import Annotation
from utils.datasets.cache_folder import cache_folder
from utils.datasets.description import DataDescription
from utils.datasets.formats.voc_xml import annotation_path, read_voc_labels
from utils.datasets.formats.yolo_txt import label_path, read_yolo_labels
from utils.datasets.image_files import check_image, list_images
from utils.datasets.objects import Polygons
from utils.errors import UserError
from utils.files import write_atomically

LOGGER = logging.getLogger(__name__)
CACHE_VERSION = 1  # of the cache file, and of the rules by which labels are read
SHOWN_PROBLEMS = 20
READERS = {"yolo": (label_path, read_yolo_labels), "voc": (annotation_path, read_voc_labels)}


class ScanReport(NamedTuple):
    """What a scan met.

    Attributes:
        found: images with a label file.
        missing: images without one; they are background.
        empty: images whose label file holds no object.
        corrupt: images left out.
        problems: messages about rows and images that were left out, each once.
    """

    found: int
    missing: int
    empty: int
    corrupt: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.found} with labels ({self.empty} of them empty), {self.missing} without a label file, "
            f"{self.corrupt} left out as unreadable"
        )


class ScannedSplit(NamedTuple):
    """The n usable images of a split.

    Attributes:
        paths: n image files.
        sizes_hw: (n, 2) int64 heights and widths.
        labels: n arrays (objects, 5) float32 of class and ``xywhn``.
        polygons: n outlines in [0, 1].
        report: what was met on the way.
    """

    paths: list[str]
    sizes_hw: np.ndarray
    labels: list[np.ndarray]
    polygons: list[Polygons]
    report: ScanReport


def scan_split(description: DataDescription, split: str, *, progress: bool = True) -> ScannedSplit:
    """Read the labels of a split, from the cache where no file has changed since.

    Args:
        description: the data set.
        split: ``train``, ``val`` or ``test``.
        progress: show a bar where stderr is a terminal.

    Raises:
        UserError: as :func:`list_images`; a class index or name that the data set does not have.
    """
    images = list_images(description, split)
    cache, key = _cache_file(description, images), _key(description, images)
    scanned = _load(cache, key)
    source = "cached labels"
    if scanned is None:
        scanned, source = _scan(description, split, images, progress), "labels"
        try:
            write_atomically(cache, lambda file: _save(file, scanned, key))
        except OSError as error:
            LOGGER.warning("labels are not cached: %s", error)
    report = scanned.report
    for problem in report.problems[:SHOWN_PROBLEMS]:
        LOGGER.warning(problem)
    if len(report.problems) > SHOWN_PROBLEMS:
        LOGGER.warning("... and %d more problems in the labels of %s", len(report.problems) - SHOWN_PROBLEMS, split)
    LOGGER.info("%s, %s of %d images: %s", split, source, len(images), report)
    return scanned


def _scan(description: DataDescription, split: str, images: Sequence[str], progress: bool) -> ScannedSplit:
    _, read_labels = READERS[description.format]

    def read(path: str) -> tuple[tuple[int, int], Annotation] | str:
        try:
            size_hw = check_image(path)
            return size_hw, read_labels(path, size_hw, description.names)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            return f"{path}: {error}; the image is left out"

    with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
        results = list(
            tqdm(
                pool.imap(read, images, chunksize=16),
                desc=f"reading {split} labels",
                total=len(images),
                disable=None if progress else True,
                leave=False,
            )
        )
    usable = [(path, *result) for path, result in zip(images, results, strict=True) if not isinstance(result, str)]
    annotations = [annotation for _, _, annotation in usable]
    problems = [result for result in results if isinstance(result, str)]
    problems += [problem for annotation in annotations for problem in annotation.problems]
    found = sum(annotation.found for annotation in annotations)
    empty = sum(annotation.found and len(annotation.labels) == 0 for annotation in annotations)
    report = ScanReport(found, len(usable) - found, empty, len(images) - len(usable), tuple(dict.fromkeys(problems)))
    return ScannedSplit(
        [path for path, _, _ in usable],
        np.array([size_hw for _, size_hw, _ in usable], np.int64).reshape(-1, 2),
        [annotation.labels for annotation in annotations],
        [annotation.polygons for annotation in annotations],
        report,
    )


def _cache_file(description: DataDescription, images: Sequence[str]) -> Path:
    """One file for each list of images, so that a changed data set replaces its own entry."""
    digest = hashlib.sha256("\n".join((description.format, *images)).encode(errors="surrogateescape")).hexdigest()
    return cache_folder() / "labels" / f"{digest[:32]}.npz"


def _key(description: DataDescription, images: Sequence[str]) -> str:
    """Changes with the class names, and with the size or time of any image or label file."""
    file_of_labels, _ = READERS[description.format]
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, description.names]).encode())
    for path in images:
        for file in (path, file_of_labels(path)):
            try:
                status = os.stat(file)
                digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
            except OSError:
                digest.update(b"- ")
    return digest.hexdigest()


def _save(file: io.BufferedIOBase, scanned: ScannedSplit, key: str) -> None:
    text = json.dumps({"key": key, "paths": scanned.paths, "report": scanned.report._asdict()})
    np.savez_compressed(
        file,
        text=np.frombuffer(text.encode(), np.uint8),
        sizes_hw=scanned.sizes_hw,
        counts=np.array([len(labels) for labels in scanned.labels], np.int64),
        labels=np.concatenate([np.zeros((0, 5), np.float32), *scanned.labels]),
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
            cuts, point_cuts = np.cumsum(arrays["counts"])[:-1], np.cumsum(arrays["point_counts"])[:-1]
            points = np.split(arrays["points"], point_cuts)
            owners = np.split(arrays["owner"], point_cuts)
            report = ScanReport(**{**text["report"], "problems": tuple(text["report"]["problems"])})
            return ScannedSplit(
                text["paths"],
                arrays["sizes_hw"],
                np.split(arrays["labels"], cuts),
                [Polygons(*pair) for pair in zip(points, owners, strict=True)],
                report,
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        LOGGER.warning("the label cache %s is damaged and made anew: %s", cache, error)
        return None
