"""Score losses: values by hand, limits, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from tests.cases import case
from utils.errors import UserError
from utils.losses import SCORE_LOSSES

NAMES = [name for name in SCORE_LOSSES if not SCORE_LOSSES.entry(name).ranking]


def logit(probability: float) -> torch.Tensor:
    return torch.tensor([math.log(probability / (1 - probability))], dtype=torch.float64)


BY_HAND = [
    # probability 0.8 for a positive: misses 0.2; for a negative: misses 0.8; for a target of 0.5: 0.5 of both
    ("bce", {}, 0.8, 1.0, -math.log(0.8)),
    ("bce", {}, 0.8, 0.0, -math.log(0.2)),
    ("bce", {}, 0.8, 0.5, -0.5 * math.log(0.8) - 0.5 * math.log(0.2)),
    ("focal", {}, 0.8, 1.0, 0.25 * 0.2**1.5 * -math.log(0.8)),
    ("focal", {}, 0.8, 0.0, 0.75 * 0.8**1.5 * -math.log(0.2)),
    ("focal", {"gamma": 2.0, "alpha": 0.4}, 0.8, 1.0, 0.4 * 0.2**2 * -math.log(0.8)),
    ("focal", {"gamma": 2.0}, 0.8, 0.5, 0.5 * 0.5**2 * (-0.5 * math.log(0.8) - 0.5 * math.log(0.2))),
    # distances of 0.8 to the targets 1, 0, 0.5
    ("qfocal", {}, 0.8, 1.0, 0.2**2 * -math.log(0.8)),
    ("qfocal", {}, 0.8, 0.0, 0.8**2 * -math.log(0.2)),
    ("qfocal", {"beta": 3}, 0.8, 0.5, 0.3**3 * (-0.5 * math.log(0.8) - 0.5 * math.log(0.2))),
    # a positive weighs its target, a negative alpha p^gamma
    ("varifocal", {}, 0.8, 1.0, -math.log(0.8)),
    ("varifocal", {}, 0.8, 0.5, 0.5 * (-0.5 * math.log(0.8) - 0.5 * math.log(0.2))),
    ("varifocal", {}, 0.8, 0.0, 0.75 * 0.8**2 * -math.log(0.2)),
    ("varifocal", {"alpha": 0.5, "gamma": 3}, 0.8, 0.0, 0.5 * 0.8**3 * -math.log(0.2)),
    # a positive weighs 1 and has the target y^gamma: 0.25^1.5 = 1/8; a negative weighs p^gamma
    ("mal", {}, 0.8, 1.0, -math.log(0.8)),
    ("mal", {}, 0.8, 0.25, -1 / 8 * math.log(0.8) - 7 / 8 * math.log(0.2)),
    ("mal", {}, 0.8, 0.0, 0.8**1.5 * -math.log(0.2)),
    ("mal", {"gamma": 2}, 0.8, 0.5, -1 / 4 * math.log(0.8) - 3 / 4 * math.log(0.2)),
]


def test_every_loss_has_values_by_hand() -> None:
    assert {name for name, *_ in BY_HAND} == set(NAMES)


def test_every_loss_is_documented() -> None:
    for info in map(SCORE_LOSSES.entry, SCORE_LOSSES):
        assert info.paper and info.formula and info.build.__doc__, info.name
        assert info.ranking or info.range == (0.0, float("inf")), info.name


@pytest.mark.parametrize("name", NAMES)
def test_values_by_hand(name: str) -> None:
    for _, parameters, probability, target, expected in (row for row in BY_HAND if row[0] == name):
        value = SCORE_LOSSES.build(name, **parameters)(logit(probability), torch.tensor([target], dtype=torch.float64))
        assert value.item() == pytest.approx(expected, rel=1e-12), (parameters, probability, target)


def test_focal_without_focus_is_half_of_cross_entropy() -> None:
    logits, targets = torch.linspace(-9, 9, 50), torch.linspace(0, 1, 50)
    flat = SCORE_LOSSES.build("focal", gamma=0, alpha=0.5)(logits, targets)
    assert torch.allclose(flat, functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") / 2)


def test_quality_focal_without_focus_is_cross_entropy_and_with_focus_least_at_the_target() -> None:
    logits, targets = torch.linspace(-9, 9, 50), torch.linspace(0, 1, 50)
    flat = SCORE_LOSSES.build("qfocal", beta=0)(logits, targets)
    assert torch.allclose(flat, functional.binary_cross_entropy_with_logits(logits, targets, reduction="none"))
    at_target = torch.tensor([0.3], dtype=torch.float64)
    assert SCORE_LOSSES.build("qfocal")(logit(0.3), at_target) == pytest.approx(0, abs=1e-12)


def test_quality_focal_of_a_hard_target_is_focal_loss_without_balance() -> None:
    logits = torch.linspace(-4, 4, 30)
    for label in (torch.zeros(30), torch.ones(30)):
        balanced = SCORE_LOSSES.build("focal", gamma=2, alpha=0.5)(logits, label)
        assert torch.allclose(SCORE_LOSSES.build("qfocal")(logits, label), 2 * balanced)


def test_without_focus_hard_targets_have_cross_entropy() -> None:
    logits, labels = torch.linspace(-5, 5, 40), (torch.arange(40) % 2).float()
    expected = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    for setting in ({"name": "varifocal", "alpha": 1, "gamma": 0}, {"name": "mal", "gamma": 0}):
        assert torch.allclose(SCORE_LOSSES.build_from(setting)(logits, labels), expected), setting


def test_a_confident_score_for_a_poor_box_costs_more_with_mal_than_with_varifocal() -> None:
    """The reason that MAL was made: IoU 0.1 and a score of 0.9."""
    poor = torch.tensor([0.1], dtype=torch.float64)
    assert SCORE_LOSSES.build("mal")(logit(0.9), poor) > 5 * SCORE_LOSSES.build("varifocal")(logit(0.9), poor)


def test_the_weight_of_a_negative_carries_no_gradient_in_mal_and_one_in_varifocal() -> None:
    negative = torch.zeros(1, dtype=torch.float64)
    slopes = {}
    for name in ("mal", "varifocal"):
        score = logit(0.4).requires_grad_()
        SCORE_LOSSES.build(name)(score, negative).backward()
        slopes[name] = score.grad.item()
    # d(-ln(1 - p)) is p with respect to the logit; with gradient, gamma (1 - p) times the loss comes on top
    assert slopes["mal"] == pytest.approx(0.4**1.5 * 0.4)
    assert slopes["varifocal"] == pytest.approx(0.75 * 0.4**2 * (0.4 + 2 * 0.6 * -math.log(0.6)))


def test_positive_weight_counts_for_positives_alone() -> None:
    logits, targets = torch.tensor([0.3, 0.3]), torch.tensor([1.0, 0.0])
    for name in NAMES:
        loss = SCORE_LOSSES.build(name)
        ratio = loss(logits, targets, positive_weight=3.0) / loss(logits, targets)
        assert ratio.tolist() == pytest.approx([3.0, 1.0]), name


@pytest.mark.parametrize("name", NAMES)
def test_gradient_and_extreme_logits(name: str) -> None:
    loss = SCORE_LOSSES.build(name)
    targets = torch.tensor([0.0, 1.0, 0.3, 0.7], dtype=torch.float64)
    logits = torch.tensor([-1.2, 0.4, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
    checked = targets if name != "mal" else targets.clamp(min=0.1)  # its negatives have a weight without gradient
    assert torch.autograd.gradcheck(lambda x: loss(x, checked), (logits,))
    extreme = torch.tensor([-1e4, -1e4, 1e4, 1e4], requires_grad=True)
    value = loss(extreme, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(extreme.grad).all() and value.min() >= 0


def test_focal_gradient_is_finite_where_the_probability_saturates() -> None:
    """The derivative of x^gamma is infinite at 0 for gamma below 1."""
    for gamma in (0.1, 0.5, 2.0):
        logits = torch.tensor([18.0, 200.0, -120.0], requires_grad=True)
        SCORE_LOSSES.build("focal", gamma=gamma)(logits, torch.tensor([1.0, 1.0, 0.0])).sum().backward()
        assert torch.isfinite(logits.grad).all() and logits.grad.abs().max() < 1e-3, gamma


def test_empty_precision_and_errors() -> None:
    for name in NAMES:
        with case(name):
            loss = SCORE_LOSSES.build(name)
            empty = torch.zeros(0, requires_grad=True)
            value = loss(empty, torch.zeros(0), reduction="mean")
            value.backward()
            assert value == 0
            assert loss(torch.zeros(3, dtype=torch.bfloat16), torch.zeros(3)).dtype == torch.float32
            with pytest.raises(ValueError, match=r"Expected targets of shape \(3,\), as logits, but got \(2,\)"):
                loss(torch.zeros(3), torch.zeros(2))


def test_wrong_parameters() -> None:
    for setting, message in (
        ({"name": "focall"}, r"unknown score loss 'focall'.*Did you mean 'focal'"),
        ({"name": "focal", "gamma": -1}, r"focal: gamma: expected a number of at least 0 but got -1"),
        ({"name": "focal", "alpha": 2}, r"focal: alpha: expected a number from 0 to 1 but got 2"),
        ({"name": "qfocal", "beta": 0.5}, r"qfocal: beta: expected 0 or a number of at least 1 but got 0\.5"),
        ({"name": "varifocal", "gamma": -1}, r"varifocal: gamma: expected a number of at least 0 but got -1"),
        ({"name": "varifocal", "alpha": -1}, r"varifocal: alpha: expected a number of at least 0 but got -1"),
        ({"name": "mal", "gamma": "big"}, r"mal: gamma: expected a number of at least 0 but got 'big'"),
        ({"name": "rs", "delta": 0}, r"rs: delta: expected a number above 0 but got 0"),
        ({"name": "alrp", "tau": 1}, r"alrp: tau: expected a number from 0 to 0\.999 but got 1"),
    ):
        with case(setting), pytest.raises(UserError, match=message):
            SCORE_LOSSES.build_from(setting)
