"""What is odd about the files of a data set: copies, leaks between splits, labels without image and images without."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from utils.datasets.image_files import IMAGE_SUFFIXES
from utils.inspection.findings import Finding
from utils.inspection.reading import ReadSplit

CHUNK = 2**20  # bytes
NO_LABELS = ("classes.txt", "obj.names", "readme.txt", "requirements.txt")  # what tools put beside label files


def file_findings(splits: Sequence[ReadSplit], sources: Collection[str]) -> list[Finding]:
    """Everything about files that is not told by reading them one by one.

    Args:
        splits: all splits of the data set: a label file may belong to an image of any of them.
        sources: what the data YAML names; lists of images may lie among label files.
    """
    listed = {split.name: split.listed for split in splits}
    findings = [*_listed_twice(listed), *shared_images(listed), *_copies(splits), *_missing_labels(splits)]
    return [*findings, *(found for found in _orphans(splits) if found.file not in sources)]


def _listed_twice(listed: Mapping[str, Sequence[str]]) -> Iterable[Finding]:
    for split, paths in listed.items():
        for path, count in Counter(paths).items():
            if count > 1:
                yield Finding("listed-twice", split, f"listed {count} times in {split}", path, image=path)


def shared_images(listed: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Files that two splits list both; one finding for splits that are the same altogether.

    val and test may be the same: many data sets have only one of them.

    Args:
        listed: split to its images.
    """
    findings = []
    for (first, own), (second, other) in itertools.combinations(listed.items(), 2):
        both = sorted(set(own) & set(other))
        if set(own) == set(other):
            if first == "train":
                findings.append(Finding("leak", first, f"{first} and {second} are the same {len(both)} images"))
        else:
            findings += [Finding("leak", first, f"in {first} and in {second}", path, image=path) for path in both]
    return findings


def _copies(splits: Sequence[ReadSplit]) -> Iterable[Finding]:
    """Different files with the same bytes: only those of equal size need to be read."""
    splits_of: dict[str, list[str]] = defaultdict(list)
    for split in splits:
        for path in split.paths:
            splits_of[path].append(split.name)
    for first, *others in _groups_of_equal_content(splits_of):
        for path in others:
            pairs = [(a, b) for a in splits_of[first] for b in splits_of[path]]
            same = next((a for a, b in pairs if a == b), None)
            if same is not None:
                yield Finding("copy", same, f"the same content as {first}", path, image=path)
            else:
                a, b = pairs[0]
                yield Finding("leak", b, f"the same content as {first}, which is in {a}", path, image=path)


def _groups_of_equal_content(paths: Iterable[str]) -> list[list[str]]:
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        by_size[os.stat(path).st_size].append(path)
    groups: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for size, alike in by_size.items():
        if len(alike) > 1:
            for path in alike:
                groups[size, _digest(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


def _missing_labels(splits: Sequence[ReadSplit]) -> Iterable[Finding]:
    for split in splits:
        if split.shares_a_label_file:
            continue  # an image that the file has no object for is background
        for path, annotation in zip(split.paths, split.annotations, strict=True):
            if not annotation.found:
                yield Finding(
                    "missing-labels", split.name, f"no label file {split.label_files[path]}", path, image=path
                )


def _orphans(splits: Sequence[ReadSplit]) -> Iterable[Finding]:
    """Label files in the folders where labels are looked for, for which no image exists in the folders of images."""
    image_folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    split_of: dict[tuple[str, str], str] = {}
    known = set()
    for split in splits:
        if split.shares_a_label_file:
            continue
        for image, file in split.label_files.items():
            folder, name = os.path.split(file)
            place = folder, os.path.splitext(name)[1]
            image_folders[place].add(os.path.dirname(image))
            split_of.setdefault(place, split.name)
            known.add(file)
    for place, folders in image_folders.items():
        folder, suffix = place
        stems = {os.path.splitext(name)[0] for home in folders for name in _images_in(home)}
        for name in sorted(_names_in(folder)):
            stem, own_suffix = os.path.splitext(name)
            file = os.path.join(folder, name)
            if own_suffix == suffix and file not in known and stem not in stems and name.lower() not in NO_LABELS:
                yield Finding("orphan-labels", split_of[place], "no image of this name", file)


def _images_in(folder: str) -> list[str]:
    return [name for name in _names_in(folder) if name.lower().endswith(IMAGE_SUFFIXES)]


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
