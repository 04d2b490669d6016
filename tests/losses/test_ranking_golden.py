"""Ranking losses against the numbers of the papers' own code, values and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.cases import case
from tests.golden import case_names, load_cases
from utils.losses import alrp_loss, ap_loss, rank_sort_loss

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def numbers(loss: str) -> Iterator[tuple[str, float, dict[str, np.ndarray], Tensor, Tensor]]:
    """Case, delta, expected numbers, logits and targets of every case in both precisions."""
    cases = load_cases("ranking.npz")
    for name in case_names("ranking.npz"):
        for delta in (0.5, 1.0):
            for dtype in TOLERANCE:
                logits, targets = (torch.from_numpy(cases[name][key]).to(dtype) for key in ("logits", "targets"))
                yield name, delta, cases[f"{name}/{loss}/{delta}"], logits.requires_grad_(), targets


def assert_gradient(found: Tensor, expected: np.ndarray) -> None:
    largest = max(np.abs(expected).max(), np.finfo(np.float64).tiny)
    assert np.abs(found.double().numpy() - expected).max() <= TOLERANCE[found.dtype] * largest


def test_rank_sort() -> None:
    for name, delta, golden, logits, targets in numbers("rs"):
        with case(name, delta, logits.dtype):
            loss = rank_sort_loss(logits, targets, delta=delta)
            (loss.ranking + loss.sorting).backward()
            assert loss.ranking.item() == pytest.approx(golden["ranking"], abs=TOLERANCE[logits.dtype])
            assert loss.sorting.item() == pytest.approx(golden["sorting"], abs=TOLERANCE[logits.dtype])
            assert_gradient(logits.grad, golden["grad"])


def test_ap() -> None:
    for name, delta, golden, logits, targets in numbers("ap"):
        with case(name, delta, logits.dtype):
            loss = ap_loss(logits, targets.sign(), delta=delta)
            loss.backward()
            assert loss.item() == pytest.approx(golden["loss"], abs=TOLERANCE[logits.dtype])
            assert_gradient(logits.grad, golden["grad"])


def test_alrp() -> None:
    for name, delta, golden, logits, targets in numbers("alrp"):
        with case(name, delta, logits.dtype):
            error = (1 - targets[targets > 0]).requires_grad_()
            loss = alrp_loss(logits, targets.sign(), error, delta=delta)
            sum(loss).backward()
            assert loss.classification.item() == pytest.approx(golden["cls"], abs=TOLERANCE[logits.dtype])
            assert_gradient(logits.grad, golden["grad"])
            if name != "ties":  # there the official code leaves the localisation to an unstable sort
                assert loss.localisation.item() == pytest.approx(golden["reg"], abs=TOLERANCE[logits.dtype])
                assert_gradient(error.grad, golden["grad_reg"])
