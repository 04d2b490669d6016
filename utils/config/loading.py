"""Settings files: where they are found, and hyper-parameters with inheritance and overrides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.config.hyperparameters import Hyperparameters
from utils.config.yaml_files import key_lines, load_yaml, parse_yaml
from utils.errors import ContradictionError, UserError
from utils.files import HYPS_FOLDER, find_file

Validator = Callable[[Hyperparameters], None]


def load_hyperparameters(
    file: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    validate: Validator | None = None,
    **direct: Any,
) -> Hyperparameters:
    """Resolve hyper-parameters: defaults, then the ``base:`` chain, the file, ``overrides``, and ``direct``.

    Args:
        file: path, or name of a file in data/hyps/; or the mapping that such a file would hold.
        overrides: ``key=value`` texts as of ``--set``, e.g. ``loss.box=sca``, ``loss.box.ratio=0.7``, ``lr0=1e-3``,
            ``assigner.candidates=9``. Values are YAML. A dot more turns a name into the mapping with its parameters.
        validate: a further check, e.g. whether the losses can be built; raises UserError. It is asked about the
            defaults with each single entry in place of one of them, so that its error can name the line, and in the
            end about the whole. A ContradictionError counts only there.
        direct: keyword overrides, e.g. ``label_smoothing=0.1``.

    Returns:
        Hyperparameters: complete and validated.

    Raises:
        UserError: missing file, a chain of bases that closes, unknown key or bad value (with file and line).
    """
    settings = Hyperparameters().to_mapping()
    if isinstance(file, Mapping):
        where = "hyper-parameters"
        _merge(settings, file, where, {}, validate)
    else:
        chain = _base_chain(find_file(file, "hyper-parameter file", (HYPS_FOLDER,)))
        where = str(chain[0][0])
        for path, mapping in reversed(chain):
            _merge(settings, mapping, str(path), key_lines(path), validate)
    # Several overrides may together describe one entry: it is checked when it is complete.
    sources = {_apply_override(settings, text): f"--set {text}" for text in overrides}
    for names, source in sources.items():
        _check_entry(names, _entry(settings, names), source, validate)
    _merge(settings, direct, "options", {}, validate)
    result = Hyperparameters.from_mapping(settings, where)
    if validate is not None:
        _ask(validate, result, where)
    return result


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
    settings: dict[str, Any],
    mapping: Mapping[str, Any],
    where: str,
    lines: Mapping[tuple[str, ...], int],
    validate: Validator | None = None,
) -> None:
    """Override settings in place. Entries are checked one by one, so that an error names the line it stands in."""

    def place(*names: str) -> str:
        return f"{where}:{lines[names]}" if names in lines else where

    for key, value in mapping.items():
        if key == "loss" and isinstance(value, Mapping):
            for name, entry in value.items():
                if name == "control_points" and isinstance(entry, str):
                    entry = _control_points(entry, place(key, name))
                if isinstance(entry, Mapping) and isinstance(entry.get("control_points"), str):
                    entry = {**entry, "control_points": _control_points(entry["control_points"], place(key, name))}
                _check_entry((key, name), entry, place(key, name), validate)
                settings[key][name] = entry
        elif key != "loss" or value is not None:
            _check_entry((key,), value, place(key), validate)
            settings[key] = value


def _control_points(file: str, place: str) -> Any:
    """What a file of control points holds, so that the settings of a run stand for themselves."""
    try:
        return parse_yaml(find_file(file, "file of control points", (HYPS_FOLDER,)).read_text(encoding="utf-8"), file)
    except UserError as error:
        raise UserError(f"{place}: loss.control_points: {error}") from None


def _check_entry(names: tuple[str, ...], value: Any, place: str, validate: Validator | None) -> None:
    """Check one entry alone, ``("lr0",)`` or ``("loss", "box")``, everything else at its default."""
    for name in reversed(names):
        value = {name: value}
    alone = Hyperparameters.from_mapping(value, place)
    if validate is not None:
        with contextlib.suppress(ContradictionError):  # beside the other entries of the file it may be right
            _ask(validate, alone, f"{place}: {'.'.join(names)}")


def _ask(validate: Validator, hyp: Hyperparameters, where: str) -> None:
    try:
        validate(hyp)
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None


def _entry(settings: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        settings = settings[name]
    return settings


def _apply_override(settings: dict[str, Any], text: str) -> tuple[str, ...]:
    """Apply one ``key=value`` of ``--set`` in place; the names of the entry that it changed."""
    where = f"--set {text}"
    key, equals, value_text = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{where}: expected KEY=VALUE, for example lr0=0.005 or loss.box=sca")
    value = parse_yaml(value_text, where)
    names = tuple(key.strip().split("."))
    if len(names) == 3 and names[0] == "loss" and names[1] in settings["loss"]:
        current = settings["loss"][names[1]]
        block = dict(current) if isinstance(current, Mapping) else {"name": current}
        _merge(settings, {"loss": {names[1]: {**block, names[2]: value}}}, where, {})
        return names[:2]
    if len(names) == 2 and names[0] == "assigner":
        current = settings["assigner"]
        block = dict(current) if isinstance(current, Mapping) else {"name": current}
        _merge(settings, {"assigner": {**block, names[1]: value}}, where, {})
        return names[:1]
    if len(names) > 2 or (len(names) == 2 and names[0] != "loss"):
        raise UserError(f"{where}: expected a key, loss.KEY, loss.KEY.PARAMETER or assigner.PARAMETER but got {key!r}")
    for name in reversed(names):
        value = {name: value}
    _merge(settings, value, where, {})
    return names
