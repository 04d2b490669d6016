"""Fitting images into the network's input: resizing with a constant aspect ratio, and grey borders."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from utils.structures import ImageGeometry

GREY = 114  # value of every border and of every image that could not be read


def fit_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Height and width with the longer side equal to ``image_size``, each at least 1 pixel."""
    longest = max(height, width)
    return max(height * image_size // longest, 1), max(width * image_size // longest, 1)


def resize_to_fit(image: np.ndarray, image_size: int, *, smooth: bool = True) -> np.ndarray:
    """Resize so that the longer side is ``image_size``; the very image where it is already.

    Args:
        image: (h, w, 3) uint8.
        image_size: pixels.
        smooth: shrink by averaging areas; otherwise, and when enlarging, bilinearly.
    """
    height, width = image.shape[:2]
    new_height, new_width = fit_size(height, width, image_size)
    if (new_height, new_width) == (height, width):
        return image
    shrink = smooth and image_size < max(height, width)
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return cv2.resize(image, (new_width, new_height), interpolation=interpolation)


class Letterboxed(NamedTuple):
    """An image with borders.

    Attributes:
        image: (H, W, 3) uint8.
        geometry: how it came from the image that was given.
    """

    image: np.ndarray
    geometry: ImageGeometry


def letterbox(
    image: np.ndarray,
    shape_hw: tuple[int, int],
    *,
    scale_up: bool = True,
    auto: bool = False,
    stride: int = 32,
) -> Letterboxed:
    """Resize into ``shape_hw`` with a constant aspect ratio and fill the rest with grey, half on each side.

    Args:
        image: (h, w, 3) uint8.
        shape_hw: height and width to fit into, pixels.
        scale_up: enlarge a smaller image; otherwise it is only surrounded.
        auto: surround only up to the next multiple of ``stride`` instead of to the whole ``shape_hw``.
        stride: pixels, for ``auto``.

    Returns:
        Letterboxed: a new image, or the one given where nothing had to change.
    """
    height, width = image.shape[:2]
    ratio = min(shape_hw[0] / height, shape_hw[1] / width)
    if not scale_up:
        ratio = min(ratio, 1.0)
    new_height, new_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    if auto:
        shape_hw = math.ceil(new_height / stride) * stride, math.ceil(new_width / stride) * stride
    spare_height, spare_width = (shape_hw[0] - new_height) / 2, (shape_hw[1] - new_width) / 2
    # an odd rest goes to the bottom and to the right
    top, bottom = round(spare_height - 0.1), round(spare_height + 0.1)
    left, right = round(spare_width - 0.1), round(spare_width + 0.1)
    if (new_height, new_width) != (height, width):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    if top or bottom or left or right:
        image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    scale = (new_height / height, new_width / width)
    return Letterboxed(image, ImageGeometry((height, width), scale, (float(top), float(left))))


def rectangular_shapes(
    sizes_hw: np.ndarray, batch_size: int, image_size: int, stride: int, pad: float
) -> tuple[np.ndarray, np.ndarray]:
    """Group images of similar aspect ratio, and give each batch the smallest input shape that holds its images.

    Args:
        sizes_hw: (n, 2) heights and widths.
        batch_size: images a batch.
        image_size: longer side of the input, pixels.
        stride: every side becomes a multiple of it.
        pad: border in strides, 0.5 in validation.

    Returns:
        order (n,) of the images by height / width, and (number of batches, 2) heights and widths.
    """
    ratios = sizes_hw[:, 0] / sizes_hw[:, 1]
    order = np.argsort(ratios, kind="stable")
    ratios = ratios[order]
    first = np.arange(0, len(ratios), batch_size)
    lowest, highest = np.minimum.reduceat(ratios, first), np.maximum.reduceat(ratios, first)
    height = np.where(highest < 1, highest, 1.0)
    width = np.where(lowest > 1, 1 / lowest, 1.0)
    relative = np.stack((height, width), axis=1)
    shapes = np.ceil(relative * image_size / stride + pad).astype(int) * stride
    return order, np.maximum(shapes, stride)
