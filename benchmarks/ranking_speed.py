"""Time and memory of the ranking losses, forward and backward, beside the loop over positives of their papers.

python -m benchmarks.ranking_speed                          # Rank & Sort on the CPU, and on a GPU where there is one
python -m benchmarks.ranking_speed --loss alrp --threads 2
python -m benchmarks.ranking_speed --sizes 32256000,2000 --loop-limit 0

Logits are normal with deviation 1, those of the positives ``--lead`` higher; IoUs and localisation errors are even. The
loop leaves out the negatives below every window, as the papers' code does. Each row has processes of its own: memory is
the highest resident size above that before the first call, gradient included, inputs not (on a GPU, of the allocator);
then the time is the median of the repeats.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from utils.losses import alrp_loss, ap_loss, rank_sort_loss

SIZES = ((100_000, 2000), (403_200, 1000), (403_200, 2000), (403_200, 4000), (403_200, 8000), (2_000_000, 2000))


class Case(NamedTuple):
    """One measurement: of ours or of the loop."""

    loss: str
    num: int
    num_positives: int
    lead: float
    device: str
    threads: int
    repeats: int
    loop: bool


class Cost(NamedTuple):
    """Milliseconds, and bytes beyond the inputs."""

    milliseconds: float
    extra_bytes: int


def batch(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N,) and targets (N,), localisation errors (P,); float32, the same in each run."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.empty(case.num).normal_(generator=generator)
    # even steps: a permutation of all N would leave its traces in the memory
    index = torch.arange(case.num_positives) * (case.num // case.num_positives)
    logits[index] += case.lead
    targets = torch.zeros(case.num)
    targets[index] = 0.05 + 0.95 * torch.rand(case.num_positives, generator=generator)
    errors = 1 - targets[index]
    return logits.to(case.device), targets.to(case.device), errors.to(case.device)


def total(parts: tuple[Tensor, Tensor]) -> Tensor:
    """The sum of both parts of a loss."""
    return parts[0] + parts[1]


def step(case: Case) -> Callable[[], object]:
    """Forward and backward of a fresh batch, to be called again and again."""
    logits, targets, errors = batch(case)
    if case.loop:
        from tests.ranking_loops import alrp_loop, ap_loop, rank_sort_loop  # the oracles of the tests

        loops: dict[str, Callable[[], object]] = {
            "rank_sort": lambda: rank_sort_loop(logits, targets, 0.5, prune=True),
            "ap": lambda: ap_loop(logits, targets, 0.5, prune=True),
            "alrp": lambda: alrp_loop(logits, targets, errors, 0.5, prune=True),
        }
        return loops[case.loss]
    logits.requires_grad_()
    losses: dict[str, Callable[[], Tensor]] = {
        "rank_sort": lambda: total(rank_sort_loss(logits, targets, delta=0.5)),
        "ap": lambda: ap_loss(logits, targets, delta=0.5),
        "alrp": lambda: total(alrp_loss(logits, targets, errors, delta=0.5)),
    }

    def ours() -> None:
        logits.grad = None
        losses[case.loss]().backward()

    return ours


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory, now or at most since ``forget_peak``."""
    status = Path("/proc/self/status")
    if not status.exists():  # no Linux: the highest ever
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    field = "VmHWM" if peak else "VmRSS"
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Let the highest resident size start anew, on Linux."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def memory_of(run: Callable[[], object], device: str) -> int:
    """Bytes that a call takes beyond what is there."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    forget_peak()
    before = resident()
    run()
    return resident(peak=True) - before


def seconds(run: Callable[[], object], device: str) -> float:
    """Wall clock of a call."""
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(case: Case, answer: multiprocessing.connection.Connection) -> None:
    """Send the cost of a case; runs in a process of its own."""
    torch.set_num_threads(case.threads)
    step(case._replace(num=2000, num_positives=100))()  # libraries, threads and kernels are not the loss's own
    run = step(case)
    extra = memory_of(run, case.device)
    times = [seconds(run, case.device) for _ in range(case.repeats)]
    answer.send(Cost(1000 * statistics.median(times), extra))


def cost_of(case: Case, limit: float | None = None) -> Cost | None:
    """The cost, or None where a process needs more seconds than the limit."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(case, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit) else None
    finally:
        process.kill()
        process.join()


def row(case: Case, limit: float) -> str:
    """A line of the table."""
    ours = cost_of(case)
    assert ours is not None  # it has no time limit
    loop = cost_of(case._replace(loop=True, repeats=1), limit) if limit > 0 else None
    cells = [f"{case.num:,}", f"{case.num_positives:,}", case.device, f"{ours.milliseconds:.1f}"]
    cells += [f"{ours.extra_bytes / 1e6:.1f}", f"{ours.extra_bytes / case.num:.0f}"]
    if loop is None:
        cells += ["-", "-", "-"]
    else:
        cells += [f"{loop.milliseconds:.0f}", f"{loop.extra_bytes / 1e6:.1f}"]
        cells += [f"{loop.milliseconds / ours.milliseconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def size(text: str) -> tuple[int, int]:
    """N,P of the command line."""
    num, num_positives = (int(number) for number in text.split(","))
    if not 0 < num_positives <= num:
        raise ValueError
    return num, num_positives


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", choices=("rank_sort", "ap", "alrp"), default="rank_sort")
    parser.add_argument("--sizes", type=size, nargs="+", default=SIZES, metavar="N,P", help="logits, positives")
    parser.add_argument("--lead", type=float, default=0.0, help="how much higher the logits of positives are")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="default: all there are")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--loop-limit", type=float, default=120, help="seconds the loop may take; 0 leaves it out")
    options = parser.parse_args()
    devices = options.devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    print(f"{options.loss}, {options.threads} threads, torch {torch.__version__}, lead {options.lead}")
    print("| N | P | device | ms | extra MB | extra bytes / N | loop, ms | loop, extra MB | times faster |")
    print("|---|---|---|---|---|---|---|---|---|")
    for device in devices:
        for num, num_positives in options.sizes:
            case = Case(
                options.loss, num, num_positives, options.lead, device, options.threads, options.repeats, loop=False
            )
            print(row(case, options.loop_limit), flush=True)


if __name__ == "__main__":
    main()
