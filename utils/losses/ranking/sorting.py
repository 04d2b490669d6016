"""Sums over the positives with a smaller IoU: divide and conquer over the order of the IoUs.

Positives are sorted by IoU and split into blocks of 2, 4, 8, ... neighbours. Each pair is separated by exactly one cut
of a block into halves. The lower half holds the samples, the upper half the windows, so one window sum per block size
(all blocks of a size at once) covers every pair. Small blocks are compared pair by pair. Time is O(P log^2 P), memory
O(P).

Equal IoUs on both sides of a cut do not count: such samples are left out for the windows with the same IoU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from utils.losses.ranking.window import Windows

BLOCK = 32  # neighbours that are compared pair by pair


class Halves(NamedTuple):
    """All blocks of one size, cut in the middle; R blocks of 2S positives in the order of their IoUs.

    Attributes:
        windows: around the upper half's scores.
        scores: (R, S) of the lower half.
        tied_low, tied_high: (R, S) members of the one IoU that stands on both sides.
    """

    windows: Windows
    scores: Tensor
    tied_low: Tensor
    tied_high: Tensor


class LowerQuality:
    """For each positive, sums over those with a smaller IoU, weighted by the step H.

    Args:
        scores: (P,) logits s.
        ious: (P,) any finite values; equal ones are not smaller.
        delta: half-width of the step H.
    """

    def __init__(self, scores: Tensor, ious: Tensor, delta: float) -> None:
        self.delta = delta
        self.num = len(scores)
        self.order = ious.argsort()
        self.num_blocks = 1 << max(-(-self.num // BLOCK) - 1, 0).bit_length()
        self.scores, self.ious = self._sorted(scores), self._sorted(ious)

    def sums(self, weights: Tensor) -> Tensor:
        """(K, P) for each positive i sum over IoU_k < IoU_i of w_k H(s_k - s_i), of K weights (K, P) at once."""
        weights = self._sorted(weights)
        num_weights = len(weights)
        blocks = weights.view(num_weights, -1, BLOCK).permute(1, 2, 0)
        totals = (self._pairs() @ blocks).permute(2, 0, 1).reshape(num_weights, -1)
        for half in self._levels():
            shape = (num_weights, -1, 2, half.scores.shape[1])
            samples = weights.view(shape)[:, :, 0]
            both = torch.cat((samples, samples.masked_fill(half.tied_low, 0)))
            every, untied = torch.split(half.windows.sums(half.scores, both).value, num_weights)
            totals.view(shape)[:, :, 1] += torch.where(half.tied_high, untied, every)
        return self._unsorted(totals)

    def spread(self, weights: Tensor) -> Tensor:
        """(P,) for each positive k sum over IoU_i > IoU_k of w_i H(s_k - s_i), of weights (P,)."""
        weights = self._sorted(weights)
        totals = (weights.view(-1, 1, BLOCK) @ self._pairs()).flatten()
        for half in self._levels():
            shape = (-1, 2, half.scores.shape[1])
            above, buckets = weights.view(shape)[:, 1], half.windows.locate(half.scores)
            every, untied = (
                half.windows.spread(half.scores, some, buckets=buckets)
                for some in (above, above.masked_fill(half.tied_high, 0))
            )
            totals.view(shape)[:, 0] += torch.where(half.tied_low, untied, every)
        return self._unsorted(totals)

    def _sorted(self, values: Tensor) -> Tensor:
        """(..., P) in the order of the IoUs, padded to full blocks with zeros, which add nothing."""
        return functional.pad(values[..., self.order], (0, self.num_blocks * BLOCK - self.num))

    def _unsorted(self, values: Tensor) -> Tensor:
        return torch.empty_like(values[..., : self.num]).index_copy_(-1, self.order, values[..., : self.num])

    def _pairs(self) -> Tensor:
        """(R, BLOCK i, BLOCK k) H(s_k - s_i) where IoU_k < IoU_i, else 0, within each smallest block."""
        scores, ious = self.scores.view(-1, BLOCK), self.ious.view(-1, BLOCK)
        step = ((scores[:, None, :] - scores[:, :, None]) / (2 * self.delta) + 0.5).clamp(0, 1)
        return step.masked_fill_(ious[:, None, :] >= ious[:, :, None], 0)

    def _levels(self) -> Iterator[Halves]:
        size = BLOCK
        while size < len(self.scores):
            low_scores, high_scores = self.scores.view(-1, 2, size).unbind(dim=1)
            low_ious, high_ious = self.ious.view(-1, 2, size).unbind(dim=1)
            windows = Windows(high_scores - self.delta, 2 * self.delta)
            yield Halves(windows, low_scores, low_ious == high_ious[:, :1], high_ious == low_ious[:, -1:])
            size *= 2
