"""A table of named builders that refuses duplicates and explains what it does not know."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from utils.errors import UserError, unknown_name


class Entry(NamedTuple):
    """One registered builder.

    Attributes:
        build: called with the entry's parameters.
        info: facts for tables and documents, e.g. ``range``, ``paper``.
    """

    build: Callable[..., Any]
    info: Mapping[str, Any]


class Registry:
    """Named builders of one kind.

    Args:
        kind: what the entries are, as it should read in an error, e.g. ``"box loss"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, **info: Any) -> Callable[[Callable], Callable]:
        """Decorate a builder with its name. A name can be taken once."""

        def add(build: Callable) -> Callable:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already, by {self._entries[name].build}")
            self._entries[name] = Entry(build, info)
            return build

        return add

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def entry(self, name: str) -> Entry:
        """Look a name up.

        Raises:
            UserError: the name is not registered; the message lists the known ones.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def build(self, name: str, **parameters: Any) -> Any:
        """Build an entry.

        Raises:
            UserError: unknown name, a parameter that the entry does not take, or a value that it cannot use.
        """
        build = self.entry(name).build
        known = inspect.signature(build).parameters
        for parameter in parameters:
            if parameter not in known:
                raise unknown_name(f"parameter of the {self.kind} {name!r}", parameter, known)
        try:
            return build(**parameters)
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            given = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
            raise UserError(f"{self.kind} {name!r} cannot be built with {given or 'no parameters'}: {error}") from error

    def build_from(self, setting: str | Mapping[str, Any]) -> Any:
        """Build from a YAML value: a name, or ``{name: ..., parameter: ...}``.

        Raises:
            UserError: neither of the two, or as :meth:`build`.
        """
        if isinstance(setting, str):
            return self.build(setting)
        if isinstance(setting, Mapping) and isinstance(setting.get("name"), str):
            parameters = {key: value for key, value in setting.items() if key != "name"}
            return self.build(setting["name"], **parameters)
        raise UserError(
            f"expected the name of a {self.kind}, or a mapping with 'name' and parameters, but got {setting!r}. "
            f"Known: {', '.join(self.names())}."
        )
