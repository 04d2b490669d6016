"""Decoded, resized images: from files, from memory, or from a folder of arrays."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from utils.datasets.cache_folder import cache_folder
from utils.datasets.image_files import read_image
from utils.datasets.letterbox import fit_size, resize_to_fit
from utils.files import write_atomically

LOGGER = logging.getLogger(__name__)
RECENT_BYTES = 64 * 2**20  # kept in each process: a small data set is decoded once, for a large one it matters little
MARGIN = 1.1  # of free space over the estimated need

CacheKind = Literal["ram", "disk"] | None


class PixelStore:
    """The images of a split, resized so that their longer side is the network's.

    Args:
        paths: n image files.
        sizes_hw: (n, 2) heights and widths.
        image_size: longer side after resizing, pixels.
        smooth: shrink by averaging areas, for validation; otherwise bilinearly.
        cache: ``"ram"`` reads all images now and keeps them, worker processes share them where they are forked;
            ``"disk"`` keeps them as arrays in the cache folder; both are left off, with a warning, where the space does
            not suffice, in memory for every training process on this machine. None keeps recent ones only.
        progress: show a bar where stderr is a terminal.
    """

    def __init__(
        self,
        paths: Sequence[str],
        sizes_hw: np.ndarray,
        image_size: int,
        *,
        smooth: bool,
        cache: CacheKind = None,
        progress: bool = True,
    ) -> None:
        self._paths, self._sizes_hw = paths, sizes_hw
        self._image_size, self._smooth = image_size, smooth
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._recent_bytes = 0
        self._reported: set[str] = set()
        self._all: list[np.ndarray | None] | None = None
        self._folder: Path | None = None
        if cache == "ram" and self._fits(_free_memory(), "memory"):
            self._all = self._read_all("images into memory", progress)
        elif cache == "disk" and self._fits(_free_disk(), "disk space"):
            self._folder = cache_folder() / "images"
            self._read_all("images onto disk", progress, keep=False)

    def __getitem__(self, index: int) -> np.ndarray | None:
        """Image ``index`` as (h, w, 3) uint8, BGR; None where it cannot be decoded. Never write into it."""
        if self._all is not None:
            return self._all[index]
        if index in self._recent:
            self._recent.move_to_end(index)
            return self._recent[index]
        image = self._read(index)
        if image is not None and self._folder is None:
            self._remember(index, image)
        return image

    def _remember(self, index: int, image: np.ndarray) -> None:
        self._recent[index] = image
        self._recent_bytes += image.nbytes
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= self._recent.popitem(last=False)[1].nbytes

    def _read(self, index: int) -> np.ndarray | None:
        file = self._array_file(index)
        if file is not None and file.exists():
            try:
                return np.load(file, allow_pickle=False)
            except (OSError, ValueError) as error:
                LOGGER.warning("the cached image %s is damaged and will be rebuilt: %s", file, error)
        image = read_image(self._paths[index])
        if image is None:
            self._report_unreadable(self._paths[index])
            return None
        image = resize_to_fit(image, self._image_size, smooth=self._smooth)
        if file is not None:
            try:
                write_atomically(file, lambda target: np.save(target, image, allow_pickle=False))
            except OSError as error:
                LOGGER.warning("images are not cached on disk: %s", error)
                self._folder = None
        return image

    def _report_unreadable(self, path: str) -> None:
        """Warn once: an image is asked for in every epoch, and repeatedly by mosaics."""
        if path not in self._reported:
            self._reported.add(path)
            LOGGER.warning("%s: the image cannot be decoded; a grey one takes its place", path)

    def _array_file(self, index: int) -> Path | None:
        """Where the array of an image belongs: named by file, its size and time, and the way it was resized."""
        folder, path = self._folder, self._paths[index]
        if folder is None:
            return None
        try:
            status = os.stat(path)
        except OSError:
            return None
        made_of = f"{path}\n{status.st_size} {status.st_mtime_ns} {self._image_size} {self._smooth}"
        return folder / f"{hashlib.sha256(made_of.encode(errors='surrogateescape')).hexdigest()[:32]}.npy"

    def _read_all(self, what: str, progress: bool, keep: bool = True) -> list[np.ndarray | None]:
        def read(index: int) -> np.ndarray | None:
            image = self._read(index)
            return image if keep else None

        with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
            images = pool.imap(read, range(len(self._paths)))
            total, quiet = len(self._paths), None if progress else True
            return list(tqdm(images, desc=f"reading {what}", total=total, disable=quiet, leave=False))

    def _fits(self, free: int, what: str) -> bool:
        areas = [math.prod(fit_size(height, width, self._image_size)) for height, width in self._sizes_hw.tolist()]
        needed = int(3 * sum(areas) * MARGIN)
        if needed > free:
            LOGGER.warning("images are not cached: %.1f GB of %s needed, %.1f GB free", needed / 1e9, what, free / 1e9)
        return needed <= free


def _free_memory() -> int:
    """Bytes that each training process here can take without swapping; 0 where the system does not tell."""
    processes = max(int(os.environ.get("LOCAL_WORLD_SIZE") or 1), 1)  # set by torchrun
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 // processes
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // processes
    except (OSError, ValueError, AttributeError):
        return 0


def _free_disk() -> int:
    """Bytes free where the cache folder is, or would be."""
    folder = cache_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
