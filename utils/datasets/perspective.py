"""Random rotation, zoom, shear, translation and perspective of an image and its objects, as one warp."""

from __future__ import annotations

import math

import cv2
import numpy as np

from utils.config.hyperparameters import Hyperparameters
from utils.datasets.letterbox import GREY
from utils.datasets.objects import REGION, Objects, Polygons


def random_perspective(
    image: np.ndarray, objects: Objects, size_hw: tuple[int, int], hyp: Hyperparameters, rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Warp an image about its centre into an image of another size, and its objects with it.

    Args:
        image: (h, w, 3) uint8.
        objects: in pixels of ``image``.
        size_hw: height and width of the result; a mosaic's is half of its canvas.
        hyp: ``degrees``, ``scale``, ``shear``, ``perspective``, ``translate``.
        rng: source of the draws.

    Returns:
        (H, W, 3) uint8 with a grey border, and the objects of which enough is left.
    """
    matrix, zoom = random_matrix(image.shape[:2], size_hw, hyp, rng)
    if image.shape[:2] != size_hw or not np.array_equal(matrix, np.eye(3)):
        size_wh, border = (size_hw[1], size_hw[0]), (GREY,) * 3
        if hyp.perspective:
            image = cv2.warpPerspective(image, matrix, dsize=size_wh, borderValue=border)
        else:
            image = cv2.warpAffine(image, matrix[:2], dsize=size_wh, borderValue=border)
    return image, warp_objects(objects, matrix, size_hw, zoom)


def random_matrix(
    source_hw: tuple[int, int], size_hw: tuple[int, int], hyp: Hyperparameters, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Draw the (3, 3) matrix that maps source pixels to result pixels, and the zoom it contains."""
    perspective_x, perspective_y = rng.uniform(-hyp.perspective, hyp.perspective, 2)
    angle = math.radians(rng.uniform(-hyp.degrees, hyp.degrees))
    zoom = rng.uniform(1 - hyp.scale, 1 + hyp.scale)
    shear_x, shear_y = np.tan(np.radians(rng.uniform(-hyp.shear, hyp.shear, 2)))
    shift_x, shift_y = rng.uniform(0.5 - hyp.translate, 0.5 + hyp.translate, 2) * (size_hw[1], size_hw[0])

    centre = np.array([[1, 0, -source_hw[1] / 2], [0, 1, -source_hw[0] / 2], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [perspective_x, perspective_y, 1]])
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    rotate = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
    shift = np.array([[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]])
    return shift @ shear @ rotate @ tilt @ centre, zoom


def warp_objects(objects: Objects, matrix: np.ndarray, size_hw: tuple[int, int], zoom: float) -> Objects:
    """Move objects with their pixels, clip them to the result, and drop what is hardly visible any more.

    A box becomes the bounds of its four warped corners, a box with an outline the bounds of the visible outline.

    Args:
        objects: in source pixels.
        matrix: (3, 3) from source to result pixels.
        size_hw: height and width of the result.
        zoom: by which the objects became larger, for the comparison of areas.
    """
    if len(objects.classes) == 0:
        return objects
    points = objects.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    corners = _warp_points(points, matrix).reshape(-1, 4, 2)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    polygons = Polygons(_warp_points(objects.polygons.points, matrix), objects.polygons.owner)
    warped = Objects(objects.classes, boxes, polygons).clip(*size_hw)
    least_visible = np.full(len(boxes), 0.10, np.float32)
    least_visible[objects.polygons.owner] = 0.01  # an outline's bounds are tight: less of them may be empty
    keep = _still_visible(objects.boxes * zoom, warped.boxes, least_visible)
    # whatever is left of a region to ignore is still to be ignored
    has_area = (warped.boxes[:, 2:] > warped.boxes[:, :2]).all(axis=1)
    return warped.select(np.where(objects.classes == REGION, has_area, keep))


def _warp_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (k, 2) through a (3, 3) matrix."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    return (homogeneous[:, :2] / homogeneous[:, 2:]).astype(np.float32)


def _still_visible(before: np.ndarray, after: np.ndarray, least_visible: np.ndarray) -> np.ndarray:
    """Mask (n,) of boxes above 2 pixels a side, with enough of their former area, and not 100 times as long as wide."""
    sides_before, sides = before[:, 2:] - before[:, :2], after[:, 2:] - after[:, :2]
    visible = sides.prod(axis=1) / (sides_before.prod(axis=1) + 1e-16)
    aspect = sides.max(axis=1) / (sides.min(axis=1) + 1e-16)
    return (sides > 2).all(axis=1) & (visible > least_visible) & (aspect < 100)
