"""Two processes that rank together, and one that evaluates alone. They start once; the settings take turns in them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests import ranking_results
from tests.criterion_scenes import build, scene
from tests.ranking_results import LOSSES, Result, alrp, assert_same, errors_of
from utils.losses import alrp_loss

RANKINGS = [
    {"score": name, "rank_on": rank_on, "self_balance": balance, "box": "giou"}
    for name in ("ap", "alrp", "rs")
    for rank_on, balance in (("objectness", True), ("joint", True), ("joint", False))
]
CORRELATIONS = [
    {"score": "bce", "correlation": kind, "rank_on": rank_on}
    for kind, rank_on in (("spearman", "joint"), ("concordance", "objectness"))
]
SETTINGS = [{**settings, "global_rank": True} for settings in (*RANKINGS, *CORRELATIONS, {"score": "bce"})]
ROWS = {"both": slice(None), "first": slice(0, 2), "second": slice(2, None), "none": slice(0, 0)}
# what joins processes without loss.global_rank: the running means of aLRP's balance and of WIoU
RUNNING_MEANS = [{"score": "alrp"}, {"box": "wiou"}]


def step(settings: dict, raw: list[Tensor], targets: Tensor) -> tuple[dict, Tensor, list]:
    """Parts, total and gradients of a training step that all processes take."""
    raw = [level.clone().requires_grad_() for level in raw]
    out = build(loss=settings)(raw, targets, across_processes=True)
    out.total.backward()
    return {name: part.item() for name, part in out.parts.items()}, out.total, [level.grad for level in raw]


def batches() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Logits, targets, and which entries the second process holds."""
    logits, targets = ranking_results.scene(500, 90, 40)
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


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/group",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),  # a process that waits for ever fails here
    )
    found = {"steps": steps_of_half_the_batch(rank), "means": [running_means(rank, shared) for shared in (True, False)]}
    check_the_losses_themselves(rank)
    dist.barrier()
    if rank == 0:
        found["alone"] = evaluate_alone()
    dist.barrier()
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def steps_of_half_the_batch(rank: int) -> dict:
    found = {}
    for name, rows in ROWS.items():
        raw, targets = scene()
        targets = targets[rows]
        mine = targets[targets[:, 0] == rank] * torch.tensor([0, 1, 1, 1, 1, 1])
        for index, settings in enumerate(SETTINGS):
            found[name, index] = step(settings, [level[rank : rank + 1] for level in raw], mine)
    return found


def running_means(rank: int, across_processes: bool) -> list[dict[str, Tensor]]:
    """What is remembered of a training step of half the batch."""
    states = []
    for settings in RUNNING_MEANS:
        criterion = build(loss=settings)
        raw, targets = scene()
        mine = targets[targets[:, 0] == rank] * torch.tensor([0, 1, 1, 1, 1, 1])
        own = [level[rank : rank + 1].requires_grad_() for level in raw]
        criterion(own, mine, across_processes=across_processes)
        states.append(criterion.state_dict())
    return states


def evaluate_alone() -> dict:
    """In training mode: the criterion was never told that this is an evaluation. The other process waits outside."""
    found = {}
    for settings in (*SETTINGS, *RUNNING_MEANS):
        criterion = build(loss=settings)
        raw, targets = scene()
        before = {name: value.clone() for name, value in criterion.state_dict().items()}
        found[str(settings)] = criterion.evaluate(raw, targets).parts
        assert criterion.training, settings
        assert all(torch.equal(value, before[name]) for name, value in criterion.state_dict().items()), settings
        with pytest.raises(ValueError, match="expected across_processes: True in a training step"):
            criterion(raw, targets)
        raw = [level.requires_grad_() for level in raw]
        criterion(raw, targets, across_processes=False).total.backward()
        criterion.eval()(raw, targets)
    build(loss={"score": "rs"})(*scene())  # nothing is shared: there is nothing to say
    return found


def check_the_losses_themselves(rank: int) -> None:
    for name, (logits, targets, second) in batches().items():
        own = second if rank else ~second
        for loss in LOSSES.values():
            whole = loss(logits, targets, 0.5)
            found = loss(logits[own], targets[own], 0.5, global_rank=True)
            errors = whole.by_error
            if errors is not None:
                errors = errors[own[targets > 0]]
            assert_same(found, Result(whole.parts, [gradient[own] for gradient in whole.gradients], errors), 1e-12)
            alone = loss(logits[own], targets[own], 0.5)  # the default stays within the process
            shared = (targets > 0).any() and second.any()
            assert not shared or alone.parts != pytest.approx(whole.parts, abs=1e-9), name


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_are_one(halves: list[dict]) -> None:
    """Objects in both halves, in one alone, in the other alone, and nowhere: value and gradients of the whole batch."""
    raw, targets = scene()
    for name, rows in ROWS.items():
        for index, settings in enumerate(SETTINGS):
            case = f"{name}: {settings}"
            parts, total, gradients = step({**settings, "global_rank": False}, raw, targets[rows])
            for rank, half in enumerate(halves):
                its_parts, its_total, its_gradients = half["steps"][name, index]
                assert its_parts == pytest.approx(parts, abs=1e-12), case
                assert 2 * its_total.item() == pytest.approx(total.item(), abs=1e-12), f"{case}: the totals add up"
                for level, expected in zip(its_gradients, gradients, strict=True):
                    assert torch.allclose(level, expected[rank : rank + 1], rtol=1e-10, atol=1e-13), case


@pytest.mark.slow
def test_running_means_are_those_of_all_processes_in_a_common_step(halves: list[dict]) -> None:
    for settings, *states in zip(RUNNING_MEANS, *(half["means"][0] for half in halves), strict=True):
        for name, value in states[0].items():
            assert torch.equal(value, states[1][name]), (settings, name)
    for settings, *states in zip(RUNNING_MEANS, *(half["means"][1] for half in halves), strict=True):
        assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items()), settings


@pytest.mark.slow
def test_one_process_evaluates_alone(halves: list[dict]) -> None:
    """Without a word to the criterion, and without waiting: see ``evaluate_alone``."""
    for settings in (*SETTINGS, *RUNNING_MEANS):
        raw, targets = scene()
        expected = build(loss={**settings, "global_rank": False}).eval()(raw, targets).parts
        assert halves[0]["alone"][str(settings)] == expected, settings


def test_one_process_is_a_group_of_its_own() -> None:
    logits, targets = ranking_results.scene(300, 40)
    for loss in LOSSES.values():
        assert_same(loss(logits, targets, 0.5, global_rank=True), loss(logits, targets, 0.5), 0)


def test_errors_belong_to_the_own_positives() -> None:
    logits, targets = ranking_results.scene(30, 4)
    assert alrp(logits, targets, 0.5, global_rank=True).by_error.shape == errors_of(targets).shape
    with pytest.raises(ValueError, match="Expected localisation errors"):
        alrp_loss(logits, targets, torch.zeros(5), global_rank=True)
