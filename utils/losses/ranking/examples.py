"""Examples of a ranking loss: positives (of all processes on request) and this process's relevant negatives."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils import distributed
from utils.losses.ranking.window import Windows, accumulation_dtype
from utils.parameters import Number

DELTA = Number(0.5, low=0, above=True)  # half-width of the ranking step in logits, where a detector trains


class Examples(NamedTuple):
    """Positives and negatives of N logits: P positives in total, M negatives of this process.

    A negative is relevant if it is not below every window: logit >= min(positive) - delta. Others change no
    loss and get no gradient.

    Attributes:
        windows: [s_i - delta, s_i + delta) around the P positives.
        own: range of this process's positives among the P.
        places: their indices among the N logits.
        is_negative: (N,) bool, the relevant negatives.
        negatives: (M,) their logits.
        buckets: (M,) int32, as ``Windows.locate`` returns them.
    """

    windows: Windows
    own: slice
    places: Tensor
    is_negative: Tensor
    negatives: Tensor
    buckets: Tensor

    def save(self, ctx: Any, *weights: Tensor) -> None:
        """Store the examples and the weights of their gradients for the backward pass."""
        ctx.windows, ctx.own = self.windows, self.own
        ctx.save_for_backward(*self[2:], *weights)

    @staticmethod
    def restore(ctx: Any) -> tuple[Examples, tuple[Tensor, ...]]:
        """Examples and weights stored by :meth:`save`."""
        tensors = ctx.saved_tensors
        return Examples(ctx.windows, ctx.own, *tensors[:4]), tensors[4:]

    def gradient(self, positives: Tensor, weights: Tensor) -> Tensor:
        """Gradient of the N own logits.

        Args:
            positives: (P,) gradients of all positives.
            weights: (P,) w: the negative n gets sum_i w_i H(n - s_i).

        Returns:
            (N,) in the type of the logits; 0 for all other entries.
        """
        gradient = torch.zeros(self.is_negative.shape, dtype=self.negatives.dtype, device=self.negatives.device)
        gradient.masked_scatter_(self.is_negative, self.windows.spread(self.negatives, weights, buckets=self.buckets))
        return gradient.index_copy_(0, self.places, positives[self.own].to(gradient.dtype))


class Ranking(NamedTuple):
    """The positives against the negatives of all processes; all (P,) in float64 (float32 on MPS).

    Attributes:
        scores: s, logits of the positives.
        quality: values passed with the positives: IoUs or localisation errors.
        false_positives: FP_i = sum over the negatives of H(n_j - s_i).
    """

    scores: Tensor
    quality: Tensor
    false_positives: Tensor


def check_inputs(logits: Tensor, labels: Tensor, delta: float, name: str) -> None:
    """Check logits (N,), labels (N,) and delta.

    Raises:
        ValueError: shapes other than (N,) twice; a delta that is not above 0.
    """
    if logits.dim() != 1 or not logits.is_floating_point():
        raise ValueError(f"Expected float logits of shape (N,) but got {logits.dtype} of shape {tuple(logits.shape)}")
    if labels.shape != logits.shape:
        raise ValueError(f"Expected {name} of shape {tuple(logits.shape)}, as logits, but got {tuple(labels.shape)}")
    if not delta > 0:
        raise ValueError(f"Expected delta above 0 but got {delta}")


def rank_examples(
    logits: Tensor, labels: Tensor, index: Tensor, quality: Tensor, delta: float, global_rank: bool
) -> tuple[Examples, Ranking]:
    """Find positives and relevant negatives, and sum the false positives of each positive.

    Args:
        logits: (N,).
        labels: (N,) 0 marks the negatives.
        index: (own P,) places of the own positives.
        quality: (own P,) a number that belongs to each of them.
        delta: half-width of the step H(x) = clamp(x / (2 delta) + 0.5, 0, 1).
        global_rank: rank the positives of all processes against the negatives of all.
    """
    dtype = accumulation_dtype(logits.device)
    columns = torch.stack((logits[index].to(dtype), quality.to(dtype)), dim=1)
    own = slice(0, len(index))
    if global_rank:
        parts = distributed.all_gather_rows(columns)
        first = sum(len(part) for part in parts[: distributed.rank()])
        columns, own = torch.cat(parts), slice(first, first + len(index))
    scores, quality = columns.T.contiguous()
    windows = Windows(scores - delta, 2 * delta)
    lowest = scores.min() - delta if len(scores) else torch.inf
    # not ">= lowest": NaN logits must stay, they are detected below
    is_negative = (labels == 0) & ~(logits < lowest)
    negatives = logits[is_negative]
    buckets = windows.locate(negatives)
    false_positives = windows.sums(negatives, buckets=buckets).value
    # searchsorted gives NaN a place, so it would pass unnoticed
    broken = (negatives.sum() + scores.sum()).isnan()
    false_positives = torch.where(broken, torch.nan, false_positives)
    if global_rank:
        false_positives = distributed.all_reduce_sum(false_positives)
    examples = Examples(windows, own, index, is_negative, negatives, buckets)
    return examples, Ranking(scores, quality, false_positives)
