"""Kinds of parameters of losses and assigners: each has a default, and checks a value as YAML gives it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from utils.errors import UserError, unknown_name

INF = math.inf


class Parameter(Protocol):
    """One parameter of a registered thing."""

    @property
    def default(self) -> Any:
        """The value where the settings give none; taken as it is, unchecked."""

    def check(self, value: Any) -> Any:
        """The value in its proper type.

        Raises:
            UserError: what was expected, and what was found; the caller names the parameter.
        """


def check_number(value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> float:
    """A finite number in an interval.

    Args:
        value: a number, or a text that is one (YAML reads 1e-3, without a point, as text).
        low, high: ends of the interval.
        above: ``low`` itself is refused.

    Raises:
        UserError: not a finite number, or outside the interval.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or not low <= found <= high or (above and found == low):
        wanted = f"a number {interval_text(low, high, above)}".rstrip()
        raise UserError(f"expected {wanted} but got {value!r}")
    return found


def interval_text(low: float, high: float, above: bool = False) -> str:
    """``from 0 to 1``, ``of at least 1``, ``above 0``, ``above 0 and at most 1``, ``of at most 1``, or empty."""
    if not math.isfinite(low) and not math.isfinite(high):
        return ""
    if not math.isfinite(low):
        return f"of at most {high:g}"
    if above:
        return f"above {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
    return f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"


@dataclass(frozen=True)
class Number:
    """A finite number in [low, high], or in (low, high] with ``above``."""

    default: float | None
    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def check(self, value: Any) -> float:
        """A float. Raises UserError outside the interval."""
        return check_number(value, self.low, self.high, above=self.above)


@dataclass(frozen=True)
class Count:
    """A whole number of at least ``low``."""

    default: int
    low: int = 1

    def check(self, value: Any) -> int:
        """An int. Raises UserError for fractions, texts, true and false, and below ``low``."""
        if isinstance(value, bool) or not isinstance(value, int) or value < self.low:
            raise UserError(f"expected a whole number of at least {self.low} but got {value!r}")
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    default: bool

    def check(self, value: Any) -> bool:
        """A bool. Raises UserError for anything else."""
        if not isinstance(value, bool):
            raise UserError(f"expected true or false but got {value!r}")
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few values, all texts or all numbers."""

    default: str | int | None
    choices: Sequence[str | int]

    def check(self, value: Any) -> str | int:
        """The value. Raises UserError for anything else."""
        if isinstance(value, bool) or value not in self.choices:
            raise unknown_name("value", value, map(str, self.choices))
        return self.choices[self.choices.index(value)]


@dataclass(frozen=True)
class Checked:
    """Any value that a function accepts: it returns the value to use, or raises UserError."""

    default: Any
    accept: Callable[[Any], Any]

    def check(self, value: Any) -> Any:
        """What the function returns."""
        return self.accept(value)
