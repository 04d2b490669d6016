"""Detection sources: images, folders, glob patterns, list files, videos, cameras and streams."""

from __future__ import annotations

import difflib
import glob
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.datasets.image_files import IMAGE_SUFFIXES, read_image
from utils.errors import UserError
from utils.files import ROOT

Source: TypeAlias = str | Path | int | np.ndarray | Tensor | Image.Image

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".wmv")
STREAM_SCHEMES = ("rtsp://", "rtmp://", "http://", "https://", "tcp://", "udp://")
LIVE_FPS = 30.0  # of cameras that do not report theirs


class Frame(NamedTuple):
    """One image or video frame.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        path: file, stream address or camera number that it came from.
        number: position in a video or stream, from 0; None for a still image.
        fps: frames per second of the video, None for a still image.
    """

    image: np.ndarray
    path: str
    number: int | None = None
    fps: float | None = None


def frames_of(source: Source | Sequence[Source], vid_stride: int = 1) -> Iterator[Frame]:
    """Frames of any source; images in memory are named by their number.

    Args:
        source: what :func:`find_media` takes; a (H, W, 3) BGR or (H, W) grey uint8 array; a PIL image; a (3, H, W) or
            (B, 3, H, W) RGB tensor, uint8 or floating-point in [0, 1]; or a list of such.
        vid_stride: use every k-th frame of videos and streams.

    Raises:
        UserError: a path that does not exist, or an image of another form.
    """
    entries = source if isinstance(source, list | tuple) else [source]
    media = [find_media(entry) if isinstance(entry, str | Path | int) else None for entry in entries]
    num_in_memory = 0
    for entry, found in zip(entries, media, strict=True):
        if found is not None:
            yield from read_media(found, vid_stride)
            continue
        for image in _pixels(entry):
            yield Frame(image, f"image{num_in_memory}.jpg")
            num_in_memory += 1


def _pixels(picture: np.ndarray | Tensor | Image.Image) -> list[np.ndarray]:
    """Pictures in memory as (H, W, 3) uint8 BGR arrays."""
    if isinstance(picture, Tensor):
        return _tensor_pixels(picture)
    if not isinstance(picture, np.ndarray):
        if not isinstance(picture, Image.Image):
            kinds = "a path, camera number, numpy array, PIL image, tensor, or a list of them"
            raise UserError(f"source: expected {kinds} but got {type(picture).__name__}")
        return [np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[..., ::-1]]
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise UserError(f"source: expected a (H, W, 3) uint8 BGR array but got {picture.shape} {picture.dtype}")
    return [picture]


def _tensor_pixels(images: Tensor) -> list[np.ndarray]:
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[1] != 3 or not batch.numel():
        raise UserError(f"source: expected a (3, H, W) or (B, 3, H, W) RGB tensor but got {tuple(images.shape)}")
    if batch.is_floating_point():
        low, high = batch.aminmax()
        if not (low >= 0 and high <= 1):
            raise UserError(f"source: expected floating-point values in [0, 1] but got {low:g} to {high:g}")
        batch = (batch * 255).round()
    return list(np.ascontiguousarray(batch.to("cpu", torch.uint8).permute(0, 2, 3, 1).flip(-1).numpy()))


def find_media(source: str | Path | int) -> Sequence[str | Path | int]:
    """Resolve a source to files, stream addresses and camera numbers.

    Args:
        source: image or video file; folder (its images and videos, not those below); pattern with ``*``, ``?``, ``[``;
            ``.txt`` file with one of these per line (``./`` is relative to that file); camera number; stream address.
            What is not in the working folder is searched in the program's folder.

    Raises:
        UserError: nothing is there, or nothing that could be an image or a video.
    """
    text = str(source).strip()
    if text.lower().startswith(STREAM_SCHEMES):
        return [text]
    path = Path(text).expanduser()
    if not path.exists() and (ROOT / path).exists():
        path = ROOT / path
    if path.is_dir():
        found = _media_files(path.iterdir())
        if not found:
            raise UserError(f"{path}: expected images or videos in this folder but found none")
        return found
    if path.is_file():
        return _listed_media(path) if path.suffix.lower() == ".txt" else [_known_file(path)]
    if text.isdecimal():
        return [int(text)]
    if glob.has_magic(text):
        found = _media_files(Path(match) for match in glob.glob(str(path), recursive=True))
        if not found:
            raise UserError(f"{text}: expected images or videos but the pattern matches none")
        return found
    if text.split()[:1] == ["screen"]:
        raise UserError(f"{text}: the screen cannot be a source here; record it to a video file and take that")
    near = _nearest(path if path.parent.is_dir() else ROOT / path)
    raise UserError(f"{text}: expected an image, video, folder, pattern, list file or camera number. {near}")


def read_media(media: Iterable[str | Path | int], vid_stride: int = 1) -> Iterator[Frame]:
    """Frames of files and cameras in turn. What cannot be read is reported and skipped.

    Args:
        media: as :func:`find_media` returns them. Streams and cameras come last, together, a frame of each in turn.
        vid_stride: use every k-th frame of videos and streams.
    """
    live: list[str | Path | int] = []
    for item in media:
        if isinstance(item, int) or str(item).lower().startswith(STREAM_SCHEMES):
            live.append(item)
        elif Path(item).suffix.lower() in VIDEO_SUFFIXES:
            yield from _read_videos([item], vid_stride)
        elif (image := read_image(str(item))) is not None:
            yield Frame(image, str(item))
        else:
            log.warning("%s: cannot be read as an image, skipped", item)
    yield from _read_videos(live, vid_stride)


def _read_videos(sources: list[str | Path | int], vid_stride: int) -> Iterator[Frame]:
    """Frames of several videos or streams, one of each in turn until all have ended."""
    captures = {}
    try:
        for source in sources:
            capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
            if capture.isOpened():
                captures[str(source)] = capture
                capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a camera's newest frame, not the oldest unseen one
            else:
                log.warning("%s: cannot be opened as a %s, skipped", source, _kind(source))
        number = 0
        while captures:
            for name, capture in list(captures.items()):
                read, image = capture.read()
                if not read:
                    captures.pop(name).release()
                    if number == 0:
                        log.warning("%s: no readable frame, skipped", name)
                    continue
                yield Frame(image, name, number, capture.get(cv2.CAP_PROP_FPS) or LIVE_FPS)
                for _ in range(vid_stride - 1):
                    capture.grab()
            number += vid_stride
    finally:
        for capture in captures.values():
            capture.release()


def _kind(source: str | Path | int) -> str:
    return "camera" if isinstance(source, int) else "video" if isinstance(source, Path) else "stream"


def _media_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES and path.is_file())


def _known_file(path: Path) -> Path:
    if path.suffix.lower() not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES + VIDEO_SUFFIXES))
        raise UserError(f"{path}: expected an image or a video ({known}) or a .txt list but got {path.suffix!r}")
    return path


def _listed_media(list_file: Path) -> Sequence[str | Path | int]:
    found: list[str | Path | int] = []
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{list_file}: cannot be read as a list of sources: {error}") from None
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry:
            continue
        elsewhere = entry.isdecimal() or entry.lower().startswith(STREAM_SCHEMES) or (ROOT / entry).exists()
        if entry.startswith("./") or not (elsewhere or glob.glob(entry)):
            entry = str(list_file.parent / entry)
        if entry.lower().endswith(".txt"):
            log.warning("%s:%d: lists cannot be nested, skipped: %s", list_file, number, entry)
            continue
        try:
            found += find_media(entry)
        except UserError as error:
            log.warning("%s:%d: %s (skipped)", list_file, number, error)
    if not found:
        raise UserError(f"{list_file}: expected one source per line but none of them exists")
    return found


def _nearest(path: Path) -> str:
    """Explain a path: its first missing part, and what is there instead."""
    while not path.parent.is_dir() and path.parent != path:
        path = path.parent
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1, cutoff=0.5)
    return f"{path} does not exist." + (f" Did you mean {str(path.with_name(near[0]))!r}?" if near else "")
