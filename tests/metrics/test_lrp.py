"""oLRP, its components and thresholds, against hand-made cases and loops over score thresholds."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from tests.coco_sets import pycocotools_evaluation, random_coco
from utils.metrics import read_coco
from utils.metrics.lrp import OptimalLRP, optimal_lrp
from utils.metrics.outcomes import Outcomes


def outcomes_of(scores: list[float], ious: list[float], num_gt: int) -> Outcomes:
    """One class, best score first; an IoU of 0 is a wrong detection."""
    iou = np.array(ious, dtype=np.float64)
    return Outcomes(np.array(scores), np.zeros(len(iou), dtype=np.int64), iou > 0, iou, np.array([num_gt]))


def values_of(lrp: OptimalLRP) -> list[float]:
    return [float(column[0]) for column in lrp[:5]]


def test_worked_by_hand():
    # Two objects; found at 0.9 with IoU 0.8 and at 0.4 exactly, a false alarm at 0.6 between. At tau 0.5:
    # keep one:   (0.2 / 0.5 + 0 FP + 1 FN) / 2 = 0.7
    # keep two:   (0.2 / 0.5 + 1 FP + 1 FN) / 3 = 0.8
    # keep three: (0.2 / 0.5 + 1 FP + 0 FN) / 3 = 0.467, the least.
    found = outcomes_of([0.9, 0.6, 0.4], [0.8, 0.0, 1.0], num_gt=2)
    assert values_of(optimal_lrp(found, 0.5)) == pytest.approx([1.4 / 3, 0.2 / 2, 1 / 3, 0.0, 0.4])
    # At tau 0.75 the distance counts fourfold: 0.9, 0.933, 0.6.
    assert values_of(optimal_lrp(found, 0.75)) == pytest.approx([1.8 / 3, 0.1, 1 / 3, 0.0, 0.4])


def test_the_threshold_leaves_false_alarms_out():
    # keep one: 0 + 0 + 1 FN of 2; keep all four: 2 FP + 1 FN of 4.
    found = outcomes_of([0.04, 0.03, 0.02, 0.01], [1.0, 0.0, 0.0, 0.0], num_gt=2)
    assert values_of(optimal_lrp(found, 0.5)) == pytest.approx([1 / 2, 0.0, 0.0, 1 / 2, 0.04])


def test_equal_scores_are_kept_together():
    # Cutting between the equal scores would give 0; no threshold can do that. Both kept: (0 + 1 FP) / 2.
    found = outcomes_of([0.5, 0.5], [1.0, 0.0], num_gt=1)
    assert values_of(optimal_lrp(found, 0.5)) == pytest.approx([1 / 2, 0.0, 1 / 2, 0.0, 0.5])


@pytest.mark.parametrize("scores", [[], [0.9]])
def test_nothing_right(scores: list[float]):
    values = values_of(optimal_lrp(outcomes_of(scores, [0.0] * len(scores), num_gt=3), 0.5))
    np.testing.assert_array_equal(values, [1.0, np.nan, np.nan, 1.0, np.nan])


def test_no_objects():
    assert np.isnan(values_of(optimal_lrp(outcomes_of([0.9], [0.0], num_gt=0), 0.5))).all()


def plain_lrp(gt: dict, detections: list[dict], tau: float) -> list[list[float]]:
    """The five numbers of each class: matches of pycocotools, then a loop over every score as threshold."""
    evaluation = pycocotools_evaluation(gt, detections)
    evaluation.params.iouThrs, evaluation.params.areaRng = np.array([tau]), [[0, 1e10]]
    with contextlib.redirect_stdout(io.StringIO()):
        COCOeval.evaluate(evaluation)
    numbers = []
    for category in evaluation.params.catIds:
        rows, num_gt = [], 0  # score, distance or None where wrong
        for image in (entry for entry in evaluation.evalImgs if entry and entry["category_id"] == category):
            num_gt += int(np.sum(image["gtIgnore"] == 0))
            key = image["image_id"], category
            column = {annotation["id"]: i for i, annotation in enumerate(evaluation._gts[key])}
            for row, score in enumerate(image["dtScores"]):
                if not image["dtIgnore"][0, row]:
                    taken = image["dtMatches"][0, row]
                    rows.append((score, 1 - evaluation.ious[key][row, column[taken]] if taken else None))
        numbers.append(least_error(rows, num_gt, tau))
    return numbers


def least_error(rows: list[tuple[float, float | None]], num_gt: int, tau: float) -> list[float]:
    nan = float("nan")
    if not num_gt:
        return [nan] * 5
    best = [1.0, nan, nan, 1.0, nan]
    if all(distance is None for _, distance in rows):
        return best
    for threshold in sorted({score for score, _ in rows}, reverse=True):
        kept = [distance for score, distance in rows if score >= threshold]
        distances = [distance for distance in kept if distance is not None]
        tp, fp, fn = len(distances), len(kept) - len(distances), num_gt - len(distances)
        error = (sum(distances) / (1 - tau) + fp + fn) / (tp + fp + fn)
        if error < best[0] - 1e-12:
            best = [error, sum(distances) / tp, fp / (tp + fp), fn / num_gt, threshold]
    return best


@pytest.mark.parametrize("tau", [0.3, 0.5, 0.75])
def test_random_sets_equal_a_loop_over_all_thresholds(tau: float):
    found_some = 0
    for seed in range(12):
        gt, detections = random_coco(seed)
        lrp = read_coco(gt, detections).optimal_lrp(tau)
        expected = np.array(plain_lrp(gt, detections, tau))
        np.testing.assert_allclose(np.stack(lrp[:5], axis=1), expected, atol=1e-9, err_msg=f"seed {seed}")
        found_some += int(np.sum(lrp.error < 1))
    assert found_some > 10


def test_the_metrics_hold_the_evaluators_tau():
    gt, detections = random_coco(5)
    evaluator = read_coco(gt, detections)
    np.testing.assert_array_equal(evaluator.compute().lrp.error, evaluator.optimal_lrp(0.5).error)
    evaluator.tau = 0.75
    assert evaluator.compute().lrp.tau == 0.75
    np.testing.assert_array_equal(evaluator.compute().lrp.error, evaluator.optimal_lrp(0.75).error)
