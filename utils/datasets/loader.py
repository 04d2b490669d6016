"""Batches: the same ones for any number of worker processes, and shared out among any number of training processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from utils.datasets.dataset import DetectionDataset
from utils.datasets.image_weights import image_weights
from utils.datasets.objects import NO_REGIONS
from utils.datasets.quad import QUAD, QuadDataset
from utils.datasets.randomness import SampleKey, count_repeats, epoch_order, weighted_order
from utils.errors import UserError
from utils.structures import Batch, Sample

LOGGER = logging.getLogger(__name__)


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of one shape together.

    Returns:
        Batch: ``images`` is a (B, 3, H, W) view of channels-last memory, as convolutions like it best.
    """
    images = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2)
    regions = [NO_REGIONS if sample.regions is None else sample.regions for sample in samples]
    return Batch(
        images,
        _numbered([sample.labels for sample in samples]),
        tuple(sample.path for sample in samples),
        tuple(sample.geometry for sample in samples),
        tuple(sample.position for sample in samples),
        _numbered(regions) if any(map(len, regions)) else None,
    )


def _numbered(rows: Sequence[np.ndarray]) -> torch.Tensor:
    """Rows of all images, each with the position of its image in front."""
    image = np.repeat(np.arange(len(rows), dtype=np.float32), [len(part) for part in rows])[:, None]
    return torch.from_numpy(np.concatenate((image, np.concatenate(rows)), axis=1))


Quad = list[SampleKey]  # four


class EpochBatches(Sampler[list[SampleKey] | list[Quad]]):
    """The batches of an epoch as lists of keys of samples, or one process's part of them.

    Process r takes the r-th contiguous part of every global batch, so that all parts together are the batch of a single
    process. A last, smaller batch is kept; while training, images from the epoch's beginning fill it up until every
    process has one, while validating a process without an image skips it.

    Args:
        num_samples: n.
        batch_size: of all processes together.
        shuffle: another order in each epoch.
        fill: give every process a part of every batch, for training.
        quad: group the keys by four, and share out the groups. The last group repeats its own images if it has fewer.
        seed: of the order.
        rank, world_size: this process and how many there are.

    Attributes:
        weights: (n,) draw the images of an epoch with replacement, in proportion to these; None takes each once.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        shuffle: bool,
        fill: bool,
        quad: bool,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.num_samples, self.shuffle, self.fill, self.quad, self.seed = num_samples, shuffle, fill, quad, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_batch = 0, 0
        self.weights: np.ndarray | None = None
        self._per_item = QUAD if quad else 1
        self._batch_items, self._num_items = batch_size // self._per_item, -(-num_samples // self._per_item)

    def __len__(self) -> int:
        full, rest = divmod(self._num_items, self._batch_items)
        return full + (rest > 0 and (self.fill or rest > self.rank))

    def __iter__(self) -> Iterator[list[SampleKey] | list[Quad]]:
        items = self._items()
        for first in range(self.first_batch * self._batch_items, self._num_items, self._batch_items):
            batch = items[first : first + self._batch_items]
            if self.fill and len(batch) < self.world_size:
                batch = np.concatenate((batch, items[np.arange(self.world_size - len(batch)) % len(items)]))
            part = np.array_split(batch, self.world_size)[self.rank].tolist()
            if part:
                items_of_keys = [[SampleKey(self.epoch, *key) for key in item] for item in part]
                yield items_of_keys if self.quad else [key for (key,) in items_of_keys]

    def _items(self) -> np.ndarray:
        """Index and repetition of each sample of the epoch in order, by groups: (items, 1 or 4, 2)."""
        order = np.arange(self.num_samples)
        if self.weights is not None:
            order = weighted_order(self.weights, self.seed, self.epoch)
        elif self.shuffle:
            order = epoch_order(self.num_samples, self.seed, self.epoch)
        if spare := -len(order) % self._per_item:
            order = np.concatenate((order, np.resize(order[spare - self._per_item :], spare)))
        return np.stack((order, count_repeats(order)), axis=1).reshape(-1, self._per_item, 2)


class Loader(DataLoader[Any]):
    """A ``DataLoader`` of :class:`Batch` that knows its epoch. ``len`` is the number of batches of a whole epoch.

    Args:
        images: the split.
        batches: which of them make a batch.
        workers: processes that prepare batches, 0 for none.
        pin_memory: for a faster way to a GPU.

    Attributes:
        images: the split, also where batches hold quads of its images.
    """

    def __init__(self, images: DetectionDataset, batches: EpochBatches, *, workers: int, pin_memory: bool) -> None:
        super().__init__(
            QuadDataset(images) if batches.quad else images,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_init_worker,
            persistent_workers=workers > 0,
            prefetch_factor=2 if workers else None,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its own: the loader must not draw from the global one
        )
        self.images, self._batches = images, batches

    @property
    def enlargement(self) -> int:
        """Side of its images in units of the data set's: 2 for quads, else 1. Its square is the images behind each."""
        return 2 if self._batches.quad else 1

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the order and the augmentations of the next pass, and how many batches of it to skip."""
        self._batches.epoch, self._batches.first_batch = epoch, first_batch

    def weigh_images(self, class_ap: Sequence[float]) -> None:
        """In the next passes draw images, and their partners in mosaics, with replacement by :func:`image_weights`.

        Args:
            class_ap: C values in [0, 1], the AP of each class at the last validation, 0 before it.
        """
        weights = image_weights(self.images.labels, class_ap)
        self._batches.weights = weights
        self.images.set_weights(weights)


def build_loader(
    dataset: DetectionDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    quad: bool = False,
    workers: int = 2,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Loader:
    """Make the loader of a data set.

    Args:
        dataset: the split.
        batch_size: images a batch, of all training processes together.
        shuffle: another order in each epoch; off with a warning for a rectangular data set.
        quad: make one image of twice the size of each four, see :class:`QuadDataset`; a quarter as many a batch.
        workers: most processes that prepare batches, 0 for none; never more than cores or batches.
        seed: of the order.
        rank, world_size: this training process and how many there are.
        pin_memory: for a faster way to a GPU.

    Raises:
        UserError: a batch size that is not positive or that the processes cannot share evenly, by fours with ``quad``.
    """
    check_batch_size("batch size", batch_size, world_size, quad)
    if dataset.rect:
        if batch_size != dataset.batch_size:
            raise ValueError(f"the data set's shapes are for batches of {dataset.batch_size}, not of {batch_size}")
        if shuffle:
            LOGGER.warning("rectangular batches are not shuffled: each holds images of similar aspect ratio")
    batches = EpochBatches(
        len(dataset),
        batch_size,
        shuffle=shuffle and not dataset.rect,
        fill=shuffle or dataset.augment,
        quad=quad,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    workers = min(workers, os.cpu_count() or 1, len(batches))
    return Loader(dataset, batches, workers=workers, pin_memory=pin_memory)


def check_batch_size(name: str, batch_size: int, world_size: int, quad: bool) -> None:
    """Raise a UserError that calls the batch size by ``name`` unless the processes can share it evenly."""
    share = world_size * (QUAD if quad else 1)
    if batch_size < 1 or batch_size % share:
        fours = " times 4 images" if quad else ""
        raise UserError(
            f"{name}: expected a positive multiple of the {world_size} processes{fours} but got {batch_size}"
        )


def _init_worker(_: int) -> None:
    """One thread a worker: more would only fight over the cores."""
    cv2.setNumThreads(0)
