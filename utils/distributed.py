"""Ranks and collectives, each a no-op for one process. Processes are started by ``torchrun``.

Gradients of data-parallel training: the contract between the training step, the criterion and the losses.

* Each process computes the loss of its own images, and that loss grows with their number: the criterion multiplies the
  sum of its parts by the batch size of the process.
* DDP averages the gradients of the K processes. The training step multiplies its loss by :func:`world_size`, so the
  average becomes the sum: K processes take the step that one process takes with all images.
* A part computed over the images of all processes has the same value in each of them. The batch size of a process is
  only 1/K of the whole, so its gradient must be K times that of its share. :func:`of_all_processes` does this for a
  sum of shares, :func:`known_to_all_processes` for a value that each process already knows in full.
* Every process must enter every collective, with objects or without. Code that one process runs alone, such as
  validation, must not enter any.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_initialised() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process among all, 0 for a single one."""
    return dist.get_rank() if is_initialised() else int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Number of this process on its machine, 0 for a single one; the index of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if is_initialised() else int(os.environ.get("WORLD_SIZE", 1))


def local_world_size() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def init_process_group(device: torch.device | str = "cpu") -> bool:
    """Join the group that ``torchrun`` describes in the environment.

    Args:
        device: where this process computes: NCCL connects GPUs, Gloo everything else.

    Returns:
        bool: whether there is a group; False, and nothing done, for a process that torchrun did not start.
    """
    if is_initialised():
        return True
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return False
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # long: while the main process validates and writes, the others wait
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=datetime.timedelta(hours=3))
    return True


def data_parallel(model: nn.Module, device: torch.device, sync_bn: bool = False) -> nn.Module:
    """The model, wrapped in DDP if there is a group: gradients are then averaged over its processes.

    Args:
        sync_bn: batch norms count the images of all processes; GPUs only.
    """
    if not is_initialised():
        return model
    on_gpu = device.type == "cuda"
    if sync_bn and on_gpu:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if on_gpu else None)


def destroy_process_group() -> None:
    """Leave the group."""
    if is_initialised():
        dist.destroy_process_group()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over all processes, element by element; a new tensor, without gradient. One process: the tensor itself."""
    if not is_initialised():
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def of_all_processes(share: Tensor) -> Tensor:
    """The sum of a scalar over all processes, with K times the gradient of this share: see the contract above."""
    if not is_initialised():
        return share
    return all_reduce_sum(share) + (share - share.detach()) * world_size()


def known_to_all_processes(value: Tensor) -> Tensor:
    """A scalar that every process has in full, with K times this process's gradient: see the contract above."""
    return value.detach() + (value - value.detach()) * world_size()


def all_gather_rows(tensor: Tensor) -> list[Tensor]:
    """The tensors (n, ...) of all processes in the order of their ranks, without gradient; each may have its own n.

    All must have the same further dimensions and type. One process: the tensor alone.
    """
    if not is_initialised():
        return [tensor.detach()]
    counts = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.full_like(counts[0], len(tensor)))
    lengths = torch.cat(counts).tolist()
    # collectives want one shape: filled up to the longest, and cut again
    filled = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
    filled[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(filled) for _ in lengths]
    dist.all_gather(parts, filled)
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]


def broadcast_object(value: Any, source: int = 0) -> Any:
    """Return the value of process ``source`` in every process. The value that the others pass is ignored."""
    if not is_initialised():
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=source)
    return holder[0]
