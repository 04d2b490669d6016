"""Random numbers as a function of (seed, epoch, position), never of a worker, a process or what was drawn before.

Philox is a counter-based generator: its key names a stream and its 256-bit counter a place in it. Of the counter's four
words the lowest is left to the draws, the others hold the repetition of a position within its epoch, the epoch and the
position, so that no two samples ever share a number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np


class Stream(IntEnum):
    """What the numbers are for; streams of one seed are independent of each other."""

    SAMPLE = 0
    ORDER = 1
    SIZE = 2
    ANCHORS = 3
    SHAPES = 4
    WEIGHTED_ORDER = 5
    QUAD = 6
    SPLIT = 7


class SampleKey(NamedTuple):
    """Which sample of a data set; all its random choices follow from the seed and this.

    Attributes:
        epoch: from 0.
        position: in the data set.
        repeat: how often the position came before in the epoch.
    """

    epoch: int
    position: int
    repeat: int = 0


def keyed_rng(stream: Stream, seed: int, epoch: int = 0, index: int = 0, repeat: int = 0) -> np.random.Generator:
    """A generator that depends on its five arguments alone. Epoch, index and repeat are not negative."""
    key = np.array([seed % 2**64, int(stream)], dtype=np.uint64)
    counter = np.array([0, repeat, epoch, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def sample_rng(seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
    """The generator of every random choice about one sample in one epoch, or about its ``repeat``-th repetition."""
    return keyed_rng(Stream.SAMPLE, seed, epoch, index, repeat)


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the samples in an epoch: a permutation (num_samples,) int64."""
    return keyed_rng(Stream.ORDER, seed, epoch).permutation(num_samples)


def weighted_order(weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many samples as there are, (n,) int64, drawn with replacement in proportion to weights (n,), not all 0."""
    rng = keyed_rng(Stream.WEIGHTED_ORDER, seed, epoch)
    return rng.choice(len(weights), size=len(weights), p=weights / weights.sum())


def count_repeats(order: np.ndarray) -> np.ndarray:
    """For each entry of an order (n,) how many equal ones stand before it: (n,) int64."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    repeats = np.empty_like(order)
    repeats[by_value] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return repeats


def multi_scale_size(image_size: int, stride: int, seed: int, epoch: int, batch: int) -> int:
    """The side of a batch's images with ``--multi-scale``: 0.5 to 1.5 times ``image_size``, in steps of ``stride``."""
    low, high = int(image_size * 0.5), int(image_size * 1.5) + stride
    return max(int(keyed_rng(Stream.SIZE, seed, epoch, batch).integers(low, high)) // stride, 1) * stride
