"""What every command shares: flags, the same options from Python, run folders, devices, messages and progress."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from utils.config.hyperparameters import Hyperparameters
from utils.errors import UserError, unknown_name


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one message, and name the nearest flag. Unique prefixes are accepted.

    Args:
        unavailable: flags that users know from YOLOv5 and that this command lacks, without dashes and with underscores,
            and what to do instead; empty where there is nothing.
        **settings: as for :class:`argparse.ArgumentParser`.
    """

    def __init__(self, *, unavailable: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._hidden_defaults: list[Any] | None = None
        self._unavailable = dict(unavailable or {})

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> Any:
        """Parse a command line; an unknown flag exits with 2 and names the nearest one."""
        options, extra = self.parse_known_args(args, namespace)
        if extra:
            self.error(self._explain_unknown(extra[0]))
        return options

    def given(self, args: Sequence[str] | None = None) -> dict[str, Any]:
        """The options that a command line names, without any default; feed them to :func:`options_from`."""
        with self._defaults_as([argparse.SUPPRESS] * len(self._actions)):
            return vars(self.parse_args(args))

    def format_help(self) -> str:
        """The page of ``--help``, with the defaults also while :meth:`given` hides them."""
        with self._defaults_as(self._hidden_defaults or [action.default for action in self._actions]):
            return super().format_help()

    @contextlib.contextmanager
    def _defaults_as(self, defaults: Sequence[Any]) -> Iterator[None]:
        """Other defaults for a while, in the order of the actions."""
        before, hidden = [action.default for action in self._actions], self._hidden_defaults
        self._hidden_defaults = hidden or before
        try:
            for action, default in zip(self._actions, defaults, strict=True):
                action.default = default
            yield
        finally:
            for action, default in zip(self._actions, before, strict=True):
                action.default = default
            self._hidden_defaults = hidden

    def option_actions(self) -> dict[str, argparse.Action]:
        """Every spelling that Python code may use (``img_size`` for ``--img-size``) with the action behind it."""
        actions = {}
        for action in self._actions:
            if action.dest != "help":
                spellings = [flag.lstrip("-").replace("-", "_") for flag in action.option_strings]
                actions |= dict.fromkeys([*spellings, action.dest], action)
        return actions

    def error(self, message: str) -> NoReturn:
        """Print one message without the page of usage, and exit with 2."""
        self.exit(2, f"error: {message}\n{self.prog} --help lists all flags\n")

    def _explain_unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"unexpected argument {argument!r}: every option starts with '--'"
        flag = argument.split("=")[0]
        known = [spelling for action in self._actions for spelling in action.option_strings]
        setting = flag.lstrip("-").replace("-", "_")
        if explained := self.explain_unavailable(setting, flag):
            return explained
        if "--set" in known and setting in {field.name for field in dataclasses.fields(Hyperparameters)}:
            return f"unknown flag {flag!r}: {setting} is a hyper-parameter, write '--set {setting}=VALUE'"
        # Prefixes are flags too: '--bach' is nearer to '--batch' of '--batch-size' than to '--cache'.
        name, ends = flag.lstrip("-"), (len(flag), len(flag) + 1, None)
        prefixes = {spelling[:end].lstrip("-"): spelling for spelling in known for end in ends}
        near = difflib.get_close_matches(name, prefixes, n=1, cutoff=0.5)
        return f"unknown flag {flag!r}." + (f" Did you mean {prefixes[near[0]]!r}?" if near else "")

    def explain_unavailable(self, name: str, spelling: str) -> str | None:
        """What to tell of an option that YOLOv5 has and this command lacks; None where it is no such option."""
        if name not in self._unavailable:
            return None
        advice = self._unavailable[name]
        return f"{spelling!r} is an option of YOLOv5 that is not available here" + (f": {advice}" if advice else "")


def options_from(parser: CommandParser, given: Mapping[str, Any]) -> argparse.Namespace:
    """The options that a command line would give: the parser's defaults, overridden and checked in the same way.

    Args:
        parser: the command's parser.
        given: options by name, ``batch_size=8`` for ``--batch-size 8``; text is read as on the command line.

    Raises:
        UserError: an option that the command does not have, or a value that its flag would refuse.
    """
    actions = parser.option_actions()
    options = argparse.Namespace(**{action.dest: action.default for action in actions.values()})
    for name, value in given.items():
        if name not in actions:
            explained = parser.explain_unavailable(name, name)
            raise UserError(explained) if explained else unknown_name("option", name, actions, parser.prog)
        setattr(options, actions[name].dest, _checked_option(actions[name], value, f"{parser.prog}: {name}"))
    return options


def _checked_option(action: argparse.Action, value: Any, where: str) -> Any:
    unchanged = [action.default, *([action.const] if action.nargs == "?" else [])]
    if any(type(value) is type(accepted) and value == accepted for accepted in unchanged):
        return value
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected True or False but got {value!r}")
        return value
    if action.nargs in ("*", "+") or isinstance(action.nargs, int):
        entries = value if isinstance(value, list | tuple) else [value]
        if (action.nargs == "+" and not entries) or (isinstance(action.nargs, int) and len(entries) != action.nargs):
            raise UserError(f"{where}: expected {'1 or more' if action.nargs == '+' else action.nargs} values")
        return [_checked_value(action, entry, where) for entry in entries]
    return _checked_value(action, value, where)


def _checked_value(action: argparse.Action, value: Any, where: str) -> Any:
    convert = action.type or str
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    # int(2.5) succeeds where '--epochs 2.5' would not: convert the spelling, not the value.
    readable = isinstance(value, str) or (convert is not str and isinstance(value, int | float))
    try:
        if not readable:
            raise ValueError
        result = convert(str(value))
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        expected = {int: "a whole number", float: "a number", str: "text"}.get(convert, str(error) or "another value")
        raise UserError(f"{where}: expected {expected} but got {value!r}") from None
    if action.choices is not None and result not in action.choices:
        raise unknown_name("value", result, action.choices, where)
    return result
