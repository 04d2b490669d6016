"""Options of a command, declared once: the fields of a frozen dataclass carry type, default, limits, flag and help.

The command line (:mod:`utils.config.parser`), the check of keyword arguments from Python and the page of ``--help`` all
follow from the fields. Beside each class stands a TypedDict of the same keys, so that editors complete the call.

    class TrainOptions(Options):
        epochs: int = option(Whole(100, 1), "number of epochs")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from utils.errors import UserError, unknown_name
from utils.parameters import Flag, Parameter


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a field of :class:`Options` says of its option.

    Attributes:
        kind: what a value must be, and the default.
        help: a line of ``--help``; empty leaves the option out of the page.
        aliases: further spellings of its flag, ``--img``.
        bare: value of the flag without an argument; None where it needs one.
        metavar: what the page calls the value; empty for the words of a choice, or the name.
        extends: the flag may be repeated, and the values add up.
        has_flag: False for an option that Python code alone can give.
    """

    kind: Parameter
    help: str
    aliases: tuple[str, ...] = ()
    bare: Any = None
    metavar: str = ""
    extends: bool = False
    has_flag: bool = True


def option(
    kind: Parameter,
    help: str,
    *,
    aliases: tuple[str, ...] = (),
    bare: Any = None,
    metavar: str = "",
    extends: bool = False,
    has_flag: bool = True,
) -> Any:
    """A field of :class:`Options`. Its default need not pass its own check: None may stand for "not given"."""
    spec = Spec(kind, help, aliases, bare, metavar, extends, has_flag)
    return dataclasses.field(default=kind.default, metadata={"spec": spec})


def required(kind: Parameter, help: str, *, metavar: str = "") -> Any:
    """A field of :class:`Options` without a default."""
    return dataclasses.field(metadata={"spec": Spec(kind, help, metavar=metavar)})


def switch(help: str, default: bool = False, *, has_flag: bool = True) -> Any:
    """A field of :class:`Options` that is False, or True where its flag is given."""
    return option(Flag(default), help, has_flag=has_flag)


def flag_of(name: str) -> str:
    """``batch_size`` to ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a command in full. Derived classes declare them, and name the command.

    Attributes:
        command: as the user types it, ``train.py``.
        purpose: a line for ``--help``.
        unavailable: flags that users know from YOLOv5 and that this command lacks, with underscores, and what to do
            instead; empty where there is nothing.
        decided: inherited options that this command decides itself, and what to write instead.
    """

    command: ClassVar[str]
    purpose: ClassVar[str]
    unavailable: ClassVar[Mapping[str, str]] = {}
    decided: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def specs(cls) -> dict[str, Spec]:
        """Each option by its name."""
        return {field.name: field.metadata["spec"] for field in dataclasses.fields(cls)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of each option that has one, by its name."""
        fields = dataclasses.fields(cls)
        return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}

    @classmethod
    def spellings(cls) -> dict[str, str]:
        """Every spelling that Python code may use, ``img_size`` for ``--img-size`` too, to the name of the option."""
        names = {name: name for name in cls.specs()}
        for name, spec in cls.specs().items():
            names |= {alias.lstrip("-").replace("-", "_"): name for alias in spec.aliases}
        return names

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that were given, and no others, by name and in their own type.

        Args:
            given: ``batch_size=8`` for ``--batch-size 8``; numbers may be text, as on the command line.

        Raises:
            UserError: an option that the command does not have, or a value that its flag would refuse.
        """
        spellings, specs, defaults = cls.spellings(), cls.specs(), cls.defaults()
        options = {}
        for spelling, value in given.items():
            if spelling not in spellings:
                raise cls.unknown(spelling)
            name = spellings[spelling]
            if name in cls.decided:
                raise UserError(f"{flag_of(name)} is not an option of {cls.command}: {cls.decided[name]}")
            spec = specs[name]
            unchecked = [defaults[name]] if name in defaults else []
            unchecked += [] if spec.bare is None else [spec.bare]
            if not any(type(value) is type(accepted) and value == accepted for accepted in unchecked):
                try:
                    value = spec.kind.check(value)
                except UserError as error:
                    raise UserError(f"{flag_of(name) if spec.has_flag else name}: {error}") from None
            options[name] = value
        return options

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The options that a command line would give: the defaults, overridden and checked in the same way.

        Raises:
            UserError: as :meth:`checked`, or a required option is missing.
        """
        options = cls.checked(given)
        missing = [name for name in cls.specs() if name not in options and name not in cls.defaults()]
        if missing:
            raise UserError(f"{cls.command}: {', '.join(map(flag_of, missing))} must be given")
        return cls(**options)

    @classmethod
    def unknown(cls, spelling: str) -> UserError:
        """The error for an option that the command does not have."""
        return cls.explain_unavailable(spelling, spelling) or unknown_name(
            "option", spelling, cls.spellings(), cls.command
        )

    @classmethod
    def explain_unavailable(cls, name: str, spelling: str) -> UserError | None:
        """The error for an option that YOLOv5 has and this command lacks; None where it is no such option."""
        if name not in cls.unavailable:
            return None
        advice = cls.unavailable[name]
        return UserError(
            f"{spelling!r} is an option of YOLOv5 that is not available here" + (f": {advice}" if advice else "")
        )

    def to_mapping(self) -> dict[str, Any]:
        """The options as plain data, as opt.yaml and checkpoints keep them; lists for tuples."""
        values = {name: getattr(self, name) for name in self.specs()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
