"""A guard against silent change: the losses of 20 training steps are those recorded. No proof that they are right.

Equal bit for bit on the machine of the record (torch, instructions and processor alike), within 1e-5 elsewhere. After
a change that is meant to move them: ``python -m tests.record_step_losses "reason"``.
"""

from __future__ import annotations

import pytest
import torch

from tests.cases import case
from tests.step_losses import CASES, STEPS, largest_difference, machine, read_records, step_losses
from utils.assigners import ASSIGNERS
from utils.losses import BOX_LOSSES, SCORE_LOSSES

TOLERANCE = 1e-5
RECORDS = read_records()
RECORDED = {case: record.losses[case] for case, record in RECORDS.items()}


def test_losses_are_those_recorded() -> None:
    moved = {}
    for name, recorded in RECORDED.items():
        found = step_losses(name)
        difference = largest_difference(recorded, found)
        same_machine = machine() == RECORDS[name].machine
        if difference >= TOLERANCE or (same_machine and found != recorded):
            moved[name] = f"moved by {difference:.1e}"
    assert not moved


def test_everything_registered_is_recorded() -> None:
    """After adding a loss or an assigner: ``python -m tests.record_step_losses "NAME is new" --new NAME``."""
    assert set(RECORDED) == set(CASES)
    assert {*BOX_LOSSES, *SCORE_LOSSES, *ASSIGNERS} <= {case.partition(" ")[2] for case in RECORDED}
    assert all(len(losses) == STEPS for losses in RECORDED.values()) and all(
        record.reason for record in RECORDS.values()
    )


def test_the_record_tells_its_cases_apart() -> None:
    """By far more than the tolerance, so that no loss can stand in for another unnoticed."""
    for kind in ["network", "box", "score", "assigner"]:
        with case(kind):
            of_kind = {name: losses for name, losses in RECORDED.items() if name.startswith(kind)}
            for name, losses in of_kind.items():
                distances = {other: largest_difference(losses, of_kind[other]) for other in of_kind if other != name}
                assert min(distances.values()) > 100 * TOLERANCE, min(distances, key=distances.__getitem__)


SENSITIVE = [case for case in CASES if case.startswith("network")] + ["box ciou", "score bce", "assigner best_iou"]


def test_other_arithmetic_stays_within_the_tolerance() -> None:
    """Other kernels for convolutions round differently, as another machine does."""
    for name in SENSITIVE:
        with case(name), torch.backends.mkldnn.flags(enabled=False):
            assert largest_difference(RECORDED[name], step_losses(name)) < TOLERANCE


def test_a_small_change_of_the_training_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One percent of the learning rate, which touches nothing but what gradients do."""
    for name in SENSITIVE:
        with case(name):
            changed = CASES[name]._replace(learning_rate=1.01 * CASES[name].learning_rate)
            monkeypatch.setitem(CASES, name, changed)
            assert largest_difference(RECORDED[name], step_losses(name)) > TOLERANCE
