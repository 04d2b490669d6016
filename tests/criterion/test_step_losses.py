"""A guard against silent change: the losses of 20 training steps are those recorded. No proof that they are right.

Equal bit for bit on the machine of the record (torch, instructions and processor alike), within 1e-5 elsewhere. After
a change that is meant to move them: ``python -m tests.record_step_losses "reason"``.
"""

from __future__ import annotations

import pytest
import torch

from tests.step_losses import CASES, STEPS, largest_difference, machine, read_records, step_losses
from utils.assigners import ASSIGNERS
from utils.losses import BOX_LOSSES, SCORE_LOSSES

TOLERANCE = 1e-5
RECORDS = read_records()
RECORDED = {case: record.losses[case] for case, record in RECORDS.items()}


@pytest.mark.parametrize("case", RECORDED)
def test_losses_are_those_recorded(case: str) -> None:
    found = step_losses(case)
    if machine() == RECORDS[case].machine:
        assert found == RECORDED[case], f"moved by {largest_difference(RECORDED[case], found):.1e}"
    assert largest_difference(RECORDED[case], found) < TOLERANCE


def test_everything_registered_is_recorded() -> None:
    """After adding a loss or an assigner: ``python -m tests.record_step_losses "NAME is new" --new NAME``."""
    assert set(RECORDED) == set(CASES)
    assert {*BOX_LOSSES, *SCORE_LOSSES, *ASSIGNERS} <= {case.partition(" ")[2] for case in RECORDED}
    assert all(len(losses) == STEPS for losses in RECORDED.values()) and all(
        record.reason for record in RECORDS.values()
    )


@pytest.mark.parametrize("kind", ["network", "box", "score", "assigner"])
def test_the_record_tells_its_cases_apart(kind: str) -> None:
    """By far more than the tolerance, so that no loss can stand in for another unnoticed."""
    of_kind = {case: losses for case, losses in RECORDED.items() if case.startswith(kind)}
    for case, losses in of_kind.items():
        distances = {other: largest_difference(losses, of_kind[other]) for other in of_kind if other != case}
        assert min(distances.values()) > 100 * TOLERANCE, min(distances, key=distances.__getitem__)


SENSITIVE = [case for case in CASES if case.startswith("network")] + ["box ciou", "score bce", "assigner best_iou"]


@pytest.mark.parametrize("case", SENSITIVE)
def test_other_arithmetic_stays_within_the_tolerance(case: str) -> None:
    """Other kernels for convolutions round differently, as another machine does."""
    with torch.backends.mkldnn.flags(enabled=False):
        assert largest_difference(RECORDED[case], step_losses(case)) < TOLERANCE


@pytest.mark.parametrize("case", SENSITIVE)
def test_a_small_change_of_the_training_is_noticed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One percent of the learning rate, which touches nothing but what gradients do."""
    changed = CASES[case]._replace(learning_rate=1.01 * CASES[case].learning_rate)
    monkeypatch.setitem(CASES, case, changed)
    assert largest_difference(RECORDED[case], step_losses(case)) > TOLERANCE
