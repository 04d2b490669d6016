"""Command lines, made of the declared options of a command."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from utils.config.hyperparameters import Hyperparameters
from utils.config.options import Options, Spec, flag_of
from utils.config.schema import Many
from utils.errors import UserError
from utils.parameters import Choice, Flag


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one message."""

    def error(self, message: str) -> NoReturn:
        """Print one message without the page of usage, and exit with 2."""
        self.exit(2, f"error: {message}\n{self.prog} --help lists all flags\n")


class CommandParser(_Parser):
    """The command line of a command. Errors are one message; unique prefixes of flags are accepted."""

    def __init__(self, options: type[Options]) -> None:
        super().__init__(prog=options.command, description=options.purpose, argument_default=argparse.SUPPRESS)
        self._options = options
        defaults = options.defaults()
        for name, spec in options.specs().items():
            if spec.has_flag:
                hidden = name in options.decided
                text = argparse.SUPPRESS if hidden else _help(spec, defaults.get(name))
                settings = {"help": text, "required": name not in defaults, **_action(spec)}
                self.add_argument(flag_of(name), *spec.aliases, dest=name, **settings)

    def given(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """The options that a command line names, checked, without any default.

        A wrong command line ends the program: one message, exit status 2.

        Args:
            arguments: None takes those of the program.
        """
        found, extra = self.parse_known_args(_without_local_rank(sys.argv[1:] if arguments is None else arguments))
        if extra:
            self.error(self._explain_unknown(extra[0]))
        try:
            return self._options.checked(vars(found))
        except UserError as error:
            self.error(str(error))

    def _explain_unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"unexpected argument {argument!r}: every option starts with '--'"
        flag = argument.split("=")[0]
        known = [spelling for action in self._actions for spelling in action.option_strings]
        setting = flag.lstrip("-").replace("-", "_")
        if explained := self._options.explain_unavailable(setting, flag):
            return str(explained)
        if "--set" in known and setting in {field.name for field in dataclasses.fields(Hyperparameters)}:
            return f"unknown flag {flag!r}: {setting} is a hyper-parameter, write '--set {setting}=VALUE'"
        # Prefixes are flags too: '--bach' is nearer to '--batch' of '--batch-size' than to '--cache'.
        name, ends = flag.lstrip("-"), (len(flag), len(flag) + 1, None)
        prefixes = {spelling[:end].lstrip("-"): spelling for spelling in known for end in ends}
        near = difflib.get_close_matches(name, prefixes, n=1, cutoff=0.5)
        return f"unknown flag {flag!r}." + (f" Did you mean {prefixes[near[0]]!r}?" if near else "")


def _without_local_rank(arguments: Sequence[str]) -> list[str]:
    """The arguments less ``--local-rank N``, which torch.distributed.launch adds beside the environment that counts."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if argument in ("--local-rank", "--local_rank"):
            skip = True
        elif skip or argument.startswith(("--local-rank=", "--local_rank=")):
            skip = False
        else:
            kept.append(argument)
    return kept


def _action(spec: Spec) -> dict[str, Any]:
    """What argparse must know of a flag; values stay text here."""
    if isinstance(spec.kind, Flag):
        return {"action": "store_true"}
    kind = spec.kind.kind if isinstance(spec.kind, Many) else spec.kind
    words = "{" + ",".join(map(str, kind.choices)) + "}" if isinstance(kind, Choice) else None
    settings: dict[str, Any] = {"metavar": spec.metavar or words}
    if isinstance(spec.kind, Many):
        settings["nargs"] = "+"
    elif spec.bare is not None:
        settings |= {"nargs": "?", "const": spec.bare}
    return settings | ({"action": "extend"} if spec.extends else {})


def _help(spec: Spec, default: Any) -> str:
    """A line of the page, with the default unless that is nothing, which the line itself explains where it needs to."""
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(map(str, values))
    is_nothing = default is None or default is False or shown == ""
    return spec.help.replace("%", "%%") + ("" if is_nothing else f" (default: {shown})")


def given_command(commands: Mapping[str, type[Options]], program: str, purpose: str) -> tuple[str, dict[str, Any]]:
    """The command line of a program with several commands: which one, and its options as of :meth:`given`.

    Args:
        commands: name to options.
        program: ``study.py``.
        purpose: a line for ``--help``.
    """
    parser = _Parser(prog=program, description=purpose)
    listed = "; ".join(f"{name}: {options.purpose}" for name, options in commands.items())
    parser.add_argument("command", choices=tuple(commands), help=f"{listed} Each has its own --help")
    command = parser.parse_args(sys.argv[1:2]).command
    return command, CommandParser(commands[command]).given(sys.argv[2:])
