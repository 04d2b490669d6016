"""Calibration errors against loops from their definitions, and maps that make scores mean probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from utils.errors import UserError
from utils.metrics import apply_calibration, apply_class_calibrations, fit_calibration, fit_class_calibrations
from utils.metrics.outcomes import Outcomes
from utils.metrics.reliability import reliability

KINDS = ("isotonic", "platt")


def random_outcomes(seed: int, n: int = 400) -> Outcomes:
    """Overconfident detections of two classes, a class without any, and one without objects."""
    rng = np.random.default_rng(seed)
    classes, scores = np.sort(rng.choice([0, 1, 3], n)), rng.random(n).round(2)
    order = np.lexsort((-scores, classes))
    scores = scores[order]
    correct = (rng.random(n) < scores**2) & (classes != 3)
    return Outcomes(scores, classes, correct, np.where(correct, rng.uniform(0.5, 1, n), 0), np.array([200, 200, 5, 0]))


def test_calibration_errors_by_hand():
    # Two detections of score 0.9, one right with IoU 0.8: precision 1/2, precision x mean IoU 0.4. Two of score 0.1,
    # both wrong. LaECE = 1/2 |0.9 - 0.4| + 1/2 |0.1 - 0|; D-ECE = 1/2 |0.9 - 0.5| + 1/2 |0.1 - 0|.
    scores, correct = np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False])
    iou = np.array([0.8, 0, 0, 0])
    outcomes = Outcomes(scores, np.zeros(4, dtype=np.int64), correct, iou, np.array([1]))
    counted = reliability(outcomes)
    assert counted.laece == pytest.approx(0.3)
    assert counted.d_ece == pytest.approx(0.25)
    kept = reliability(outcomes, thresholds=np.array([0.9]))
    assert (kept.laece, kept.d_ece) == (pytest.approx(0.5), pytest.approx(0.4))
    diagram = kept.diagram(0)
    full = np.flatnonzero(diagram["count"])
    assert full.tolist() == [22]  # 0.88 < 0.9 <= 0.92
    values = [diagram[name][22] for name in ("count", "confidence", "precision", "quality")]
    assert values == pytest.approx([2, 0.9, 0.5, 0.4])
    assert np.isnan(diagram["precision"][0])


def test_bins_hold_their_upper_edge():
    scores = np.array([1.0, 0.28, 0.04, 0.0])
    outcomes = Outcomes(scores, np.zeros(4, dtype=np.int64), np.zeros(4, dtype=bool), np.zeros(4), np.array([0]))
    assert np.flatnonzero(reliability(outcomes).count[0]).tolist() == [0, 6, 24]


def test_calibration_errors_equal_loops():
    outcomes = random_outcomes(0)
    counted, per_class, pooled = reliability(outcomes, num_bins=10), [], 0.0
    for index in (0, 1, 3):
        error, own = 0.0, outcomes.classes == index
        for k in range(10):
            inside = own & (outcomes.scores > k / 10) & (outcomes.scores <= (k + 1) / 10)
            inside |= own & (k == 0) & (outcomes.scores == 0)
            if inside.any():
                hits = inside & outcomes.correct
                quality = hits.sum() / inside.sum() * (outcomes.iou[hits].mean() if hits.any() else 0)
                error += inside.sum() / own.sum() * abs(outcomes.scores[inside].mean() - quality)
        per_class.append(error)
    for k in range(10):
        inside = (outcomes.scores > k / 10) & (outcomes.scores <= (k + 1) / 10) | (k == 0) & (outcomes.scores == 0)
        pooled += inside.mean() * abs(outcomes.scores[inside].mean() - outcomes.correct[inside].mean())
    np.testing.assert_allclose(counted.class_laece, [*per_class[:2], np.nan, per_class[2]])
    assert counted.laece == pytest.approx(np.mean(per_class))
    assert counted.d_ece == pytest.approx(pooled)


def test_thresholds_that_are_not_defined_drop_their_class():
    counted = reliability(random_outcomes(0), thresholds=np.array([0.5, np.nan, 0.5, np.nan]))
    assert counted.count.any(axis=1).tolist() == [True, False, False, False]
    assert counted.count[0].sum() == np.sum(random_outcomes(0).scores[random_outcomes(0).classes == 0] >= 0.5)
    nothing = reliability(random_outcomes(0), thresholds=np.full(4, np.nan))
    assert np.isnan([nothing.laece, nothing.d_ece]).all()


def test_isotonic_by_hand():
    # The two in the middle are in the wrong order and share their mean; between 0.3 and 0.4 the line rises.
    calibration = fit_calibration(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1]), "isotonic")
    found = apply_calibration(calibration, np.array([0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.9]))
    np.testing.assert_allclose(found, [0, 0, 0.5, 0.5, 0.5, 0.75, 1, 1])


def test_isotonic_gives_equal_scores_one_value():
    calibration = fit_calibration(np.array([0.5, 0.5, 0.5, 0.1]), np.array([1, 0, 1, 0]), "isotonic")
    np.testing.assert_allclose(apply_calibration(calibration, np.array([0.5, 0.1])), [2 / 3, 0])


def test_isotonic_probabilities_are_the_shares_of_right_ones():
    outcomes = random_outcomes(1)
    probabilities = apply_calibration(fit_calibration(outcomes.scores, outcomes.correct), outcomes.scores)
    for value in np.unique(probabilities):
        assert outcomes.correct[probabilities == value].mean() == pytest.approx(value)
    assert len(np.unique(probabilities)) > 5


def test_platt_finds_the_map_that_made_the_outcomes():
    rng = np.random.default_rng(0)
    scores = rng.random(40_000)
    outcomes = rng.random(40_000) < 1 / (1 + np.exp(-(2 * np.log(scores / (1 - scores)) - 1)))
    calibration = fit_calibration(scores, outcomes, "platt")
    assert calibration["slope"] == pytest.approx(2, abs=0.08)
    assert calibration["offset"] == pytest.approx(-1, abs=0.05)


def test_platt_stays_finite_and_keeps_the_order_where_the_data_do_not():
    scores = np.array([0.1, 0.2, 0.8, 1.0])
    clean = fit_calibration(scores, np.array([0, 0, 1, 1]), "platt")
    assert 0 < clean["slope"] < 100
    # Platt's targets are (0 + 1) / (2 + 2) and (2 + 1) / (2 + 2). At the highest likelihood the residuals add up to 0,
    # and so do their products with the log-odds.
    residual = apply_calibration(clean, scores) - np.array([1 / 4, 1 / 4, 3 / 4, 3 / 4])
    assert residual.sum() == pytest.approx(0, abs=1e-3)
    assert residual @ np.log(scores.clip(None, 1 - 1e-7) / (1 - scores.clip(None, 1 - 1e-7))) == pytest.approx(
        0, abs=1e-2
    )
    backwards = fit_calibration(np.array([0.1, 0.2, 0.8, 0.9]), np.array([1, 1, 0, 0]), "platt")
    assert backwards["slope"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_scores_is_kept(kind: str):
    outcomes = random_outcomes(2)
    calibration = fit_calibration(outcomes.scores, outcomes.correct, kind)
    probabilities = apply_calibration(calibration, np.linspace(0, 1, 1001))
    assert np.all(np.diff(probabilities) >= 0) and probabilities[0] >= 0 and probabilities[-1] <= 1
    assert probabilities[-1] > probabilities[0] + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_scores_have_a_small_error(kind: str):
    fitted, fresh = random_outcomes(3, 4000), random_outcomes(4, 4000)
    calibrations = fit_class_calibrations(fitted, kind)
    scores = apply_class_calibrations(calibrations, fresh.scores, fresh.classes)
    with_objects = fresh.classes != 3
    before = reliability(Outcomes(*(column[with_objects] for column in fresh[:4]), fresh.num_gt)).d_ece
    after = reliability(fresh._replace(scores=scores)._replace(classes=fresh.classes), np.array([0, 0, 0, 2.0])).d_ece
    assert before > 0.1
    assert after < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_cannot_be_judged_keep_their_scores(kind: str):
    calibrations = fit_class_calibrations(random_outcomes(5), kind)
    scores = np.linspace(0.01, 0.99, 9)
    for index in (2, 3):  # without detections, without objects
        np.testing.assert_allclose(apply_class_calibrations(calibrations, scores, np.full(9, index)), scores)


@pytest.mark.parametrize("kind", KINDS)
def test_calibrations_are_plain_data(kind: str):
    outcomes = random_outcomes(6)
    calibration = fit_calibration(outcomes.scores, outcomes.correct, kind)
    again = json.loads(json.dumps(calibration, allow_nan=False))
    assert again == calibration
    flat = [v for value in calibration.values() for v in (value if isinstance(value, list) else [value])]
    assert {type(value) for value in flat} == {str, float}
    np.testing.assert_array_equal(
        apply_calibration(again, outcomes.scores), apply_calibration(calibration, outcomes.scores)
    )


def test_what_cannot_be_right_is_refused():
    one = np.array([0.5])
    with pytest.raises(UserError, match=r"unknown calibration 'isotonik'.*Did you mean 'isotonic'"):
        fit_calibration(one, one, "isotonik")
    with pytest.raises(UserError, match="scores in"):
        fit_calibration(np.array([1.5]), one)
    with pytest.raises(UserError, match=r"\(1,\) and \(2,\)"):
        fit_calibration(one, np.zeros(2))
    with pytest.raises(UserError, match="hold slope"):
        apply_calibration({"kind": "platt", "offset": 0.0}, one)
    with pytest.raises(UserError, match="unknown calibration"):
        apply_calibration({}, one)
