"""The fewest decimals that read back as the same float32 label, through the readers of this program.

Labels are float32 fractions of the image's size. Files hold pixels, or fractions, as decimal text. Of all texts that a
reader turns into a given label the shortest are found by trying more and more decimals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

VOC = "voc"  # corners that count pixels from 1 and include the last one
FORMS = ("xyxy", "xywh", "ltwh", VOC)
EXACT = 4e15  # below, every count of smallest units is a whole float64


class Numbers(NamedTuple):
    """Boxes as they stand in a file.

    Attributes:
        values: (n, 4) float64: the two numbers of x and of y, in the order of the form, ``x1 y1 x2 y2`` or ``x y w h``.
        beyond: (n,) float64: how far a box reached beyond the image and was clipped, 0 for most; in the unit of
            ``values``.
    """

    values: np.ndarray
    beyond: np.ndarray


def box_numbers(labels: np.ndarray, size_hw: np.ndarray | tuple[float, float], form: str) -> Numbers:
    """Boxes (n, 5) of class and ``xywhn`` in the unit of an image's size. Many at once are much faster than one by one.

    Args:
        labels: float32 rows.
        size_hw: height and width of the image, or (n, 2) those of the image of each box; (1, 1) for fractions.
        form: one of ``FORMS``.
    """
    lengths = np.broadcast_to(np.asarray(size_hw, np.float64), (len(labels), 2))
    x, beyond_x = _axis(labels[:, 1], labels[:, 3], lengths[:, 1], form)
    y, beyond_y = _axis(labels[:, 2], labels[:, 4], lengths[:, 0], form)
    return Numbers(np.stack((x[0], y[0], x[1], y[1]), axis=1), np.maximum(beyond_x, beyond_y))


def point_numbers(points: np.ndarray, size_hw: tuple[float, float]) -> np.ndarray:
    """Points (k, 2) in [0, 1] float32 in the unit of an image's size: (k, 2) float64 with the fewest decimals."""
    lengths = np.array(size_hw[::-1], np.float64)
    values = points * lengths
    todo = np.ones(points.shape, bool)
    for scale in _scales(float(lengths.max())):
        candidates = np.rint(points * lengths * scale) / scale
        fits = todo & ((candidates / lengths).clip(0, 1).astype(np.float32) == points)
        values[fits] = candidates[fits]
        todo &= ~fits
    return values + 0.0


def fraction_text(value: np.float32) -> str:
    """The shortest decimal text that reads back as this number."""
    text = np.format_float_positional(value, unique=True, trim="-")
    # text is read as float64 first, and rounding twice may end elsewhere
    return text if np.float32(float(text)) == value else np.format_float_positional(float(value), trim="-")


def number_text(value: float) -> str:
    """A number without exponent and superfluous zeros."""
    return np.format_float_positional(value, trim="-")


def _axis(centre: np.ndarray, size: np.ndarray, length: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """The two numbers (2, n) of boxes along one axis, and how far (n,) each was clipped."""
    middle, extent = centre.astype(np.float64), size.astype(np.float64)
    numbers, found = _search(centre, size, middle, extent, length, form)
    beyond = np.zeros(len(centre))
    if not found.all():
        at = np.flatnonzero(~found)
        touching = _touching(centre[at], size[at])
        numbers[:, at], found[at] = _search(centre[at], size[at], *touching, length[at], form)
    if not found.all():
        at = np.flatnonzero(~found)
        limit = length[at]
        low, high = (middle[at] - extent[at] / 2) * limit, (middle[at] + extent[at] / 2) * limit
        beyond[at] = np.maximum(np.maximum(-low, high - limit), 0)
        low, high = low.clip(0, limit), high.clip(0, limit)
        inside = _fractions(low, high, limit)
        clipped, reached = _search(*inside, (low + high) / 2 / limit, (high - low) / limit, limit, form)
        # a box of less than a billionth of the image: corners have no digits for it
        clipped[:, ~reached] = _numbers_of(low, high, form)[:, ~reached]
        numbers[:, at] = clipped
        beyond[at] = np.maximum(beyond[at], np.where(reached, 0, 1e-9))
    return numbers, beyond


def _search(
    centre: np.ndarray, size: np.ndarray, middle: np.ndarray, extent: np.ndarray, length: np.ndarray, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (2, n) with the fewest decimals that are read as these fractions, and whether (n,) there are any.

    Args:
        centre, size: (n,) float32 fractions, which must be read.
        middle, extent: (n,) float64 fractions around which numbers are tried.
        length: (n,) of the axis in the unit of the numbers.
        form: one of ``FORMS``.
    """
    numbers = np.zeros((2, len(centre)))
    todo = np.arange(len(centre))
    for scale in _scales(float(length.max(initial=1))):
        if not len(todo):
            break
        limit = length[todo]
        unit = limit * scale
        found = np.zeros(len(todo), bool)
        wide = extent[todo] * unit
        for units_wide in (np.rint(wide), np.floor(wide), np.ceil(wide)):
            start = middle[todo] * unit - (0 if form == "xywh" else units_wide / 2)
            for units in (np.rint(start), np.floor(start), np.ceil(start)):
                first = (units + (scale if form == VOC else 0)) / scale
                second = (units_wide if form in ("xywh", "ltwh") else units + units_wide) / scale
                read = _fractions(*_ends(first, second, form), limit)
                fits = ~found & (units_wide > 0) & (read[0] == centre[todo]) & (read[1] == size[todo])
                numbers[0, todo[fits]], numbers[1, todo[fits]] = first[fits], second[fits]
                found |= fits
        todo = todo[~found]
    is_found = np.ones(len(centre), bool)
    is_found[todo] = False
    return numbers + 0.0, is_found  # + 0: no number is written as -0


def _touching(centre: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and size (n,) float64 of boxes that touch a border, whose float32 fractions are these.

    In float32 such a box may reach beyond the border, and is another one when it is clipped. With one end at the border
    centre and size each leave an interval for the other end: the middle of what they share.
    """
    middle, extent = centre.astype(np.float64), size.astype(np.float64)
    at_high = middle > 0.5
    from_centre = np.where(at_high, 2 * middle - 1, 2 * middle)
    from_size = np.where(at_high, 1 - extent, extent)
    of_centre, of_size = np.spacing(centre).astype(np.float64), np.spacing(size).astype(np.float64) / 2
    end = np.maximum(from_centre - of_centre, from_size - of_size)
    end = (end + np.minimum(from_centre + of_centre, from_size + of_size)) / 2
    low, high = np.where(at_high, end, 0), np.where(at_high, 1, end)
    return (low + high) / 2, high - low


def _ends(first: np.ndarray, second: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end of boxes along an axis, as the readers compute them."""
    if form == "xyxy":
        return first, second
    if form == VOC:
        return first - 1, second
    return (first, first + second) if form == "ltwh" else (first - second / 2, first + second / 2)


def _numbers_of(low: np.ndarray, high: np.ndarray, form: str) -> np.ndarray:
    """The two numbers (2, n) of boxes with these ends."""
    first = {"xyxy": low, "ltwh": low, VOC: low + 1, "xywh": (low + high) / 2}[form]
    return np.stack((first, high if form in ("xyxy", VOC) else high - low))


def _fractions(low: np.ndarray, high: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and size, float32 fractions, of what lies inside the image, as the readers compute them."""
    low, high = low.clip(0, length), high.clip(0, length)
    return ((low + high) / 2 / length).astype(np.float32), ((high - low) / length).astype(np.float32)


def _scales(length: float) -> list[float]:
    """Units in one: 1, 10, 100, ... as far as counts of them stay exact."""
    return [10.0**decimals for decimals in range(23) if length * 10.0**decimals <= EXACT]
