"""Window sums against the matrix of all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import case
from utils.losses.ranking import window
from utils.losses.ranking.window import Windows

SCENES = {  # leading dimensions, samples, windows, width, spread of the scores
    "plain": ((), 500, 40, 1.0, 3.0),
    "wide": ((), 300, 20, 7.5, 2.0),
    "far apart": ((), 400, 60, 1.0, 1e4),
    "rows": ((2, 3), 30, 11, 2.0, 2.0),
    "one window": ((), 50, 1, 1.0, 1.0),
    "one sample": ((), 1, 7, 1.0, 1.0),
    "no sample": ((), 0, 7, 1.0, 1.0),
    "no window": ((), 9, 0, 1.0, 1.0),
}


def scene(name: str, ties: bool = False) -> tuple[Tensor, Tensor, float, torch.Generator]:
    """Lower edges (..., P), samples (..., M), the width."""
    lead, num_samples, num_windows, width, deviation = SCENES[name]
    generator = torch.Generator().manual_seed(len(name))
    low = deviation * torch.randn(*lead, num_windows, dtype=torch.float64, generator=generator)
    values = deviation * torch.randn(*lead, num_samples, dtype=torch.float64, generator=generator)
    if ties:  # samples on the edges, edges on each other
        low, values = (2 * low).round() / 2, (2 * values).round() / 2
    return low, values, width, generator


def dense(low: Tensor, values: Tensor, width: float, power: int) -> tuple[Tensor, Tensor]:
    """(..., P, M) ramps to a power, and their slopes with respect to the samples."""
    ramp = ((values[..., None, :] - low[..., None]) / width).clamp(0, 1)
    inside = (values[..., None, :] >= low[..., None]) & (values[..., None, :] < low[..., None] + width)
    return ramp**power, torch.where(inside, power * ramp ** (power - 1) / width, 0)


@pytest.mark.parametrize("name", SCENES)
def test_sums_and_spread_match_the_matrix(name: str) -> None:
    for power in (1, 2):
        for ties in (False, True):
            with case(power, ties):
                match_the_matrix(name, power, ties)


def match_the_matrix(name: str, power: int, ties: bool) -> None:
    low, values, width, generator = scene(name, ties)
    ramps, slopes = dense(low, values, width, power)
    by_sample = torch.randn(values.shape, dtype=torch.float64, generator=generator)
    by_window = torch.randn(low.shape, dtype=torch.float64, generator=generator)
    windows = Windows(low, width)
    buckets = windows.locate(values)
    close = {"rtol": 1e-11, "atol": 1e-11}
    counts, sums = windows.sums(values, power=power), windows.sums(values, by_sample, power=power, buckets=buckets)
    torch.testing.assert_close(counts.value, ramps.sum(dim=-1), **close)
    torch.testing.assert_close(counts.slope, slopes.sum(dim=-1), **close)
    torch.testing.assert_close(sums.value, (ramps * by_sample[..., None, :]).sum(dim=-1), **close)
    torch.testing.assert_close(sums.slope, (slopes * by_sample[..., None, :]).sum(dim=-1), **close)
    spread = windows.spread(values, by_window, power=power)
    risen = windows.spread(values, by_window, power=power, slope=True, buckets=buckets)
    torch.testing.assert_close(spread, (ramps * by_window[..., None]).sum(dim=-2), **close)
    torch.testing.assert_close(risen, (slopes * by_window[..., None]).sum(dim=-2), **close)


def test_several_weights_at_once() -> None:
    low, values, width, generator = scene("rows")
    weights = torch.randn(4, *values.shape, dtype=torch.float64, generator=generator)
    windows = Windows(low, width)
    together = windows.sums(values, weights, power=2)
    for i in range(4):
        alone = windows.sums(values, weights[i], power=2)
        torch.testing.assert_close(together.value[i], alone.value)
        torch.testing.assert_close(together.slope[i], alone.slope)


@pytest.mark.parametrize("name", ["plain", "rows"])
def test_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    low, values, width, generator = scene(name)
    weights = torch.randn(low.shape, dtype=torch.float64, generator=generator)

    def everything() -> list[Tensor]:
        windows = Windows(low, width)
        return [windows.locate(values), *windows.sums(values, power=2), windows.spread(values, weights)]

    whole = everything()
    monkeypatch.setattr(window, "CHUNK", 7)
    for one, many in zip(whole, everything(), strict=True):
        torch.testing.assert_close(one, many)


def test_few_samples_far_above_many_keep_their_digits() -> None:
    """A positive near the top has a small sum beside samples without number: nothing large may be subtracted."""
    for offset in (0.0, 1e4, -1e4):
        values = torch.linspace(-8, 4, 1_000_000, dtype=torch.float64) + offset
        low = torch.tensor([-8.5, 3.75, 3.999999], dtype=torch.float64) + offset
        expected = dense(low, values, 1.0, 1)[0].sum(dim=-1)
        with case(offset):
            torch.testing.assert_close(Windows(low, 1.0).sums(values).value, expected, rtol=1e-11, atol=0)
            untouched = Windows(low + 1, 1.0).sums(values).value
            assert untouched[0] > 9e5 and untouched[1] == untouched[2] == 0


def test_samples_beyond_all_numbers_lie_above_every_window() -> None:
    low = torch.tensor([0.0, 5.0, -3.0, 1.5, 1.5], dtype=torch.float64)
    values = torch.tensor([torch.inf, -torch.inf, 1e300, -1e300], dtype=torch.float64)
    windows = Windows(low, 1.0)
    assert windows.locate(values).tolist() == [10, 0, 10, 0]
    assert windows.sums(values).value.tolist() == [2.0] * 5


def test_types_and_gradients() -> None:
    low, values, width, _ = scene("plain")
    windows = Windows(low.float().requires_grad_(), width)
    sums = windows.sums(values.half().requires_grad_())
    assert sums.value.dtype == torch.float64 and not sums.value.requires_grad
    assert windows.spread(values.float(), low).dtype == torch.float32
    assert windows.spread(values.float(), low, dtype=torch.float64).dtype == torch.float64


def test_wrong_arguments() -> None:
    low, values, _, _ = scene("plain")
    with pytest.raises(ValueError, match="Expected windows of a width above 0 but got 0"):
        Windows(low, 0)
    with pytest.raises(ValueError, match="Expected power 1 or 2 but got 3"):
        Windows(low, 1.0).sums(values, power=3)
    with pytest.raises(ValueError, match="Expected power 1 or 2 but got 0"):
        Windows(low, 1.0).spread(values, low, power=0)
