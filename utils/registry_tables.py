"""Markdown tables of registries, printed or kept up to date in a document between two markers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from utils.config.console import run_main
from utils.errors import UserError
from utils.files import write_text_atomically
from utils.registry import Info


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a heading, one line per row; vertical bars in cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)


def defaults(info: Info) -> str:
    """``gamma = 0.5, of = ciou``: the parameters of an entry with their defaults."""
    return ", ".join(f"{name} = {_text(parameter.default)}" for name, parameter in info.parameters.items())


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def between_markers(text: str, module: str) -> tuple[str, str, str]:
    """A document cut at the markers ``<!-- tables of python -m MODULE -->`` and ``<!-- end -->``.

    Returns:
        what stands before, between and after, markers outside.

    Raises:
        UserError: no such markers.
    """
    found = re.search(rf"<!-- tables of python -m {re.escape(module)} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    if found is None:
        raise UserError(f"expected the markers <!-- tables of python -m {module} --> and <!-- end -->")
    return text[: found.start(1)], found.group(1), text[found.end(1) :]


def run_tables(
    module: str, tables: Callable[[], str], description: str, arguments: Sequence[str] | None = None
) -> None:
    """The command ``python -m MODULE [--write FILE | --check FILE]``.

    Args:
        module: its name.
        tables: makes the text.
        description: for ``--help``.
        arguments: of the command line; None for those of the process.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a document")
    choice.add_argument("--check", type=Path, metavar="FILE", help="exit with 2 if the tables in a document differ")
    options = parser.parse_args(arguments)
    run_main(lambda: _run(module, tables(), options.write, options.check))


def _run(module: str, tables: str, write: Path | None, check: Path | None) -> None:
    path = write or check
    if path is None:
        print(tables)
        return
    try:
        before, found, after = between_markers(path.read_text(encoding="utf-8"), module)
    except (OSError, UserError) as error:
        raise UserError(f"{path}: {error}") from None
    if write:
        write_text_atomically(path, before + tables + after)
    elif found != tables:
        raise UserError(f"{path}: the tables are not up to date: run python -m {module} --write {path}")
