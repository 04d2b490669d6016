"""Sums over the positives with a smaller IoU, against the matrix of all pairs."""

from __future__ import annotations

import pytest
import torch

from tests.cases import case
from utils.losses.ranking.sorting import BLOCK, LowerQuality


@pytest.mark.parametrize("kind", ["all different", "many equal", "all equal", "few equal"])
def test_sums_and_spread_match_the_matrix(kind: str) -> None:
    for num in (0, 1, 2, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 7, 700):
        for deviation in (0.1, 2.0, 1e4):
            with case(num, deviation):
                match_the_matrix(num, kind, deviation)


def match_the_matrix(num: int, kind: str, deviation: float) -> None:
    generator = torch.Generator().manual_seed(num)
    scores = deviation * torch.randn(num, dtype=torch.float64, generator=generator)
    ious = torch.rand(num, dtype=torch.float64, generator=generator)
    if kind == "many equal":
        ious = (7 * ious).round() / 7
    elif kind == "few equal":
        ious = (num * ious).round() / max(num, 1)
    elif kind == "all equal":
        ious = torch.full_like(ious, 1e-6)
    weights = torch.randn(3, num, dtype=torch.float64, generator=generator)
    step = ((scores[None, :] - scores[:, None]) / 1.2 + 0.5).clamp(0, 1)
    step[ious[None, :] >= ious[:, None]] = 0
    lower = LowerQuality(scores, ious, 0.6)
    torch.testing.assert_close(lower.sums(weights), weights @ step.T, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(lower.spread(weights[0]), weights[0] @ step, rtol=1e-11, atol=1e-11)
