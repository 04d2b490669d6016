"""What is odd about boxes: sizes, shapes, places, and pairs of the same."""

from __future__ import annotations

import numpy as np

from utils.inspection.objects import ObjectTable, odd_objects, same_boxes


def table_of(*images: list[tuple[float, ...]], size_hw: tuple[int, int] = (100, 200)) -> ObjectTable:
    """A table of images of one size; rows are class, left, top, right, bottom in pixels."""
    height, width = size_hw
    labels = []
    for rows in images:
        classes, left, top, right, bottom = np.array(rows, float).reshape(-1, 5).T
        columns = (
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        )
        labels.append(np.stack((classes, *columns), axis=1))
    return ObjectTable.from_labels(labels, np.array([size_hw] * len(images)))


def test_a_table_knows_image_row_and_pixels() -> None:
    table = table_of([(0, 10, 20, 30, 60), (1, 0, 0, 200, 100)], [], [(2, 5, 5, 6, 7)])
    assert table.image.tolist() == [0, 0, 2] and table.row.tolist() == [0, 1, 0] and table.classes.tolist() == [0, 1, 2]
    np.testing.assert_allclose(table.boxes, [[10, 20, 30, 60], [0, 0, 200, 100], [5, 5, 6, 7]], atol=1e-9)
    np.testing.assert_allclose(table.network_sizes(400), [[40, 80], [400, 200], [2, 4]], atol=1e-9)


def test_limits_of_single_boxes() -> None:
    table = table_of(
        [
            (0, 10, 10, 13, 30),  # exactly 3 pixels wide: not tiny
            (0, 20, 10, 22.9, 30),  # tiny
            (0, 10, 50, 90, 54),  # 20 times as long as wide: not extreme
            (0, 10, 70, 120, 74),  # extreme
            (0, -1.9, 10, 50, 60),  # less than 2 pixels beyond the left side: not outside
            (0, 120, 40, 160, 102.5),  # outside at the bottom
        ]
    )
    odd = odd_objects(table, 200)
    assert {kind: rows[:, 0].tolist() for kind, rows in odd.items() if len(rows)} == {
        "tiny": [1],
        "extreme": [3],
        "outside": [5],
    }
    assert odd_objects(table, 400)["tiny"].size == 0, "at twice the size nothing is tiny"
    # in a large image 2 pixels are below the rounding of three digits
    assert odd_objects(table_of([(0, 500, 500, 3004, 900)], size_hw=(2000, 3000)), 640)["outside"].size == 0


def test_pixels_cut_off_in_reading_count_as_outside() -> None:
    labels = [np.array([[0, 0.5, 0.5, 1.0, 1.0]]), np.array([[0, 0.5, 0.5, 0.2, 0.2]])]
    table = ObjectTable.from_labels(labels, np.array([[100, 100]] * 2), [np.array([30.0]), None])
    assert odd_objects(table, 100)["outside"].tolist() == [[0]]


def test_pairs_of_same_boxes_are_those_of_all_pairs() -> None:
    """Against the plain loop, on crowded images whose boxes repeat each other with small shifts."""
    rng = np.random.default_rng(0)
    images = []
    for count in (0, 1, 40, 0, 25):
        corners = rng.uniform(0, 60, (count, 2)).round(1)
        rows = np.concatenate(
            (rng.integers(0, 2, (count, 1)), corners, corners + rng.uniform(5, 40, (count, 2))), axis=1
        )
        near = rows[: count // 2] + np.pad(rng.uniform(-1, 1, (count // 2, 4)), ((0, 0), (1, 0)))
        near[::2, 0] = 1 - near[::2, 0]  # of the other class
        images.append([tuple(row) for row in np.concatenate((rows, near, near[:3]))])
    table = table_of(*images)
    expected = []
    for first in range(len(table.image)):
        for second in range(first + 1, len(table.image)):
            a, b = table.boxes[first], table.boxes[second]
            overlap = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
            union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
            if table.image[first] == table.image[second] and overlap >= 0.9 * union:
                expected.append([first, second])
    assert same_boxes(table).tolist() == expected and len(expected) > 10
    odd = odd_objects(table, 200)
    for kind, equal in (("repeated-box", True), ("conflict", False)):
        own = [pair for pair in expected if (table.classes[pair[0]] == table.classes[pair[1]]) == equal]
        first = {second: [first, second] for first, second in reversed(own)}
        assert odd[kind].tolist() == [first[second] for second in sorted(first)] and first, kind


def test_no_objects() -> None:
    assert all(len(rows) == 0 for rows in odd_objects(table_of([], []), 640).values())
