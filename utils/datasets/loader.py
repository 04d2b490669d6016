"""Batches: the same ones for any number of worker processes, and shared out among any number of training processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from utils.datasets.dataset import DetectionDataset
from utils.datasets.randomness import epoch_order
from utils.errors import UserError
from utils.structures import Batch, Sample

LOGGER = logging.getLogger(__name__)


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of one shape together.

    Returns:
        Batch: ``images`` is a (B, 3, H, W) view of channels-last memory, as convolutions like it best.
    """
    images = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2)
    counts = [len(sample.labels) for sample in samples]
    image = np.repeat(np.arange(len(samples), dtype=np.float32), counts)[:, None]
    targets = np.concatenate((image, np.concatenate([sample.labels for sample in samples])), axis=1)
    return Batch(
        images,
        torch.from_numpy(targets),
        tuple(sample.path for sample in samples),
        tuple(sample.geometry for sample in samples),
        tuple(sample.index for sample in samples),
    )


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of an epoch as lists of (epoch, index), or one process's part of them.

    Process r takes the r-th contiguous part of every global batch, so that all parts together are the batch of a single
    process. A last, smaller batch is kept; while training, images from the epoch's beginning fill it up until every
    process has one, while validating a process without an image skips it.

    Args:
        num_samples: n.
        batch_size: of all processes together.
        shuffle: another order in each epoch.
        fill: give every process a part of every batch, for training.
        seed: of the order.
        rank, world_size: this process and how many there are.
    """

    def __init__(
        self, num_samples: int, batch_size: int, *, shuffle: bool, fill: bool, seed: int, rank: int, world_size: int
    ) -> None:
        self.num_samples, self.batch_size, self.shuffle, self.seed = num_samples, batch_size, shuffle, seed
        self.fill, self.rank, self.world_size = fill, rank, world_size
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > 0 and (self.fill or rest > self.rank))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = epoch_order(self.num_samples, self.seed, self.epoch)
        for first in range(self.first_batch * self.batch_size, self.num_samples, self.batch_size):
            batch = order[first : first + self.batch_size]
            if self.fill and len(batch) < self.world_size:
                batch = np.concatenate((batch, np.resize(order, self.world_size - len(batch))))
            part = np.array_split(batch, self.world_size)[self.rank].tolist()
            if part:
                yield [(self.epoch, index) for index in part]


class Loader(DataLoader):
    """A ``DataLoader`` of :class:`Batch` that knows its epoch. ``len`` is the number of batches of a whole epoch."""

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the order and the augmentations of the next pass, and how many batches of it to skip."""
        self.batch_sampler.epoch, self.batch_sampler.first_batch = epoch, first_batch


def build_loader(
    dataset: DetectionDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
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
        workers: most processes that prepare batches, 0 for none; never more than cores or batches.
        seed: of the order.
        rank, world_size: this training process and how many there are.
        pin_memory: for a faster way to a GPU.

    Raises:
        UserError: a batch size that is not positive or that the processes cannot share evenly.
    """
    if batch_size < 1 or batch_size % world_size:
        raise UserError(f"batch size: expected a positive multiple of the {world_size} processes but got {batch_size}")
    if dataset.rect:
        if batch_size != dataset.batch_size:
            raise ValueError(f"the data set's shapes are for batches of {dataset.batch_size}, not of {batch_size}")
        if shuffle:
            LOGGER.warning("rectangular batches are not shuffled: each holds images of like aspect ratio")
    batches = EpochBatches(
        len(dataset),
        batch_size,
        shuffle=shuffle and not dataset.rect,
        fill=shuffle or dataset.augment,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    workers = min(workers, os.cpu_count() or 1, len(batches))
    return Loader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_init_worker,
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # its own: the loader must not draw from the global one
    )


def _init_worker(_: int) -> None:
    """One thread a worker: more would only fight over the cores."""
    cv2.setNumThreads(0)
