"""Rank helpers: no-ops for one process, collectives for several."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp

from utils import distributed


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_needs_no_group(alone):
    assert not distributed.init_process_group("cpu")
    assert (distributed.rank(), distributed.local_rank(), distributed.world_size()) == (0, 0, 1)
    assert distributed.is_main() and not distributed.is_initialised()
    tensor = torch.tensor([1.0, 2.0])
    assert distributed.all_reduce_sum(tensor) is tensor
    assert [rows.tolist() for rows in distributed.all_gather_rows(tensor)] == [[1.0, 2.0]]
    assert distributed.broadcast_object({"a": 1}) == {"a": 1}
    distributed.destroy_process_group()


def test_ranks_are_known_before_the_group_exists(monkeypatch):
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    assert (distributed.rank(), distributed.local_rank(), distributed.world_size()) == (5, 1, 8)
    assert not distributed.is_main()


def work_in_a_group(rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    assert distributed.init_process_group("cpu")
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (rank, 2, rank == 0)
    own = torch.tensor([1.0 + rank, 10.0], requires_grad=True)
    assert distributed.all_reduce_sum(own).tolist() == [3.0, 20.0]
    assert own.tolist() == [1.0 + rank, 10.0]
    rows = distributed.all_gather_rows(torch.full((2 * rank, 3), 7.0, requires_grad=True))
    assert [part.tolist() for part in rows] == [[], [[7.0] * 3] * 2] and not rows[1].requires_grad
    assert distributed.broadcast_object({"folder": "exp2"} if rank == 0 else None) == {"folder": "exp2"}
    distributed.destroy_process_group()
    assert not distributed.is_initialised()


@pytest.mark.slow
def test_two_processes_sum_and_share(alone):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work_in_a_group, args=(port,), nprocs=2)
