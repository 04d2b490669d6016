"""What an evaluation counts: the best of each class in each image, and of the whole data set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from utils.evaluation.budget import ClassBudget
from utils.postprocess import best_per_class
from utils.structures import Detections


def random_image(num_anchors: int = 400, num_classes: int = 3, seed: int = 0) -> Tensor:
    """Many overlapping boxes, scores in all orders; (1, N, 5 + C) float64."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, num_anchors, 5 + num_classes, generator=generator, dtype=torch.float64)
    image[..., :2] *= 100
    image[..., 2:4] = image[..., 2:4] * 40 + 5
    return image


def overlap(first: list[float], second: list[float]) -> float:
    """IoU of two boxes x, y, w, h."""
    sides = [
        max(0.0, min(a + s / 2, b + t / 2) - max(a - s / 2, b - t / 2))
        for a, s, b, t in zip(first[:2], first[2:], second[:2], second[2:], strict=True)
    ]
    shared = sides[0] * sides[1]
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def by_the_rule(image: Tensor, iou_thres: float, max_det: int, conf_thres: float = 0.0) -> list[tuple[float, int, int]]:
    """Score, class and anchor of what survives, by plain loops: class by class, no more than max_det of each."""
    kept = []
    for index in range(image.shape[1] - 5):
        scores = (image[:, 4] * image[:, 5 + index]).tolist()
        order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
        own: list[int] = []
        for row in order:
            box = image[row, :4].tolist()
            free = all(overlap(box, image[other, :4].tolist()) <= iou_thres for other in own)
            if scores[row] > conf_thres and free and len(own) < max_det:
                own.append(row)
        kept += [(scores[row], index, row) for row in own]
    return sorted(kept, key=lambda entry: -entry[0])


@pytest.mark.parametrize(("max_det", "iou_thres"), [(1, 0.5), (5, 0.5), (20, 0.2), (100, 0.6), (500, 0.9)])
def test_agrees_with_the_rule(max_det: int, iou_thres: float) -> None:
    """Few detections wanted of many candidates, and more wanted than there are: both ways through the search."""
    image = random_image()
    (found,) = best_per_class(image, iou_thres=iou_thres, max_det=max_det)
    expected = by_the_rule(image[0], iou_thres, max_det)
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], rel=1e-12)
    assert found.classes.tolist() == [index for _, index, _ in expected]
    centres = image[0, [row for _, _, row in expected], :2]
    torch.testing.assert_close((found.boxes[:, :2] + found.boxes[:, 2:]) / 2, centres)


def test_survivors_far_down_are_found() -> None:
    """A pile of 3,000 boxes above all others: the search has to go on behind it, class by class."""
    image = torch.zeros(1, 3100, 7, dtype=torch.float64)
    image[0, :, 2:4], image[0, :, 4] = 10, 1.0
    image[0, 3000:, 0] = torch.arange(1, 101) * 20.0
    image[0, :3000, 5] = torch.linspace(0.9, 0.8, 3000)  # class 0 alone has the pile
    image[0, 3000:, 5] = torch.linspace(0.7, 0.1, 100)
    image[0, 3000:, 6] = torch.linspace(0.1, 0.7, 100)
    (found,) = best_per_class(image, max_det=100)
    assert torch.bincount(found.classes).tolist() == [100, 100]
    own = found.boxes[found.classes == 0]
    assert own[:, 0].tolist() == [-5.0 + 20 * step for step in range(100)]  # the pile's best, then 99 behind it


def test_scale_of_the_scores_decides_nothing() -> None:
    """All below a millionth, or all within a billionth of one: the same boxes, as the order is the same."""
    image = random_image(seed=1)
    (expected,) = best_per_class(image, max_det=10)
    for squeeze in (lambda score: score * 1e-7, lambda score: 1 - (1 - score) * 1e-9):
        changed = image.clone()
        changed[..., 4] = 1.0
        changed[..., 5:] = squeeze(image[..., 4:5] * image[..., 5:])
        (found,) = best_per_class(changed, max_det=10)
        assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.classes, expected.classes)


def test_a_crowded_class_takes_nothing_from_the_others() -> None:
    image = torch.zeros(1, 500, 7)
    image[0, :, 0], image[0, :, 2:4], image[0, :, 4] = torch.arange(500) * 20.0, 10, 1.0
    image[0, :, 5] = 0.9  # 500 good ones of class 0
    image[0, 7, 6] = 0.001
    (found,) = best_per_class(image, max_det=100)
    assert torch.bincount(found.classes).tolist() == [100, 1]
    assert found.boxes[:100, 0].tolist() == [20.0 * index - 5 for index in range(100)]  # ties: order of the anchors


def test_thresholds_may_differ_by_class() -> None:
    image = random_image(seed=2)
    (everything,) = best_per_class(image, max_det=1000)
    limits = torch.tensor([0.3, 0.5, 1.0], dtype=torch.float64)
    (found,) = best_per_class(image, conf_thres=limits, max_det=1000)
    wanted = everything.scores > limits[everything.classes]
    assert 0 < wanted.sum() < len(wanted)
    assert torch.equal(found.boxes, everything.boxes[wanted])
    with pytest.raises(ValueError, match="expected one threshold, or 3 for the classes, but got"):
        best_per_class(image, conf_thres=[0.1, 0.2])


def test_nothing_and_nonsense() -> None:
    (found,) = best_per_class(torch.zeros(1, 0, 7))
    assert [tuple(column.shape) for column in found] == [(0, 4), (0,), (0,)]
    rows = torch.full((1, 4, 6), float("nan"))
    rows[0, 0] = torch.tensor([5.0, 5, 2, 2, 0.5, 0.5])
    rows[0, 1, 4:] = 0.9  # a score, but no box
    rows[0, 2, :5] = torch.tensor([5.0, 5, 2, 2, 0.5])  # a box without a score
    (found,) = best_per_class(rows)
    assert found.scores.tolist() == [0.25]
    (found,) = best_per_class(torch.zeros(1, 10, 6))  # scores of 0 are no candidates
    assert len(found.scores) == 0
    with pytest.raises(ValueError, match=r"\(B, N, 5 \+ C\)"):
        best_per_class(torch.zeros(3, 7))


def found_in(seed: int, num: int = 50, num_classes: int = 3) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(num, generator=generator, dtype=torch.float64).sort(descending=True).values
    return Detections(torch.zeros(num, 4), scores, torch.randint(num_classes, (num,), generator=generator))


@pytest.mark.parametrize("order", [range(20), reversed(range(20))])
def test_a_budget_keeps_the_best_of_each_class_in_any_order(order) -> None:
    images = [found_in(seed) for seed in range(20)]
    budget = ClassBudget(3, 30)
    for index in order:
        budget.add(images[index])
    kept = [budget.keep(image) for image in images]
    for label in range(3):
        everything = torch.cat([image.scores[image.classes == label] for image in images])
        best = torch.cat([image.scores[image.classes == label] for image in kept])
        assert torch.equal(best.sort().values, everything.topk(30).values.sort().values)


def test_what_a_budget_asks_for_is_never_more_than_it_keeps() -> None:
    """Images that are searched with the thresholds known so far lose nothing of the final best."""
    images = [found_in(seed) for seed in range(20)]
    budget, searched = ClassBudget(3, 30), []
    for image in images:
        wanted = image.scores > budget.thresholds[image.classes]
        searched.append(Detections(*(column[wanted] for column in image)))
        budget.add(searched[-1])
    full = ClassBudget(3, 30)
    for image in images:
        full.add(image)
    assert sum(len(image.scores) for image in searched) < sum(len(image.scores) for image in images)
    for image, part in zip(images, searched, strict=True):
        assert torch.equal(full.keep(image).scores, budget.keep(part).scores)


def test_ties_at_the_end_of_a_budget_are_kept_and_room_drops_nothing() -> None:
    tied = Detections(torch.zeros(4, 4), torch.tensor([0.75, 0.5, 0.5, 0.25]), torch.zeros(4, dtype=torch.int64))
    budget = ClassBudget(1, 2)
    budget.add(tied)
    assert budget.keep(tied).scores.tolist() == [0.75, 0.5, 0.5]
    roomy = ClassBudget(2, 4)
    roomy.add(tied._replace(scores=torch.zeros(4)))
    assert len(roomy.keep(tied._replace(scores=torch.zeros(4))).scores) == 4
