"""Ranking losses against the numbers of the papers' own code, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import load_cases
from utils.losses import alrp_loss, ap_loss, rank_sort_loss

CASES = ("small", "mid", "ties", "one_pos", "all_pos", "separated", "inverted", "ignore", "extreme")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def numbers(case: str, loss: str, delta: float) -> dict[str, np.ndarray]:
    cases = load_cases("ranking.npz")
    assert {name for name in cases if "/" not in name} == set(CASES)
    return cases[case] | cases[f"{case}/{loss}/{delta}"]


def inputs(golden: dict[str, np.ndarray], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    logits, targets = (torch.from_numpy(golden[key]).to(dtype) for key in ("logits", "targets"))
    return logits.requires_grad_(), targets


def assert_gradient(found: Tensor, expected: np.ndarray) -> None:
    largest = max(np.abs(expected).max(), np.finfo(np.float64).tiny)
    assert np.abs(found.double().numpy() - expected).max() <= TOLERANCE[found.dtype] * largest


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("delta", [0.5, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_rank_sort(case: str, delta: float, dtype: torch.dtype) -> None:
    golden = numbers(case, "rs", delta)
    logits, targets = inputs(golden, dtype)
    loss = rank_sort_loss(logits, targets, delta=delta)
    (loss.ranking + loss.sorting).backward()
    assert loss.ranking.item() == pytest.approx(golden["ranking"], abs=TOLERANCE[dtype])
    assert loss.sorting.item() == pytest.approx(golden["sorting"], abs=TOLERANCE[dtype])
    assert_gradient(logits.grad, golden["grad"])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("delta", [0.5, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_ap(case: str, delta: float, dtype: torch.dtype) -> None:
    golden = numbers(case, "ap", delta)
    logits, targets = inputs(golden, dtype)
    loss = ap_loss(logits, targets.sign(), delta=delta)
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss"], abs=TOLERANCE[dtype])
    assert_gradient(logits.grad, golden["grad"])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("delta", [0.5, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_alrp(case: str, delta: float, dtype: torch.dtype) -> None:
    golden = numbers(case, "alrp", delta)
    logits, targets = inputs(golden, dtype)
    error = (1 - targets[targets > 0]).requires_grad_()
    loss = alrp_loss(logits, targets.sign(), error, delta=delta)
    sum(loss).backward()
    assert loss.classification.item() == pytest.approx(golden["cls"], abs=TOLERANCE[dtype])
    assert_gradient(logits.grad, golden["grad"])
    if case != "ties":  # there the official code leaves the localisation to an unstable sort
        assert loss.localisation.item() == pytest.approx(golden["reg"], abs=TOLERANCE[dtype])
        assert_gradient(error.grad, golden["grad_reg"])
