"""The mosaic of nine: where each image lands, by hand; and that labels follow pixels through the whole data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cases import case
from tests.painted_sets import assert_labels_follow_pixels, painted_set
from utils.datasets import dataset
from utils.datasets.mosaic import mosaic_of_nine
from utils.datasets.objects import Objects, Polygons, join_objects
from utils.datasets.randomness import sample_rng

GREY = 114


class Draws(np.random.Generator):
    """A generator whose uniform numbers are known, as fractions of their interval."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.fractions = np.array((x, y))

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        return low + self.fractions * (high - low)


def whole_tile(value: int, width: int, height: int) -> tuple[np.ndarray, Objects]:
    """An image of one brightness that is a single object, whose class is that brightness."""
    box = np.array([[0, 0, width, height]], np.float32)
    return np.full((height, width, 3), value, np.uint8), Objects(np.array([value], np.float32), box, Polygons.none())


def test_each_image_lands_where_the_pinwheel_says() -> None:
    """Window 30 to the right and 50 down: the middle one, 80 x 60, covers x 70 to 150 and y 50 to 110."""
    sizes = [(80, 60), (50, 40), (90, 100), (100, 30), (60, 70), (40, 90), (70, 20), (30, 25), (100, 90)]
    expected = [
        (70, 50, 150, 110),
        (70, 10, 120, 50),  # above the middle, from its left side on
        (120, 0, 200, 50),  # goes on to the right; 50 rows and 10 columns are cut off
        (150, 50, 200, 80),  # to the right of the middle, from its upper side on
        (150, 80, 200, 150),  # goes on downwards
        (110, 110, 150, 200),  # below, from the right side on to the left
        (40, 110, 110, 130),
        (40, 85, 70, 110),  # to the left, from the lower side on upwards
        (0, 0, 70, 85),  # 30 columns and 5 rows are cut off
    ]
    tiles = [whole_tile(200 + index, *size) for index, size in enumerate(sizes)]
    canvas, objects = mosaic_of_nine(tiles, 100, Draws(0.3, 0.5))
    np.testing.assert_array_equal(objects.classes, np.arange(200, 209))
    np.testing.assert_array_equal(objects.boxes, expected)
    painted = np.full((200, 200, 3), GREY, np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(expected):
        assert (painted[y1:y2, x1:x2] == GREY).all(), "no image covers another"
        painted[y1:y2, x1:x2] = 200 + index
    np.testing.assert_array_equal(canvas, painted)


def test_the_window_moves_by_up_to_one_image() -> None:
    for fraction, corner in [(0.0, 100), (1.0, 0)]:
        with case(fraction, corner):
            tiles = [whole_tile(200 + index, 100, 100) for index in range(9)]
            _, objects = mosaic_of_nine(tiles, 100, Draws(fraction, fraction))
            np.testing.assert_array_equal(objects.boxes[0], [corner, corner, corner + 100, corner + 100])
            sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
            assert (sides.prod(axis=1) > 0).sum() == 4, "images of one size make a grid of which the window holds four"


def test_boxes_are_where_the_pixels_are() -> None:
    for index in range(10):
        with case(index):
            rng = sample_rng(0, 1, index)
            tiles = [whole_tile(200 + number, *rng.integers(20, 101, 2).tolist()) for number in range(9)]
            canvas, objects = mosaic_of_nine(tiles, 100, rng)
            assert canvas.shape == (200, 200, 3)
            for value, box in zip(objects.classes, objects.boxes, strict=True):
                rows, columns = np.nonzero(canvas[..., 0] == value)
                assert len(rows) == (box[2:] - box[:2]).prod()
                if len(rows):
                    np.testing.assert_array_equal(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (canvas == GREY).all(axis=2).sum() == 200 * 200 - (canvas[..., 0] >= 200).sum()


def test_outlines_are_moved_and_cut_like_boxes() -> None:
    tiles = [whole_tile(200 + index, 100, 100) for index in range(9)]
    corners = np.array([(0, 0), (100, 0), (100, 100), (0, 100)], np.float32)
    outlined = [(image, objects._replace(polygons=Polygons(corners, np.zeros(4, int)))) for image, objects in tiles]
    plain, cut = (mosaic_of_nine(each, 100, Draws(0.3, 0.5))[1] for each in (tiles, outlined))
    visible = (plain.boxes[:, 2:] > plain.boxes[:, :2]).all(axis=1)
    np.testing.assert_array_equal(cut.boxes[visible], plain.boxes[visible])
    np.testing.assert_array_equal(cut.polygons.bounds()[0], np.flatnonzero(visible))


def test_labels_follow_pixels_through_the_data_set(tmp_path: Path) -> None:
    painted = painted_set(tmp_path / "set", mosaic9=1, flipud=0.5)
    samples = [painted[epoch, index] for epoch in range(5) for index in range(len(painted))]
    assert {sample.image.shape for sample in samples} == {(128, 128, 3)}
    for sample in samples:
        assert_labels_follow_pixels(sample)
    assert sum(len(sample.labels) for sample in samples) > 2 * len(samples)


@pytest.mark.parametrize(("fraction", "low", "high"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_the_fraction_of_mosaics_of_nine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float, low: int, high: int
) -> None:
    """Of 200 mosaics; 60 are expected of 0.3, with a standard deviation of 6.5."""
    counts = []

    def counted(tiles: list, image_size: int, rng: np.random.Generator) -> tuple[np.ndarray, Objects]:
        counts.append(len(tiles))
        return tiles[0][0], join_objects([objects for _, objects in tiles])

    monkeypatch.setattr(dataset, "mosaic", counted)
    monkeypatch.setattr(dataset, "mosaic_of_nine", counted)
    painted = painted_set(tmp_path / "set", mosaic9=fraction)
    for epoch in range(50):
        for index in range(4):
            painted[epoch, index]
    assert len(counts) == 200 and set(counts) <= {4, 9} and low <= counts.count(9) <= high


def test_the_default_draws_no_number_for_mosaics_of_nine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So samples, and results, are those of before the key existed."""
    seen = []

    def spy(tiles: list, image_size: int, rng: np.random.Generator) -> tuple[np.ndarray, Objects]:
        seen.append(rng.random())
        return tiles[0]

    monkeypatch.setattr(dataset, "mosaic", spy)
    painted_set(tmp_path / "set")[2, 3]
    rng = sample_rng(0, 2, 3)
    rng.random(), rng.integers(4, size=3)  # whether a mosaic, and of which others
    assert seen == [rng.random()]
