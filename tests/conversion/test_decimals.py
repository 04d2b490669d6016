"""The fewest decimals that read back as the same float32."""

from __future__ import annotations

import numpy as np

from tests.cases import case
from utils.conversion.decimals import FORMS, box_numbers, fraction_text, number_text, point_numbers


def read(values: np.ndarray, size_hw: tuple[float, float], form: str) -> np.ndarray:
    """``xywhn`` float32 as the readers compute it, one box and one axis at a time."""
    rows = []
    for box in values.tolist():
        fractions: list[tuple[float, float]] = []
        for first, second, length in zip(box[:2], box[2:], size_hw[::-1], strict=True):
            low, high = {
                "xyxy": (first, second),
                "voc": (first - 1, second),
                "ltwh": (first, first + second),
                "xywh": (first - second / 2, first + second / 2),
            }[form]
            low, high = max(low, 0.0), min(high, length)
            fractions.append(((low + high) / 2 / length, (high - low) / length))
        (x, w), (y, h) = fractions
        rows.append((x, y, w, h))
    return np.array(rows, np.float32)


def random_labels(decimals: int, seed: int, size_hw: tuple[float, float] = (480, 640), num: int = 300) -> np.ndarray:
    """Boxes inside the image whose corners have so many decimals in pixels; a third touch a border."""
    rng = np.random.default_rng(seed)
    scale, lengths = 10**decimals, np.array(size_hw[::-1])
    low = rng.integers(0, 0.8 * lengths * scale, (num, 2)) / scale
    high = np.minimum(low + rng.integers(1, 0.5 * lengths * scale, (num, 2)) / scale, lengths)
    low[: num // 6] = 0
    high[num // 6 : num // 3] = lengths
    boxes = np.concatenate(((low + high) / 2, high - low), axis=1) / np.tile(lengths, 2)
    return np.concatenate((np.zeros((num, 1)), boxes), axis=1).astype(np.float32)


def decimals_of(values: np.ndarray) -> int:
    return max(len(number_text(value).partition(".")[2]) for value in values.ravel())


def test_labels_read_back_to_the_last_bit() -> None:
    for form in FORMS:
        for size_hw in ((480, 640), (333, 1021), (1, 1)):
            for decimals in (0, 2, 9):
                with case(form, size_hw, decimals):
                    labels = random_labels(decimals, decimals)
                    numbers = box_numbers(labels, size_hw, form)
                    texts = np.array([[float(number_text(value)) for value in box] for box in numbers.values])
                    np.testing.assert_array_equal(read(texts, size_hw, form), labels[:, 1:])
                    assert not numbers.beyond.any()


def test_no_more_decimals_than_the_pixels_had() -> None:
    for form in ("xyxy", "ltwh", "voc"):
        for decimals in (0, 1, 3):
            with case(form, decimals):
                values = box_numbers(random_labels(decimals, 5), (480, 640), form).values
                assert decimals_of(values) == decimals


def test_fewer_decimals_read_as_another_label() -> None:
    """Brute force: no box of one decimal less, near by, is read as the label (at a border one beyond it may be)."""
    for form in FORMS:
        labels = random_labels(9, 3, num=60)[20:]
        labels = labels[(labels[:, 1:3] + labels[:, 3:] / 2 < 0.99).all(axis=1)]
        assert len(labels) > 15
        for label, box in zip(labels, box_numbers(labels, (480, 640), form).values, strict=True):
            for axis, length in enumerate((640, 480)):
                pair = box[axis::2]
                scale = 10 ** (decimals_of(pair) - 1)
                steps = np.arange(-3, 4)
                first = (np.rint(pair[0] * scale) + steps)[:, None] / scale
                second = (np.rint(pair[1] * scale) + steps)[None, :] / scale
                grid = np.stack(np.broadcast_arrays(first, 1.0, second, 2.0), axis=-1).reshape(-1, 4)
                found = read(grid, (1000, length), form)[:, [0, 2]]
                assert not (found == label[[1 + axis, 3 + axis]]).all(axis=1).any(), (form, box)


def test_boxes_beyond_the_image_are_clipped_and_counted() -> None:
    labels = np.array([[0, 0.95, 0.5, 0.2, 0.5], [0, 0.5, 0.5, 1, 1], [0, 0.02, 0.5, 0.1, 0.5]], np.float32)
    values, beyond = box_numbers(labels, (100, 200), "xyxy")
    np.testing.assert_allclose(values, [[170, 25, 200, 75], [0, 0, 200, 100], [0, 25, 14, 75]], atol=1e-4)
    np.testing.assert_allclose(beyond, [10, 0, 6], atol=1e-4)


def test_points_and_fractions() -> None:
    rng = np.random.default_rng(0)
    points = (rng.integers(0, 6401, (200, 2)) / 10 / np.array([640, 640])).astype(np.float32)
    numbers = point_numbers(points, (640, 640))
    assert decimals_of(numbers) == 1
    np.testing.assert_array_equal((numbers / 640).astype(np.float32), points)
    for value in [*rng.random(300, dtype=np.float32), np.float32(0), np.float32(1), np.float32(1e-7)]:
        text = fraction_text(value)
        digits = len(text.partition(".")[2])
        assert np.float32(float(text)) == value and "e" not in text
        assert digits == 0 or np.float32(round(float(value), digits - 1)) != value
