"""ATSS against algorithm 1 of its paper written as a plain loop over objects, levels and anchors, and by hand."""

from __future__ import annotations

import math
import statistics
from itertools import product

import pytest
import torch

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
from utils.assigners import ASSIGNERS, atss
from utils.boxes import build_anchor_table
from utils.errors import UserError


def assign(targets: torch.Tensor, anchors: torch.Tensor = ANCHORS, candidates: int = 9) -> list[tuple[int, ...]]:
    """Rows of image, level, anchor, row, column, target."""
    table = table_of(anchors)
    return matches(ASSIGNERS.build("atss", candidates=candidates)(targets, table), table)


def all_anchors(
    anchors: torch.Tensor, level: int
) -> list[tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]]:
    """Name (level, anchor, row, column), centre and box in pixels of a level's anchors, in the order of the table."""
    stride, (rows, cols) = STRIDES[level], GRIDS[level]
    found = []
    for shape, (w, h) in enumerate(anchors[level].tolist()):
        for row in range(rows):
            for col in range(cols):
                centre = ((col + 0.5) * stride, (row + 0.5) * stride)
                found.append(((level, shape, row, col), centre, corners(*centre, w, h)))
    return found


def plain_loop(targets: torch.Tensor, anchors: torch.Tensor = ANCHORS, candidates: int = 9) -> list[tuple[int, ...]]:
    """Algorithm 1: per object and level the nearest anchors, threshold mean + deviation, centre inside the object."""
    owner: dict[tuple[int, ...], tuple[float, int]] = {}
    for number, (image, _, *box) in enumerate(targets.tolist()):
        x, y, w, h = (value * side for value, side in zip(box, (*IMAGE_WH, *IMAGE_WH), strict=True))
        left, top, right, bottom = corners(x, y, w, h)
        near = []
        for level in range(len(anchors)):
            of_level = all_anchors(anchors, level)
            of_level.sort(key=lambda entry: round(math.dist(entry[1], (x, y)), 9))  # stable: ties in order
            near += of_level[:candidates]
        ious = [plain_iou(anchor, (left, top, right, bottom)) for _, _, anchor in near]
        threshold = statistics.mean(ious) + (statistics.stdev(ious) if len(ious) > 1 else 0)
        for (name, (cx, cy), _), iou in zip(near, ious, strict=True):
            if iou < threshold - 1e-12 or not (left < cx < right and top < cy < bottom):
                continue
            place = (int(image), *name)
            if place not in owner or iou > owner[place][0] + 1e-12:
                owner[place] = (iou, number)
    return sorted((*place, number) for place, (_, number) in owner.items())


def test_equals_the_plain_loop() -> None:
    for seed, candidates in product(range(4), (1, 4, 9)):
        targets = random_targets(seed)
        expected = plain_loop(targets, candidates=candidates)
        assert assign(targets, candidates=candidates) == expected, (seed, candidates)
        assert len(expected) > 15


def test_equals_the_plain_loop_for_other_heads() -> None:
    targets = random_targets(7)
    for name, anchors in {"A1": ANCHORS[:, :1], "L1": ANCHORS[:1], "L2A2": ANCHORS[:2, :2]}.items():
        expected = plain_loop(targets, anchors)
        assert assign(targets, anchors) == expected and len(expected) > 40, name


def test_a_level_with_fewer_anchors_than_candidates_gives_all() -> None:
    """One anchor per cell: the coarsest level has 12, the middle one 48."""
    targets, anchors = random_targets(8, count=12), ANCHORS[:, :1]
    for candidates in (20, 200):
        expected = plain_loop(targets, anchors, candidates)
        assert assign(targets, anchors, candidates) == expected and expected, candidates


def test_one_object_and_no_object() -> None:
    targets = random_targets(9, count=20)
    for number in range(len(targets)):
        one = targets[number : number + 1]
        assert assign(one) == plain_loop(one)
    found = ASSIGNERS.build("atss")(targets[:0], table_of())
    assert [len(column) for column in found[:3]] == [0, 0, 0] and found.ignore is None
    assert {column.dtype for column in found[:3]} == {torch.int64}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = random_targets(10)
    expected = assign(targets)
    monkeypatch.setattr(atss, "MAX_PAIRS", 5000)  # 11 objects at a time
    assert assign(targets) == expected
    monkeypatch.setattr(atss, "MAX_PAIRS", 1)
    assert assign(targets) == expected


def test_float32_agrees_where_nothing_is_close() -> None:
    targets, table = random_targets(11), table_of(dtype=torch.float32)
    single = matches(ASSIGNERS.build("atss")(targets.float(), table), table)
    assert len(set(single) ^ set(assign(targets))) <= 2


EIGHT = torch.tensor([[[8.0, 8.0]]], dtype=torch.float64)  # one level, one anchor as large as its cell of 8 pixels


def test_threshold_by_hand() -> None:
    """An object on the cell in column 5, row 4, of its size: candidates are the 3 x 3 cells, IoUs 1 and eight times 0.

    Mean 1/9, deviation 1/3 (n - 1): the threshold is 4/9, only the own cell matches. An object that covers the nine
    cells has IoU 1/9 nine times, deviation 0: all match.
    """
    assert assign(objects((44, 36, 8, 8)), EIGHT) == [(0, 0, 0, 4, 5, 0)]
    nine = [(0, 0, 0, row, col, 0) for row in (3, 4, 5) for col in (4, 5, 6)]
    assert assign(objects((44, 36, 24, 24)), EIGHT) == nine


def test_candidates_that_fit_alike_match_alike_whatever_is_rounded() -> None:
    """Objects of odd sizes over the 3 x 3 cells around the centre: nine equal IoUs, up to the last bits."""
    assigner = ASSIGNERS.build("atss")
    for dtype, number in product((torch.float32, torch.float64), range(100)):
        size = 25 + number / 37
        found = assigner(objects((44.1 + number / 1000, 36.1, size, size)).to(dtype), table_of(EIGHT, dtype))
        assert len(found.anchor) == 9, (dtype, number)


def test_cells_that_the_grid_lacks_do_not_count() -> None:
    """A row of two cells of 8 pixels has two candidates, not nine, and clamping never turns the others into them.

    400 x 400 around (8, 4) and 40 x 40 around (18, 4), 2 pixels beyond the border: two equal IoUs, both match.
    140 x 140 around (-72, -72) ends before the first cell.
    """
    table = build_anchor_table(EIGHT, (8,), ((1, 2),))
    expected = {(8, 4, 400): 2, (18, 4, 40): 2, (-72, -72, 140): 0}
    for (x, y, side), count in expected.items():
        targets = torch.tensor([[0, 0, x / 16, y / 8, side / 16, side / 8]], dtype=torch.float64)
        found = matches(ASSIGNERS.build("atss")(targets, table), table)
        assert found == [(0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 1, 0)][:count]


def test_deviation_is_unbiased_by_hand() -> None:
    """Two candidates of IoU a > b: mean + deviation is (a + b)/2 + (a - b)/sqrt(2) > a, so none matches.

    With the deviation of the population it would be a itself, and the better one would match.
    """
    assert assign(objects((45, 36, 14, 8)), EIGHT, candidates=2) == []
    assert assign(objects((44, 36, 14, 8)), EIGHT, candidates=1) == [(0, 0, 0, 4, 5, 0)]


def test_centres_must_lie_strictly_inside_by_hand() -> None:
    """A flat object of 16 x 8 pixels between two cells, its ends on their far borders: IoU 1/2 with both.

    Moved up by half a cell its lower edge runs through the centres: both still are above the threshold, neither is in.
    """
    two = [(0, 0, 0, 4, 4, 0), (0, 0, 0, 4, 5, 0)]
    assert assign(objects((40, 36, 16, 8)), EIGHT, candidates=2) == two
    assert assign(objects((40, 32, 16, 8)), EIGHT, candidates=4) == []
    assert assign(objects((40, 32, 16, 9)), EIGHT, candidates=4) == [(0, 0, 0, 3, 4, 0), (0, 0, 0, 3, 5, 0), *two]


def test_an_object_between_the_centres_has_none() -> None:
    """4 x 4 pixels on the corner of four cells of 8, whose centres are 4 pixels away in both directions."""
    assert assign(objects((40, 32, 4, 4)), EIGHT) == []


def test_equally_near_anchors_come_by_index() -> None:
    """On the corner of four cells with two like anchors each, eight are equally near. Three candidates: of the first
    shape upper left, upper right, lower left. On the middle of a side two cells: the left one's first."""
    twins = EIGHT.repeat(1, 2, 1)
    three = [(0, 0, 0, 3, 4, 0), (0, 0, 0, 3, 5, 0), (0, 0, 0, 4, 4, 0)]
    assert assign(objects((40, 32, 16, 16)), twins, candidates=3) == three
    assert assign(objects((40, 32, 16, 16)), twins, candidates=2) == three[:2]
    assert assign(objects((40, 36, 16, 8)), twins, candidates=1) == [(0, 0, 0, 4, 4, 0)]
    three = [(0, 0, 0, 4, 4, 0), (0, 0, 0, 4, 5, 0), (0, 0, 1, 4, 4, 0)]
    assert assign(objects((40, 36, 16, 8)), twins, candidates=3) == three


def test_an_anchor_goes_to_the_object_with_the_highest_iou() -> None:
    """Three objects on one cell: of 10 x 8, 8 x 8 and 12 x 8 pixels. IoU 0.8, 1 and 2/3: the second wins anywhere."""
    boxes = [(44, 36, 10, 8), (44, 36, 8, 8), (44, 36, 12, 8)]
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        (match,) = assign(objects(*(boxes[index] for index in order)), EIGHT)
        assert match == (0, 0, 0, 4, 5, order.index(1))
    assert assign(objects(boxes[2], boxes[0], boxes[0]), EIGHT) == [(0, 0, 0, 4, 5, 1)], "of equals the first"
    two_images = torch.cat((objects(boxes[0]), objects(boxes[1], image=1)))
    assert assign(two_images, EIGHT) == [(0, 0, 0, 4, 5, 0), (1, 0, 0, 4, 5, 1)], "images do not compete"


def test_wrong_candidates_are_refused() -> None:
    for value in (0, -1, 2.5, True, "nine", None):
        with pytest.raises(UserError, match=rf"atss: candidates: expected a whole number .* but got {value!r}"):
            ASSIGNERS.build("atss", candidates=value)
