"""Correlation losses: the papers' numbers, SciPy's coefficients as limits, what a projection is, undefined cases."""

from __future__ import annotations

from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr
from torch import Tensor

from tests.cases import case
from tests.golden import case_names, load_cases
from utils.errors import UserError
from utils.losses import correlation_loss
from utils.losses.correlation import CORRELATIONS, REGULARIZATIONS, soft_rank

STRENGTHS = ("1.0", "0.1", "0.01", "0.001", "0.0001")
LOSSES = ["pearson", "concordance", *(f"spearman/{strength}" for strength in STRENGTHS)]


def pair(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores and IoUs (count,) that agree somewhat, double precision."""
    generator = torch.Generator().manual_seed(seed)
    ious = torch.rand(count, generator=generator, dtype=torch.float64) * 0.7 + 0.2
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    return (2 * ious - 1 + noise).sigmoid(), ious


@pytest.mark.parametrize("name", LOSSES)
def test_golden(name: str) -> None:
    cases = load_cases("correlation.npz")
    for title in case_names("correlation.npz"):
        for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 1e-4)):
            with case(title, dtype):
                compare_with_golden(name, cases[title], cases[f"{title}/{name}"], dtype, tolerance)


def compare_with_golden(name: str, inputs: dict, expected: dict, dtype: torch.dtype, tolerance: float) -> None:
    kind, _, strength = name.partition("/")
    logits = torch.tensor(inputs["logits"], dtype=dtype, requires_grad=True)
    ious = torch.tensor(inputs["iou"], dtype=dtype)
    loss = correlation_loss(logits.sigmoid(), ious, kind, regularization_strength=float(strength or 1))
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"].item(), abs=tolerance)
    # of two values the correlation is 1 and its gradient 0: there the papers' code has rounding errors of 1e-16
    largest = max(np.abs(expected["grad"]).max(), 1e-7)
    assert np.abs(logits.grad.numpy() - expected["grad"]).max() <= tolerance * largest


def test_pearson_is_scipys() -> None:
    scores, ious = pair(50)
    assert 1 - correlation_loss(scores, ious, "pearson").item() == pytest.approx(pearsonr(scores, ious)[0], abs=1e-12)


def test_concordance_from_the_formula() -> None:
    x, y = (values.tolist() for values in pair(9))
    mean_x, mean_y = sum(x) / 9, sum(y) / 9
    var_x, var_y = sum((v - mean_x) ** 2 for v in x) / 8, sum((v - mean_y) ** 2 for v in y) / 8
    correlation = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / 8 / (var_x * var_y) ** 0.5
    expected = 2 * correlation * (var_x * var_y) ** 0.5 / (var_x + var_y + (mean_x - mean_y) ** 2)
    assert 1 - correlation_loss(*pair(9), "concordance").item() == pytest.approx(expected, abs=1e-12)


def test_concordance_wants_equal_values_and_pearson_a_line() -> None:
    ious = torch.tensor([0.2, 0.5, 0.6, 0.9], dtype=torch.float64)
    assert correlation_loss(ious, ious, "concordance").item() == pytest.approx(0, abs=1e-15)
    assert correlation_loss(0.5 * ious + 0.1, ious, "pearson").item() == pytest.approx(0, abs=1e-15)
    assert correlation_loss(0.5 * ious + 0.1, ious, "concordance").item() > 0.1
    assert correlation_loss(-ious, ious, "pearson").item() == pytest.approx(2, abs=1e-15)


def test_spearman_between_its_limits() -> None:
    """Soft ranks are ranks where the strength is below every gap, and a straight line where all is one run."""
    for count in (2, 3, 60, 1000):
        scores, ious = pair(count)
        ranked = correlation_loss(scores, ious, "spearman", regularization_strength=1e-9)
        assert 1 - ranked.item() == pytest.approx(spearmanr(scores, ious)[0], abs=1e-12), count
        straight = correlation_loss(scores, ious, "spearman", regularization_strength=1.0)
        assert 1 - straight.item() == pytest.approx(pearsonr(scores, ious)[0], abs=1e-12), count


def test_relative_spearman_ranks_where_absolute_does_not() -> None:
    """Most scores crowd near 0."""
    generator = np.random.default_rng(1)
    ious = generator.random(800)
    scores = torch.from_numpy(np.exp(4 * ious + 0.3 * generator.standard_normal(800) - 7))
    ious = torch.from_numpy(ious)
    hard, straight = spearmanr(scores, ious)[0], pearsonr(scores, ious)[0]
    assert hard - straight > 0.15
    soft = {
        name: 1 - correlation_loss(scores, ious, "spearman", regularization=name).item() for name in REGULARIZATIONS
    }
    assert soft["absolute"] == pytest.approx(straight, abs=0.005)
    assert soft["relative"] == pytest.approx(hard, abs=0.04)


def test_relative_soft_ranks_are_alive_and_follow_the_ranks_at_any_scale() -> None:
    for count, scale in product((20, 500), (1e-3, 1.0, 50.0)):
        with case(count, scale):
            values = scale * pair(count)[0]
            ranks = rankdata(values) - (count + 1) / 2
            soft = soft_rank(values, regularization="relative").numpy()
            assert 0.5 < (np.abs(soft - ranks) > 1e-9).mean() < 0.95
            assert np.corrcoef(soft, ranks)[0, 1] > 0.99
            assert np.allclose(soft, soft_rank(values / scale, regularization="relative").numpy())


def test_soft_rank_is_the_projection_onto_the_permutahedron() -> None:
    """The point is a mixture of the permutations (majorisation), and no permutation lies on the far side of it."""
    values = np.array([0.31, 0.30, 0.9, 0.1, 0.55])
    vertices = np.array(list(permutations(range(1, 6))))
    for strength in (0.02, 0.2, 0.6, 3.0):
        target = values / strength
        point = soft_rank(torch.from_numpy(values), strength).numpy() + 3
        largest_first = np.sort(point)[::-1].cumsum()
        with case(strength):
            assert (largest_first <= np.cumsum([5, 4, 3, 2, 1]) + 1e-12).all()
            assert largest_first[-1] == pytest.approx(15)
            assert ((vertices - point) @ (target - point)).max() <= 1e-9


def test_soft_rank_by_hand() -> None:
    """0.8 and 1.0 are nearer than the strength 1 and share the places 2 and 3; 4.0 has the place 4, -5.0 the first."""
    values = torch.tensor([1.0, 4.0, 0.8, -5.0], dtype=torch.float64)
    assert (soft_rank(values) + 2.5).tolist() == pytest.approx([2.6, 4.0, 2.4, 1.0])


def test_equal_values_have_equal_soft_ranks_and_gradients() -> None:
    values = torch.tensor([0.5, 0.2, 0.5, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    ranks = soft_rank(values, 1e-6)
    assert ranks.tolist() == pytest.approx([0, -2, 0, 0, 2], abs=1e-9)
    (ranks * torch.tensor([1.0, 2, 1, 1, 3])).sum().backward()
    assert values.grad.tolist() == pytest.approx([0] * 5)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_gradient(kind: str) -> None:
    scores, ious = (values.requires_grad_() for values in pair(12, seed=3))
    for strength, regularization in product((0.06, 0.6), REGULARIZATIONS):
        settings = {"regularization_strength": strength, "regularization": regularization}
        loss = partial(correlation_loss, kind=kind, **settings)
        with case(strength, regularization):
            assert torch.autograd.gradcheck(loss, (scores, ious), eps=1e-7, atol=1e-5)
            assert loss(scores, ious).item() > 0.05


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_descent_raises_the_rank_correlation(kind: str) -> None:
    scores, ious = pair(200)
    before = spearmanr(scores, ious)[0]
    for regularization in REGULARIZATIONS:
        logits = scores.logit().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            correlation_loss(logits.sigmoid(), ious, kind, regularization=regularization).backward()
            optimizer.step()
        assert spearmanr(logits.detach(), ious)[0] > before + 0.2, regularization


SEVEN = [0.2, 0.9, 0.4, 0.5, 0.3, 0.6, 0.8]
UNDEFINED = {
    "none": ([], []),
    "one": ([0.3], [0.7]),
    "equal scores": ([0.1] * 7, SEVEN),
    "equal IoUs": (SEVEN, [0.1] * 7),
    "all equal": ([0.1] * 7, [0.1] * 7),
    "zeros and ones": ([0.0, 0.0], [1.0, 1.0]),
}


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_undefined_correlations_cost_nothing(kind: str) -> None:
    for name, regularization, dtype in product(UNDEFINED, REGULARIZATIONS, (torch.float32, torch.float64)):
        with case(name, regularization, dtype):
            x, y = (torch.tensor(values, dtype=dtype, requires_grad=True) for values in UNDEFINED[name])
            loss = correlation_loss(x, y, kind, regularization=regularization)
            loss.backward()
            assert loss.shape == () and loss.item() == 0
            assert x.grad.tolist() == [0] * len(x) and y.grad.tolist() == [0] * len(y)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_single_precision_of_scores_that_lie_close_together(kind: str) -> None:
    """Scores of a detector trained to rank: all within 1e-4 of 0.01. Thousands of ranks do not round them away."""
    for count in (3, 3000):
        with case(count):
            agree_in_single_precision(kind, count)


def agree_in_single_precision(kind: str, count: int) -> None:
    scores, ious = pair(count)
    scores = (0.01 + 1e-4 * (scores - 0.5)).float()
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf = scores.to(dtype, copy=True).requires_grad_()
        loss = correlation_loss(leaf, ious.to(dtype), kind)
        loss.backward()
        results.append((loss.item(), leaf.grad.double()))
    (single, single_grad), (double, double_grad) = results
    assert single == pytest.approx(double, abs=1e-5)
    assert torch.allclose(single_grad, double_grad, atol=1e-4 * double_grad.abs().max().item())


def test_tiny_scores_keep_their_correlation() -> None:
    scores, ious = (values.float() for values in pair(30))
    for kind, regularization in (("pearson", "absolute"), *(("spearman", name) for name in REGULARIZATIONS)):
        plain = correlation_loss(scores, ious, kind, regularization=regularization)
        tiny = correlation_loss(scores * 1e-30, ious, kind, regularization=regularization)  # the squares underflow
        assert tiny.item() == pytest.approx(plain.item(), abs=1e-5), (kind, regularization)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_half_precision_is_widened_also_under_autocast(kind: str) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        scores, ious = (values.to(dtype) for values in pair(40))
        expected = correlation_loss(scores.float(), ious.float(), kind)
        leaf = scores.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = correlation_loss(leaf, ious, kind)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.item() == expected.item(), dtype
        assert leaf.grad.dtype == dtype and leaf.grad.isfinite().all(), dtype


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", CORRELATIONS)
def test_what_is_not_finite_stays_visible(kind: str) -> None:
    scores, ious = pair(5)
    wrong_values = (float("nan"), float("inf"), -float("inf"))
    for regularization, strength, wrong, place in product(REGULARIZATIONS, (1.0, 1e-6), wrong_values, range(5)):
        values = scores.clone()
        values[place] = wrong
        settings = {"regularization": regularization, "regularization_strength": strength}
        assert correlation_loss(values, ious, kind, **settings).isnan(), (*settings.values(), wrong, place)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_order_of_the_positives_does_not_matter(kind: str) -> None:
    scores, ious = pair(100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(5))
    settings = {"kind": kind, "regularization": "relative"}
    shuffled = correlation_loss(scores[order], ious[order], **settings)
    assert shuffled.item() == pytest.approx(correlation_loss(scores, ious, **settings).item(), abs=1e-12)


def test_errors() -> None:
    scores, ious = pair(4)
    with pytest.raises(UserError, match=r"unknown correlation 'spearmann'\. Known: .*Did you mean 'spearman'"):
        correlation_loss(scores, ious, "spearmann")
    with pytest.raises(UserError, match=r"unknown regularization 'relativ'.*Did you mean 'relative'"):
        correlation_loss(scores, ious, "pearson", regularization="relativ")
    for strength in (0, -1.0, float("nan"), float("inf"), True, "1"):
        with pytest.raises(UserError, match="expected regularization_strength, a number above 0, but got"):
            correlation_loss(scores, ious, "spearman", regularization_strength=strength)
    with pytest.raises(ValueError, match=r"one shape \(P,\) but got \(4,\) and \(3,\)"):
        correlation_loss(scores, ious[:3], "pearson")
    with pytest.raises(ValueError, match=r"one shape \(P,\) but got \(2, 2\) and \(2, 2\)"):
        correlation_loss(scores.view(2, 2), ious.view(2, 2), "pearson")
