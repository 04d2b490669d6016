"""Control points: the five curves of the Parameterized AP loss, and their checks.

Tao, Li, Zhu, Huang, Liu, Dai: "Searching Parameterized AP Loss for Object Detection", NeurIPS 2021, arXiv:2112.05138.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.errors import UserError
from utils.parameters import check_number

Curve = tuple[tuple[float, float], ...]


class ControlPoints(NamedTuple):
    """Five curves from (0, 0) to (1, 1), piecewise linear through their (x, y) points.

    Attributes:
        H2: step of the difference of two scores, in the numerator: false samples ranked above a positive.
        I2: of the IoU: how correct a sample is.
        I3: of the IoU: weight of a positive's share of false samples.
        I1: of the IoU: gain of a positive.
        H1: step of the difference of two scores, in the denominator: all samples ranked above a positive.
    """

    H2: Curve
    I2: Curve
    I3: Curve
    I1: Curve
    H1: Curve


def control_points_from(setting: Any) -> ControlPoints:
    """Check control points, as written in YAML.

    Args:
        setting: five curves in the order H2, I2, I3, I1, H1 (lists, tuples, an array or a tensor), each of two or more
            points [x, y], or with all its numbers in one row x, y, x, y, ... Of each curve x rises strictly, y never
            falls, both from 0 to 1. H1 is above 0 at 0.5, where it counts the positive itself.

    Returns:
        ControlPoints: checked; an instance is returned unchanged.

    Raises:
        UserError: anything else; the message names the curve and the value.
    """
    if isinstance(setting, ControlPoints):
        return setting
    names = ControlPoints._fields
    rows = _as_list(setting)
    if rows is None or len(rows) != len(names):
        found = repr(setting) if rows is None else f"{len(rows)} of them"
        raise UserError(f"expected control_points, five curves in the order {', '.join(names)}, but got {found}")
    points = ControlPoints(*(_curve(name, row) for name, row in zip(names, rows, strict=True)))
    xs, ys = zip(*points.H1, strict=True)
    last = max(k for k, x in enumerate(xs) if x <= 0.5)
    if ys[last] == 0 and (xs[last] == 0.5 or ys[last + 1] == 0):
        raise UserError(f"control_points: expected curve H1 above 0 at x = 0.5 but got {points.H1}")
    return points


def _as_list(setting: Any) -> list[Any] | None:
    """A list, tuple, array or tensor as a list; None for anything else."""
    if hasattr(setting, "tolist"):
        setting = setting.tolist()
    return list(setting) if isinstance(setting, Sequence) and not isinstance(setting, str) else None


def _curve(name: str, setting: Any) -> Curve:
    """One curve, checked."""
    rows = _as_list(setting) or []
    pairs = [_as_list(row) for row in rows]
    if not any(isinstance(pair, list) for pair in pairs):
        pairs = [rows[start : start + 2] for start in range(0, len(rows), 2)]
    if len(pairs) < 2 or any(pair is None or len(pair) != 2 for pair in pairs):
        raise UserError(f"control_points: expected curve {name}, two or more points [x, y], but got {setting!r}")
    curve = tuple(_point(name, place, *pair) for place, pair in enumerate(pairs, start=1) if pair is not None)
    if curve[0] != (0, 0) or curve[-1] != (1, 1):
        raise UserError(f"control_points: expected curve {name} from [0, 0] to [1, 1] but got {setting!r}")
    for place, ((x, y), (next_x, next_y)) in enumerate(pairwise(curve), start=1):
        if next_x <= x or next_y < y:
            raise UserError(
                f"control_points: expected curve {name} with rising x and y that never falls, but after point {place}, "
                f"[{x:g}, {y:g}], comes [{next_x:g}, {next_y:g}]"
            )
    return curve


def _point(name: str, place: int, *setting: Any) -> tuple[float, float]:
    numbers = []
    for axis, value in zip("xy", setting, strict=True):
        try:
            numbers.append(check_number(value, 0, 1))
        except UserError as error:
            raise UserError(f"control_points: {axis} of point {place} of curve {name}: {error}") from None
    x, y = numbers
    return x, y


def interpolate(values: Tensor, curve: Curve) -> Tensor:
    """The piecewise linear curve at the values, any shape, in [0, 1]; the slope at a corner is that to its right."""
    x, y = values.new_tensor(curve).unbind(dim=1)
    slopes = y.diff() / x.diff()
    piece = torch.bucketize(values.detach(), x[1:-1].contiguous(), right=True, out_int32=True)
    return y[piece] + slopes[piece] * (values - x[piece])
