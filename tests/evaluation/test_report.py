"""The table of a validation, and the maps between scores and probabilities behind detection's thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.cases import case
from utils.evaluation.report import COLUMNS, validation_table
from utils.metrics import DetectionEvaluator, apply_calibration
from utils.operating_points import fit_operating_points, scores_of_probability, with_calibration
from utils.structures import Detections
from utils.training.report import validation_values


@pytest.fixture
def evaluator() -> DetectionEvaluator:
    """Two cats, one found exactly and one missed; one wrong cat below, and a class without objects."""
    evaluator = DetectionEvaluator(2, ["cat", "dog"])
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    found = Detections(boxes, torch.tensor([2.5e-5, 1e-5]), torch.tensor([0, 0]))
    evaluator.update(found, torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([0, 0]))
    return evaluator


def test_rows_hold_what_their_columns_say(evaluator: DetectionEvaluator) -> None:
    """AP of a recall of one half: 51 of 101 points. oLRP with the one true box kept: 1 missed of 2."""
    header, everything, cat = (line.split() for line in validation_table(evaluator.compute(), True).splitlines())
    assert header == ["Class", "Images", "Instances", *COLUMNS]
    row = dict(zip(header, cat, strict=True))
    ap = f"{51 / 101:.4f}"
    assert [row[name] for name in ("mAP50", "mAP50-95", "AP75", "AP80", "AP90")] == [ap] * 5
    assert [row[name] for name in ("Class", "Images", "Instances")] == ["cat", "1", "2"]
    assert [row[name] for name in ("oLRP", "Loc", "FP", "FN")] == ["0.5000", "0.0000", "0.0000", "0.5000"]
    assert row["threshold"] == "2.5e-05"
    assert dict(zip(header, everything, strict=True)) == row | {"Class": "all", "threshold": "-"}
    assert len(validation_table(evaluator.compute()).splitlines()) == 2


@pytest.mark.parametrize(("height", "found"), [(7.8, (1, 1, 0, 0)), (8.5, (1, 1, 1, 0)), (9.3, (1, 1, 1, 1))])
def test_each_column_has_its_own_iou(height: float, found: tuple[int, ...]) -> None:
    """A box of 10 x 10 found as 10 x 7.8, 8.5 or 9.3: its IoU is a tenth of the height."""
    evaluator = DetectionEvaluator(1)
    box = Detections(torch.tensor([[0.0, 0, 10, height]]), torch.tensor([0.5]), torch.tensor([0]))
    evaluator.update(box, torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0]))
    header, everything, own = (line.split() for line in validation_table(evaluator.compute(), True).splitlines())
    for row in (dict(zip(header, line, strict=True)) for line in (everything, own)):
        assert [row[name] for name in ("mAP50", "AP75", "AP80", "AP90")] == [f"{value:.4f}" for value in found]


def test_columns_line_up_whatever_the_names() -> None:
    evaluator = DetectionEvaluator(2, ["a", "a very long name of a class"])
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    evaluator.update(nothing, torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]]), torch.tensor([0, 1]))
    lines = validation_table(evaluator.compute(), True).splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[-1].split()[-4:] == ["-", "-", "1.0000", "-"]  # nothing found: neither error of it nor threshold


def test_results_leave_out_what_is_undefined(evaluator: DetectionEvaluator) -> None:
    values = validation_values(evaluator.compute(), {"obj": 0.5})
    assert (
        values["val/obj_loss"] == 0.5
        and values["metrics/oLRP"] == 0.5
        and values["metrics/mAP_0.8"] == pytest.approx(51 / 101)
    )
    empty = validation_values(DetectionEvaluator(2).compute(), {"obj": 0.5})
    assert set(values) - set(empty) == {
        f"metrics/oLRP{part}" for part in ("", "_localisation", "_false_positive", "_false_negative")
    }


def test_scores_of_a_probability_are_where_it_is_passed() -> None:
    """A map with a plateau, and one for scores on the scale of 1e-6."""
    for probability in [0.0, 0.3, 0.5, 0.89, 0.95, 1.0]:
        with case(probability):
            steps = {"kind": "isotonic", "scores": [0.2, 0.4, 0.6, 0.8], "probabilities": [0.1, 0.5, 0.5, 0.9]}
            tiny = {"kind": "platt", "slope": 1.0, "offset": 14.0}
            for calibration, score in zip(
                (steps, tiny), scores_of_probability((steps, tiny), probability), strict=True
            ):
                assert apply_calibration(calibration, score) <= probability or score == 0
                above = np.nextafter(score, 1)
                reached = apply_calibration(calibration, 1.0) > probability
                assert not reached or apply_calibration(calibration, above + 1e-15) > probability
                assert reached == (score < 1)


def test_calibration_of_a_perfect_order_makes_scores_probabilities() -> None:
    """Right detections score 0.25, wrong ones 0.125, hundreds of both: after isotonic maps 1 and 0, and no error."""
    evaluator = DetectionEvaluator(1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        right = torch.rand(3, generator=generator) < 0.5
        boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
        found = Detections(boxes, torch.where(right, 0.25, 0.125), torch.zeros(3, dtype=torch.int64))
        evaluator.update(found, boxes[right], torch.zeros(int(right.sum()), dtype=torch.int64))
    metrics = evaluator.compute()
    points = fit_operating_points(evaluator, metrics, {"imgsz": 64})
    assert (points["thresholds"], points["measured"]) == ([0.25], {"imgsz": 64})
    calibrated = with_calibration(metrics, evaluator, points["calibration"]["isotonic"])
    assert metrics.reliability.d_ece == pytest.approx(0.75)
    assert calibrated.reliability.d_ece == pytest.approx(0.0, abs=1e-12)
    assert calibrated.reliability.count.sum() == metrics.reliability.count.sum()
    assert calibrated.map == metrics.map
