"""Making one training image of several: mosaics of four and of nine, and mixtures of two."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.datasets.letterbox import GREY
from utils.datasets.objects import Objects, join_objects


def mosaic(
    tiles: Sequence[tuple[np.ndarray, Objects]], image_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Lay four images around a random point of a canvas of twice the image size.

    Args:
        tiles: four pairs of an image (h, w, 3) uint8 with sides up to ``image_size``, and its objects.
        image_size: pixels.
        rng: source of the draws: the point, and which tile goes where.

    Returns:
        canvas (2 * image_size, 2 * image_size, 3) uint8, grey where no tile lies, and the objects, clipped to it.
    """
    side = 2 * image_size
    centre_x, centre_y = (int(value) for value in rng.uniform(image_size / 2, side - image_size / 2, 2))
    shuffled = [tiles[chosen] for chosen in rng.permutation(len(tiles))]
    corners = []
    for position, (image, _) in enumerate(shuffled):
        height, width = image.shape[:2]
        row, column = divmod(position, 2)
        corners.append((centre_y - height * (1 - row), centre_x - width * (1 - column)))
    return _lay(shuffled, corners, side)


def mosaic_of_nine(
    tiles: Sequence[tuple[np.ndarray, Objects]], image_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Lay eight images around a ninth, and cut a random window of twice the image size out of the whole.

    The eight form the arms of a pinwheel, two images each: an arm starts at a corner of the image in the middle and
    runs along its side, clockwise, so that no image covers another whatever their sizes. The window's centre is a
    random point of the square of ``image_size`` pixels that begins at the upper left corner of the one in the middle.

    Args:
        tiles: nine pairs of an image (h, w, 3) uint8 with sides up to ``image_size``, and its objects; the first one
            comes into the middle, the others around it clockwise from above it.
        image_size: pixels.
        rng: source of the one draw, the window.

    Returns:
        canvas (2 * image_size, 2 * image_size, 3) uint8, grey where no tile lies, and the objects, clipped to it.
    """
    left, top = (image_size - int(value) for value in rng.uniform(0, image_size, 2))
    height, width = tiles[0][0].shape[:2]
    right, bottom = left + width, top + height
    corners = [(top, left)]
    for arm, (x, y) in enumerate(((left, top), (right, top), (right, bottom), (left, bottom))):
        for image, _ in tiles[1 + 2 * arm : 3 + 2 * arm]:
            height, width = image.shape[:2]
            corners.append((y - height if arm in (0, 3) else y, x - width if arm in (2, 3) else x))
            x, y = x + (width, 0, -width, 0)[arm], y + (0, height, 0, -height)[arm]
    return _lay(tiles, corners, 2 * image_size)


def _lay(
    tiles: Sequence[tuple[np.ndarray, Objects]], corners: Sequence[tuple[int, int]], side: int
) -> tuple[np.ndarray, Objects]:
    """A grey square of ``side`` pixels with each tile's ``(top, left)`` at its corner; what lies outside is cut off."""
    canvas = np.full((side, side, 3), GREY, np.uint8)
    placed = []
    for (image, objects), (top, left) in zip(tiles, corners, strict=True):
        height, width = image.shape[:2]
        y1, y2 = np.clip((top, top + height), 0, side)
        x1, x2 = np.clip((left, left + width), 0, side)
        canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        placed.append(objects.place((1.0, 1.0), (top, left)))
    return canvas, join_objects(placed).clip(side, side)


def mixup(
    first: tuple[np.ndarray, Objects], second: tuple[np.ndarray, Objects], rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Blend two images of one size, weights from Beta(32, 32), and keep the objects of both."""
    weight = float(rng.beta(32.0, 32.0))
    image = cv2.addWeighted(first[0], weight, second[0], 1 - weight, 0)
    return image, join_objects((first[1], second[1]))
