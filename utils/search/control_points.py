"""The search space of the Parameterized AP loss: its five curves, and the weight of the box part.

Tao, Li, Zhu, Huang, Liu, Dai: "Searching Parameterized AP Loss for Object Detection", NeurIPS 2021, arXiv:2112.05138.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import UserError
from utils.losses import ControlPoints, control_points_from
from utils.search.space import Sampler

CURVES = ControlPoints._fields
NUM_POINTS = 4  # of a curve, besides its ends
# Away from 0 and 1, so that after rounding x still rises strictly, and every y is above 0.
X_LIMITS, Y_LIMITS = (0.01, 0.99), (0.001, 1.0)
SCALE_LIMITS = (0.1, 10.0)
DECIMALS = 6

Curve = list[list[float]]


@dataclass(frozen=True)
class ControlPointSpace:
    """Curves of four points between (0, 0) and (1, 1), and a factor on the gain of the box part.

    The paper draws each coordinate as a fraction of the interval that is left, v_i = v_(i-1) + (1 - v_(i-1)) * f_i, so
    that curves rise, around f = 1/5, 1/4, 1/3, 1/2, the fractions of evenly spaced points. Here f is drawn by its
    quantile q, f_i = 1 - (1 - q_i)^(1/k) with k points still to come, this one included: f has these same means, and
    coordinates whose q are uniform are spread like four sorted uniform numbers, towards neither end.

    Attributes:
        box_gain: the gain ``box`` that the factor multiplies.
        base: control points that the search starts from; None are straight lines.
    """

    box_gain: float
    base: Any = None
    measure: str = "map"
    title: str = "mAP50-95"

    def start(self) -> dict[str, float]:
        """The curves of the base, clamped to the limits, and a factor of 1.

        Raises:
            UserError: the base has curves of more or fewer points.
        """
        parameters = {"gradient_scale": 1.0}
        for curve, points in zip(CURVES, self._base_curves(), strict=True):
            xs, ys = zip(*points[1:-1], strict=True)
            drawn = [min(max(value, X_LIMITS[0]), X_LIMITS[1]) for value in quantiles_of(xs)]
            drawn += [min(max(value, Y_LIMITS[0]), Y_LIMITS[1]) for value in quantiles_of(ys)]
            parameters |= dict(zip(_names(curve), drawn, strict=True))
        return parameters

    def _base_curves(self) -> Sequence[Sequence[Sequence[float]]]:
        if self.base is None:
            line = [(step / (NUM_POINTS + 1),) * 2 for step in range(NUM_POINTS + 2)]
            return [line] * len(CURVES)
        curves = control_points_from(self.base)
        for name, points in zip(CURVES, curves, strict=True):
            if len(points) != NUM_POINTS + 2:
                raise UserError(
                    f"loss.control_points: expected {NUM_POINTS} points between the ends of curve {name} to start from "
                    f"but got {len(points) - 2}"
                )
        return curves

    def overrides(self, trial: Sampler) -> list[str]:
        """Draw curves and factor."""
        scale = trial.suggest_float("gradient_scale", *SCALE_LIMITS, log=True)
        return [
            "loss.score=parameterized_ap",
            "loss.self_balance=false",
            f"loss.control_points={list(control_points(trial).values())}",
            f"box={float(f'{self.box_gain * scale:.5g}')!r}",
        ]

    def describe(self) -> dict[str, str]:
        """The kind of curves, and the limits of the factor."""
        low, high = SCALE_LIMITS
        return {"control points": str(NUM_POINTS), "gradient_scale": f"{low:g}:{high:g}"}


def control_points(trial: Sampler) -> dict[str, Curve]:
    """Draw the five curves.

    Returns:
        name to points [x, y] in [0, 1], from [0, 0] to [1, 1]; x rises strictly, y never falls.
    """
    curves = {}
    for curve in CURVES:
        names = _names(curve)
        xs = [trial.suggest_float(name, *X_LIMITS) for name in names[:NUM_POINTS]]
        ys = [trial.suggest_float(name, *Y_LIMITS) for name in names[NUM_POINTS:]]
        inner = [list(point) for point in zip(rising(xs), rising(ys), strict=True)]
        curves[curve] = [[0.0, 0.0], *inner, [1.0, 1.0]]
    return curves


def rising(quantiles: Sequence[float]) -> list[float]:
    """Coordinates that never fall, each a fraction of the interval left above the one before.

    Args:
        quantiles: n numbers in [0, 1].

    Returns:
        n numbers in [0, 1]; for independent uniform quantiles they are distributed as n sorted uniform numbers.
    """
    place, coordinates = 0.0, []
    for index, quantile in enumerate(quantiles):
        left = len(quantiles) - index
        place += (1 - place) * (1 - (1 - quantile) ** (1 / left))
        coordinates.append(round(place, DECIMALS))
    return coordinates


def quantiles_of(coordinates: Sequence[float]) -> list[float]:
    """The quantiles that :func:`rising` makes these coordinates of.

    Args:
        coordinates: n numbers that never fall, in [0, 1].
    """
    before, quantiles = 0.0, []
    for index, place in enumerate(coordinates):
        fraction = (place - before) / (1 - before) if before < 1 else 1.0
        quantiles.append(1 - (1 - fraction) ** (len(coordinates) - index))
        before = place
    return quantiles


def _names(curve: str) -> list[str]:
    return [f"{curve}.{axis}{index}" for axis in "xy" for index in range(1, NUM_POINTS + 1)]
