"""Sums of steps over all pairs of samples and thresholds, with gradients, without the pairs.

A step H measures how far a sample is above a threshold. Average precision needs the sums over the samples,

    S_i = sum_j w_j H(n_j - s_i),

for samples n_j (M,), their weights w_j and thresholds s_i (P,).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from utils.losses.ranking.control_points import Curve
from utils.losses.ranking.window import RampSums, Windows, accumulation_dtype

PAIRS_AT_A_TIME = 1 << 20  # a few MB, for the sigmoid, whose pairs are computed


class Ramp(NamedTuple):
    """A piece of a step: it rises by ``rise`` from ``start`` to ``start + width`` above the threshold."""

    start: float
    width: float
    rise: float


class Step(NamedTuple):
    """A step from 0 to 1: the sum of its ramps, each to the power 1 or 2."""

    ramps: tuple[Ramp, ...]
    power: int = 1


def step_of(curve: Curve) -> Step:
    """The step H(d) = curve(d / 2 + 1/2), from 0 at d = -1 to 1 at d = 1."""
    pieces = (
        Ramp(2 * x - 1, 2 * (next_x - x), next_y - y) for (x, y), (next_x, next_y) in pairwise(curve) if next_y > y
    )
    return Step(tuple(pieces))


def step_sums(
    samples: Tensor, weights: Tensor, thresholds: Tensor, *, step: Step, counting: Step
) -> tuple[Tensor, Tensor]:
    """Sums of one step, weighted, and of another, counted.

    Args:
        samples: (M,) n.
        weights: (M,) w >= 0.
        thresholds: (P,) s.
        step: of the first sums.
        counting: of the second; if it is the same object, the work is shared.

    Returns:
        two tensors (P,), float64 (float32 on MPS): the first sums, with gradients for all three tensors; the second,
        with w = 1, without. Memory is O(M + P), time O(M log P) for each ramp.
    """
    sums: tuple[Tensor, Tensor] = _StepSums.apply(samples, weights, thresholds, step, counting)
    return sums


def sigmoid_sums(samples: Tensor, weights: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`step_sums`, where both steps are the sigmoid: no finite window, hence O(M P) time, memory O(M + P)."""
    sums: tuple[Tensor, Tensor] = _SigmoidSums.apply(samples, weights, thresholds)
    return sums


class _PlacedStep:
    """A step at each threshold (P,), and samples (M,) among them. Each of its R ramps is P windows."""

    def __init__(self, step: Step, samples: Tensor, thresholds: Tensor) -> None:
        self.samples, self.power = samples.detach(), step.power
        thresholds = thresholds.detach().to(accumulation_dtype(thresholds.device))
        starts, widths, self.rises = thresholds.new_tensor(step.ramps).T[..., None]  # (R, 1) each
        low = thresholds + starts
        self.windows = Windows(low.flatten(), widths.expand_as(low).flatten())
        self.buckets = self.windows.locate(self.samples)

    def sums(self, weights: Tensor | None) -> RampSums:
        """Sums (P,) over the samples, weighted (M,), or counted for None, and their slopes as the samples rise."""
        sums = self.windows.sums(self.samples, weights, power=self.power, buckets=self.buckets)
        return RampSums(*((part.view(len(self.rises), -1) * self.rises).sum(dim=0) for part in sums))

    def spread(self, weights: Tensor, *, slope: bool) -> Tensor:
        """Sums (M,) over the thresholds, weighted (P,), of the step at each sample, or of its slope there."""
        weights = (weights * self.rises).flatten()
        return self.windows.spread(self.samples, weights, power=self.power, slope=slope, buckets=self.buckets)


class _StepSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, samples: Tensor, weights: Tensor, thresholds: Tensor, step: Step, counting: Step
    ) -> tuple[Tensor, Tensor]:
        placed = _PlacedStep(step, samples, thresholds)
        sums = placed.sums(weights)
        counted = (placed if counting is step else _PlacedStep(counting, samples, thresholds)).sums(None).value
        ctx.placed = placed
        ctx.save_for_backward(weights, sums.slope)
        ctx.mark_non_differentiable(counted)
        return sums.value, counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        weights, slope = ctx.saved_tensors
        grad_samples = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_samples = ctx.placed.spread(grad, slope=True).mul_(weights)
        if ctx.needs_input_grad[1]:
            grad_weights = ctx.placed.spread(grad, slope=False)
        return grad_samples, grad_weights, (-grad * slope).to(weights.dtype), None, None


class _SigmoidSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, weights: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros((2, len(thresholds)), dtype=accumulation_dtype(samples.device), device=samples.device)
        rows = torch.stack((weights, torch.ones_like(weights)))
        for part, step in _sigmoids(samples, thresholds):
            sums += rows[:, part] @ step
        weighted, counted = sums.unbind()
        ctx.save_for_backward(samples, weights, thresholds)
        ctx.mark_non_differentiable(counted)
        return weighted, counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        samples, weights, thresholds = ctx.saved_tensors
        grad_samples, grad_weights = torch.empty_like(samples), torch.empty_like(weights)
        slope = torch.zeros_like(grad)
        column = grad.to(samples.dtype)
        for part, step in _sigmoids(samples, thresholds):
            grad_weights[part] = step @ column
            steepness = step * (1 - step)
            grad_samples[part] = weights[part] * (steepness @ column)
            slope += weights[part] @ steepness
        return grad_samples, grad_weights, (-grad * slope).to(thresholds.dtype)


def _sigmoids(samples: Tensor, thresholds: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some samples at a time, and sigmoid(sample - threshold) (some, P)."""
    rows = max(PAIRS_AT_A_TIME // len(thresholds), 1)
    for start in range(0, len(samples), rows):
        part = slice(start, start + rows)
        yield part, (samples[part, None] - thresholds).sigmoid_()
