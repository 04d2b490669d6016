"""Which hyper-parameters a search varies, and within which limits. The table is that of YOLOv5's ``--evolve``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from utils.errors import UserError, unknown_name


class Sampler(Protocol):
    """The part of ``optuna.Trial`` that the spaces draw from."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from ``low`` to ``high``."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""


class SearchSpace(Protocol):
    """What is varied.

    Attributes:
        measure: name of the metric of a trial, an attribute of ``utils.metrics.Metrics``.
        title: of that metric.
    """

    @property
    def measure(self) -> str:
        """See above."""

    @property
    def title(self) -> str:
        """See above."""

    def start(self) -> dict[str, float]:
        """Parameters of the first trial: what the search starts from."""

    def overrides(self, trial: Sampler) -> list[str]:
        """Draw the parameters of a trial, as texts of ``--set``."""

    def describe(self) -> dict[str, str]:
        """What tells this space from another: name to limits."""


class Limits(NamedTuple):
    """The interval in which a hyper-parameter is searched.

    Attributes:
        low, high: both included.
        usual: searched unless ``--keys`` says otherwise.
        whole: only whole numbers.
    """

    low: float
    high: float
    usual: bool = True
    whole: bool = False

    @property
    def log(self) -> bool:
        """Whether to sample on a logarithmic scale: the limits are a factor of ten or more apart."""
        return not self.whole and 0 < 10 * self.low <= self.high


LIMITS = {
    "lr0": Limits(1e-5, 0.1),
    "lrf": Limits(0.01, 1.0),
    "momentum": Limits(0.6, 0.98),
    "weight_decay": Limits(0.0, 0.001),
    "warmup_epochs": Limits(0.0, 5.0),
    "warmup_momentum": Limits(0.0, 0.95),
    "warmup_bias_lr": Limits(0.0, 0.2),
    "box": Limits(0.02, 0.2),
    "cls": Limits(0.2, 4.0),
    "cls_pw": Limits(0.5, 2.0),
    "obj": Limits(0.2, 4.0),
    "obj_pw": Limits(0.5, 2.0),
    "anchor_t": Limits(2.0, 8.0),
    "anchors": Limits(2, 10, whole=True),
    "fl_gamma": Limits(0.0, 2.0, usual=False),
    "hsv_h": Limits(0.0, 0.1),
    "hsv_s": Limits(0.0, 0.9),
    "hsv_v": Limits(0.0, 0.9),
    "degrees": Limits(0.0, 45.0),
    "translate": Limits(0.0, 0.9),
    "scale": Limits(0.0, 0.9),
    "shear": Limits(0.0, 10.0),
    "perspective": Limits(0.0, 0.001, usual=False),
    "flipud": Limits(0.0, 1.0),
    "fliplr": Limits(0.0, 1.0, usual=False),
    "mosaic": Limits(0.0, 1.0),
    "mixup": Limits(0.0, 1.0),
    "copy_paste": Limits(0.0, 1.0),
}


@dataclass(frozen=True)
class HypSpace:
    """Hyper-parameters, each between its limits.

    Attributes:
        limits: key, ``lr0`` or ``loss.rank_gain``, to limits.
        base: resolved hyper-parameters in full that the search starts from.
    """

    limits: Mapping[str, Limits]
    base: Mapping[str, Any]
    measure: str = "fitness"
    title: str = "fitness"

    def start(self) -> dict[str, float]:
        """The values of the base, clamped to the limits."""
        values = {key: value_of(self.base, key) for key in self.limits}
        return {
            key: min(max(value, self.limits[key].low), self.limits[key].high)
            for key, value in values.items()
            if value is not None
        }

    def overrides(self, trial: Sampler) -> list[str]:
        """Draw a value for each key; numbers are rounded to five digits."""
        return [f"{key}={self._draw(trial, key, limits)!r}" for key, limits in self.limits.items()]

    def describe(self) -> dict[str, str]:
        """Key to ``low:high``."""
        return {key: f"{limits.low:g}:{limits.high:g}" for key, limits in self.limits.items()}

    @staticmethod
    def _draw(trial: Sampler, key: str, limits: Limits) -> float:
        if limits.whole:
            return trial.suggest_int(key, int(limits.low), int(limits.high))
        return float(f"{trial.suggest_float(key, limits.low, limits.high, log=limits.log):.5g}")


def hyp_space(keys: Sequence[str], base: Mapping[str, Any]) -> HypSpace:
    """The space that ``--keys`` describes.

    Args:
        keys: ``KEY`` for one of ``LIMITS``, or ``KEY=LOW:HIGH`` for any number among the hyper-parameters. None at all
            means the usual ones that the base does not switch off by a zero.
        base: resolved hyper-parameters in full.

    Raises:
        UserError: an unknown key, one without limits, one given twice, limits that are none, or nothing to search.
    """
    if not keys:
        limits = {key: entry for key, entry in LIMITS.items() if entry.usual and value_of(base, key)}
        if not limits:
            raise UserError(f"--keys: every usual key is 0 in the base file; name some of {', '.join(LIMITS)}")
        return HypSpace(limits, base)
    parsed: dict[str, Limits] = {}
    for text in keys:
        key, equals, interval = text.partition("=")
        if key in parsed:
            raise UserError(f"--keys: {key} is given twice")
        parsed[key] = _own_limits(key, interval, text) if equals else _known_limits(key, base)
    return HypSpace(parsed, base)


def value_of(mapping: Mapping[str, Any], key: str) -> float | None:
    """The number at ``lr0`` or ``loss.box.ratio``; None where there is none."""
    value: Any = mapping
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _known_limits(key: str, base: Mapping[str, Any]) -> Limits:
    if key == "iou_t":
        raise UserError("--keys: nothing reads iou_t, so there is nothing to search")
    if key in LIMITS:
        return LIMITS[key]
    if value_of(base, key) is not None:
        raise UserError(f"--keys: {key} has no usual limits: expected {key}=LOW:HIGH")
    raise unknown_name("hyper-parameter", key, LIMITS, "--keys")


def _own_limits(key: str, interval: str, text: str) -> Limits:
    try:
        low, high = map(float, interval.split(":"))
    except ValueError:
        raise UserError(f"--keys: expected KEY or KEY=LOW:HIGH, for example lr0=0.001:0.1, but got {text!r}") from None
    if not -math.inf < low < high < math.inf:
        raise UserError(f"--keys: expected LOW below HIGH, both finite, but got {text!r}")
    whole = key in LIMITS and LIMITS[key].whole
    if whole and not (low.is_integer() and high.is_integer()):
        raise UserError(f"--keys: expected whole numbers for {key} but got {text!r}")
    return Limits(low, high, whole=whole)
