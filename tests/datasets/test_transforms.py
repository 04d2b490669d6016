"""Boxes must move with the pixels: draw an object, transform, and compare its box with where its pixels went."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.cases import case
from utils.config.hyperparameters import Hyperparameters
from utils.datasets.colour import jitter_to_rgb
from utils.datasets.copy_paste import copy_paste
from utils.datasets.flip import random_flip
from utils.datasets.letterbox import letterbox, rectangular_shapes, resize_to_fit
from utils.datasets.mosaic import mixup, mosaic
from utils.datasets.objects import Objects, Polygons
from utils.datasets.perspective import random_matrix, random_perspective
from utils.datasets.randomness import epoch_order, multi_scale_size, sample_rng

STILL = Hyperparameters(hsv_h=0, hsv_s=0, hsv_v=0, translate=0, scale=0, fliplr=0)


def bright_box(height: int, width: int, box: tuple[int, int, int, int], cls: int = 0) -> tuple[np.ndarray, Objects]:
    """A black image with one white rectangle, and the rectangle as an object."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image, Objects(np.array([cls], np.float32), np.array([box], np.float32), Polygons.none())


def bounds_of_bright(image: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(image.min(axis=2) > 160)  # the grey border is 114
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


class Highest(np.random.Generator):
    """Draws the upper end of every interval."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float, high: float, size: int | None = None) -> np.ndarray | float:
        return high if size is None else np.broadcast_to(high, size)


def outline(points: list[tuple[float, float]], owner: int = 0) -> Polygons:
    return Polygons(np.array(points, np.float32), np.full(len(points), owner))


def test_flips_move_boxes_with_pixels() -> None:
    for flips in [{"fliplr": 1}, {"flipud": 1}, {"fliplr": 1, "flipud": 1}]:
        with case(flips):
            image, objects = bright_box(60, 100, (10, 5, 30, 45))
            objects = objects._replace(polygons=outline([(10, 5), (30, 45), (12, 40)]))
            flipped, moved = random_flip(image, objects, Hyperparameters(**{"fliplr": 0, **flips}), sample_rng(0, 0, 0))
            np.testing.assert_array_equal(moved.boxes[0], bounds_of_bright(flipped))
            np.testing.assert_array_equal(moved.polygons.bounds()[1], moved.boxes)
            assert not np.array_equal(moved.boxes, objects.boxes)


def test_perspective_moves_boxes_with_pixels() -> None:
    for settings in [
        {"degrees": 0.0, "translate": 0.2, "scale": 0.4},
        {"degrees": 0.0, "translate": 0.1, "scale": 0.2, "shear": 10.0},
        {"degrees": 40.0, "translate": 0.1, "scale": 0.2},
        {"degrees": 10.0, "translate": 0.1, "scale": 0.2, "shear": 5.0, "perspective": 0.001},
    ]:
        for index in range(8):
            with case(settings, index):
                image, objects = bright_box(200, 260, (90, 70, 170, 130))
                warped, moved = random_perspective(
                    image, objects, (200, 260), Hyperparameters(**settings), sample_rng(0, 0, index)
                )
                assert warped.shape == (200, 260, 3)
                np.testing.assert_allclose(moved.boxes[0], bounds_of_bright(warped), atol=1.6)


def test_the_centre_stays_the_centre() -> None:
    hyp = Hyperparameters(degrees=90, scale=0.5, shear=20, perspective=0.001, translate=0)
    matrix, _ = random_matrix((100, 300), (60, 80), hyp, sample_rng(0, 0, 0))
    x, y, depth = matrix @ (150, 50, 1)
    np.testing.assert_allclose((x / depth, y / depth), (40, 30))


def test_rotation_comes_before_shear() -> None:
    hyp = Hyperparameters(degrees=30, scale=0.5, shear=20, translate=0)
    matrix, zoom = random_matrix((100, 100), (100, 100), hyp, Highest())
    assert zoom == 1.5
    right = 1.5 * np.array([np.cos(np.pi / 6), -np.sin(np.pi / 6)])  # where (1, 0) is turned to, y pointing down
    tangent = np.tan(np.pi / 9)
    np.testing.assert_allclose(matrix[:2, 0], [right[0] + tangent * right[1], right[1] + tangent * right[0]])


def test_perspective_with_nothing_to_do_changes_nothing() -> None:
    image, objects = bright_box(50, 70, (10, 10, 30, 40))
    warped, moved = random_perspective(image, objects, (50, 70), STILL, sample_rng(0, 0, 0))
    np.testing.assert_array_equal(warped, image)
    np.testing.assert_allclose(moved.boxes, objects.boxes, atol=1e-4)


def test_an_outline_gives_a_tighter_box_than_its_corners() -> None:
    # a diamond turned by 45 degrees becomes a square of side 100 / sqrt(2), its box's corners reach 100 pixels
    diamond = outline([(50, 100), (100, 50), (150, 100), (100, 150)])
    box = np.array([[50, 50, 150, 150]], np.float32)
    image = np.zeros((200, 200, 3), np.uint8)
    hyp = Hyperparameters(degrees=45, translate=0, scale=0)

    def sides(polygons: Polygons) -> np.ndarray:
        objects = Objects(np.zeros(1, np.float32), box, polygons)
        _, moved = random_perspective(image, objects, (200, 200), hyp, Highest())
        return moved.boxes[0, 2:] - moved.boxes[0, :2]

    np.testing.assert_allclose(sides(diamond), 100 / np.sqrt(2), atol=1e-3)
    np.testing.assert_allclose(sides(Polygons.none()), 100 * np.sqrt(2), atol=1e-3)


def test_objects_that_left_the_image_or_became_tiny_are_dropped() -> None:
    boxes = np.array([[40, 40, 60, 60], [0, 40, 3, 60], [50, 50, 51, 52]], np.float32)
    objects = Objects(np.arange(3, dtype=np.float32), boxes, Polygons.none())
    image = np.zeros((100, 100, 3), np.uint8)
    # the middle 50 x 50 pixels: the second lies outside, the third is 1 pixel wide
    _, kept = random_perspective(image, objects, (50, 50), STILL, sample_rng(0, 0, 0))
    np.testing.assert_array_equal(kept.classes, [0])
    np.testing.assert_allclose(kept.boxes, [[15, 15, 35, 35]], atol=1e-4)


def test_least_visible_part_of_a_box_and_of_an_outline() -> None:
    # 2.5 of 40 pixels remain: 6 %, too little for a box, enough for an outline
    box = np.array([[-12.5, 40, 27.5, 60]], np.float32)
    image = np.zeros((100, 100, 3), np.uint8)
    rectangle = outline([(-12.5, 40), (27.5, 40), (27.5, 60), (-12.5, 60)])
    for polygons, expected in ((Polygons.none(), 0), (rectangle, 1)):
        objects = Objects(np.zeros(1, np.float32), box, polygons)
        _, kept = random_perspective(image, objects, (50, 50), STILL, sample_rng(0, 0, 0))
        assert len(kept.classes) == expected


def test_clipping_an_outline_is_exact() -> None:
    # a triangle cut by the right border at x = 10: its lower edge from (0, 0) to (20, 20) leaves there at y = 10
    clipped = outline([(0, 0), (20, 0), (20, 20)]).clip(100, 10)
    owners, bounds = clipped.bounds()
    np.testing.assert_array_equal(owners, [0])
    np.testing.assert_allclose(bounds, [[0, 0, 10, 10]])


def test_clipping_an_outline_around_the_whole_image_leaves_the_image() -> None:
    _, bounds = outline([(-50, -50), (150, -50), (150, 150), (-50, 150)]).clip(30, 40).bounds()
    np.testing.assert_allclose(bounds, [[0, 0, 40, 30]])


def test_an_outline_outside_the_image_makes_its_box_empty_and_leaves_others_alone() -> None:
    outlines = Polygons(
        np.array([(200, 200), (220, 200), (220, 220), (1, 2), (5, 2), (5, 8)], np.float32), np.array([0, 0, 0, 2, 2, 2])
    )
    boxes = np.array([[200, 200, 220, 220], [10, 10, 120, 20], [1, 2, 5, 8]], np.float32)
    clipped = Objects(np.arange(3, dtype=np.float32), boxes, outlines).clip(100, 100)
    np.testing.assert_allclose(clipped.boxes, [[0, 0, 0, 0], [10, 10, 100, 20], [1, 2, 5, 8]])
    kept = clipped.select(np.array([False, True, True]))
    np.testing.assert_array_equal(kept.polygons.owner, [1, 1, 1])


def test_mosaic_places_boxes_with_pixels() -> None:
    tiles = []
    for cls in range(4):  # one tile with a white rectangle, three dark ones; each size another
        image, objects = bright_box(60 + cls, 80, (20, 10, 50, 40), cls)
        tiles.append((image if cls == 2 else image // 4, objects))
    for index in range(6):
        canvas, objects = mosaic(tiles, 80, sample_rng(0, 0, index))
        assert canvas.shape == (160, 160, 3)
        np.testing.assert_array_equal(np.sort(objects.classes), [0, 1, 2, 3])
        np.testing.assert_allclose(objects.boxes[objects.classes == 2][0], bounds_of_bright(canvas))


def test_mosaic_centre_and_places_vary() -> None:
    tiles = [bright_box(80, 80, (0, 0, 80, 80), cls) for cls in range(4)]
    boxes = {tuple(mosaic(tiles, 80, sample_rng(0, 0, index))[1].boxes.ravel()) for index in range(10)}
    assert len(boxes) == 10


def rectangles(*boxes: tuple[int, int, int, int]) -> tuple[np.ndarray, Objects]:
    """A black image of 100 x 200, each rectangle in a grey value of its own and outlined, classes counted from 0."""
    image = np.zeros((100, 200, 3), np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = 200 + index
    corners = [[(x1, y1), (x2, y1), (x2, y2), (x1, y2)] for x1, y1, x2, y2 in boxes]
    outlines = Polygons(np.array(corners, np.float32).reshape(-1, 2), np.repeat(np.arange(len(boxes)), 4))
    return image, Objects(np.arange(len(boxes), dtype=np.float32), np.array(boxes, np.float32), outlines)


def test_copy_paste_moves_labels_with_pixels() -> None:
    image, objects = rectangles((10, 20, 50, 60), (60, 70, 90, 95))
    before = image.copy()
    pasted, more = copy_paste(image, objects, 1.0, sample_rng(0, 0, 0))
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(more.classes, [0, 1, 0, 1])
    np.testing.assert_array_equal(more.boxes[:2], objects.boxes)
    np.testing.assert_array_equal(more.boxes[2:], [[150, 20, 190, 60], [110, 70, 140, 95]])
    np.testing.assert_array_equal(more.polygons.bounds()[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(more.polygons.bounds()[1], more.boxes)
    expected = before.copy()
    expected[20:60, 150:190], expected[70:95, 110:140] = 200, 201
    np.testing.assert_array_equal(pasted, expected)


def test_copy_paste_takes_the_inside_of_the_outline_alone() -> None:
    image = np.random.default_rng(0).integers(1, 255, (100, 200, 3), np.uint8)
    triangle = outline([(10, 10), (90, 10), (10, 90)])
    objects = Objects(np.zeros(1, np.float32), np.array([[10, 10, 90, 90]], np.float32), triangle)
    pasted, _ = copy_paste(image, objects, 1.0, sample_rng(0, 0, 0))
    rows, columns = np.mgrid[:100, :200] + 0.5
    depth = np.minimum(np.minimum(190 - columns, rows - 10), columns - 100 - rows)  # inside the mirrored triangle
    np.testing.assert_array_equal(pasted[depth > 1], image[:, ::-1][depth > 1])
    np.testing.assert_array_equal(pasted[depth < -1], image[depth < -1])
    assert (depth > 1).sum() > 2500 and (depth < -1).sum() > 10000


@pytest.mark.parametrize(
    ("other", "room"),
    [
        ((170, 20, 190, 60), False),  # lies in the mirrored box
        ((180, 20, 200, 60), False),  # half of it does
        ((185, 20, 200, 60), False),  # a third
        ((187, 20, 200, 60), True),  # 3 of 13 columns
        ((150, 0, 190, 100), False),  # 40 %
        ((100, 0, 200, 100), True),  # 16 %: it is large
    ],
)
def test_copy_paste_keeps_off_objects_that_it_would_hide(other: tuple[int, int, int, int], room: bool) -> None:
    image, objects = rectangles((10, 20, 50, 60), other)
    only_first = objects._replace(polygons=Polygons(objects.polygons.points[:4], objects.polygons.owner[:4]))
    pasted, more = copy_paste(image, only_first, 1.0, sample_rng(0, 0, 0))
    assert len(more.classes) == 2 + room
    assert np.array_equal(pasted, image) != room


def test_copy_paste_keeps_off_its_own_original_and_off_what_it_pasted() -> None:
    image, objects = rectangles((80, 20, 130, 60))  # mirrored it lies over itself
    assert copy_paste(image, objects, 1.0, sample_rng(0, 0, 0))[1] is objects
    image, objects = rectangles((10, 20, 50, 60), (12, 20, 52, 60))  # nearly the same place: one of them
    chosen = {tuple(copy_paste(image, objects, 1.0, sample_rng(0, 0, n))[1].classes[2:]) for n in range(20)}
    assert chosen == {(0,), (1,)}


def test_copy_paste_tries_the_fraction_it_is_told() -> None:
    image, objects = rectangles(*((10, top, 50, top + 8) for top in range(0, 100, 10)))
    chosen = {tuple(copy_paste(image, objects, 0.3, sample_rng(0, 0, index))[1].classes[10:]) for index in range(8)}
    assert {len(classes) for classes in chosen} == {3} and len(chosen) > 1


@pytest.mark.parametrize(("probability", "outlined"), [(0.0, True), (1.0, False)])
def test_copy_paste_of_nothing_changes_nothing(probability: float, outlined: bool) -> None:
    image, objects = rectangles((10, 20, 50, 60))
    objects = objects if outlined else objects._replace(polygons=Polygons.none())
    rng = sample_rng(0, 0, 0)
    pasted, same = copy_paste(image, objects, probability, rng)
    assert pasted is image and same is objects
    assert rng.random() == sample_rng(0, 0, 0).random(), "nothing was drawn"
    assert copy_paste(image, Objects.none(), 1.0, rng)[1].boxes.shape == (0, 4)


def test_mixup_blends_and_keeps_all_objects() -> None:
    first, second = bright_box(40, 40, (0, 0, 20, 20), 1), bright_box(40, 40, (20, 20, 40, 40), 2)
    second = second[0], second[1]._replace(polygons=outline([(20, 20), (40, 20), (30, 40)]))
    image, objects = mixup(first, second, sample_rng(0, 0, 0))
    np.testing.assert_array_equal(objects.classes, [1, 2])
    np.testing.assert_array_equal(objects.boxes, [[0, 0, 20, 20], [20, 20, 40, 40]])
    np.testing.assert_array_equal(objects.polygons.owner, [1, 1, 1])
    weight = image[0, 0, 0] / 255
    assert 0.2 < weight < 0.8
    assert image[30, 30, 0] / 255 == pytest.approx(1 - weight, abs=0.01)


def test_colour_jitter_without_gains_only_reorders_channels() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(jitter_to_rgb(image, STILL, sample_rng(0, 0, 0)), image[..., ::-1])


def test_colour_jitter_changes_value_by_at_most_its_gain_and_spares_the_input() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    hyp = Hyperparameters(hsv_h=0, hsv_s=0, hsv_v=0.4)
    values = [int(jitter_to_rgb(image, hyp, sample_rng(0, 0, index))[0, 0, 0]) for index in range(50)]
    assert 59 <= min(values) < 75 and 125 < max(values) <= 140
    assert (image == 100).all()


def test_colour_jitter_turns_the_hue_round_its_circle() -> None:
    for index in range(10):
        with case(index):
            hue = 150  # of 180; doubled it goes round almost twice
            image = cv2.cvtColor(np.array([[[hue, 255, 255]]], np.uint8), cv2.COLOR_HSV2BGR)
            jittered = jitter_to_rgb(image, Hyperparameters(hsv_h=1, hsv_s=0, hsv_v=0), sample_rng(0, 0, index))
            expected = hue * (1 + sample_rng(0, 0, index).uniform(-1, 1, 3)[0]) % 180
            found = float(cv2.cvtColor(jittered, cv2.COLOR_RGB2HSV)[0, 0, 0])
            assert abs((found - expected + 90) % 180 - 90) < 3


def test_letterbox_geometry_leads_back() -> None:
    for scale_up in [True, False]:
        for size in [(100, 200), (200, 100), (37, 61), (320, 320), (31, 500)]:
            with case(scale_up, size):
                height, width = size
                box = (width // 4, height // 4, width // 2, height // 2)
                image, _ = bright_box(height, width, box)
                boxed, geometry = letterbox(image, (160, 224), scale_up=scale_up)
                assert boxed.shape == (160, 224, 3)
                assert geometry.original_hw == size
                if not scale_up:
                    assert max(geometry.scale) <= 1.01
                scale, pad = np.array(geometry.scale[::-1] * 2), np.array(geometry.pad[::-1] * 2)
                found = (bounds_of_bright(boxed) - pad) / scale
                np.testing.assert_allclose(found, box, atol=1.0 / min(1, *geometry.scale))


def test_letterbox_pads_half_on_each_side_and_the_odd_pixel_last() -> None:
    boxed, geometry = letterbox(np.zeros((10, 21, 3), np.uint8), (21, 21))
    assert geometry.pad == (5.0, 0.0)
    np.testing.assert_array_equal(np.flatnonzero(boxed[:, 0, 0] == 114), [0, 1, 2, 3, 4, 15, 16, 17, 18, 19, 20])


def test_letterbox_auto_pads_to_the_stride_only() -> None:
    boxed, _ = letterbox(np.zeros((100, 320, 3), np.uint8), (320, 320), auto=True, stride=32)
    assert boxed.shape == (128, 320, 3)


def test_extreme_aspect_ratio_keeps_a_pixel() -> None:
    assert resize_to_fit(np.zeros((10, 5000, 3), np.uint8), 64).shape == (1, 64, 3)


def test_resizing_averages_or_interpolates() -> None:
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::4] = 255  # every fourth row: averaging gives 64 everywhere, two-row interpolation misses rows
    assert np.unique(resize_to_fit(checks, 16)).tolist() == [64]
    assert np.unique(resize_to_fit(checks, 16, smooth=False)).tolist() != [64]


def test_rectangular_shapes_by_hand() -> None:
    # heights / widths: 0.5, 0.75 | 0.75, 1.5 | 2.0
    sizes = np.array([[150, 100], [50, 100], [75, 100], [75, 100], [200, 100]])
    order, shapes = rectangular_shapes(sizes, 2, 320, 32, 0.5)
    np.testing.assert_array_equal(order, [1, 2, 3, 0, 4])
    # all wide: 0.75 * 320 / 32 + 0.5 = 8 rows; mixed: square, 10.5 -> 11; all tall: width 0.5 * 10 + 0.5 = 5.5 -> 6
    np.testing.assert_array_equal(shapes, [[256, 352], [352, 352], [352, 192]])


def test_random_numbers_depend_on_the_key_alone() -> None:
    first = sample_rng(1, 2, 3).random(5)
    np.testing.assert_array_equal(first, sample_rng(1, 2, 3).random(5))
    for other in [(0, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)]:
        assert not np.isin(first, sample_rng(*other).random(1000)).any()


def test_epoch_order_is_a_permutation_of_its_own_in_each_epoch() -> None:
    orders = [epoch_order(50, 0, epoch) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[2], epoch_order(50, 0, 2))


def test_multi_scale_covers_half_to_one_and_a_half_in_strides() -> None:
    sizes = {multi_scale_size(320, 32, 0, 0, batch) for batch in range(500)}
    assert sizes == set(range(160, 481, 32))
