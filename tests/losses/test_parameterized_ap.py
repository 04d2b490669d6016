"""Parameterized AP loss: the paper's numbers, the formula over the matrix of all pairs, limits, memory."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cases import case
from tests.golden import case_names, load_cases
from utils.errors import UserError
from utils.losses import parameterized_ap_loss
from utils.losses.ranking import step_sums
from utils.losses.ranking.parameterized_ap import FORMS

IDENTITY = [[[0, 0], [1, 1]]] * 5
CURVES = [
    [[0, 0], [0.4, 0.05], [0.7, 0.3], [1, 1]],
    [[0, 0], [0.2, 0.5], [1, 1]],
    [[0, 0], [0.3, 0.1], [0.35, 0.7], [0.6, 0.7], [1, 1]],
    [[0, 0], [1, 1]],
    [[0, 0], [0.41, 0.08], [0.43, 0.6], [1, 1]],
]


def scene(
    num_negatives: int = 150,
    num_positives: int = 20,
    num_ignored: int = 15,
    scale: float = 1.5,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, IoUs and labels in random order; positives stand somewhat higher."""
    generator = torch.Generator().manual_seed(num_negatives)
    labels = torch.cat([torch.full((n,), v) for n, v in ((num_negatives, 0), (num_positives, 1), (num_ignored, -1))])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    logits = scale * (torch.randn(len(labels), generator=generator, dtype=torch.float64) + (labels == 1))
    ious = torch.where(labels == 1, 0.1 + 0.85 * torch.rand(len(labels), generator=generator), 0)
    return logits.to(dtype).requires_grad_(), ious.to(dtype).requires_grad_(), labels


def curve_at(x: Tensor, points: list[list[float]]) -> Tensor:
    """Piecewise linear, piece by piece; a corner belongs to the piece on its right."""
    height = (x >= 1).to(x.dtype)
    for (x0, y0), (x1, y1) in pairwise(points):
        height = torch.where((x >= x0) & (x < x1), y0 + (y1 - y0) / (x1 - x0) * (x - x0), height)
    return height


def loss_by_the_formula(logits: Tensor, ious: Tensor, labels: Tensor, points: list, form: str) -> Tensor:
    """The definition, all pairs in one matrix; autograd differentiates it."""
    logits, ious, positive = logits[labels >= 0], ious[labels >= 0], labels[labels >= 0] == 1
    above = logits - logits[positive][:, None]  # (P, N)
    steps = (above / 2 + 0.5).clamp(0, 1)
    if form == "searched":
        h2, i2, i3, i1, h1 = points
        false_steps, all_steps = curve_at(steps, h2), curve_at(steps, h1)
        truth, weight, earning = (curve_at(ious, curve) for curve in (i2, i3, i1))
    else:
        functions = {"linear": lambda v: v, "square": lambda v: v**2, "sigmoid": lambda v: (2 * v - 1).sigmoid()}
        false_steps = all_steps = above.sigmoid() if form == "sigmoid" else functions[form](steps)
        truth = weight = earning = functions[form](ious)
    false = (false_steps * (1 - truth)).sum(dim=1)
    return (1 - earning[positive] + weight[positive] * false / all_steps.detach().sum(dim=1)).mean()


def with_gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("form", FORMS)
def test_golden(form: str) -> None:
    cases = load_cases("parameterized_ap.npz")
    for name, (dtype, tolerance) in product(
        case_names("parameterized_ap.npz"), ((torch.float64, 1e-8), (torch.float32, 1e-4))
    ):
        with case(name, dtype):
            golden, expected = cases[name], cases[f"{name}/{form}"]
            logits, ious = (torch.tensor(golden[key], dtype=dtype, requires_grad=True) for key in ("logits", "iou"))
            points = cases[""]["control_points"]
            loss = parameterized_ap_loss(logits, ious, torch.tensor(golden["labels"]), points, form=form)
            loss.backward()
            assert loss.dtype == dtype and loss.item() == pytest.approx(expected["loss"].item(), abs=tolerance)
            for leaf, key in ((logits, "grad_logits"), (ious, "grad_iou")):
                assert np.abs(leaf.grad.numpy() - expected[key]).max() <= tolerance * np.abs(expected[key]).max()


COUNTS = {
    "many": (150, 20, 15),
    "one positive": (400, 1, 0),
    "no negatives": (0, 30, 0),
    "one positive alone": (0, 1, 0),
    "one pair": (1, 1, 0),
    "no negatives but ignored": (0, 2, 9),
}


@pytest.mark.parametrize("form", FORMS)
def test_formula(form: str) -> None:
    for name, scale in product(COUNTS, (0.01, 1.5, 1e4)):
        logits, ious, labels = scene(*COUNTS[name], scale=scale)
        found, expected = (
            with_gradients(compute(logits, ious, labels, CURVES, form=form), logits, ious)
            for compute in (parameterized_ap_loss, loss_by_the_formula)
        )
        with case(name, scale):
            for mine, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_equal_logits(form: str) -> None:
    """Ties of positives with positives and negatives, off the corners, where one slope is as right as another."""
    logits, ious, labels = scene()
    logits = (2 * logits.detach()).round().div(6.5).requires_grad_()
    found, expected = (
        with_gradients(compute(logits, ious, labels, CURVES, form=form), logits, ious)
        for compute in (parameterized_ap_loss, loss_by_the_formula)
    )
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_one_positive_and_one_negative_by_hand() -> None:
    """IoU 1/2, so that 1/2 is not earned, and 1/2 is the weight of the false share, which for equal logits is

    (1/2 * 1/2 of the positive itself + 1/2 * 1 of the negative) / (1/2 + 1/2) = 3/4, and 1/2 for a positive far above.
    """
    logits, ious, labels = torch.tensor([0.3, 0.3]), torch.tensor([0.5, 0.0]), torch.tensor([1, 0])
    assert parameterized_ap_loss(logits, ious, labels, None, form="linear").item() == pytest.approx(0.875)
    separated = parameterized_ap_loss(torch.tensor([3.0, 0.3]), ious, labels, None, form="linear")
    assert separated.item() == pytest.approx(0.5 + 0.5 * 0.5)


def test_straight_curves_are_the_linear_form() -> None:
    logits, ious, labels = scene()
    straight = with_gradients(parameterized_ap_loss(logits, ious, labels, IDENTITY), logits, ious)
    linear = with_gradients(parameterized_ap_loss(logits, ious, labels, None, form="linear"), logits, ious)
    for mine, theirs in zip(straight, linear, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_perfect_detections_cost_nothing() -> None:
    logits, labels = torch.tensor([5.0, -4.0, 3.0, -3.0, -9.0]), torch.tensor([1, 0, 1, 0, 0])
    for form in ("searched", "linear", "square"):
        loss = parameterized_ap_loss(logits, labels.float(), labels, CURVES, form=form)
        assert loss.item() == pytest.approx(0, abs=1e-6), form


@pytest.mark.parametrize("form", FORMS)
def test_without_positives_the_loss_is_zero_and_attached(form: str) -> None:
    for labels in ([], [0, 0, 0], [0, -1, -1], [-1]):
        logits, ious = (torch.linspace(0, 1, len(labels)).requires_grad_() for _ in range(2))
        loss = parameterized_ap_loss(logits, ious, torch.tensor(labels), CURVES, form=form)
        loss.backward()
        assert loss.shape == () and loss.item() == 0, labels
        assert logits.grad.tolist() == ious.grad.tolist() == [0] * len(labels)


@pytest.mark.parametrize("form", FORMS)
def test_ignored_samples_do_not_exist(form: str) -> None:
    logits, ious, labels = scene()
    grads = with_gradients(parameterized_ap_loss(logits, ious, labels, CURVES, form=form), logits, ious)
    ignored = labels == -1
    assert not grads[1][ignored].any() and not grads[2][ignored].any()
    rest = [values.detach()[~ignored].requires_grad_() for values in (logits, ious)]
    alone = with_gradients(parameterized_ap_loss(*rest, labels[~ignored], CURVES, form=form), *rest)
    torch.testing.assert_close([grads[0], *(grad[~ignored] for grad in grads[1:])], alone)
    wild = torch.where(ignored, torch.nan, logits)
    assert parameterized_ap_loss(wild, ious, labels, CURVES, form=form).item() == pytest.approx(grads[0].item())


@pytest.mark.parametrize("form", FORMS)
def test_descent_ranks_and_localises(form: str) -> None:
    logits, ious, labels = scene(dtype=torch.float32)
    offsets = ious.detach().clamp(0.05, 0.95).logit().requires_grad_()
    positive = labels == 1
    optimizer = torch.optim.Adam([logits, offsets], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        overlap = torch.where(positive, offsets.sigmoid(), 0)
        loss = parameterized_ap_loss(logits, overlap, labels, CURVES, form=form)
        loss.backward()
        optimizer.step()
    assert logits[positive].min() > logits[labels == 0].median()
    assert overlap[positive].mean() > ious[positive].mean() + 0.2


@pytest.mark.parametrize("form", FORMS)
def test_order_does_not_matter(form: str) -> None:
    logits, ious, labels = scene()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    loss = parameterized_ap_loss(logits, ious, labels, CURVES, form=form)
    shuffled = parameterized_ap_loss(logits[order], ious[order], labels[order], CURVES, form=form)
    assert shuffled.item() == pytest.approx(loss.item(), abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_widened_also_under_autocast(form: str) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        logits, ious, labels = scene(dtype=dtype)
        expected = parameterized_ap_loss(logits.float(), ious.float(), labels, CURVES, form=form)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = parameterized_ap_loss(logits, ious, labels, CURVES, form=form)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.item() == expected.item(), dtype
        assert logits.grad.dtype == ious.grad.dtype == dtype
        assert logits.grad.isfinite().all() and logits.grad.any(), dtype


@pytest.mark.parametrize("form", FORMS)
def test_single_precision_on_many_samples(form: str) -> None:
    logits, ious, labels = scene(60_000, 30, 0)
    wide = with_gradients(parameterized_ap_loss(logits, ious, labels, CURVES, form=form), logits, ious)
    leaves = [values.detach().float().requires_grad_() for values in (logits, ious)]
    narrow = with_gradients(parameterized_ap_loss(*leaves, labels, CURVES, form=form), *leaves)
    for mine, theirs in zip(narrow, wide, strict=True):
        assert (mine - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_a_number_stays_visible(form: str) -> None:
    logits, ious, labels = scene()
    for label in (0, 1):
        wrong = logits.detach().clone()
        wrong[(labels == label).nonzero()[3]] = torch.nan
        assert parameterized_ap_loss(wrong, ious, labels, CURVES, form=form).isnan(), label


class LargestTensor(TorchDispatchMode):
    """Notes the largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for entry in result if isinstance(result, tuple | list) else [result]:
            if isinstance(entry, Tensor):
                self.size = max(self.size, entry.untyped_storage().nbytes() // entry.element_size())
        return result


@pytest.mark.parametrize("form", FORMS)
def test_no_matrix_of_pairs(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, over 4000 samples and 500 positives: nothing larger than a few times their sum."""
    monkeypatch.setattr(step_sums, "PAIRS_AT_A_TIME", 4000)
    logits, ious, labels = scene(3500, 500, 0)
    with LargestTensor() as largest:
        parameterized_ap_loss(logits, ious, labels, CURVES, form=form).backward()
    assert 4000 <= largest.size <= 3 * (4000 + 500)


def test_errors() -> None:
    logits, ious, labels = scene(5, 3, 0)
    with pytest.raises(
        UserError, match=r"unknown form of the parameterized AP loss 'serched'.*Did you mean 'searched'"
    ):
        parameterized_ap_loss(logits, ious, labels, CURVES, form="serched")
    with pytest.raises(
        UserError, match="expected control_points, five curves in the order H2, I2, I3, I1, H1, but got"
    ):
        parameterized_ap_loss(logits, ious, labels, None)
    with pytest.raises(ValueError, match=r"of one shape \(N,\) but got \(8,\), \(8,\), \(7,\)"):
        parameterized_ap_loss(logits, ious, labels[:7], CURVES)
    with pytest.raises(ValueError, match=r"of one shape \(N,\) but got \(1, 8\)"):
        parameterized_ap_loss(logits[None], ious[None], labels[None], CURVES)
