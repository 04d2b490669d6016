"""Kinds of values, each with its check. Hyper-parameter files and command lines are checked by the same classes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from utils.errors import UserError, unknown_name

INF = math.inf


class SettingError(UserError):
    """A wrong setting.

    Attributes:
        key: path of names to it, ``("loss", "box")``, with which its line in a file is found.
    """

    def __init__(self, message: str, key: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.key = tuple(key)


class Kind(Protocol):
    """What a value must be."""

    def check(self, value: Any, name: str) -> Any:
        """The value in its own type; numbers may come as text.

        Args:
            value: as read from YAML or a command line, or given by Python code.
            name: what the error message calls it.

        Raises:
            UserError: it is something else.
        """


def _refuse(name: str, expected: str, value: object) -> NoReturn:
    raise UserError(f"{name}: expected {expected} but got {value!r}")


def _interval(low: float, high: float) -> str:
    if high < INF:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low > -INF else ""


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number in [low, high].

    Attributes:
        optional: None is allowed, and 0 means None.
        word: text that may stand in its place, such as ``auto``; empty for none.
    """

    low: float = -INF
    high: float = INF
    optional: bool = False
    word: str = ""

    def check(self, value: Any, name: str) -> float | str | None:
        """See :class:`Kind`."""
        if (value is None and self.optional) or (self.word and value == self.word):
            return value
        number = value
        if isinstance(value, str):  # YAML reads 1e-3, without a point, as text
            with contextlib.suppress(ValueError):
                number = float(value)
        is_number = isinstance(number, numbers.Real) and not isinstance(number, bool) and math.isfinite(number)
        if is_number and self.optional and number == 0:
            return None
        if not is_number or not self.low <= number <= self.high:
            word = f" or {self.word!r}" if self.word else ""
            _refuse(name, f"a number{_interval(self.low, self.high)}{word}", number)
        return float(number)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]. 2.0 is none: ``--epochs 2.0`` is a slip."""

    low: float = -INF
    high: float = INF

    def check(self, value: Any, name: str) -> int:
        """See :class:`Kind`."""
        number = value
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                number = int(value)
        is_whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
        if not is_whole or not self.low <= number <= self.high:
            _refuse(name, f"a whole number{_interval(self.low, self.high)}", number)
        return int(number)


@dataclasses.dataclass(frozen=True)
class Text:
    """Text, or a path, which is turned into text."""

    def check(self, value: Any, name: str) -> str:
        """See :class:`Kind`."""
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        return text if isinstance(text, str) else _refuse(name, "text", value)


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: Any, name: str) -> bool:
        """See :class:`Kind`."""
        return value if isinstance(value, bool) else _refuse(name, "true or false", value)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several words."""

    words: tuple[str, ...]

    def check(self, value: Any, name: str) -> str:
        """See :class:`Kind`."""
        if isinstance(value, bool) and "on" in self.words:  # YAML reads a bare on or off as true or false
            value = "on" if value else "off"
        if value not in self.words:
            raise unknown_name("value", value, self.words, name)
        return value


@dataclasses.dataclass(frozen=True)
class Many:
    """Several values of one kind, as a tuple; a single value stands for a list of one.

    Attributes:
        least: how many there must be.
    """

    kind: Kind
    least: int = 1

    def check(self, value: Any, name: str) -> tuple[Any, ...]:
        """See :class:`Kind`."""
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if len(values) < self.least:
            raise UserError(f"{name}: expected at least {self.least} value{'s' * (self.least > 1)} but got none")
        return tuple(self.kind.check(entry, name) for entry in values)


@dataclasses.dataclass(frozen=True)
class Named:
    """A registered name, or a mapping of ``name`` and parameters. The registry checks both when it builds the thing."""

    def check(self, value: Any, name: str) -> str | dict[str, Any]:
        """See :class:`Kind`."""
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            _refuse(name, "a name, or a mapping with 'name',", value)
        return dict(value)


@dataclasses.dataclass(frozen=True)
class Anything:
    """Whatever it is: the code behind it checks it."""

    def check(self, value: Any, name: str) -> Any:
        """See :class:`Kind`."""
        return value
