"""Ranking losses with all they return, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from utils.losses import alrp_loss, ap_loss, rank_sort_loss


class Result(NamedTuple):
    """Parts of a loss, the gradient of each with respect to the logits, and those of localisation errors."""

    parts: list[float]
    gradients: list[Tensor]
    by_error: Tensor | None = None


def errors_of(targets: Tensor) -> Tensor:
    """Some localisation error for each positive."""
    return ((1 - targets[targets > 0]) / 0.5).clamp(max=1)


def rank_sort(logits: Tensor, targets: Tensor, delta: float, global_rank: bool = False) -> Result:
    logits = logits.detach().clone().requires_grad_()
    loss = rank_sort_loss(logits, targets, delta=delta, global_rank=global_rank)
    gradients = [torch.autograd.grad(part, logits, retain_graph=True)[0] for part in loss]
    return Result([part.item() for part in loss], gradients)


def ap(logits: Tensor, targets: Tensor, delta: float, global_rank: bool = False) -> Result:
    logits = logits.detach().clone().requires_grad_()
    loss = ap_loss(logits, targets.sign(), delta=delta, global_rank=global_rank)
    loss.backward()
    return Result([loss.item()], [logits.grad])


def alrp(logits: Tensor, targets: Tensor, delta: float, global_rank: bool = False) -> Result:
    logits, errors = logits.detach().clone().requires_grad_(), errors_of(targets).requires_grad_()
    loss = alrp_loss(logits, targets.sign(), errors, delta=delta, global_rank=global_rank)
    sum(loss).backward()
    return Result([part.item() for part in loss], [logits.grad], errors.grad)


LOSSES: dict[str, Callable[..., Result]] = {"rank_sort": rank_sort, "ap": ap, "alrp": alrp}


def assert_same(found: Result, expected: Result, tolerance: float = 1e-11) -> None:
    assert found.parts == pytest.approx(expected.parts, abs=tolerance)
    pairs = list(zip(found.gradients, expected.gradients, strict=True))
    if expected.by_error is not None:
        pairs.append((found.by_error, expected.by_error))
    for one, other in pairs:
        largest = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=tolerance * max(largest, 1e-300))


def scene(num: int, num_positives: int, num_ignored: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal logits, positives a little higher; IoUs from 0.05 to 1; float64."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.zeros(num, dtype=torch.float64)
    order = torch.randperm(num, generator=generator)
    targets[order[:num_positives]] = 0.05 + 0.95 * torch.rand(num_positives, dtype=torch.float64, generator=generator)
    targets[order[num_positives : num_positives + num_ignored]] = -1
    logits = torch.randn(num, dtype=torch.float64, generator=generator) + (targets > 0)
    return logits, targets
