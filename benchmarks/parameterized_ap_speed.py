"""Time and peak memory of the Parameterized AP loss, beside its formula over the matrix of all pairs.

python -m benchmarks.parameterized_ap_speed
python -m benchmarks.parameterized_ap_speed --samples 403200 --positives 2000 --budget-mib 2048

Forward and backward on one thread of a CPU, single precision, logits all from one normal distribution, so that no
sample can be left out beforehand: the worst case. The matrix runs at the largest number of samples whose peak stays
within the budget, found by measuring it at a small size. Each row is a process of its own. The time is the least CPU
time of three runs; the memory is the growth of the process's peak (VmHWM of Linux) over what it held with its inputs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from utils.losses import parameterized_ap_loss
from utils.losses.ranking.parameterized_ap import FORMS

ROOT = Path(__file__).resolve().parents[1]
CURVE = [[0.0, 0.0], [0.2, 0.1], [0.4, 0.3], [0.6, 0.5], [0.8, 0.8], [1.0, 1.0]]
CURVES = [CURVE] * 5
NUM_RUNS = 3
MIB = 1 << 20


def scene(num_samples: int, num_positives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, IoUs and labels (N,), seed 0."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(num_samples, dtype=torch.int8)
    labels[torch.randperm(num_samples, generator=generator)[:num_positives]] = 1
    logits = torch.randn(num_samples, generator=generator)
    ious = torch.rand(num_samples, generator=generator) * labels
    return logits.requires_grad_(), ious.requires_grad_(), labels


def matrix_loss(logits: Tensor, ious: Tensor, labels: Tensor, form: str) -> Tensor:
    """The definition: every step of every pair in a matrix (P, N)."""

    def bent(x: Tensor) -> Tensor:
        segments = [(y1 - y0) * ((x - x0) / (x1 - x0)).clamp(0, 1) for (x0, y0), (x1, y1) in pairwise(CURVE)]
        return torch.stack(segments).sum(dim=0)

    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "linear": lambda x: x,
        "square": lambda x: x**2,
        "searched": bent,
    }
    positive = labels == 1
    above = logits - logits[positive][:, None]
    if form == "sigmoid":
        steps, truth = above.sigmoid(), (2 * ious - 1).sigmoid()
    else:
        steps, truth = functions[form]((above / 2 + 0.5).clamp(0, 1)), functions[form](ious)
    false, total = steps @ (1 - truth), steps.detach().sum(dim=1)
    return (1 - truth[positive] + truth[positive] * false / total).mean()


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def measure(method: str, form: str, num_samples: int, num_positives: int) -> dict[str, float]:
    """CPU seconds and peak extra bytes of forward and backward."""
    torch.set_num_threads(1)

    def run(logits: Tensor, ious: Tensor, labels: Tensor) -> float:
        logits.grad = ious.grad = None
        start = time.process_time()
        if method == "matrix":
            matrix_loss(logits, ious, labels, form).backward()
        else:
            parameterized_ap_loss(logits, ious, labels, CURVES, form=form).backward()
        return time.process_time() - start

    run(*scene(100, 10))  # what the first call alone allocates
    inputs = scene(num_samples, num_positives)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
    before = peak_bytes()
    seconds = [run(*inputs)]
    peak = peak_bytes() - before
    seconds += [run(*inputs) for _ in range(NUM_RUNS - 1)]
    return {"seconds": min(seconds), "bytes": peak}


def in_a_process(*arguments: object) -> dict[str, float]:
    """:func:`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.parameterized_ap_speed", "--measure", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def report(num_samples: int, num_positives: int, budget: int) -> None:
    """Print the table as it is measured."""
    print("| form | method | N | P | CPU seconds | peak extra MiB | bytes / N |\n|---|---|---|---|---|---|---|")

    def row(form: str, method: str, count: int) -> None:
        found = in_a_process(method, form, count, num_positives)
        memory = f"{found['bytes'] / MIB:.0f} | {found['bytes'] / count:.0f}"
        print(f"| {form} | {method} | {count:,} | {num_positives:,} | {found['seconds']:.2f} | {memory} |", flush=True)

    for form in FORMS:
        small = min(12 * MIB // num_positives, num_samples)  # matrices of 48 MiB: always mapped, and given back at once
        per_sample = in_a_process("matrix", form, small, num_positives)["bytes"] / small
        fitting = min(int(budget / per_sample), num_samples)
        row(form, "sums", num_samples)
        row(form, "sums", fitting)
        row(form, "matrix", fitting)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=403_200, help="N: 16 images of 640 pixels have 403200 anchors")
    parser.add_argument("--positives", type=int, default=2000, help="P")
    parser.add_argument("--budget-mib", type=int, default=2048, help="memory that the matrix may take")
    parser.add_argument("--measure", nargs=4, metavar=("METHOD", "FORM", "N", "P"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        method, form, num_samples, num_positives = options.measure
        print(json.dumps(measure(method, form, int(num_samples), int(num_positives))))
    else:
        report(options.samples, options.positives, options.budget_mib * MIB)


if __name__ == "__main__":
    main()
