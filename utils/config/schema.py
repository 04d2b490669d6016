"""Kinds of settings beside those of :mod:`utils.parameters`, for hyper-parameter files and command lines.

Each has a default, taken as it is, and ``check(value)``, which returns the value in its own type or raises a UserError
that says what was expected. The caller names the setting: ``--epochs: expected ...``, ``loss.box: expected ...``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from utils.errors import UserError
from utils.parameters import INF, Choice, Parameter, check_number, interval_text


class SettingError(UserError):
    """A wrong setting in a nested mapping.

    Attributes:
        key: path of names to it, ``("loss", "box")``, with which its line in a file is found.
    """

    def __init__(self, message: str, key: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.key = tuple(key)


def setting(kind: Parameter, meaning: str) -> Any:
    """A dataclass field for a setting: what its value must be, its default, and what it means."""
    return dataclasses.field(default=kind.default, metadata={"kind": kind, "meaning": meaning})


def _refuse(expected: str, value: object) -> NoReturn:
    raise UserError(f"expected {expected} but got {value!r}")


@dataclasses.dataclass(frozen=True)
class OptionalNumber:
    """A number in [low, high], or None, which 0 stands for as well."""

    default: float | None
    low: float = -INF
    high: float = INF

    def check(self, value: Any) -> float | None:
        """A float or None. Raises UserError outside the interval."""
        if value is None or check_number(value) == 0:
            return None
        return check_number(value, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class NumberOr:
    """A number in [low, high], or a word, such as ``auto``."""

    default: float | str
    low: float
    high: float
    word: str

    def check(self, value: Any) -> float | str:
        """A float, or the word. Raises UserError for anything else."""
        if isinstance(value, str) and value == self.word:
            return value
        try:
            return check_number(value, self.low, self.high)
        except UserError:
            _refuse(f"a number {interval_text(self.low, self.high)} or {self.word!r}", value)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number in [low, high], or a text that is one, as on a command line. 2.0 is none: a slip.

    Attributes:
        advice: values that mean something in other programs, and what to do here instead.
    """

    default: int | None = None
    low: float = -INF
    high: float = INF
    advice: Mapping[int, str] = dataclasses.field(default_factory=dict, hash=False)

    def check(self, value: Any) -> int:
        """An int. Raises UserError for anything else, and outside the interval."""
        number = value
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                number = int(value)
        is_whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
        if not is_whole or not self.low <= number <= self.high:
            wanted = f"a whole number {interval_text(self.low, self.high)}".rstrip()
            if is_whole and number in self.advice:
                raise UserError(f"expected {wanted} but got {number}: {self.advice[number]}")
            _refuse(wanted, number)
        return int(number)


@dataclasses.dataclass(frozen=True)
class IndexOrName:
    """A whole number of at least 0, also as text, or a name."""

    default: int | str | None = None

    def check(self, value: Any) -> int | str:
        """An int or a str. Raises UserError for anything else."""
        if isinstance(value, str) and not value.isdecimal():
            return value
        return Whole(low=0).check(value)


@dataclasses.dataclass(frozen=True)
class Text:
    """Text, or a path, which is turned into text."""

    default: str | bool | None = None

    def check(self, value: Any) -> str:
        """A str. Raises UserError for anything else."""
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        return text if isinstance(text, str) else _refuse("text", value)


@dataclasses.dataclass(frozen=True)
class OnOffChoice(Choice):
    """A choice among words, ``on`` and ``off`` among them, which YAML reads as true and false."""

    def check(self, value: Any) -> str | int:
        """The word. Raises UserError for anything else."""
        return super().check(("off", "on")[value] if isinstance(value, bool) else value)


@dataclasses.dataclass(frozen=True)
class Many:
    """Several values of one kind; a single value stands for a list of one.

    Attributes:
        least, most: how many there may be.
    """

    default: tuple[Any, ...] | None
    kind: Parameter
    least: int = 1
    most: float = INF

    def check(self, value: Any) -> tuple[Any, ...]:
        """A tuple. Raises UserError for a wrong value, and for too few or too many."""
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if not self.least <= len(values) <= self.most:
            number = f"{self.least} to {self.most} values" if self.most < INF else f"at least {self.least} value"
            _refuse(number, list(values))
        return tuple(self.kind.check(entry) for entry in values)


@dataclasses.dataclass(frozen=True)
class Named:
    """A registered name, or a mapping of ``name`` and parameters. The registry checks both when it builds the thing."""

    default: str

    def check(self, value: Any) -> str | dict[str, Any]:
        """A name or a mapping. Raises UserError for anything else."""
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            _refuse("a name, or a mapping with 'name',", value)
        return dict(value)


@dataclasses.dataclass(frozen=True)
class Anything:
    """Whatever it is: the code behind it checks it."""

    default: Any = None

    def check(self, value: Any) -> Any:
        """The value."""
        return value
