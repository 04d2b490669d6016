"""YOLOv3's assigner against a plain loop, by hand, and what the criterion makes of ignored anchors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.assigner_scenes import (
    ANCHORS,
    GRIDS,
    IMAGE_WH,
    STRIDES,
    corners,
    matches,
    objects,
    plain_iou,
    random_targets,
    table_of,
)
from tests.criterion_scenes import predictions_of
from utils.assigners import ASSIGNERS, best_iou
from utils.boxes import decode_boxes, flatten_levels
from utils.criterion.criterion import Criterion
from utils.errors import UserError
from utils.structures import RawPredictions

Place = tuple[int, int, int, int, int]  # image, level, anchor, row, column


def random_raw(seed: int, images: int = 3, classes: int = 3) -> list[Tensor]:
    """Raw maps (B, A, H, W, 5 + C); small box logits, so that many decoded boxes are near their anchor."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(images, 3, rows, cols, 5 + classes) for rows, cols in GRIDS]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5 for shape in shapes]


def fitting_targets(raw: list[Tensor], seed: int) -> Tensor:
    """Random objects, and up to forty that are decoded boxes with sides up to a quarter shorter: IoU 0.56 to 1."""
    generator = torch.Generator().manual_seed(seed)
    table, flat = table_of(), flatten_levels(raw)
    boxes = decode_boxes(flat[..., :4], table) / torch.tensor((*IMAGE_WH, *IMAGE_WH))
    image = torch.randint(len(flat), (40,), generator=generator)
    boxes = boxes[image, torch.randint(flat.shape[1], (40,), generator=generator)]
    boxes[:, 2:] *= 1 - torch.rand(40, 2, generator=generator, dtype=torch.float64) / 4
    fitting = torch.cat((image[:, None], torch.zeros(40, 1), boxes), dim=1)
    inside = ((boxes[:, :2] >= 0) & (boxes[:, :2] <= 1)).all(dim=1)
    return torch.cat((random_targets(seed, count=20), fitting[inside]))


def assign(targets: Tensor, raw: list[Tensor], ignore_iou: float = 0.7) -> tuple[list[tuple[int, ...]], set[Place]]:
    """Rows of image, level, anchor, row, column, target; and ignored places."""
    table = table_of()
    found = ASSIGNERS.build("best_iou", ignore_iou=ignore_iou)(targets, table, predictions_of(raw))
    assert found.ignore.dtype == torch.bool
    ignored = set()
    for image, anchor in found.ignore.nonzero().tolist():
        col, row = table.cell[anchor].long().tolist()
        ignored.add((image, table.level[anchor].item(), table.shape[anchor].item(), row, col))
    return matches(found, table), ignored


def plain_matches(targets: Tensor) -> list[tuple[int, ...]]:
    """Per object the anchor of all levels with the best shape, in the cell of the centre."""
    found = []
    for number, (image, _, x, y, w, h) in enumerate(targets.tolist()):
        best, best_value = (0, 0), -1.0
        for level in range(len(ANCHORS)):
            for shape, (aw, ah) in enumerate(ANCHORS[level].tolist()):
                value = plain_iou(corners(0, 0, aw, ah), corners(0, 0, w * IMAGE_WH[0], h * IMAGE_WH[1]))
                if value > best_value + 1e-12:
                    best, best_value = (level, shape), value
        rows, cols = GRIDS[best[0]]
        row, col = (max(0, min(math.floor(at * side), side - 1)) for at, side in ((y, rows), (x, cols)))
        found.append((int(image), *best, row, col, number))
    return sorted(found)


def plain_ignored(targets: Tensor, raw: list[Tensor], ignore_iou: float) -> set[Place]:
    """Predictions, other than the matched ones, with an IoU above the threshold with an object of their image."""
    matched = {row[:5] for row in plain_matches(targets)}
    found = set()
    for level, of_level in enumerate(raw):
        for place in [(image, *rest) for image, *rest in torch.ones(of_level.shape[:4]).nonzero().tolist()]:
            image, shape, row, col = place
            x, y, w, h = (2 / (1 + math.exp(-value)) for value in of_level[place][:4].tolist())
            (aw, ah), stride = ANCHORS[level, shape].tolist(), STRIDES[level]
            pred = corners((x - 0.5 + col) * stride, (y - 0.5 + row) * stride, w**2 * aw, h**2 * ah)
            for target_image, _, *box in targets.tolist():
                target = corners(*(value * side for value, side in zip(box, (*IMAGE_WH, *IMAGE_WH), strict=True)))
                if target_image == image and plain_iou(pred, target) > ignore_iou:
                    found.add((image, level, shape, row, col))
    return found - matched


@pytest.mark.parametrize("ignore_iou", [0.3, 0.7])
def test_equals_the_plain_loop(ignore_iou: float) -> None:
    for seed in range(3):
        raw = random_raw(seed)
        targets = fitting_targets(raw, seed)
        found, ignored = assign(targets, raw, ignore_iou)
        assert found == plain_matches(targets), seed
        assert ignored == plain_ignored(targets, raw, ignore_iou), seed
        assert len(ignored) > 10


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, raw = random_targets(5), random_raw(5)
    expected = assign(targets, raw, 0.5)
    monkeypatch.setattr(best_iou, "MAX_PAIRS", 7 * sum(3 * rows * cols for rows, cols in GRIDS))
    assert assign(targets, raw, 0.5) == expected
    monkeypatch.setattr(best_iou, "MAX_PAIRS", 1)
    assert assign(targets, raw, 0.5) == expected


def test_float32_gives_the_same_matches() -> None:
    targets, table = random_targets(6), table_of(dtype=torch.float32)
    raw = predictions_of([level.float() for level in random_raw(6)])
    found = ASSIGNERS.build("best_iou")(targets.float(), table, raw)
    assert matches(found, table) == plain_matches(targets)


def test_no_object_and_one_object() -> None:
    raw = random_raw(0)
    assert assign(torch.zeros(0, 6, dtype=torch.float64), raw) == ([], set())
    targets = random_targets(3)
    for number in range(10):
        assert assign(targets[number : number + 1], raw)[0] == plain_matches(targets[number : number + 1])


def test_matches_by_hand() -> None:
    """An object of 33 x 23 pixels is the third anchor of the finest level (cells of 8); one of 60 x 70 the second of
    the coarsest (cells of 32). The size decides alone: neither the distance to the cell's centre nor the level does."""
    raw = random_raw(0)
    assert assign(objects((47, 17, 33, 23)), raw)[0] == [(0, 0, 2, 2, 5, 0)]
    assert assign(objects((48, 16, 33, 23)), raw)[0] == [(0, 0, 2, 2, 6, 0)], "a centre on a border: the next cell"
    assert assign(objects((63, 70, 60, 70)), raw)[0] == [(0, 2, 1, 2, 1, 0)]
    assert assign(objects((128, 96, 60, 70)), raw)[0] == [(0, 2, 1, 2, 3, 0)], "the corner: the last cell"
    assert assign(objects((0, 0, 10, 13)), raw)[0] == [(0, 0, 0, 0, 0, 0)]


def test_equal_shapes_take_the_first_anchor_and_objects_may_share_one() -> None:
    """Anchors of 16 x 8, 8 x 16 and 16 x 8 pixels: a square object fits all alike, IoU 1/2 or 64 / 128."""
    anchors = torch.tensor([[[16, 8], [8, 16], [16, 8]]], dtype=torch.float64)
    table = table_of(anchors)
    raw = RawPredictions(torch.zeros(1, len(table.level), 6, dtype=torch.float64), 1)
    build = ASSIGNERS.build("best_iou")
    assert matches(build(objects((20, 20, 8, 8)), table, raw), table) == [(0, 0, 0, 2, 2, 0)]
    assert matches(build(objects((20, 20, 8, 16)), table, raw), table) == [(0, 0, 1, 2, 2, 0)]
    shared = build(objects((20, 20, 16, 8), (21, 19, 16, 9)), table, raw)
    assert matches(shared, table) == [(0, 0, 0, 2, 2, 0), (0, 0, 0, 2, 2, 1)]


# One level, cells of 8 pixels, anchors of 16 x 16 and 16 x 12; the object is the first one in column 5, row 4.
TWO = torch.tensor([[[16, 16], [16, 12]]], dtype=torch.float64)
SQUARE = objects((44, 36, 16, 16))


def ignored_of_two(ignore_iou: float, moved: float = 0.0, image: int = 0) -> list[tuple[int, ...]]:
    """Ignored (image, anchor, row, column) of two images whose outputs are 0: boxes are anchors amid their cells.

    The square anchor of the cell on the left of the object's has the output ``moved`` for x, in both images.
    """
    table, raw = table_of(TWO), torch.zeros(2, 2, *GRIDS[0], 6, dtype=torch.float64)
    raw[:, 0, 4, 4, 0] = moved
    targets = torch.cat((torch.full_like(SQUARE[:, :1], image), SQUARE[:, 1:]), dim=1)
    found = ASSIGNERS.build("best_iou", ignore_iou=ignore_iou)(targets, table, predictions_of([raw]))
    assert matches(found, table) == [(image, 0, 0, 4, 5, 0)]
    return [tuple(place) for place in found.ignore.view(2, 2, *GRIDS[0]).nonzero().tolist()]


def test_ignore_by_hand() -> None:
    """The flat anchor in the object's cell covers 3/4 of it: IoU 0.75. The square ones in the cells beside have
    8 * 16 / (512 - 128) = 1/3. Neither the positive itself nor the other image is ever ignored."""
    assert ignored_of_two(0.7) == [(0, 1, 4, 5)]
    assert ignored_of_two(0.7, image=1) == [(1, 1, 4, 5)]
    assert ignored_of_two(0.74) == [(0, 1, 4, 5)] and ignored_of_two(0.76) == []
    assert ignored_of_two(0.75) == [], "above, not at the threshold"
    assert ignored_of_two(1.0) == []
    square = [(0, 0, row, col) for row, col in ((3, 5), (4, 4), (4, 6), (5, 5))]
    assert [place for place in ignored_of_two(0.33) if place[1] == 0] == square


def test_the_decoded_box_counts_not_the_anchor() -> None:
    """Moved to the right by half a cell (2 sigmoid(ln 3) - 0.5 = 1) the square box of the cell on the left overlaps by
    12 * 16 / (512 - 192) = 0.6; by nearly a cell, it lies on the object."""
    half, whole = math.log(3), 20.0
    left = (0, 0, 4, 4)
    assert left in ignored_of_two(0.59, half) and left not in ignored_of_two(0.61, half)
    assert ignored_of_two(0.7, whole) == [left, (0, 1, 4, 5)]


def criterion_of_two(**hyp: object) -> Criterion:
    return Criterion(TWO, STRIDES[:1], 1, 640, {"assigner": "best_iou", **hyp})


def test_an_ignored_prediction_has_no_part_in_the_objectness_loss() -> None:
    """Cross-entropy, summed over all cells but the ignored one, divided by all: 2 images of 2 x 12 x 16 anchors."""
    raw = torch.zeros(2, 2, *GRIDS[0], 6, dtype=torch.float64)
    raw[..., 4] = torch.linspace(-2, 2, raw[..., 4].numel(), dtype=torch.float64).view(raw.shape[:-1])
    part = criterion_of_two()([raw], SQUARE).parts["obj"]
    wanted = torch.zeros_like(raw[..., 4])
    wanted[0, 0, 4, 5] = 1.0  # its box is the object
    losses = torch.nn.functional.binary_cross_entropy_with_logits(raw[..., 4], wanted, reduction="none")
    expected = (losses.sum() - losses[0, 1, 4, 5]) / losses.numel()
    assert part.item() == pytest.approx(4.0 * 3 * expected.item(), rel=1e-7)  # balance, and the gain of a level
    assert losses[0, 1, 4, 5] > 0.1


def test_the_gradient_of_an_ignored_objectness_is_0_and_all_else_is_as_before() -> None:
    targets = random_targets(1, count=25)
    gradients, assignment = {}, None
    for ignore_iou in (0.4, 1.0):
        raw = [level.requires_grad_() for level in random_raw(1)]
        criterion = Criterion(ANCHORS, STRIDES, 3, 128, {"assigner": "best_iou"})
        criterion.assigner = ASSIGNERS.build("best_iou", ignore_iou=ignore_iou)
        criterion(raw, targets).total.backward()
        gradients[ignore_iou] = flatten_levels([level.grad for level in raw])
        if ignore_iou == 0.4:
            assignment = criterion.assigner(targets, table_of(), predictions_of(raw))
    ignore = assignment.ignore
    assert ignore.sum() > 20 and not ignore[assignment.image, assignment.anchor].any()
    assert torch.equal(gradients[0.4][ignore][:, 4], torch.zeros(ignore.sum(), dtype=torch.float64))
    assert (gradients[1.0][..., 4] != 0).all(), "without the rule every objectness has a gradient"
    expected = gradients[1.0].clone()
    expected[..., 4][ignore] = 0
    assert torch.equal(gradients[0.4], expected)


def test_the_criterion_never_ignores_a_positive() -> None:
    """An assigner that ignores everything, its positives too: they alone are left in the objectness loss."""
    targets, raw = random_targets(2, count=25), [level.requires_grad_() for level in random_raw(2)]
    criterion = Criterion(ANCHORS, STRIDES, 3, 128, {})
    found = criterion.assigner(targets, table_of())
    everything = torch.ones(3, len(table_of().level), dtype=torch.bool)
    criterion.assigner = lambda *_: found._replace(ignore=everything)
    criterion.assigner.needs_predictions = False
    criterion(raw, targets).total.backward()
    gradient = flatten_levels([level.grad for level in raw])[..., 4]
    positive = torch.zeros_like(everything)
    positive[found.image, found.anchor] = True
    assert torch.equal(gradient != 0, positive)


def test_wrong_thresholds_are_refused() -> None:
    for value in (-0.1, 1.1, True, "high", None, math.nan):
        with pytest.raises(UserError, match=rf"best_iou: ignore_iou: expected a number from 0 to 1 but got {value!r}"):
            ASSIGNERS.build("best_iou", ignore_iou=value)
