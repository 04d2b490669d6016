"""Making one training image of several: mosaics of four, and mixtures of two."""

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
    canvas = np.full((side, side, 3), GREY, np.uint8)
    centre_x, centre_y = (int(value) for value in rng.uniform(image_size / 2, side - image_size / 2, 2))
    placed = []
    for position, chosen in enumerate(rng.permutation(len(tiles))):
        image, objects = tiles[chosen]
        height, width = image.shape[:2]
        row, column = divmod(position, 2)
        left, top = centre_x - width * (1 - column), centre_y - height * (1 - row)
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, side), min(top + height, side)
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
