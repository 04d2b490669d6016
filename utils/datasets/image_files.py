"""Checking and reading image files, and lists of them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from utils.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".pfm", ".png", ".tif", ".tiff", ".webp")
SMALLEST_SIDE = 10  # pixels
ORIENTATION = ExifTags.Base.Orientation
END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


def read_lines(file: Path) -> list[str]:
    """Lines of a list file, without blanks around them and without empty ones.

    Raises:
        UserError: it is no text file.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: expected a text file with one image per line, but it cannot be read: {error}"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def list_source(source: Path, root: Path) -> list[str]:
    """Images of a folder and all below it, or of a text file with one image per line.

    Lines are relative to the list, or to the root of the data set.

    Raises:
        UserError: a list that is no text file.
    """
    if source.is_dir():
        files = (os.path.join(folder, name) for folder, _, names in os.walk(source, followlinks=True) for name in names)
        return [file for file in files if file.lower().endswith(IMAGE_SUFFIXES)]
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return [str(source)]
    images = []
    for line in read_lines(source):
        if not line.lower().endswith(IMAGE_SUFFIXES):
            continue
        below_list, below_root = source.parent / line, root / line
        use_root = not line.startswith("./") and not below_list.exists() and below_root.exists()
        images.append(os.path.normpath(below_root if use_root else below_list))
    return images


def check_image(path: str) -> tuple[int, int]:
    """Height and width as decoded, that is after the rotation that EXIF asks for.

    Raises:
        ValueError: missing, unreadable, truncated, or with a side below 10 pixels; the message says which.
    """
    try:
        with Image.open(path) as image:
            (width, height), kind = image.size, image.format
            # a PNG without this entry would be decoded to look for one
            turned = (kind != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            image.verify()
        if kind in END_MARKERS and not _ends_with(path, END_MARKERS[kind]):
            with Image.open(path) as image:
                image.load()  # bytes after the end are harmless, a missing end is not: decoding tells
    except FileNotFoundError:
        raise ValueError("there is no such image") from None
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise ValueError(f"the image cannot be read: {error}") from None
    if turned and kind in ("JPEG", "MPO"):
        width, height = height, width
    elif turned:  # for other formats, whether the size above or the decoder honours the tag varies with the version
        decoded = read_image(path)
        if decoded is None:
            raise ValueError("the image cannot be decoded")
        height, width = decoded.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"expected an image of at least {SMALLEST_SIDE} pixels a side but it has {width} x {height}")
    return height, width


def _ends_with(path: str, marker: bytes) -> bool:
    with open(path, "rb") as file:
        file.seek(-len(marker), os.SEEK_END)
        return file.read() == marker


def read_image(path: str) -> np.ndarray | None:
    """Decode an image, rotated as EXIF asks for.

    Returns:
        (h, w, 3) uint8, BGR, or None where it cannot be read.
    """
    try:
        encoded = np.fromfile(path, np.uint8)  # not cv2.imread: it cannot open every file name on Windows
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
