"""What a search of the Parameterized AP loss varies: its five curves, and the weight of the box part.

Tao, Li, Zhu, Huang, Liu, Dai: "Searching Parameterized AP Loss for Object Detection", NeurIPS 2021, arXiv:2112.05138.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from utils.search_space import Sampler

CURVES = ("H2", "I2", "I3", "I1", "H1")
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
    """

    box_gain: float
    measure: str = "map"
    title: str = "mAP50-95"

    def start(self) -> dict[str, float]:
        """Straight lines and a factor of 1."""
        lefts = range(NUM_POINTS, 0, -1)
        even = [1 - (left / (left + 1)) ** left for left in lefts]
        quantiles = {name: even[index % NUM_POINTS] for curve in CURVES for index, name in enumerate(_names(curve))}
        return {**quantiles, "gradient_scale": 1.0}

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


def _names(curve: str) -> list[str]:
    return [f"{curve}.{axis}{index}" for axis in "xy" for index in range(1, NUM_POINTS + 1)]
