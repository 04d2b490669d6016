"""Pasting objects a second time, mirrored, where there is room for them."""

from __future__ import annotations

import cv2
import numpy as np

from utils.datasets.objects import Objects, Polygons, join_objects

LARGEST_OVERLAP = 0.30  # of the area of any object that is there already
SUBPIXEL_BITS = 6


def copy_paste(
    image: np.ndarray, objects: Objects, probability: float, rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Paste some of the objects that have an outline to where they are in the image's mirror, left to right.

    Of a fraction ``probability`` of these objects, in random order, each is pasted unless its mirrored box covers 30 %
    or more of the box of an object that is there already, be it an original or a pasted one.

    Args:
        image: (h, w, 3) uint8; not changed.
        objects: in pixels of ``image``, clipped to it.
        probability: fraction of the objects with an outline that are tried, rounded to a whole number.
        rng: source of the choice; untouched where nothing is tried.

    Returns:
        (h, w, 3) uint8, with the pixels that the outlines touch pasted, and the objects with the pasted ones behind
        them; the very arguments where nothing is pasted.
    """
    outlined, _ = objects.polygons.bounds()
    tried = round(probability * len(outlined))
    if tried == 0:
        return image, objects
    chosen = rng.permutation(outlined)[:tried]
    mirrored = objects.mirror(0, image.shape[1])
    pasted = np.zeros(len(objects.classes), bool)
    pasted[chosen[_with_room(objects.boxes, mirrored.boxes[chosen])]] = True
    if not pasted.any():
        return image, objects
    added = mirrored.select(pasted)
    mask = _mask(added.polygons, image.shape[:2])
    result = image.copy()
    result[mask] = image[:, ::-1][mask]
    return result, join_objects((objects, added))


def _with_room(boxes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Mask (m,) of the candidates (m, 4) that leave all ``boxes`` (n, 4) and all candidates kept before visible."""
    free = np.all(_covered(candidates, boxes) < LARGEST_OVERLAP, axis=1)
    among = _covered(candidates, candidates) < LARGEST_OVERLAP
    for index in np.flatnonzero(free):  # each decision depends on those before it
        free[index] = among[index, :index][free[:index]].all()
    return free


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m, n) fraction of the area of each of ``others`` (n, 4) that lies in each of ``boxes`` (m, 4), ``xyxy``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    area = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return (high - low).clip(min=0).prod(axis=2) / np.maximum(area, 1e-9)


def _mask(polygons: Polygons, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, whether a pixel lies in one of the outlines or on its edge."""
    # OpenCV counts from the centre of the first pixel, the points from its outer corner
    fixed = np.rint((polygons.points - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)
    mask = np.zeros(size_hw, np.uint8)
    # one by one: drawn together, outlines that overlap would cancel out
    for outline in np.split(fixed, np.flatnonzero(np.diff(polygons.owner)) + 1):
        cv2.fillPoly(mask, [outline], 1, shift=SUBPIXEL_BITS)
    return mask.astype(bool)
