"""Ranking losses against the papers' loops, at the limits, and what must not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import case
from tests.ranking_loops import alrp_loop, ap_loop, rank_sort_loop
from tests.ranking_results import LOSSES, Result, alrp, ap, assert_same, errors_of, rank_sort, scene
from utils.losses import alrp_loss, ap_loss, rank_sort_loss
from utils.losses.ranking import window


def by_loop(name: str, logits: Tensor, targets: Tensor, delta: float, prune: bool = False) -> Result:
    if name == "ap":
        loss, gradient = ap_loop(logits, targets.sign(), delta, prune)
        return Result([loss.item()], [gradient])
    if name == "alrp":
        *parts, gradient, by_error = alrp_loop(logits, targets.sign(), errors_of(targets), delta, prune)
        return Result([part.item() for part in parts], [gradient], by_error)
    ranking, sorting, *gradients = rank_sort_loop(logits, targets, delta, prune)
    return Result([ranking.item(), sorting.item()], gradients)


by_name = pytest.mark.parametrize("name", LOSSES)


def special(kind: str) -> tuple[Tensor, Tensor]:
    if kind == "plain":
        return scene(900, 150, 100)
    if kind == "one positive":
        return scene(200, 1, 20)
    if kind == "no negatives":
        return scene(120, 90, 30)
    if kind == "two":
        return scene(2, 2)
    logits, targets = scene(600, 120, 50, seed=3)
    if kind == "ties":  # equal scores, scores exactly on the ends of windows, equal IoUs
        return (4 * logits).round() / 4, torch.where(targets > 0, (8 * targets).ceil() / 8, targets)
    if kind == "equal IoUs":
        return logits, torch.where(targets > 0, 0.5, targets)
    if kind == "equal scores":
        return torch.full_like(logits, 0.3), targets
    if kind == "separated":
        return torch.where(targets > 0, logits + 20, logits), targets
    if kind == "inverted":
        return torch.where(targets > 0, logits - 20, logits), targets
    assert kind == "extreme"
    return torch.where(logits > 1, 1e4, torch.where(logits < -1, -1e4, 1e4 * logits.sign() + logits)), targets


KINDS = (
    "plain",
    "one positive",
    "no negatives",
    "two",
    "ties",
    "equal IoUs",
    "equal scores",
    "separated",
    "inverted",
    "extreme",
)


@pytest.mark.parametrize("kind", KINDS)
@by_name
def test_the_papers_loop(name: str, kind: str) -> None:
    logits, targets = special(kind)
    for delta in (0.5, 1.0, 0.125):
        with case(delta):
            expected = by_loop(name, logits, targets, delta)
            assert_same(LOSSES[name](logits, targets, delta), expected)
            assert_same(by_loop(name, logits, targets, delta, prune=True), expected)


@by_name
def test_the_papers_loop_on_small_batches(name: str) -> None:
    for seed in range(20):
        logits, targets = scene(1 + 3 * seed, seed // 2, seed // 3, seed=seed)
        with case(seed):
            assert_same(LOSSES[name](logits, targets, 0.7), by_loop(name, logits, targets, 0.7))


def test_by_hand() -> None:
    """A positive level with a negative, another out of sight: half a false positive."""
    logits, targets = torch.tensor([1.0, 1.0, -5.0], dtype=torch.float64), torch.tensor([0.8, 0.0, 0.0])
    assert rank_sort(logits, targets, 0.5).parts == [0.5, 0.0]  # 0.5 / (0.5 + 0.5)
    assert rank_sort(logits, targets, 0.5).gradients[0].tolist() == [-0.5, 0.5, 0.0]
    assert ap(logits, targets, 0.5).parts == pytest.approx([1 / 3])  # 0.5 / (1 + 0.5)
    found = alrp(logits, targets, 0.5)
    assert found.parts == pytest.approx([1 / 3, 0.4 / 1.5])
    assert found.gradients[0].tolist() == pytest.approx([-1 / 3, 1 / 3, 0.0])
    # the better box is ranked below the worse one: (0.5 * 0.2 + 1 * 0.6) / 1.5 against its own 0.2
    logits, targets = torch.tensor([0.0, 3.0], dtype=torch.float64), torch.tensor([0.8, 0.4], dtype=torch.float64)
    found = rank_sort(logits, targets, 0.5)
    assert found.parts == pytest.approx([0.0, (0.7 / 1.5 - 0.2) / 2])
    assert found.gradients[1].tolist() == pytest.approx([-(0.7 / 1.5 - 0.2) / 2, (0.7 / 1.5 - 0.2) / 2])


def test_parts_of_rank_sort_are_weighted_by_the_caller() -> None:
    logits, targets = scene(500, 60)
    ranking, sorting = rank_sort(logits, targets, 0.5).gradients
    logits.requires_grad_()
    loss = rank_sort_loss(logits, targets)
    (2 * loss.ranking - 3 * loss.sorting).backward()
    torch.testing.assert_close(logits.grad, 2 * ranking - 3 * sorting)
    assert sorting[targets <= 0].abs().max() == 0 and ranking[targets == 0].min() >= 0


def test_localisation_and_classification_have_gradients_of_their_own() -> None:
    logits, targets = scene(300, 40)
    logits.requires_grad_()
    errors = errors_of(targets).requires_grad_()
    loss = alrp_loss(logits, targets, errors)
    by_logit, by_error = torch.autograd.grad(loss.localisation, (logits, errors), retain_graph=True)
    assert by_logit.abs().max() == 0 and by_error.min() > 0
    by_logit, by_error = torch.autograd.grad(5 * loss.classification, (logits, errors))
    assert by_error.abs().max() == 0
    torch.testing.assert_close(by_logit, 5 * alrp(logits, targets, 1.0).gradients[0])
    # an ordinary derivative, and the loss is linear in the errors
    torch.testing.assert_close((errors * alrp(logits, targets, 1.0).by_error).sum(), loss.localisation)


def test_alrp_leaves_alone_what_is_ranked_well_enough() -> None:
    """Up to 1e-5 false positives count as none in the official code."""
    for false_positives, updated in ((0.9e-5, False), (1.1e-5, True)):
        logits = torch.tensor([0.0, false_positives - 0.5], dtype=torch.float64)
        found = alrp(logits, torch.tensor([0.5, 0.0], dtype=torch.float64), 0.5)
        assert found.parts[0] == pytest.approx(false_positives, rel=1e-4)
        assert bool(found.gradients[0].any()) is updated


@by_name
def test_updates_take_from_the_positives_what_they_give_to_the_others(name: str) -> None:
    for gradient in LOSSES[name](*scene(700, 90, 30), 0.5).gradients:
        assert gradient.sum().item() == pytest.approx(0, abs=1e-14) and gradient.abs().max() > 1e-4


NOTHING = {
    "no positives": torch.zeros(6, dtype=torch.float64),
    "all ignored": torch.full((6,), -1.0, dtype=torch.float64),
    "no logits": torch.zeros(0, dtype=torch.float64),
}


@by_name
def test_without_positives_the_loss_is_zero_and_attached(name: str) -> None:
    for kind, targets in NOTHING.items():
        found = LOSSES[name](torch.linspace(-3, 3, len(targets)), targets, 0.5)
        assert found.parts == [0.0] * len(found.parts), kind
        assert all(gradient.shape == targets.shape and not gradient.any() for gradient in found.gradients), kind


@by_name
def test_ignored_entries_change_nothing(name: str) -> None:
    logits, targets = scene(400, 50, 80)
    counted = targets >= 0
    kept = LOSSES[name](logits[counted], targets[counted], 0.5)
    elsewhere = torch.where(counted, logits, -logits + 30)
    found = LOSSES[name](elsewhere, targets, 0.5)
    assert_same(Result(found.parts, [gradient[counted] for gradient in found.gradients], found.by_error), kept)
    assert all(not gradient[~counted].any() for gradient in found.gradients)


@by_name
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    logits, targets = special("ties")
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(5))
    whole, shuffled = LOSSES[name](logits, targets, 0.5), LOSSES[name](logits[order], targets[order], 0.5)
    assert_same(Result(shuffled.parts, shuffled.gradients), Result(whole.parts, [g[order] for g in whole.gradients]))


@by_name
def test_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LOSSES[name](*special("plain"), 0.5)
    monkeypatch.setattr(window, "CHUNK", 13)
    assert_same(LOSSES[name](*special("plain"), 0.5), whole)


@by_name
def test_scores_that_are_not_numbers_are_not_passed_over(name: str) -> None:
    logits, targets = scene(50, 5)
    for place in (targets.argmax(), targets.argmin()):  # a positive, a negative
        broken = logits.clone()
        broken[place] = torch.nan
        assert torch.tensor(LOSSES[name](broken, targets, 0.5).parts[:1]).isnan().all()


@by_name
def test_half_logits_are_computed_wide(name: str) -> None:
    logits, targets = scene(2000, 100)
    for dtype in (torch.float16, torch.bfloat16):
        half = logits.to(dtype)
        found, expected = LOSSES[name](half, targets, 0.5), LOSSES[name](half.double(), targets, 0.5)
        assert found.parts == pytest.approx(expected.parts, abs=1e-6), dtype
        assert all(gradient.dtype == dtype for gradient in found.gradients), dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(LOSSES[name](logits, targets, 0.5), LOSSES[name](logits.clone(), targets, 0.5))


def test_types_of_the_losses() -> None:
    for dtype, expected in ((torch.float16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2):
        logits, targets = (tensor.to(dtype) for tensor in scene(20, 3))
        errors = errors_of(targets)
        losses = (ap_loss(logits, targets), *rank_sort_loss(logits, targets), *alrp_loss(logits, targets, errors))
        assert [(loss.dtype, loss.shape) for loss in losses] == [(expected, ())] * 5


@by_name
def test_float32_is_as_good_as_float64_on_two_million(name: str) -> None:
    logits, targets = (tensor.float() for tensor in scene(2_000_000, 300))
    wide = LOSSES[name](logits.double(), targets.double(), 0.5)
    assert_same(LOSSES[name](logits, targets, 0.5), wide, tolerance=1e-5)


def test_wrong_arguments() -> None:
    three = torch.zeros(3)
    for logits, targets, delta, message in (
        (
            torch.zeros(2, 3),
            torch.zeros(2, 3),
            0.5,
            r"Expected float logits .* but got torch.float32 of shape \(2, 3\)",
        ),
        (three.long(), three, 0.5, r"Expected float logits .* but got torch.int64"),
        (three, torch.zeros(4), 0.5, r"Expected (targets|labels) of shape \(3,\), as logits, but got \(4,\)"),
        (three, three, 0.0, "Expected delta above 0 but got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            rank_sort_loss(logits, targets, delta=delta)
        with pytest.raises(ValueError, match=message):
            ap_loss(logits, targets, delta=delta)
        with pytest.raises(ValueError, match=message):
            alrp_loss(logits, targets, torch.zeros(0), delta=delta)


def test_one_localisation_error_for_each_positive() -> None:
    with pytest.raises(ValueError, match=r"Expected localisation errors of shape \(2,\), .* but got \(3,\)"):
        alrp_loss(torch.zeros(3), torch.tensor([1, 0, 1]), torch.zeros(3))
