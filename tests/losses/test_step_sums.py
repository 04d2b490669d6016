"""Sums of steps against the matrix of all pairs, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import case
from utils.losses.ranking import step_sums
from utils.losses.ranking.step_sums import Ramp, Step, sigmoid_sums, step_of

BENT = step_of(((0, 0), (0.3, 0.05), (0.35, 0.6), (0.8, 0.6), (1, 1)))  # slow, steep, flat, slow
STEPS = {
    "linear": Step((Ramp(-1.0, 2.0, 1.0),)),
    "square": Step((Ramp(-1.0, 2.0, 1.0),), power=2),
    "bent": BENT,
    "squares": Step((Ramp(-1.0, 0.5, 0.3), Ramp(-0.5, 1.5, 0.7)), power=2),
}


def scene(num_samples: int, num_thresholds: int, deviation: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, weights, thresholds, double precision, with gradients to come."""
    generator = torch.Generator().manual_seed(num_samples)
    samples, weights, thresholds = (
        torch.randn(count, dtype=torch.float64, generator=generator)
        for count in (num_samples, num_samples, num_thresholds)
    )
    return tuple(t.requires_grad_() for t in (deviation * samples, weights.abs(), deviation * thresholds))


def heights(step: Step | None, samples: Tensor, thresholds: Tensor) -> Tensor:
    """(M, P) how far each sample is up each step; None is the sigmoid."""
    above = samples[:, None] - thresholds
    if step is None:
        return above.sigmoid()
    return sum(rise * ((above - start) / width).clamp(0, 1) ** step.power for start, width, rise in step.ramps)


def compare(found: Tensor, expected: Tensor, leaves: tuple[Tensor, ...]) -> None:
    """Values, and the gradients of a weighted sum of them."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    factors = torch.linspace(0.2, 1.7, len(found), dtype=torch.float64)
    for mine, theirs in zip(
        *(torch.autograd.grad((v * factors).sum(), leaves) for v in (found, expected)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", STEPS)
def test_steps_match_the_matrix(name: str) -> None:
    for counting in STEPS:
        for sizes in ((300, 40, 2.0), (1, 1, 0.1), (200, 30, 1e4)):
            with case(counting, *sizes):
                match_the_matrix(name, counting, *sizes)


def match_the_matrix(name: str, counting: str, num_samples: int, num_thresholds: int, deviation: float) -> None:
    leaves = samples, weights, thresholds = scene(num_samples, num_thresholds, deviation)
    weighted, counted = step_sums.step_sums(*leaves, step=STEPS[name], counting=STEPS[counting])
    assert not counted.requires_grad
    torch.testing.assert_close(
        counted, heights(STEPS[counting], samples, thresholds).sum(dim=0), rtol=1e-10, atol=1e-10
    )
    compare(weighted, weights @ heights(STEPS[name], samples, thresholds), leaves)


@pytest.mark.parametrize("pairs", [1, 100, 1 << 20])
def test_sigmoids_match_the_matrix_in_blocks_of_any_size(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_sums, "PAIRS_AT_A_TIME", pairs)
    leaves = samples, weights, thresholds = scene(50, 7)
    weighted, counted = sigmoid_sums(*leaves)
    assert not counted.requires_grad
    torch.testing.assert_close(counted, heights(None, samples, thresholds).sum(dim=0))
    compare(weighted, weights @ heights(None, samples, thresholds), leaves)


@pytest.mark.parametrize("name", [*STEPS, "sigmoid"])
def test_gradient(name: str) -> None:
    def weighted(*leaves: Tensor) -> Tensor:
        if name == "sigmoid":
            return sigmoid_sums(*leaves)[0]
        return step_sums.step_sums(*leaves, step=STEPS[name], counting=BENT)[0]

    assert torch.autograd.gradcheck(weighted, scene(25, 6))


def test_a_curve_becomes_its_step() -> None:
    """Half of the curve's axis is one unit of score; flat pieces need no ramp."""
    step = step_of(((0, 0), (0.25, 0.5), (0.5, 0.5), (1, 1)))
    assert step == Step((Ramp(-1.0, 0.5, 0.5), Ramp(0.0, 1.0, 0.5)))
