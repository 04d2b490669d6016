"""Settings files: where they are found, how YAML is read, and hyper-parameters with inheritance and overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from utils.commandline import (
    CommandParser,
    increment_path,
    options_from,
    progress_bar,
    run_main,
    select_device,
    setup_logging,
)
from utils.errors import UserError, unknown_name
from utils.hyperparameters import Hyperparameters

__all__ = [
    "ROOT",
    "CommandParser",
    "find_file",
    "increment_path",
    "key_lines",
    "load_hyperparameters",
    "load_yaml",
    "options_from",
    "progress_bar",
    "run_main",
    "select_device",
    "setup_logging",
]

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_FOLDERS = ("models", "data", "data/hyps")
HYPS_FOLDER = "data/hyps"


def find_file(name: str | Path, what: str, folders: Sequence[str] = SETTINGS_FOLDERS) -> Path:
    """Find a settings file: as given (absolute, or from the working folder), else among the program's own.

    Args:
        name: a path or a bare file name such as ``yolov5n.yaml``.
        what: kind of file for the error message, e.g. ``"model file"``.
        folders: where to look below the program's folder, in this order, after that folder itself.

    Raises:
        UserError: there is no such file; the message lists those that the program brings.
    """
    path = Path(name).expanduser()
    homes = [Path(), ROOT, *(ROOT / folder for folder in folders)]
    for home in homes:
        if (home / path).is_file():
            return home / path
    known = {file.name for folder in folders for file in (ROOT / folder).glob("*.yaml")}
    raise unknown_name(what, name, known)


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


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of plain data.

    Raises:
        UserError: unreadable file, wrong syntax (with the line), a key given twice, or something other than a mapping.
    """
    text = _read_text(Path(path))
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, str(path)) from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise UserError(f"{path}: expected a mapping ('key: value' lines) but found {found}")
    return content


def key_lines(path: str | Path) -> dict[tuple[str, ...], int]:
    """Line of every key of a YAML file, by its path of names: ``("loss", "box")`` to 41. For error messages."""
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


def _syntax_error(error: yaml.YAMLError, where: str) -> UserError:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f"{where}:{mark.line + 1}" if mark else where
    return UserError(f"{place}: not valid YAML: {problem or error}")


def load_hyperparameters(
    file: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), **direct: Any
) -> Hyperparameters:
    """Resolve hyper-parameters: defaults, then the ``base:`` chain, the file, ``overrides``, and ``direct``.

    Args:
        file: path, or name of a file in data/hyps/; or the mapping that such a file would hold.
        overrides: ``key=value`` texts as of ``--set``, e.g. ``loss.box=sca``, ``loss.box.ratio=0.7``, ``lr0=1e-3``.
            Values are YAML. A setting with a dot more turns a name into the mapping with its parameters.
        direct: keyword overrides, e.g. ``label_smoothing=0.1``.

    Returns:
        Hyperparameters: complete and validated.

    Raises:
        UserError: missing file, a chain of bases that closes, unknown key or bad value (with file and line).
    """
    settings = Hyperparameters().to_mapping()
    if isinstance(file, Mapping):
        where = "hyper-parameters"
        _merge(settings, file, where, {})
    else:
        chain = _base_chain(find_file(file, "hyper-parameter file", (HYPS_FOLDER,)))
        where = str(chain[0][0])
        for path, mapping in reversed(chain):
            _merge(settings, mapping, str(path), key_lines(path))
    for text in overrides:
        _apply_override(settings, text)
    _merge(settings, direct, "options", {})
    return Hyperparameters.from_mapping(settings, where)


def _base_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """A file and the files it inherits from, nearest first, each with its content less ``base``."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if any(path.samefile(earlier) for earlier, _ in chain):
            names = " -> ".join([*(earlier.name for earlier, _ in chain), path.name])
            raise UserError(f"{chain[-1][0]}: base: the files inherit from each other in a circle: {names}")
        mapping = load_yaml(path)
        base = mapping.pop("base", None)
        chain.append((path, mapping))
        if base is None:
            return chain
        place = f"{path}:{key_lines(path)[('base',)]}"
        if not isinstance(base, str):
            raise UserError(f"{place}: base: expected the name of a file but got {base!r}")
        beside = path.parent / base
        try:
            path = beside if beside.is_file() else find_file(base, "base file", (HYPS_FOLDER,))
        except UserError as error:
            raise UserError(f"{place}: {error}") from None


def _merge(
    settings: dict[str, Any], mapping: Mapping[str, Any], where: str, lines: Mapping[tuple[str, ...], int]
) -> None:
    """Override settings in place. Entries are checked one by one, so that an error names the line it stands in."""

    def place(*names: str) -> str:
        return f"{where}:{lines[names]}" if names in lines else where

    for key, value in mapping.items():
        if key == "loss" and isinstance(value, Mapping):
            for name, entry in value.items():
                Hyperparameters.from_mapping({"loss": {name: entry}}, place("loss", name))
                settings["loss"][name] = entry
        elif key != "loss" or value is not None:
            Hyperparameters.from_mapping({key: value}, place(key))
            settings[key] = value


def _apply_override(settings: dict[str, Any], text: str) -> None:
    """Apply one ``key=value`` of ``--set`` in place."""
    where = f"--set {text}"
    key, equals, value_text = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{where}: expected KEY=VALUE, for example lr0=0.005 or loss.box=sca")
    try:
        value = yaml.load(value_text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, where) from None
    names = key.strip().split(".")
    if len(names) == 3 and names[0] == "loss" and names[1] in settings["loss"]:
        current = settings["loss"][names[1]]
        block = dict(current) if isinstance(current, Mapping) else {"name": current}
        _merge(settings, {"loss": {names[1]: {**block, names[2]: value}}}, where, {})
        return
    if len(names) > 2 or (len(names) == 2 and names[0] != "loss"):
        raise UserError(f"{where}: expected a key, loss.KEY or loss.KEY.PARAMETER but got {key!r}")
    for name in reversed(names):
        value = {name: value}
    _merge(settings, value, where, {})
