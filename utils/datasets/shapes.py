"""The generated data set: when it is made, and where it lies. ``scenes.py`` draws its images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from utils.datasets.cache_folder import cache_folder
from utils.datasets.randomness import Stream, keyed_rng
from utils.datasets.scenes import FIGURES, draw_scene
from utils.errors import UserError, unknown_name

LOGGER = logging.getLogger(__name__)
GENERATOR_VERSION = 2  # of the pictures: another version is another folder
JPEG_QUALITY = 95


@dataclass(frozen=True)
class ShapesSettings:
    """The ``generator`` block of a data YAML.

    Attributes:
        classes: figures to draw, in the order of the class indices; the ``names`` of the data YAML.
        name: of the generator, ``"shapes"``.
        train, val, test: number of images of each split.
        seed: of everything that is drawn.
        smallest_side, largest_side: of the images, pixels.
    """

    classes: tuple[str, ...]
    name: str = "shapes"
    train: int = 400
    val: int = 100
    test: int = 0
    seed: int = 0
    smallest_side: int = 128
    largest_side: int = 224

    @classmethod
    def from_mapping(cls, mapping: Any, names: tuple[str, ...], where: str) -> ShapesSettings:
        """Check a ``generator`` block and the class names that go with it.

        Raises:
            UserError: an unknown key, generator or figure, or a number that makes no sense; names ``where``.
        """
        if not isinstance(mapping, Mapping):
            raise UserError(f"{where}: generator: expected a mapping with 'name' but got {mapping!r}")
        if mapping.get("name") != "shapes":
            raise unknown_name("generator", mapping.get("name"), ["shapes"], where)
        known = [entry.name for entry in dataclasses.fields(cls) if entry.name != "classes"]
        for key, value in mapping.items():
            if key not in known:
                raise unknown_name("key of the generator", key, known, where)
            if key != "name" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise UserError(f"{where}: generator: {key}: expected a whole number, 0 or more, but got {value!r}")
        for name in names:
            if name not in FIGURES:
                raise unknown_name("figure", name, FIGURES, where)
        settings = cls(classes=names, **mapping)
        if not 64 <= settings.smallest_side <= settings.largest_side:
            raise UserError(
                f"{where}: generator: expected 64 <= smallest_side <= largest_side but got {settings.smallest_side} "
                f"and {settings.largest_side}"
            )
        return settings


def generated_root(settings: ShapesSettings) -> Path:
    """The folder of the data set that these settings make; it need not exist yet."""
    text = json.dumps([GENERATOR_VERSION, dataclasses.asdict(settings)])
    return cache_folder() / "generated" / f"{settings.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def ensure_generated(settings: ShapesSettings | None) -> None:
    """Make the data set unless it is there already; several processes may try at once.

    Raises:
        UserError: the cache folder cannot be written.
    """
    if settings is None or generated_root(settings).is_dir():
        return
    root = generated_root(settings)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
        try:
            _generate(settings, draft)
            draft.rename(root)
        except OSError:
            if not root.is_dir():  # else another process was faster, with the same pictures
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the data set cannot be generated in {root.parent}: {error}. The folder is chosen by YOLO_CACHE_DIR"
        ) from None
    LOGGER.info("generated %d images in %s", settings.train + settings.val + settings.test, root)


def _generate(settings: ShapesSettings, root: Path) -> None:
    """Write ``images/<split>/<number>.jpg`` and ``labels/<split>/<number>.txt``."""
    jobs = []
    for stream, split in enumerate(("train", "val", "test")):
        for folder in (root / "images" / split, root / "labels" / split):
            folder.mkdir(parents=True)
        jobs += [(stream, split, number) for number in range(getattr(settings, split))]
    for stream, split, number in tqdm(jobs, desc="drawing shapes", disable=None, leave=False):
        rng = keyed_rng(Stream.SHAPES, settings.seed, stream, number)
        height, width = rng.integers(settings.smallest_side, settings.largest_side, 2, endpoint=True).tolist()
        scene = draw_scene(height, width, settings.classes, rng)
        encoded = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (root / "images" / split / f"{number:05d}.jpg").write_bytes(encoded.tobytes())
        low, high = scene.boxes[:, :2], scene.boxes[:, 2:]
        xywhn = np.concatenate(((low + high) / 2, high - low), axis=1) / ([width, height] * 2)
        np.savetxt(
            root / "labels" / split / f"{number:05d}.txt",
            np.column_stack((scene.classes, xywhn)),
            fmt="%d" + 4 * " %.6f",
        )
