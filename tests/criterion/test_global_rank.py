"""loss.global_rank: two processes with half a batch each have the loss and the gradients of one with all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.criterion_scenes import build, scene

RANKINGS = [
    {"score": name, "rank_on": rank_on, "self_balance": balance, "box": "giou"}
    for name in ("ap", "alrp", "rs")
    for rank_on, balance in (("objectness", True), ("joint", True), ("joint", False))
]
CORRELATIONS = [
    {"score": "bce", "correlation": kind, "rank_on": rank_on}
    for kind, rank_on in (("spearman", "joint"), ("concordance", "objectness"))
]
SETTINGS = [*RANKINGS, *CORRELATIONS, {"score": "bce"}]
ROWS = {"both": slice(None), "first": slice(0, 2), "second": slice(2, None), "none": slice(0, 0)}


def outcome(settings: dict, raw: list[torch.Tensor], targets: torch.Tensor) -> tuple[dict, torch.Tensor, list]:
    raw = [level.clone().requires_grad_() for level in raw]
    out = build(loss=settings | {"global_rank": True})(raw, targets)
    out.total.backward()
    return {name: part.item() for name, part in out.parts.items()}, out.total, [level.grad for level in raw]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    found = {}
    for name, rows in ROWS.items():
        raw, targets = scene()
        targets = targets[rows]
        mine = targets[targets[:, 0] == rank] * torch.tensor([0, 1, 1, 1, 1, 1])
        for index, settings in enumerate(SETTINGS):
            found[name, index] = outcome(settings, [level[rank : rank + 1] for level in raw], mine)
        if rank == 0:  # validation is for one process, which must not wait for the others
            for index, settings in enumerate(SETTINGS):
                criterion = build(loss=settings | {"global_rank": True}).eval()
                found["validated", name, index] = criterion(raw, targets).parts
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("index", range(len(SETTINGS)), ids=[" ".join(map(str, s.values())) for s in SETTINGS])
def test_two_processes_are_one(halves: list[dict], index: int, rows: str) -> None:
    """Objects in both halves, in one alone, in the other alone, and nowhere."""
    raw, targets = scene()
    parts, total, gradients = outcome(SETTINGS[index], raw, targets[ROWS[rows]])
    for rank, half in enumerate(halves):
        its_parts, its_total, its_gradients = half[rows, index]
        assert its_parts == pytest.approx(parts, abs=1e-12)
        assert 2 * its_total.item() == pytest.approx(total.item(), abs=1e-12), "the totals add up"
        for level, expected in zip(its_gradients, gradients, strict=True):
            assert torch.allclose(level, expected[rank : rank + 1], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("index", range(len(SETTINGS)), ids=[" ".join(map(str, s.values())) for s in SETTINGS])
def test_one_process_validates_alone(halves: list[dict], index: int) -> None:
    raw, targets = scene()
    for name, rows in ROWS.items():
        expected = build(loss=SETTINGS[index]).eval()(raw, targets[rows]).parts
        assert halves[0]["validated", name, index] == expected
