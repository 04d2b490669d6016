"""The rank correlation between scores and IoUs of true positives, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.coco_sets import random_coco
from utils.metrics import read_coco
from utils.metrics.outcomes import Outcomes
from utils.metrics.score_iou_correlation import score_iou_correlation


def outcomes_of(scores: list[float], iou: list[float], classes: list[int], num_classes: int) -> Outcomes:
    """Detections with an IoU of 0 are wrong."""
    iou = np.array(iou)
    return Outcomes(np.array(scores), np.array(classes), iou > 0, iou, np.full(num_classes, 9))


def test_by_hand_and_wrong_detections_do_not_count():
    # Ranks of the scores 4 3 2 1, of the IoUs 3 4 2 1: 1 - 6 (1 + 1) / (4 (16 - 1)) = 0.8. Class 1 is turned round.
    scores, iou = [0.9, 0.8, 0.7, 0.5, 0.1], [0.7, 0.9, 0.0, 0.6, 0.55]
    outcomes = outcomes_of([*scores, 0.6, 0.2], [*iou, 0.6, 0.8], [0] * 5 + [1] * 2, 2)
    np.testing.assert_allclose(score_iou_correlation(outcomes), [0.8, -1.0])


def test_only_the_order_of_the_scores_counts():
    rng = np.random.default_rng(0)
    scores, iou = np.sort(rng.random(50))[::-1], rng.uniform(0.5, 1, 50)
    values = [
        score_iou_correlation(outcomes_of(some.tolist(), iou.tolist(), [0] * 50, 1))[0] for some in (scores, scores**9)
    ]
    assert values[0] == pytest.approx(values[1])
    assert values[0] == pytest.approx(spearmanr(scores, iou).statistic)


@pytest.mark.parametrize(
    ("scores", "iou"),
    [([], []), ([0.5], [0.7]), ([0.9, 0.5], [0.7, 0.0]), ([0.5, 0.5], [0.7, 0.8]), ([0.9, 0.5], [0.7, 0.7])],
)
def test_undefined(scores, iou):
    assert np.isnan(score_iou_correlation(outcomes_of(scores, iou, [0] * len(scores), 1))).tolist() == [True]


def test_an_evaluation_has_it_with_equal_scores_at_their_mean_rank():
    evaluator = read_coco(*random_coco(4))
    metrics, found = evaluator.compute(), evaluator.outcomes(0.5)
    expected = []
    for index in range(len(metrics.names)):
        own = found.correct & (found.classes == index)
        expected.append(spearmanr(found.scores[own], found.iou[own]).statistic)
    np.testing.assert_allclose(metrics.class_score_iou_correlation, expected)
    assert metrics.score_iou_correlation == pytest.approx(np.nanmean(expected))
    plain = metrics.to_dict()
    assert plain["score_iou_correlation"] == metrics.score_iou_correlation
    assert plain["classes"][0]["score_iou_correlation"] == expected[0]
