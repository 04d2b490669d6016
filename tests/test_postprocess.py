"""Suppression and the way back to the original image."""

from __future__ import annotations

import time

import pytest
import torch
import torchvision
from torch import Tensor

from utils.boxes import xywh_to_xyxy
from utils.postprocess import MAX_CANDIDATES, best_score, non_max_suppression, scale_boxes
from utils.structures import ImageGeometry


def predictions(*rows: tuple[float, ...]) -> Tensor:
    """One image; rows of x, y, w, h, objectness, class probabilities."""
    return torch.tensor(rows)[None]


# Two boxes of 10 x 10 that share 8 x 10: IoU 80 / 120 = 2/3; and one far away.
FIRST, SHIFTED, FAR = (50.0, 50, 10, 10), (52.0, 50, 10, 10), (200.0, 200, 10, 10)


def test_score_is_objectness_times_class_and_boxes_are_corners() -> None:
    (found,) = non_max_suppression(predictions((50, 60, 10, 20, 0.8, 0.1, 0.5)))
    torch.testing.assert_close(found.boxes, torch.tensor([[45.0, 50, 55, 70]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.4]))
    assert found.classes.tolist() == [1]


def test_overlapping_boxes_of_a_class_leave_the_better_one() -> None:
    image = predictions((*SHIFTED, 0.6, 1.0), (*FIRST, 0.9, 1.0), (*FAR, 0.7, 1.0))
    (found,) = non_max_suppression(image, iou_thres=0.6)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    (found,) = non_max_suppression(image, iou_thres=0.7)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])


def test_classes_suppress_each_other_only_when_agnostic() -> None:
    image = predictions((*FIRST, 0.9, 1.0, 0.0), (*SHIFTED, 0.8, 0.0, 1.0))
    assert [len(found.scores) for found in non_max_suppression(image)] == [2]
    (found,) = non_max_suppression(image, agnostic=True)
    assert found.classes.tolist() == [0]


def test_thresholds_are_exclusive_and_hold_for_objectness_and_score() -> None:
    # 0.5 and 0.25 are exact in binary. Rows: at the threshold; score below it; both above it.
    image = predictions((*FIRST, 0.25, 1.0), (*SHIFTED, 0.5, 0.25), (*FAR, 0.5, 1.0))
    (found,) = non_max_suppression(image, conf_thres=0.25)
    assert found.scores.tolist() == [0.5]


def test_multi_label_gives_a_row_for_every_class() -> None:
    image = predictions((*FIRST, 1.0, 0.6, 0.5, 0.1))
    (found,) = non_max_suppression(image, multi_label=True)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.6, 0.5])


def test_class_filter_leaves_out_boxes_and_relabels_none() -> None:
    """A box whose best class is not wanted goes, however likely the wanted class is in second place."""
    image = predictions((*FIRST, 1.0, 0.9, 0.8, 0.3), (*FAR, 1.0, 0.1, 0.1, 0.6))
    (found,) = non_max_suppression(image, classes=[1, 2])
    assert (found.classes.tolist(), found.scores.tolist()) == ([2], pytest.approx([0.6]))
    (found,) = non_max_suppression(image, classes=[1, 2], multi_label=True)
    assert (found.classes.tolist(), found.scores.tolist()) == ([1, 2, 2], pytest.approx([0.8, 0.6, 0.3]))
    with pytest.raises(ValueError, match="at least one class index"):
        non_max_suppression(image, classes=[])


def test_boxes_of_other_classes_suppress_no_wanted_one() -> None:
    image = predictions((*FIRST, 0.9, 1.0, 0.0), (*SHIFTED, 0.8, 0.0, 1.0))
    (found,) = non_max_suppression(image, classes=[1], agnostic=True)
    assert found.classes.tolist() == [1]


def test_max_det_keeps_the_best() -> None:
    rows = [(20.0 * i, 20, 10, 10, 0.3 + 0.01 * i, 1.0) for i in range(20)]
    (found,) = non_max_suppression(predictions(*rows), max_det=3)
    assert found.scores.tolist() == pytest.approx([0.49, 0.48, 0.47])


@pytest.mark.parametrize("num_classes", [1, 3])
def test_equal_scores_keep_the_order_of_the_anchors(num_classes: int) -> None:
    rows = torch.zeros(1, 3000, 5 + num_classes)  # enough for every path of the library
    rows[0, :, 0] = torch.arange(3000) * 20.0
    rows[..., 2:4], rows[..., 4] = 10, 0.5
    rows[0, torch.arange(3000), 5 + torch.arange(3000) % num_classes] = 1.0
    (found,) = non_max_suppression(rows, max_det=3000)
    torch.testing.assert_close(found.boxes[:, 0], torch.arange(3000) * 20.0 - 5)


def test_an_image_never_depends_on_its_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 500, 9, generator=generator)
    images[..., :4] *= 300
    together = non_max_suppression(images, conf_thres=0.3)
    for index, found in enumerate(together):
        (alone,) = non_max_suppression(images[index : index + 1], conf_thres=0.3)
        for column, expected in zip(found, alone, strict=True):
            assert torch.equal(column, expected)


def test_agrees_with_the_definition() -> None:
    """Against the greedy rule written plainly."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 300, 7, generator=generator)
    image[..., :2] *= 100
    image[..., 2:4] = image[..., 2:4] * 40 + 5
    (found,) = non_max_suppression(image, conf_thres=0.1, iou_thres=0.5, max_det=1000)
    scores, classes = (image[0, :, 5:] * image[0, :, 4:5]).max(dim=1)
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        x, y, w, h = image[0, row, :4].tolist()
        fits = image[0, row, 4] > 0.1 and scores[row] > 0.1
        for other in kept:
            u, v, r, s = image[0, other, :4].tolist()
            overlap_w = min(x + w / 2, u + r / 2) - max(x - w / 2, u - r / 2)
            overlap_h = min(y + h / 2, v + s / 2) - max(y - h / 2, v - s / 2)
            overlap = max(overlap_w, 0) * max(overlap_h, 0)
            fits = fits and not (classes[row] == classes[other] and overlap / (w * h + r * s - overlap) > 0.5)
        if fits:
            kept.append(row)
    assert 5 < len(kept) < 300
    torch.testing.assert_close(found.scores, scores[kept])
    assert torch.equal(found.classes, classes[kept])


def test_candidates_are_limited_by_score() -> None:
    rows = torch.zeros(1, MAX_CANDIDATES + 10, 6)
    rows[..., 2:4], rows[..., 4] = 10, torch.linspace(0.3, 0.9, MAX_CANDIDATES + 10)
    rows[..., 5] = 1.0
    rows[0, :, 0] = torch.arange(MAX_CANDIDATES + 10) // 1000 * 20.0  # piles, so that suppression is quick
    rows[0, 0, :2] = -500.0  # alone, but the worst of all
    (found,) = non_max_suppression(rows, conf_thres=0.1, max_det=MAX_CANDIDATES)
    assert len(found.scores) == 31
    assert found.boxes.min() > -100


def test_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    image = predictions((*FIRST, 0.9, 1.0)).repeat(4, 1, 1)
    hours = iter(range(0, 10**9, 3600))
    for clock in ("time", "perf_counter", "monotonic"):
        monkeypatch.setattr(time, clock, lambda: float(next(hours)))
    assert [len(found.scores) for found in non_max_suppression(image)] == [1] * 4


def test_nothing_and_nonsense() -> None:
    (found,) = non_max_suppression(torch.zeros(1, 0, 7))
    assert [tuple(column.shape) for column in found] == [(0, 4), (0,), (0,)]
    nan = float("nan")
    (found,) = non_max_suppression(predictions((nan, 0, 1, 1, 0.9, 0.9), (*FIRST, nan, 0.9), (*FIRST, 0.9, nan)))
    assert len(found.scores) == 0
    with pytest.raises(ValueError, match=r"\(B, N, 5 \+ C\)"):
        non_max_suppression(torch.zeros(3, 7))


def test_half_precision_comes_back_as_float32() -> None:
    (found,) = non_max_suppression(predictions((*FIRST, 0.9, 0.9)).to(torch.bfloat16))
    assert found.boxes.dtype == found.scores.dtype == torch.float32


def test_best_score_ignores_the_threshold() -> None:
    image = predictions((*FIRST, 0.1, 0.5, 0.25), (*FAR, 0.2, 0.0, 0.1))
    assert best_score(image) == pytest.approx(0.05)
    assert best_score(image, classes=[1]) == pytest.approx(0.02)  # class 1 is the best of the second box alone
    assert best_score(image, classes=[1], multi_label=True) == pytest.approx(0.025)
    assert best_score(image[:, :1], classes=[1]) == 0.0
    assert best_score(torch.zeros(1, 0, 7)) == 0.0


def test_boxes_go_back_to_the_original_and_are_clipped() -> None:
    # 200 x 100 halved in x, quartered in y, then put 8 from the top and 4 from the left.
    geometry = ImageGeometry(original_hw=(100, 200), scale=(0.25, 0.5), pad=(8.0, 4.0))
    boxes = torch.tensor([[14.0, 13.0, 54.0, 23.0], [0.0, 0.0, 500.0, 500.0]])
    expected = torch.tensor([[20.0, 20.0, 100.0, 60.0], [0.0, 0.0, 200.0, 100.0]])
    torch.testing.assert_close(scale_boxes(boxes, geometry), expected)


@pytest.mark.parametrize("max_det", [5, 300, 2000])
def test_trying_the_best_rows_first_changes_nothing(max_det: int) -> None:
    """Thousands of overlapping candidates: the rows that torchvision keeps of all at once, cut at the cap."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(1, 6000, 7, generator=generator)
    rows[..., :2] *= 300
    rows[..., 2:4] = 20 + 60 * rows[..., 2:4]
    (found,) = non_max_suppression(rows, conf_thres=0.001, iou_thres=0.5, multi_label=True, max_det=max_det)
    boxes = xywh_to_xyxy(rows[0, :, :4]).repeat_interleave(2, dim=0).double()
    scores = (rows[0, :, 5:] * rows[0, :, 4:5]).flatten()
    keep = torchvision.ops.batched_nms(boxes, scores.double(), torch.arange(12_000) % 2, 0.5)[:max_det]
    assert len(keep) == len(found.scores) == max_det or max_det == 2000
    assert torch.equal(found.scores, scores[keep]) and torch.equal(found.boxes.double(), boxes[keep])
