"""Reading a split for an inspection: every image header and every label, and each fault met on the way."""

from __future__ import annotations

import os
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

import numpy as np

from utils.config.console import images_bar
from utils.datasets.description import DataDescription
from utils.datasets.formats.base import Annotation
from utils.datasets.image_files import check_image
from utils.datasets.scan import open_split, without_ignored
from utils.errors import UserError
from utils.inspection.findings import Finding
from utils.inspection.objects import ObjectTable


class ReadSplit(NamedTuple):
    """A split as it was read. Unlike a scan for training it goes on where a class is unknown.

    Attributes:
        name: of the split.
        listed: every image, sorted; one that is listed twice comes twice.
        label_files: image to the file that its labels are looked for in.
        paths: the n readable images, each once.
        sizes_hw: (n, 2) int64 heights and widths.
        annotations: n labels.
        findings: faults of files and rows.
        shares_a_label_file: one file holds the labels of all images.
        has_ids: objects are told by an id in that file, not by a line.
    """

    name: str
    listed: list[str]
    label_files: dict[str, str]
    paths: list[str]
    sizes_hw: np.ndarray
    annotations: list[Annotation]
    findings: list[Finding]
    shares_a_label_file: bool
    has_ids: bool

    def objects(self) -> ObjectTable:
        """All of its objects."""
        return ObjectTable.from_labels(
            [annotation.labels for annotation in self.annotations],
            self.sizes_hw,
            [annotation.overhang for annotation in self.annotations],
        )

    def place(self, image: int, row: int) -> tuple[str, int | None, str]:
        """Label file, line and words for the place of an object: ``annotation 17`` where a file has no lines."""
        file, rows = self.label_files[self.paths[image]], self.annotations[image].rows
        if not rows:
            return file, None, f"object {row + 1}"
        return (file, None, f"annotation {rows[row]}") if self.has_ids else (file, int(rows[row]), "")


def read_split(description: DataDescription, split: str) -> ReadSplit:
    """Read all images and labels of a split.

    Raises:
        UserError: the split cannot be opened, or the one file with all of its labels cannot be read.
    """
    opened = open_split(description, split)
    paths = list(dict.fromkeys(opened.images))
    files = {path: opened.label_file(path) for path in paths}
    shared = opened.image_ids is not None or (len(paths) > 1 and len(set(files.values())) == 1)

    def read(path: str) -> tuple[tuple[int, int], Annotation] | Finding:
        try:
            size_hw = check_image(path)
        except ValueError as error:
            kind = "unreadable-image" if os.path.exists(path) else "missing-image"
            return Finding(kind, split, str(error), path, image=path)
        try:
            return size_hw, without_ignored(opened.read(path, size_hw), description)
        except ValueError as error:
            if isinstance(error, UserError) and shared:
                raise
            kind = "unknown-class" if isinstance(error, UserError) else "unreadable-labels"
            return _from_message(str(error), kind, split, files[path], path)

    with ThreadPool(min(8, os.cpu_count() or 1)) as pool, images_bar(len(paths), f"reading {split}") as bar:
        results = []
        for result in pool.imap(read, paths, chunksize=16):
            results.append(result)
            bar.update(1)
    usable = [(path, *result) for path, result in zip(paths, results, strict=True) if not isinstance(result, Finding)]
    findings = [result for result in results if isinstance(result, Finding)]
    for path, _, annotation in usable:
        for message in dict.fromkeys(annotation.problems):
            kind = "repeated-box" if message in annotation.repeated else "invalid-row"
            findings.append(_from_message(message, kind, split, files[path], path))
    return ReadSplit(
        split,
        list(opened.images),
        files,
        [path for path, _, _ in usable],
        np.array([size_hw for _, size_hw, _ in usable], np.int64).reshape(-1, 2),
        [annotation for _, _, annotation in usable],
        findings,
        shared,
        opened.image_ids is not None,
    )


def _from_message(message: str, kind: str, split: str, file: str, image: str) -> Finding:
    """A finding of a message of a label format, which may begin with ``file:line: `` or ``file: ``."""
    if not message.startswith(f"{file}:"):
        return Finding(kind, split, message, file, image=image)
    head, _, rest = message[len(file) + 1 :].partition(": ")
    line = int(head) if head.isdecimal() else None
    return Finding(kind, split, rest if line is not None else message[len(file) + 1 :].strip(), file, line, image)
