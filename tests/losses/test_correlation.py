"""Correlation losses: the papers' numbers, SciPy's coefficients as limits, what a projection is, undefined cases."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr
from torch import Tensor

from tests.golden import load_cases
from utils.errors import UserError
from utils.losses import correlation_loss
from utils.losses.correlation import CORRELATIONS, REGULARIZATIONS, soft_rank

CASES = ("n2", "n7", "n60", "n500", "ties")
STRENGTHS = ("1.0", "0.1", "0.01", "0.001", "0.0001")
LOSSES = ["pearson", "concordance", *(f"spearman/{strength}" for strength in STRENGTHS)]


def pair(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores and IoUs (count,) that agree somewhat, double precision."""
    generator = torch.Generator().manual_seed(seed)
    ious = torch.rand(count, generator=generator, dtype=torch.float64) * 0.7 + 0.2
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    return (2 * ious - 1 + noise).sigmoid(), ious


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_golden(name: str, case: str, dtype: torch.dtype, tolerance: float) -> None:
    cases = load_cases("correlation.npz")
    inputs, expected = cases[case], cases[f"{case}/{name}"]
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


@pytest.mark.parametrize("count", [2, 3, 60, 1000])
def test_spearman_between_its_limits(count: int) -> None:
    """Soft ranks are ranks where the strength is below every gap, and a straight line where all is one run."""
    scores, ious = pair(count)
    ranked = correlation_loss(scores, ious, "spearman", regularization_strength=1e-9)
    assert 1 - ranked.item() == pytest.approx(spearmanr(scores, ious)[0], abs=1e-12)
    straight = correlation_loss(scores, ious, "spearman", regularization_strength=1.0)
    assert 1 - straight.item() == pytest.approx(pearsonr(scores, ious)[0], abs=1e-12)


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


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("count", [20, 500])
def test_relative_soft_ranks_are_alive_and_follow_the_ranks_at_any_scale(count: int, scale: float) -> None:
    values = scale * pair(count)[0]
    ranks = rankdata(values) - (count + 1) / 2
    soft = soft_rank(values, regularization="relative").numpy()
    assert 0.5 < (np.abs(soft - ranks) > 1e-9).mean() < 0.95
    assert np.corrcoef(soft, ranks)[0, 1] > 0.99
    assert np.allclose(soft, soft_rank(values / scale, regularization="relative").numpy())


@pytest.mark.parametrize("strength", [0.02, 0.2, 0.6, 3.0])
def test_soft_rank_is_the_projection_onto_the_permutahedron(strength: float) -> None:
    """The point is a mixture of the permutations (majorisation), and no permutation lies on the far side of it."""
    values = np.array([0.31, 0.30, 0.9, 0.1, 0.55])
    target = values / strength
    point = soft_rank(torch.from_numpy(values), strength).numpy() + 3
    largest_first = np.sort(point)[::-1].cumsum()
    assert (largest_first <= np.cumsum([5, 4, 3, 2, 1]) + 1e-12).all() and largest_first[-1] == pytest.approx(15)
    vertices = np.array(list(permutations(range(1, 6))))
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
@pytest.mark.parametrize("strength", [0.03, 0.3])
@pytest.mark.parametrize("regularization", REGULARIZATIONS)
def test_gradient(kind: str, strength: float, regularization: str) -> None:
    scores, ious = (values.requires_grad_() for values in pair(12, seed=3))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return correlation_loss(x, y, kind, regularization_strength=strength * 2, regularization=regularization)

    assert torch.autograd.gradcheck(loss, (scores, ious), eps=1e-7, atol=1e-5)
    assert loss(scores, ious).item() > 0.05


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("regularization", REGULARIZATIONS)
def test_descent_raises_the_rank_correlation(kind: str, regularization: str) -> None:
    scores, ious = pair(200)
    logits = scores.logit().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    before = spearmanr(scores, ious)[0]
    for _ in range(40):
        optimizer.zero_grad()
        correlation_loss(logits.sigmoid(), ious, kind, regularization=regularization).backward()
        optimizer.step()
    assert spearmanr(logits.detach(), ious)[0] > before + 0.2


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("regularization", REGULARIZATIONS)
@pytest.mark.parametrize(
    ("scores", "ious"),
    [
        ([], []),
        ([0.3], [0.7]),
        ([0.1] * 7, [0.2, 0.9, 0.4, 0.5, 0.3, 0.6, 0.8]),
        ([0.2, 0.9, 0.4, 0.5, 0.3, 0.6, 0.8], [0.1] * 7),
        ([0.1] * 7, [0.1] * 7),
        ([0.0, 0.0], [1.0, 1.0]),
    ],
    ids=["none", "one", "equal scores", "equal IoUs", "all equal", "zeros and ones"],
)
def test_undefined_correlations_cost_nothing(kind: str, regularization: str, scores: list, ious: list) -> None:
    for dtype in (torch.float32, torch.float64):
        x, y = (torch.tensor(values, dtype=dtype, requires_grad=True) for values in (scores, ious))
        loss = correlation_loss(x, y, kind, regularization=regularization)
        loss.backward()
        assert loss.shape == () and loss.item() == 0
        assert x.grad.tolist() == [0] * len(scores) and y.grad.tolist() == [0] * len(ious)


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("count", [3, 3000])
def test_single_precision_of_scores_that_lie_close_together(kind: str, count: int) -> None:
    """Scores of a detector trained to rank: all within 1e-4 of 0.01. Thousands of ranks do not round them away."""
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


@pytest.mark.parametrize(
    ("kind", "regularization"), [("pearson", "absolute"), *(("spearman", name) for name in REGULARIZATIONS)]
)
def test_tiny_scores_keep_their_correlation(kind: str, regularization: str) -> None:
    scores, ious = (values.float() for values in pair(30))
    plain = correlation_loss(scores, ious, kind, regularization=regularization)
    tiny = correlation_loss(scores * 1e-30, ious, kind, regularization=regularization)  # the squares underflow
    assert tiny.item() == pytest.approx(plain.item(), abs=1e-5)


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_also_under_autocast(kind: str, dtype: torch.dtype) -> None:
    scores, ious = (values.to(dtype) for values in pair(40))
    expected = correlation_loss(scores.float(), ious.float(), kind)
    leaf = scores.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = correlation_loss(leaf, ious, kind)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == expected.item()
    assert leaf.grad.dtype == dtype and leaf.grad.isfinite().all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("regularization", REGULARIZATIONS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("strength", [1.0, 1e-6])
def test_what_is_not_finite_stays_visible(kind: str, regularization: str, wrong: float, strength: float) -> None:
    scores, ious = pair(5)
    settings = {"regularization": regularization, "regularization_strength": strength}
    for place in range(5):
        values = scores.clone()
        values[place] = wrong
        assert correlation_loss(values, ious, kind, **settings).isnan()


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
