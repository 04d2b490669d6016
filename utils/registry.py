"""Registries: tables of named builders that refuse duplicates and explain what they do not know."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from utils.errors import ContradictionError, UserError, unknown_name
from utils.parameters import Parameter


@dataclass(frozen=True, kw_only=True)
class Info:
    """One registered thing; kinds of things add fields of their own.

    Attributes:
        name: what settings call it.
        build: makes one; called with every parameter by name, each checked.
        parameters: by name, each with its default and its check.
        check_together: called with every parameter by name, for what the single checks cannot see; raises UserError.
        block_keys: parameters that an older key of the settings, of the same name, may set as well.
    """

    name: str
    build: Callable[..., Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    check_together: Callable[..., None] | None = None
    block_keys: tuple[str, ...] = ()


InfoT = TypeVar("InfoT", bound=Info)
BuiltT = TypeVar("BuiltT")


class Registry(Generic[InfoT, BuiltT]):
    """Things of one kind by name.

    Args:
        kind: what they are, as it should read in an error, e.g. ``"box loss"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, InfoT] = {}

    def add(self, info: InfoT) -> None:
        """Register one.

        Raises:
            ValueError: the name is taken.
        """
        if info.name in self._entries:
            raise ValueError(f"{self.kind} {info.name!r} is registered already, by {self._entries[info.name].build}")
        self._entries[info.name] = info

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def entry(self, name: str) -> InfoT:
        """Look a name up.

        Raises:
            UserError: the name is not registered; the message lists the known ones.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def build(self, name: str, **parameters: Any) -> BuiltT:
        """Build by name. Parameters are checked first; those not given take their defaults.

        Whatever the builder itself raises is a bug, and comes out as it is.

        Raises:
            UserError: unknown name or parameter (the message lists the known ones), or a wrong value.
        """
        info = self.entry(name)
        for parameter in parameters:
            if parameter not in info.parameters:
                raise unknown_name(f"parameter of the {self.kind} {name!r}", parameter, info.parameters)
        values = {key: known.default for key, known in info.parameters.items()}
        for key, value in parameters.items():
            with _named(f"{name}: {key}"):
                values[key] = info.parameters[key].check(value)
        if info.check_together is not None:
            with _named(name):
                info.check_together(**values)
        built: BuiltT = info.build(**values)
        return built

    def build_from(self, setting: str | Mapping[str, Any]) -> BuiltT:
        """Build from a YAML value: a name, or ``{name: ..., parameter: ...}``.

        Raises:
            UserError: neither of the two, or as :meth:`build`.
        """
        name, parameters = self.name_and_parameters(setting)
        return self.build(name, **parameters)

    def name_and_parameters(self, setting: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The name in a YAML value, and the parameters beside it, unchecked.

        Raises:
            UserError: neither a name nor a mapping with ``name``.
        """
        if isinstance(setting, str):
            return setting, {}
        if isinstance(setting, Mapping) and isinstance(setting.get("name"), str):
            return setting["name"], {key: value for key, value in setting.items() if key != "name"}
        raise UserError(
            f"expected the name of a {self.kind}, or a mapping with 'name' and parameters, but got {setting!r}. "
            f"Known: {', '.join(self.names())}."
        )

    def build_with_block(self, setting: str | Mapping[str, Any], block: Mapping[str, Any], where: str) -> BuiltT:
        """Build from a YAML value, with the ``block_keys`` of the entry taken from a block of settings.

        Args:
            setting: a name, or ``{name: ..., parameter: ...}``.
            block: key to value, only for keys that were set.
            where: the block, as it should read in an error, e.g. ``"loss."``.

        Raises:
            ContradictionError: a parameter that the block sets too.
            UserError: as :meth:`build_from`.
        """
        name, parameters = self.name_and_parameters(setting)
        for key in self.entry(name).block_keys:
            if key in block and key in parameters:
                raise ContradictionError(
                    f"{where}{key}: {block[key]} and the parameter {key}: {parameters[key]} of the {self.kind} "
                    f"{name!r} set the same thing: keep one of them"
                )
            if key in block:
                parameters[key] = block[key]
        return self.build(name, **parameters)


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import every module of a package, so that whatever they register is known.

    Args:
        package: its name.
        folders: its ``__path__``.
    """
    for found in pkgutil.iter_modules(folders):
        if not found.name.startswith("_"):
            importlib.import_module(f"{package}.{found.name}")


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """What a check refuses is an error of the user, and says where."""
    try:
        yield
    except ValueError as error:
        kind = type(error) if isinstance(error, UserError) else UserError
        raise kind(f"{where}: {error}") from None
