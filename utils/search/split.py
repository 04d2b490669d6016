"""Hold out part of a training set, to judge trials without looking at the validation set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from utils.datasets.description import DataDescription
from utils.datasets.scan import list_images
from utils.datasets.shapes import ensure_generated
from utils.errors import UserError
from utils.files import write_atomically


def hold_out(description: DataDescription, fraction: float, seed: int, folder: Path) -> Path:
    """Describe a data set that trains on one part of the training split and validates on the other.

    The parts are lists of images in ``folder``; nothing is copied, and the data set itself is only read. The choice
    depends on the seed and the order of the file names alone. An image that is listed twice is in one part twice.

    Args:
        description: data set with the split ``train``.
        fraction: of its images that are held out, in (0, 1); at least one image, and not all.
        seed: of the choice.
        folder: takes ``train.txt``, ``val.txt`` and ``data.yaml``.

    Returns:
        the data YAML.

    Raises:
        UserError: no such split, or fewer than two images in it.
    """
    ensure_generated(description.generator)
    images = list_images(description, "train")
    different = sorted(set(images))
    if len(different) < 2:
        raise UserError(f"{description.file}: train: expected two images or more to hold some out, but found one")
    count = min(max(round(fraction * len(different)), 1), len(different) - 1)
    order = np.random.default_rng(seed).permutation(len(different))
    held_out = {different[index] for index in order[:count]}
    content = {
        "path": str(description.root),
        "train": _write_list(folder / "train.txt", [image for image in images if image not in held_out]),
        "val": _write_list(folder / "val.txt", [image for image in images if image in held_out]),
        "names": list(description.names),
        "format": description.format,
        "defaults": dict(description.defaults),
    }
    text = f"# Made of the training split of {description.file.name}: {fraction:g} of it held out, seed {seed}.\n"
    text += yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return _write(folder / "data.yaml", text)


def _write_list(path: Path, images: Sequence[str]) -> str:
    return str(_write(path, "".join(f"{image}\n" for image in images)).resolve())


def _write(path: Path, text: str) -> Path:
    try:
        write_atomically(path, lambda file: file.write(text.encode(errors="surrogateescape")))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path
