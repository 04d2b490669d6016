"""What a search varies: the table of YOLOv5, limits of one's own, and curves that always rise."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from optuna.trial import FixedTrial

from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.errors import UserError
from utils.search.control_points import (
    CURVES,
    X_LIMITS,
    Y_LIMITS,
    ControlPointSpace,
    control_points,
    quantiles_of,
    rising,
)
from utils.search.space import LIMITS, hyp_space

# Gain, low, high of YOLOv5's --evolve; a gain of 0 is never mutated.
EVOLVE = """
lr0 1 1e-5 .1; lrf 1 .01 1; momentum .3 .6 .98; weight_decay 1 0 .001; warmup_epochs 1 0 5; warmup_momentum 1 0 .95;
warmup_bias_lr 1 0 .2; box 1 .02 .2; cls 1 .2 4; cls_pw 1 .5 2; obj 1 .2 4; obj_pw 1 .5 2; anchor_t 1 2 8;
anchors 2 2 10; fl_gamma 0 0 2; hsv_h 1 0 .1; hsv_s 1 0 .9; hsv_v 1 0 .9; degrees 1 0 45; translate 1 0 .9;
scale 1 0 .9; shear 1 0 10;
perspective 0 0 .001; flipud 1 0 1; fliplr 0 0 1; mosaic 1 0 1; mixup 1 0 1; copy_paste 1 0 1
"""
BASE = Hyperparameters().to_mapping()


class UniformTrial:
    """Draws by a generator, evenly or by factors, and remembers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.drawn = rng, {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        edges = np.log((low, high)) if log else (low, high)
        value = self.rng.uniform(*edges)
        self.drawn[name] = math.exp(value) if log else value
        return self.drawn[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.drawn[name] = int(self.rng.integers(low, high, endpoint=True))
        return self.drawn[name]


def test_the_limits_are_those_of_evolve() -> None:
    table = {}
    for entry in EVOLVE.split(";"):
        key, *numbers = entry.split()
        gain, low, high = map(float, numbers)
        table[key] = (low, high, gain > 0)
    assert {key: (entry.low, entry.high, entry.usual) for key, entry in LIMITS.items()} == table
    assert all(key in BASE for key in LIMITS)


def test_what_is_off_in_the_base_stays_off() -> None:
    space = hyp_space([], BASE)
    off = {"degrees", "shear", "flipud", "mixup", "copy_paste", "anchors"}  # zero, or null, in the defaults
    assert set(space.limits) == {key for key, entry in LIMITS.items() if entry.usual} - off
    on = load_hyperparameters("hyp.scratch-low.yaml", ["mixup=0.1", "anchors=3"]).to_mapping()
    assert set(hyp_space([], on).limits) == set(space.limits) | {"mixup", "anchors"}
    nothing = BASE | {key: 0.0 for key in LIMITS}
    with pytest.raises(UserError, match="every usual key is 0 in the base file; name some of lr0"):
        hyp_space([], nothing)


def test_draws_stay_within_the_limits_and_are_hyper_parameters() -> None:
    space = hyp_space(list(LIMITS), BASE)
    rng = np.random.default_rng(0)
    seen: dict[str, list[float]] = {}
    for _ in range(200):
        hyp = load_hyperparameters("hyp.scratch-low.yaml", space.overrides(UniformTrial(rng))).to_mapping()
        for key in LIMITS:
            seen.setdefault(key, []).append(hyp[key] or 0)
    for key, values in seen.items():
        low, high = LIMITS[key][:2]
        assert low <= min(values) and max(values) <= high
        assert max(values) > low + 0.9 * (high - low), f"{key} never comes near its upper limit"
    assert all(value == round(value) for value in seen["anchors"]) and len(set(seen["anchors"])) == 9
    # by factors: half of the learning rates are below the geometric mean of the limits
    assert 0.4 < np.mean(np.array(seen["lr0"]) < math.sqrt(1e-5 * 0.1)) < 0.6
    assert 0.4 < np.mean(np.array(seen["weight_decay"]) < 0.0005) < 0.6


def test_keys_with_limits_of_ones_own() -> None:
    base = load_hyperparameters({"loss": {"box": {"name": "inner", "of": "ciou", "ratio": 0.7}}}).to_mapping()
    space = hyp_space(["lr0", "mixup", "loss.box.ratio=0.5:1.5", "box=0.1:0.4"], base)
    assert {key: entry[:2] for key, entry in space.limits.items()} == {
        **{"lr0": (1e-5, 0.1), "mixup": (0.0, 1.0)},
        **{"loss.box.ratio": (0.5, 1.5), "box": (0.1, 0.4)},
    }
    assert space.start() == {"lr0": 0.01, "mixup": 0.0, "loss.box.ratio": 0.7, "box": 0.1}, "0.05 is below 0.1"
    assert space.describe()["loss.box.ratio"] == "0.5:1.5"
    values = {"lr0": 0.0123456789, "mixup": 0.5, "loss.box.ratio": 0.9, "box": 0.2}
    assert space.overrides(FixedTrial(values)) == ["lr0=0.012346", "mixup=0.5", "loss.box.ratio=0.9", "box=0.2"]
    hyp = load_hyperparameters({"loss": base["loss"]}, space.overrides(FixedTrial(values)))
    assert hyp.loss.box == {"name": "inner", "of": "ciou", "ratio": 0.9} and hyp.lr0 == 0.012346


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("momentun", r"--keys: unknown hyper-parameter 'momentun'. Known: .* Did you mean 'momentum'\?"),
        ("label_smoothing", r"label_smoothing has no usual limits: expected label_smoothing=LOW:HIGH"),
        ("iou_t", "nothing reads iou_t"),
        ("lr0=0.1", r"expected KEY or KEY=LOW:HIGH, for example lr0=0.001:0.1, but got 'lr0=0.1'"),
        ("lr0=0.1:0.01", "expected LOW below HIGH, both finite"),
        ("lr0=0:inf", "expected LOW below HIGH, both finite"),
        ("anchors=2.5:4", "expected whole numbers for anchors"),
    ],
)
def test_keys_that_cannot_be_searched(key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hyp_space([key], BASE)
    with pytest.raises(UserError, match="lr0 is given twice"):
        hyp_space(["lr0", "lr0=0.1:0.2"], BASE)


def check_curves(curves: dict[str, list[list[float]]]) -> None:
    assert tuple(curves) == CURVES
    for points in curves.values():
        assert len(points) == 6 and points[0] == [0, 0] and points[-1] == [1, 1]
        assert all(x < next_x and y <= next_y for (x, y), (next_x, next_y) in pairwise(points))


def test_curves_rise_whatever_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        check_curves(control_points(UniformTrial(rng)))
    for x in X_LIMITS:
        for y in Y_LIMITS:  # the corners of what can be drawn
            edge = {
                f"{curve}.{axis}{i}": x if axis == "x" else y for curve in CURVES for axis in "xy" for i in range(1, 5)
            }
            check_curves(control_points(FixedTrial(edge)))
            assert control_points(FixedTrial(edge))["H1"][1][1] > 0


def test_each_coordinate_is_a_fraction_of_the_interval_left() -> None:
    """By hand, for quantiles 7/8, 8/9, 3/4 of three points.

    Fractions f = 1 - (1 - q)^(1/k) for k = 3, 2, 1: 1 - (1/8)^(1/3) = 1/2, 1 - (1/9)^(1/2) = 2/3, 3/4.
    Coordinates: 1/2, 1/2 + 1/2 * 2/3 = 5/6, 5/6 + 1/6 * 3/4 = 23/24.
    """
    assert rising([7 / 8, 8 / 9, 3 / 4]) == pytest.approx([1 / 2, 5 / 6, 23 / 24], abs=1e-6)
    assert rising([0.0, 0.0]) == [0, 0] and rising([1.0, 0.3]) == [1, 1]


def test_fractions_have_the_means_of_the_paper_and_no_leaning() -> None:
    grid = (np.arange(20000) + 0.5) / 20000
    for left, mean in zip((4, 3, 2, 1), (1 / 5, 1 / 4, 1 / 3, 1 / 2), strict=True):
        assert np.mean([rising([q] + [0.0] * (left - 1))[0] for q in grid[:: 4 * left]]) == pytest.approx(
            mean, abs=1e-3
        )
    rng = np.random.default_rng(1)
    drawn = np.array([rising(rng.random(4)) for _ in range(4000)])
    sorted_uniform = np.sort(rng.random((4000, 4)), axis=1)
    assert (
        np.abs(np.quantile(drawn, grid[::1000], axis=0) - np.quantile(sorted_uniform, grid[::1000], axis=0)).max()
        < 0.03
    )


def test_the_search_of_curves_starts_at_straight_lines() -> None:
    space = ControlPointSpace(box_gain=0.05)
    start = space.start()
    assert len(start) == 5 * 8 + 1
    for points in control_points(FixedTrial(start)).values():
        assert np.array(points) == pytest.approx(np.array([[k / 5, k / 5] for k in range(6)]), abs=1e-6)
    assert quantiles_of([1 / 2, 5 / 6, 23 / 24]) == pytest.approx([7 / 8, 8 / 9, 3 / 4])
    assert quantiles_of([0.3, 1.0, 1.0])[1:] == [1, 1]
    score, balance, curves, box = space.overrides(FixedTrial(start | {"gradient_scale": 4.0}))
    assert (score, balance, box) == ("loss.score=parameterized_ap", "loss.self_balance=false", "box=0.2")
    assert curves.startswith("loss.control_points=[[[0.0, 0.0], [0.2, 0.2], [0.4, 0.4], ")


def test_the_search_of_curves_starts_at_those_of_the_base() -> None:
    published = load_hyperparameters("hyp.pap-published.yaml").loss.control_points
    start = ControlPointSpace(0.05, published).start()
    assert np.array(list(control_points(FixedTrial(start)).values())) == pytest.approx(np.array(published), abs=2e-6)
    fewer = [*published[:4], [[0, 0], [0.5, 0.5], [1, 1]]]
    with pytest.raises(UserError, match="expected 4 points between the ends of curve H1 to start from but got 1"):
        ControlPointSpace(0.05, fewer).start()
