"""Losses of 20 training steps for each kind of network, box loss, score loss and assigner, on tiny made-up batches.

They guard against silent change: a refactoring must leave them as they are. That they are right is for other tests to
show; a change that is meant to move them is recorded anew, with its reason, by ``python -m tests.record_step_losses``.
Cases that came later, on another machine, have files of their own: ``data/step_losses.NAME.csv``.
"""

from __future__ import annotations

import contextlib
import csv
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models import build_model
from utils.assigners import ASSIGNERS
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.criterion import Criterion
from utils.losses import BOX_LOSSES, SCORE_LOSSES
from utils.training.optim import build_optimizer

FOLDER = Path(__file__).with_name("data")
STEPS, BATCH, SIDE, CLASSES, OBJECTS = 20, 2, 64, 3, 6
NARROW = {
    "yolov3": {"width_multiple": 0.0625, "depth_multiple": 0.33},
    "yolov3-spp": {"width_multiple": 0.0625, "depth_multiple": 0.33},
    "yolov3-tiny": {"width_multiple": 0.0625},
    "yolov5n": {"width_multiple": 0.125},
}
SMALL = {
    "anchors": [[10, 15, 20, 30], [40, 30, 45, 60]],
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "C3", [16]]],
    "head": [[-1, 1, "Conv", [16, 3, 2]], [[2, 3], 1, "Detect", ["nc", "anchors"]]],
}

PARAMETERS = {"parameterized_ap": {"name": "parameterized_ap", "form": "linear"}}  # whose name alone would not do


class Case(NamedTuple):
    """What is trained.

    Attributes:
        cfg: a model as a mapping.
        changes: hyper-parameters that differ from the default.
        learning_rate: high enough that a change of one percent shows in the losses, low enough that what rounding
            changes in a step grows to no more than a tenth of the tolerance.
    """

    cfg: Mapping[str, Any]
    changes: Mapping[str, Any]
    learning_rate: float


CASES = {
    **{
        f"network {name}": Case({"base": f"{name}.yaml", **factors}, {}, 2e-5 if name == "yolov5n" else 1e-3)
        for name, factors in NARROW.items()
    },
    **{f"box {name}": Case(SMALL, {"loss": {"box": name}}, 1e-2) for name in BOX_LOSSES},
    **{f"score {name}": Case(SMALL, {"loss": {"score": PARAMETERS.get(name, name)}}, 1e-2) for name in SCORE_LOSSES},
    **{f"assigner {name}": Case(SMALL, {"assigner": name}, 1e-2) for name in ASSIGNERS},
}


class Record(NamedTuple):
    """What a file holds.

    Attributes:
        machine: where it was recorded, see :func:`machine`.
        reason: why it was recorded anew.
        losses: STEPS values of each case.
    """

    machine: str
    reason: str
    losses: dict[str, list[float]]


def step_losses(case: str) -> list[float]:
    """Train a case on this machine: float32, one thread, a new batch in each step; the total loss of every step."""
    cfg, changes, learning_rate = CASES[case]
    hyp = Hyperparameters.from_mapping({"lr0": learning_rate, **changes})
    losses = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(cfg, nc=CLASSES).train()
        criterion = Criterion(model.anchors_px, model.stride, CLASSES, SIDE, hyp)
        optimizer = build_optimizer(model, "SGD", hyp, BATCH)
        for _ in range(STEPS):
            loss = criterion(model(torch.rand(BATCH, 3, SIDE, SIDE)), made_up_targets())
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            losses.append(loss.total.item())
    return losses


def made_up_targets() -> Tensor:
    """(OBJECTS, 6) rows of image, class and ``xywhn``, from the global generator; boxes of 6 to 38 pixels."""
    image, cls = torch.randint(BATCH, (OBJECTS, 1)), torch.randint(CLASSES, (OBJECTS, 1))
    return torch.cat((image, cls, torch.rand(OBJECTS, 2), 0.1 + 0.5 * torch.rand(OBJECTS, 2)), dim=1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split over threads: their number is part of what rounds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> str:
    """What must be equal for equal bits: the version of torch, the instructions that it uses, and the processor."""
    fields = ("vendor_id", "cpu family", "model", "stepping", "cache size")
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        lines = [line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines()]
        found = {name.strip(): value.strip() for name, _, value in lines}
        cpu = " ".join(found[name] for name in fields if name in found) or cpu
    return f"torch {torch.__version__}; {torch.backends.cpu.get_cpu_capability()}; {cpu}"


def largest_difference(recorded: Sequence[float], found: Sequence[float]) -> float:
    """The largest distance of two losses of one step, as a fraction of the recorded one."""
    return max(abs(new - old) / abs(old) for old, new in zip(recorded, found, strict=True))


def read_records() -> dict[str, Record]:
    """Every case that was recorded, and the record that holds it."""
    records = [read_record(path) for path in sorted(FOLDER.glob("step_losses*.csv"))]
    return {case: record for record in records for case in record.losses}


def read_record(path: Path) -> Record:
    """The losses in a file, as exactly as float32 holds them."""
    with path.open(newline="", encoding="utf-8") as file:
        (_, where), (_, reason), _, *rows = csv.reader(file)
    losses = {case: torch.tensor([float(value) for value in values]).tolist() for case, *values in rows}
    return Record(where, reason, losses)


def write_record(path: Path, record: Record) -> None:
    """Replace a file; nine digits hold a float32 exactly."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("machine", record.machine), ("reason", record.reason), ("case", *range(STEPS))])
        writer.writerows((case, *(f"{value:.9g}" for value in losses)) for case, losses in record.losses.items())
