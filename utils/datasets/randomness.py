"""Random numbers as a function of (seed, epoch, position), never of a worker, a process or what was drawn before.

Philox is a counter-based generator: its key names a stream and its 256-bit counter a place in it. The lower half of the
counter is left to the draws, the upper half holds epoch and position, so that no two samples ever share a number.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the numbers are for; streams of one seed are independent of each other."""

    SAMPLE = 0
    ORDER = 1
    SIZE = 2
    ANCHORS = 3
    SHAPES = 4


def keyed_rng(stream: Stream, seed: int, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """A generator that depends on its four arguments alone. Epoch and index are not negative."""
    key = np.array([seed % 2**64, int(stream)], dtype=np.uint64)
    counter = np.array([0, 0, epoch, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of every random choice about one sample in one epoch."""
    return keyed_rng(Stream.SAMPLE, seed, epoch, index)


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the samples in an epoch: a permutation (num_samples,) int64."""
    return keyed_rng(Stream.ORDER, seed, epoch).permutation(num_samples)


def multi_scale_size(image_size: int, stride: int, seed: int, epoch: int, batch: int) -> int:
    """The side of a batch's images with ``--multi-scale``: 0.5 to 1.5 times ``image_size``, in steps of ``stride``."""
    low, high = int(image_size * 0.5), int(image_size * 1.5) + stride
    return max(int(keyed_rng(Stream.SIZE, seed, epoch, batch).integers(low, high)) // stride, 1) * stride
