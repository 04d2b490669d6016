"""Draws images of overlapping, textured, rotated figures whose boxes are known exactly.

A figure is a polygon; its box is the bounds of the polygon's corners, clipped to the image, whether or not another
figure covers a part of it. Every kind of figure has a range of hues of its own, as fruit and traffic signs have, on a
background of greyish ones: a small network learns the kinds in minutes, and spends its effort on where things end.
"""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

SMALLEST, LARGEST = 18.0, 110.0  # diameter of a figure, pixels
LEAST_VISIBLE = 0.6  # of a figure's area, after borders and figures in front
FEWEST, MOST = 2, 7  # figures aimed at in a picture
HUE_SPREAD = 0.3  # of the distance between the hues of two kinds, to either side
TRIES = 40  # placements per picture
LEAST_CONTRAST = 100.0  # sum of the channels' distances between a figure's colours and the background's mean
SUPERSAMPLING = 4


def _regular(corners: int, phase: float = 0.0) -> np.ndarray:
    angle = np.arange(corners) * (2 * math.pi / corners) + phase
    return np.stack((np.cos(angle), np.sin(angle)), axis=1)


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    return _regular(96) * (1.0, rng.uniform(0.45, 1.0))


def _triangle(rng: np.random.Generator) -> np.ndarray:
    return _regular(3) * (1.0, rng.uniform(0.7, 1.0))


def _rectangle(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0.35, math.pi / 4)
    return np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (math.cos(angle), math.sin(angle))


def _star(rng: np.random.Generator) -> np.ndarray:
    radius = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.38, 0.5))
    return _regular(10) * radius[:, None]


def _cross(rng: np.random.Generator) -> np.ndarray:
    arm = rng.uniform(0.22, 0.36)
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    turn = np.array([[0, 1], [-1, 0]])
    corners = np.concatenate([quarter @ np.linalg.matrix_power(turn, count) for count in range(4)])
    return corners / math.hypot(1, arm)


def _crescent(rng: np.random.Generator) -> np.ndarray:
    """A disc without the part that a second, shifted disc covers."""
    shift = rng.uniform(0.55, 0.8)
    meet = math.acos(shift / 2)
    outer = np.linspace(meet, 2 * math.pi - meet, 64)
    inner = np.linspace(math.pi + meet, math.pi - meet, 64)[1:-1]
    outside = np.stack((np.cos(outer), np.sin(outer)), axis=1)
    return np.concatenate((outside, np.stack((np.cos(inner) + shift, np.sin(inner)), axis=1)))


FIGURES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "ellipse": _ellipse,
    "triangle": _triangle,
    "rectangle": _rectangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
}


class Scene(NamedTuple):
    """An image of figures.

    Attributes:
        image: (h, w, 3) uint8, BGR.
        classes: (n,) int64 positions in the names that were asked for.
        boxes: (n, 4) float64 ``xyxy`` pixels.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray


def draw_scene(height: int, width: int, names: Sequence[str], rng: np.random.Generator) -> Scene:
    """Draw an image.

    Args:
        height, width: pixels.
        names: figures to choose from, keys of ``FIGURES``.
        rng: source of all choices.
    """
    image = _background(height, width, rng)
    mean = image.mean(axis=(0, 1))
    front = np.full((height, width), -1)  # which figure is seen at each pixel
    areas: list[float] = []
    classes: list[int] = []
    boxes: list[np.ndarray] = []
    wanted = rng.integers(FEWEST, MOST, endpoint=True)
    for _ in range(TRIES):
        if len(classes) == wanted:
            break
        chosen = int(rng.integers(len(names)))
        corners = place_figure(FIGURES[names[chosen]](rng), height, width, rng)
        box = np.clip([*corners.min(axis=0), *corners.max(axis=0)], 0, [width, height, width, height])
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        window = np.s_[top:bottom, left:right]
        alpha = coverage(corners - (left, top), bottom - top, right - left)
        covering = front.copy()
        covering[window][alpha > 0.5] = len(areas)
        total = [*areas, _polygon_area(corners)]
        visible = np.bincount(covering[covering >= 0], minlength=len(total)) / total
        if (visible < LEAST_VISIBLE).any():
            continue
        hue = (chosen + rng.uniform(-HUE_SPREAD, HUE_SPREAD)) / len(names)
        image[window] += alpha[..., None] * (_texture(alpha.shape[0], alpha.shape[1], hue, mean, rng) - image[window])
        front, areas = covering, total
        classes.append(chosen)
        boxes.append(box)
    image += rng.normal(0, rng.uniform(2, 8), image.shape)
    return Scene(
        np.clip(np.rint(image), 0, 255).astype(np.uint8),
        np.array(classes, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
    )


def place_figure(figure: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Corners (k, 2) in pixels of a figure that fits the unit circle, zoomed, turned and moved into the picture."""
    largest = min(LARGEST, 0.75 * min(height, width))
    radius = math.exp(rng.uniform(math.log(SMALLEST), math.log(largest))) / 2
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = rng.uniform((0, 0), (width, height))
    return figure @ turn * radius + centre


def coverage(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """How much of each pixel of a window at the origin lies inside a polygon: (h, w) in [0, 1]."""
    large = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    bits = 6
    # OpenCV counts from the centre of the first pixel, the corners from its outer corner
    fixed = np.rint((corners * SUPERSAMPLING - 0.5) * 2**bits).astype(np.int32)
    cv2.fillPoly(large, [fixed], 255, shift=bits)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) / 255.0


def _polygon_area(corners: np.ndarray) -> float:
    """Area by the shoelace formula, in square pixels."""
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A cloudy picture (h, w, 3) float64 with some thin lines."""
    grey = rng.uniform(60, 195)
    coarse = rng.normal(grey + rng.uniform(-18, 18, 3), 16, (4, 4, 3))
    fine = rng.normal(0, 8, (12, 12, 3))
    clouds = (cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) for noise in (coarse, fine))
    image = functools.reduce(np.add, clouds)
    for _ in range(rng.integers(4)):
        ends = rng.uniform((0, 0), (width, height), (2, 2)).astype(int).tolist()
        cv2.line(image, ends[0], ends[1], rng.uniform(0, 255, 3).tolist(), 1, cv2.LINE_8)
    return image


def _texture(height: int, width: int, hue: float, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pattern (h, w, 3) of two shades of a hue, a fraction of the circle, both unlike the background's mean."""
    shades: list[np.ndarray] = []
    while len(shades) < 2:
        shade = _shade(hue, rng.uniform(0.6, 1.0), rng.uniform(0.35, 1.0))
        if np.abs(shade - background).sum() >= LEAST_CONTRAST:
            shades.append(shade)
    first, second = shades
    angle, period = rng.uniform(0, math.pi), rng.uniform(4, 16)
    y, x = np.mgrid[:height, :width] * (2 * math.pi / period)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kind = rng.integers(5)
    if kind == 0:
        weight = np.zeros((height, width))
    elif kind == 1:
        weight = (np.sin(along) > 0).astype(float)
    elif kind == 2:
        weight = (np.sin(along) * np.sin(across) > 0).astype(float)
    elif kind == 3:
        weight = 0.5 + 0.5 * np.sin(along / 6)
    else:
        weight = np.clip(cv2.resize(rng.uniform(-0.5, 1.5, (16, 16)), (width, height)), 0, 1)
    return first + weight[..., None] * (second - first)


def _shade(hue: float, saturation: float, value: float) -> np.ndarray:
    """A colour, all in [0, 1], as (3,) BGR values up to 255."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))[::-1] * 255
