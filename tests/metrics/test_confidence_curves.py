"""Precision, recall and F1 against the confidence, and the thresholds taken from them."""

from __future__ import annotations

import numpy as np
import pytest

from utils.metrics.confidence_curves import CONFIDENCE_POINTS, confidence_curves
from utils.metrics.outcomes import Outcomes


def random_outcomes(seed: int, digits: int | None = None) -> Outcomes:
    """Three classes: many detections, none, objects absent. With ``digits`` the scores repeat."""
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 2], [80, 30])
    scores = rng.random(110) if digits is None else rng.random(110).round(digits)
    order = np.lexsort((-scores, classes))
    scores, classes = scores[order], classes[order]
    correct = (classes == 0) & (rng.random(110) < scores)
    iou = np.where(correct, rng.uniform(0.5, 1, 110), 0.0)
    return Outcomes(scores, classes, correct, iou, np.array([60, 5, 0]))


def test_at_its_own_scores_a_curve_counts():
    # Scores that lie on the axis itself need no interpolation: count what is kept.
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(1000, 40, replace=False))[::-1]
    correct = rng.random(40) < 0.6
    scores, iou = CONFIDENCE_POINTS[places], np.where(correct, 0.9, 0.0)
    curves = confidence_curves(Outcomes(scores, np.zeros(40, dtype=np.int64), correct, iou, np.array([30])))
    for place in places:
        kept = correct[scores >= CONFIDENCE_POINTS[place]]
        precision, recall = kept.mean(), kept.sum() / 30
        assert curves.precision[0, place] == pytest.approx(precision)
        assert curves.recall[0, place] == pytest.approx(recall)
        assert curves.f1[0, place] == pytest.approx(2 * precision * recall / max(precision + recall, 1e-16))


def test_above_every_score_nothing_is_found_and_nothing_is_wrong():
    curves = confidence_curves(Outcomes(np.array([0.5]), np.array([0]), np.array([True]), np.ones(1), np.array([1])))
    above = CONFIDENCE_POINTS > 0.5
    assert set(curves.recall[0, above]) == {0.0} and set(curves.precision[0, above]) == {1.0}
    assert set(curves.recall[0, ~above]) == {1.0} and set(curves.f1[0, above]) == {0.0}


def test_classes_without_detections_or_without_objects():
    curves = confidence_curves(random_outcomes(1))
    assert not curves.precision[1].any() and not curves.f1[1].any()
    assert np.isnan(curves.recall[2]).all() and np.isnan(curves.f1_threshold[1:]).all()


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_the_threshold_of_the_best_f1_equals_a_loop(digits: int | None, scale: float):
    # Scores may all lie below 0.03, as after training by ranking: the threshold follows.
    outcomes = random_outcomes(2, digits)
    outcomes = outcomes._replace(scores=outcomes.scores * scale)
    own = outcomes.classes == 0
    best = {}
    for threshold in sorted(set(outcomes.scores[own]), reverse=True):
        kept = outcomes.correct[own & (outcomes.scores >= threshold)]
        best.setdefault(2 * kept.sum() / (len(kept) + 60), threshold)
    assert confidence_curves(outcomes).f1_threshold[0] == best[max(best)]


def test_the_best_confidence_is_that_of_the_smoothed_mean():
    # F1 is 1 in a needle at 0.9 and 0.95 on a broad plateau: the box filter of a tenth of the axis prefers the plateau.
    outcomes = random_outcomes(3)
    curves = confidence_curves(outcomes)
    mean = curves.f1[:2].mean(axis=0)
    smoothed = [np.take(mean, range(i - 50, i + 51), mode="clip").mean() for i in range(1000)]
    assert smoothed[curves.best] == pytest.approx(max(smoothed), abs=1e-12)
    assert mean.argmax() != curves.best


@pytest.mark.parametrize("place", [-9.0, 0.0, 9.0])
def test_precision_and_recall_do_not_depend_on_where_the_scores_lie(place: float):
    # Ranking losses train an order: all scores may lie below 0.001, or above 0.999.
    outcomes = random_outcomes(4)
    odds = np.linspace(2, -2, 110)[np.argsort(np.argsort(-outcomes.scores))] + place
    curves = confidence_curves(outcomes._replace(scores=1 / (1 + np.exp(-odds))))
    tp = np.cumsum(outcomes.correct[:80])
    best = (2 * tp / (np.arange(1, 81) + 60)).max()
    assert curves.f1[0, curves.best] == pytest.approx(best, abs=0.03)
    reached = curves.recall[0] > 0
    assert np.ptp(np.flatnonzero(reached)) > 500, "the curve fills its axis"
    assert (np.diff(curves.confidence) > 0).all()


def test_nothing_at_all():
    nothing, none = np.zeros(0), np.zeros(0, dtype=bool)
    curves = confidence_curves(Outcomes(nothing, np.zeros(0, dtype=np.int64), none, nothing, np.array([0, 0])))
    assert curves.best == 0 and np.isnan(curves.precision).all()
