"""Ranking over two processes: loss and gradients of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.ranking_results import LOSSES, Result, alrp, assert_same, errors_of, scene
from utils.losses import alrp_loss


def batches() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Logits, targets, and which entries the second process holds."""
    logits, targets = scene(500, 90, 40)
    late = torch.arange(500) >= 180
    tied = (4 * logits).round() / 4, torch.where(targets > 0, (8 * targets).ceil() / 8, targets)
    return {
        "both have some": (logits, targets, late),
        "ties across": (*tied, late),
        "the first has no positives": (logits, targets, late | (targets > 0)),
        "the first has no negatives": (logits, targets, late | (targets == 0)),
        "the second has nothing": (logits, targets, torch.zeros(500, dtype=torch.bool)),
        "nobody has positives": (logits, targets.clamp(max=0), late),
    }


def rank_in_a_group(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for logits, targets, second in batches().values():
        own = second if rank else ~second
        for loss in LOSSES.values():
            whole = loss(logits, targets, 0.5)
            found = loss(logits[own], targets[own], 0.5, global_rank=True)
            errors = whole.by_error
            if errors is not None:
                errors = errors[own[targets > 0]]
            assert_same(found, Result(whole.parts, [gradient[own] for gradient in whole.gradients], errors), 1e-12)
            alone = loss(logits[own], targets[own], 0.5)  # the default stays within the process
            assert (targets > 0).sum() == 0 or not second.any() or alone.parts != pytest.approx(whole.parts, abs=1e-9)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_rank_as_one(tmp_path: Path) -> None:
    mp.spawn(rank_in_a_group, args=(tmp_path,), nprocs=2)


@pytest.mark.parametrize("name", LOSSES)
def test_one_process_is_a_group_of_its_own(name: str) -> None:
    logits, targets = scene(300, 40)
    assert_same(LOSSES[name](logits, targets, 0.5, global_rank=True), LOSSES[name](logits, targets, 0.5), 0)


def test_errors_belong_to_the_own_positives() -> None:
    logits, targets = scene(30, 4)
    assert alrp(logits, targets, 0.5, global_rank=True).by_error.shape == errors_of(targets).shape
    with pytest.raises(ValueError, match="Expected localisation errors"):
        alrp_loss(logits, targets, torch.zeros(5), global_rank=True)
