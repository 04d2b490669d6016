"""A conversion from beginning to end."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from utils.config.console import images_bar
from utils.conversion.options import ConvertOptions
from utils.conversion.records import LabelledImage, images_of
from utils.conversion.sources import POOL, describe_input
from utils.conversion.split import SPLITS, by_lists, by_ratio, parse_split
from utils.conversion.writers import Writer, build_writer, numbers_of
from utils.datasets.description import DataDescription, read_data_yaml
from utils.datasets.formats.rows import Rows
from utils.datasets.scan import open_split, scan_split
from utils.datasets.shapes import ensure_generated
from utils.errors import UserError

LOGGER = logging.getLogger(__name__)
DEFAULT_RATIO = ("ratio", "0.8", "0.2")
YAML_NAME = "data.yaml"
CHUNK = 200  # images whose boxes become numbers together


def convert(options: Mapping[str, Any]) -> Path:
    """Read a data set, split it if asked to, and write it in another format.

    The output appears when it is complete: an error or an interruption leaves nothing behind.

    Args:
        options: see :class:`~utils.conversion.options.ConvertOptions`.

    Returns:
        the data YAML of the output.

    Raises:
        UserError: an invalid option, an input that cannot be read, or an output that exists or lies in the input.
    """
    asked = ConvertOptions.of(options)
    splitting = parse_split(asked.split or DEFAULT_RATIO)
    if asked.group and splitting[0] != "ratio":
        raise UserError("--group: lists say where each image goes; it is for --split ratio")
    output = Path(asked.output).expanduser().absolute()
    _check_free(output)
    description = describe_input(asked)
    original = read_data_yaml(description.file) if asked.data else description
    _check_outside(output, asked, description)
    ensure_generated(description.generator)
    splits, skipped = _read(description, asked)
    _check_objects(splits, description)
    if not asked.data or asked.split or asked.group:
        splits = _split_anew(splits, splitting, asked, description)
    draft = output.parent / f".{output.name}-{os.getpid()}"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        try:
            writer = _write(splits, asked, original, draft)
            if output.is_dir():
                output.rmdir()  # empty
            draft.rename(output)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    for message in writer.losses.messages():
        LOGGER.warning(message)
    _report(splits, description.names, skipped, output)
    return output / YAML_NAME


def _check_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output: {output} exists already: expected a new or empty folder")


def _check_outside(output: Path, asked: ConvertOptions, description: DataDescription) -> None:
    """Nothing is written into the user's data.

    Raises:
        UserError: the output lies in a folder of the input.
    """
    folders = [source for sources in description.splits.values() for source in sources if source.is_dir()]
    if asked.data and description.generator is None:
        folders.append(description.root)
    if asked.annotations:
        folders.append(Path(asked.annotations).expanduser().absolute())
    for folder in folders:
        if output.resolve().is_relative_to(folder.resolve()):
            beside = folder.resolve().parent / f"{folder.resolve().name}-{asked.to}"
            raise UserError(
                f"--output: {output} lies in your data, {folder}, into which nothing is written: take another folder, "
                f"for example {beside}"
            )


class _Skipped(NamedTuple):
    """What could not be read."""

    images: int
    rows: int


def _read(description: DataDescription, asked: ConvertOptions) -> tuple[dict[str, list[LabelledImage]], _Skipped]:
    """The images of each split, each once, and how much was left out."""
    splits, num_images, num_rows = {}, 0, 0
    for split in SPLITS:
        if split not in description.splits:
            continue
        if split == "test" and not all(path.exists() for path in description.splits[split]):
            LOGGER.warning("test: left out, there is no %s", ", ".join(map(str, description.splits[split])))
            continue
        scanned = scan_split(description, split)
        num_images += scanned.report.corrupt
        num_rows += len(scanned.report.problems) - scanned.report.corrupt
        images = images_of(scanned, description.nc)
        splits[split] = [image.boxes_only() for image in images] if asked.boxes_only else images
        if not images:
            raise UserError(f"{description.file}: {split}: expected readable images but all were left out")
    for split, images in splits.items():
        repeated = len(images) - len({image.path for image in images})
        if repeated:
            LOGGER.warning("%s: %d images are listed more than once and are written once", split, repeated)
        splits[split] = list({image.path: image for image in images}.values())
    return splits, _Skipped(num_images, num_rows)


def _split_anew(
    splits: Mapping[str, Sequence[LabelledImage]],
    splitting: tuple[str, tuple[Any, ...]],
    asked: ConvertOptions,
    description: DataDescription,
) -> dict[str, list[LabelledImage]]:
    images = {image.path: image for images in splits.values() for image in images}
    paths = sorted(images)
    kind, values = splitting
    if kind == "ratio":
        if not asked.split:
            LOGGER.info("no --split given: 0.8 of the images are for train, 0.2 for val, seed %d", asked.seed)
        found = by_ratio(paths, values, asked.seed, asked.group)
    else:
        rows = Rows(image_name=asked.image_name)
        stems = {path: stem for path in paths if (stem := rows.stem(path)) is not None}
        found, unlisted = by_lists(paths, values, stems)
        if unlisted:
            LOGGER.warning("%d images are in no list and are left out, such as %s", len(unlisted), unlisted[0])
        shared = Counter(path for split in found.values() for path in split)
        twice = [path for path, count in shared.items() if count > 1]
        if twice:
            LOGGER.warning("%d images are in more than one list, such as %s", len(twice), twice[0])
    return {split: [images[path] for path in chosen] for split, chosen in found.items()}


def _check_objects(splits: Mapping[str, Sequence[LabelledImage]], description: DataDescription) -> None:
    if not any(len(image.labels) for images in splits.values() for image in images):
        split = POOL if POOL in description.splits else next(iter(description.splits))
        opened = open_split(description, split)
        image = opened.images[0]
        advice = "; --image-name says how images are named after files of rows" if description.format == "rows" else ""
        raise UserError(
            f"{description.file}: expected labels but none of the {len(opened.images)} images has any. "
            f"Those of {image} are looked for in {opened.label_file(image)}{advice}"
        )


def _write(
    splits: Mapping[str, Sequence[LabelledImage]], asked: ConvertOptions, original: DataDescription, folder: Path
) -> Writer:
    """Everything that the output holds, into a folder that is there."""
    has_regions = any(len(image.crowds) for images in splits.values() for image in images)
    names = original.label_names
    writer = build_writer(asked, folder, names, list(splits), has_regions, not asked.data and original.format == "rows")
    if asked.images == "none" and writer.needs_copies:
        raise UserError(
            f"--images none: labels of {writer.title} are found by the paths of their images, which cannot stay where "
            "they are; --images symlink takes no space"
        )
    with images_bar(sum(map(len, splits.values())), desc="writing images") as bar:
        named = _named(splits, writer, stay=asked.images == "none")
        while chunk := list(itertools.islice(named, CHUNK)):
            boxes_of = numbers_of([image for _, image, _ in chunk], writer)
            for (split, image, name), boxes in zip(chunk, boxes_of, strict=True):
                if asked.images != "none":
                    _place(image.path, folder / writer.image_folder(split) / name, asked.images)
                writer.write(split, name, image, boxes)
                bar.update()
    content = {**writer.finish(), "names": list(names)}
    if original.ignored:
        content |= {"ignore": list(original.ignored)}
    if original.ignore_as != "region":
        content |= {"ignore_as": original.ignore_as}
    if original.defaults:
        content |= {"defaults": dict(original.defaults)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    source = asked.data or " ".join(asked.source)
    head = f"# Written by convert.py from {source}, format {original.format}.\n"
    (folder / YAML_NAME).write_text(head + text, encoding="utf-8")
    return writer


def _named(
    splits: Mapping[str, Sequence[LabelledImage]], writer: Writer, stay: bool
) -> Iterator[tuple[str, LabelledImage, str]]:
    """Each image of each split with its name in the output: the own one where it is the only one of that name.

    Raises:
        UserError: images that stay where they are, and whose labels would have one name.
    """
    if stay:
        stems = _by_stem({image.path for images in splits.values() for image in images})
        twice = next((paths for paths in stems.values() if len(paths) > 1), None)
        if writer.shares_images and twice:
            raise UserError(
                f"--images none: {twice[0]} and {twice[1]} have one name, but labels of {writer.title} go by names; "
                "--images symlink gives them different ones"
            )
        for split, images in splits.items():
            yield from ((split, image, os.path.abspath(image.path)) for image in images)
        return
    pools = [list(splits)] if writer.shares_images else [[split] for split in splits]
    for pool in pools:
        names = _unique_names(list(dict.fromkeys(image.path for split in pool for image in splits[split])))
        renamed = [path for path, name in names.items() if os.path.basename(path) != name]
        if renamed:
            LOGGER.warning(
                "%d images are renamed, for names repeat: %s is %s", len(renamed), renamed[0], names[renamed[0]]
            )
        for split in pool:
            yield from ((split, image, names[image.path]) for image in splits[split])


def _by_stem(paths: set[str]) -> dict[str, list[str]]:
    """Paths by their names without suffix; upper and lower case are one on some file systems."""
    stems: dict[str, list[str]] = {}
    for path in sorted(paths):
        stems.setdefault(os.path.splitext(os.path.basename(path))[0].casefold(), []).append(path)
    return stems


def _unique_names(paths: Sequence[str]) -> dict[str, str]:
    """Different file names, also without suffix: the own ones; else all with the folders in which they differ."""
    if len(_by_stem(set(paths))) == len(paths):
        return {path: os.path.basename(path) for path in paths}
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem, suffix = os.path.splitext(os.path.relpath(path, common).replace(os.sep, "_"))
        candidate, number = stem, 2
        while candidate.casefold() in taken:
            candidate, number = f"{stem}-{number}", number + 1
        taken.add(candidate.casefold())
        names[path] = candidate + suffix
    return names


def _place(source: str, target: Path, how: str) -> None:
    """Put an image into the output; one that is there for another split stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        return
    try:
        if how == "copy":
            shutil.copyfile(source, target)
        elif how == "link":
            os.link(os.path.realpath(source), target)
        else:
            target.symlink_to(os.path.abspath(source))
    except OSError as error:
        advice = "" if how == "copy" else "; --images copy works everywhere"
        raise UserError(f"--images {how}: {source}: {error.strerror or error}{advice}") from None


def _report(
    splits: Mapping[str, Sequence[LabelledImage]], names: Sequence[str], skipped: _Skipped, output: Path
) -> None:
    """Objects of each class in each split, and what was done."""
    counts = [np.bincount(_classes(images), minlength=len(names)) for images in splits.values()]
    rows = [("", *splits), ("images", *(str(len(images)) for images in splits.values()))]
    rows += [(name, *(str(count[index]) for count in counts)) for index, name in enumerate(names)]
    regions = [sum(len(image.crowds) for image in images) for images in splits.values()]
    rows += [("regions to ignore", *map(str, regions))] if any(regions) else []
    width = max(len(row[0]) for row in rows)
    for row in rows:
        LOGGER.info("%s", row[0].ljust(width) + "".join(text.rjust(10) for text in row[1:]))
    images = sum(map(len, splits.values()))
    objects = sum(int(count.sum()) for count in counts)
    LOGGER.info(
        "%d images with %d objects are in %s; skipped as unreadable: %d images, %d rows",
        *(images, objects, output, skipped.images, skipped.rows),
    )
    LOGGER.info("train: python train.py --data %s", output / YAML_NAME)


def _classes(images: Sequence[LabelledImage]) -> np.ndarray:
    return np.concatenate([image.labels[:, 0] for image in images]).astype(np.int64)
