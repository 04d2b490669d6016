"""Reading YAML: plain data only, a key given twice is an error, and every error names file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError


class _StrictLoader(yaml.SafeLoader):
    """Plain data only; a key given twice is an error, and ``1e-3`` is a number as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    problem = f"key {key.value!r} is given twice, first in line {seen[key.value]}"
                    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
                seen[key.value] = line
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """The plain data that a text holds: a mapping, a list, a number, ...

    Args:
        text: YAML.
        where: file name for error messages.

    Raises:
        UserError: wrong syntax (with the line), or a key given twice.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError comes of a date such as 2024-13-45
        raise _syntax_error(error, where) from None


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of plain data.

    Raises:
        UserError: unreadable file, wrong syntax (with the line), a key given twice, or something other than a mapping.
    """
    content = parse_yaml(_read_text(Path(path)), str(path))
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise UserError(f"{path}: expected a mapping ('key: value' lines) but found {found}")
    return content


def key_lines(path: str | Path) -> dict[tuple[str, ...], int]:
    """Line of every key of a YAML file, by its path of names: ``("loss", "box")`` to 41. For error messages.

    Raises:
        UserError: unreadable file, or wrong syntax (with the line).
    """
    try:
        node = yaml.compose(_read_text(Path(path)), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, str(path)) from None
    return dict(_walk_keys(node, ()))


def _walk_keys(node: yaml.Node | None, parents: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            names = (*parents, str(key.value))
            yield names, key.start_mark.line + 1
            yield from _walk_keys(value, names)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from None


def _syntax_error(error: Exception, where: str) -> UserError:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f"{where}:{mark.line + 1}" if mark else where
    return UserError(f"{place}: not valid YAML: {problem or error}")
