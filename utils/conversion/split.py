"""Splitting images: by ratio with a seed, in groups that stay together, or by lists."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.datasets.image_files import read_lines
from utils.datasets.randomness import Stream, keyed_rng
from utils.errors import UserError, unknown_name
from utils.parameters import check_number

SPLITS = ("train", "val", "test")
KINDS = ("ratio", "lists")


def parse_split(split: Sequence[str]) -> tuple[str, tuple[float, ...] | tuple[Path, ...]]:
    """The option ``--split``: ``ratio`` and two or three parts of 1, or ``lists`` and two or three files.

    Raises:
        UserError: anything else.
    """
    kind, *values = split
    if kind not in KINDS:
        raise unknown_name("way to split", kind, KINDS)
    if not 2 <= len(values) <= len(SPLITS):
        raise UserError(f"--split {kind}: expected a value for train, one for val, and perhaps one for test")
    if kind == "lists":
        return kind, tuple(Path(value).expanduser() for value in values)
    parts = tuple(check_number(value, 0, 1, above=True) for value in values)
    if abs(sum(parts) - 1) > 1e-6:
        raise UserError(f"--split ratio: expected parts that add to 1 but {' + '.join(values)} = {sum(parts):g}")
    return kind, parts


def by_ratio(images: Sequence[str], parts: Sequence[float], seed: int, pattern: str = "") -> dict[str, list[str]]:
    """Split images at random; depends on the seed and the order of the images alone.

    Args:
        images: image files, each once, sorted.
        parts: of train, val and perhaps test, which add to 1.
        seed: of the choice.
        pattern: images whose file names match it with the same text, or with the same text of its first group, end in
            the same split. Parts are then met as nearly as the groups allow.

    Returns:
        split to its images, in their order.

    Raises:
        UserError: a pattern that is no regular expression or that a name does not match, or too few images or groups.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for image in images:
        groups[_group(image, pattern) if pattern else image].append(image)
    names = SPLITS[: len(parts)]
    if len(groups) < len(names):
        kind = "groups of images" if pattern else "images"
        raise UserError(f"--split ratio: expected at least {len(names)} {kind} but found {len(groups)}")
    keys = list(groups)
    order = [keys[index] for index in keyed_rng(Stream.SPLIT, seed).permutation(len(keys))]
    # the largest groups first: the small ones then even out what is left
    order.sort(key=lambda key: -len(groups[key]))
    wanted = np.array(parts) * len(images)
    counts, num_groups = np.zeros(len(parts)), np.zeros(len(parts), int)
    chosen: dict[str, int] = {}
    for position, key in enumerate(order):
        empty = np.flatnonzero(num_groups == 0)
        left = len(order) - position
        among = empty if left <= len(empty) else np.arange(len(parts))
        split = int(among[np.argmax((wanted - counts)[among])])
        counts[split] += len(groups[key])
        num_groups[split] += 1
        chosen.update(dict.fromkeys(groups[key], split))
    return {name: [image for image in images if chosen[image] == index] for index, name in enumerate(names)}


def _group(image: str, pattern: str) -> str:
    try:
        found = re.search(pattern, os.path.basename(image))
    except re.error as error:
        raise UserError(f"--group: expected a regular expression but got {pattern!r}: {error}") from None
    if found is None:
        raise UserError(f"--group: {pattern!r} does not match the name {os.path.basename(image)!r}")
    return (found[1] or "") if found.re.groups else found[0]


def by_lists(
    images: Sequence[str], files: Sequence[Path], stems: Mapping[str, str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Split images as lists say. A line names an image by path, by name, or by name without suffix.

    Args:
        images: image files, sorted.
        files: lists of train, val and perhaps test.
        stems: image to another name that stands for it, such as that of its rows.

    Returns:
        split to its images, in the order of ``images``; and the images that are in no list.

    Raises:
        UserError: a list that cannot be read, a line that names no image, or several; names file and line.
    """
    by_name: dict[str, set[str]] = defaultdict(set)
    for image in images:
        name = os.path.basename(image)
        for key in (image, name, os.path.splitext(name)[0], stems.get(image, name)):
            by_name[key].add(image)
    splits = {}
    for split, file in zip(SPLITS, files, strict=False):
        chosen = {_find(line, file, number, by_name) for number, line in enumerate(read_lines(file), start=1)}
        if not chosen:
            raise UserError(f"{file}: expected a list of images for {split} but it is empty")
        splits[split] = [image for image in images if image in chosen]
    listed = {image for split in splits.values() for image in split}
    return splits, [image for image in images if image not in listed]


def _find(line: str, file: Path, number: int, by_name: Mapping[str, set[str]]) -> str:
    """The image of a line, or of its first column where the whole names none."""
    for text in dict.fromkeys((line, line.split()[0])):
        name = os.path.basename(text.replace("\\", "/"))
        here = os.path.normpath(file.resolve().parent / text)
        for key in (here, os.path.normpath(text), name, os.path.splitext(name)[0]):
            found = by_name.get(key)
            if found is None:
                continue
            ends = {image for image in found if image.endswith(os.sep + os.path.normpath(text))}
            found = found if len(found) == 1 else ends
            if len(found) == 1:
                return next(iter(found))
            raise UserError(f"{file}:{number}: {text!r} may be {' or '.join(sorted(by_name[key])[:2])}")
    raise UserError(f"{file}:{number}: {line[:80]!r} is none of the images")
