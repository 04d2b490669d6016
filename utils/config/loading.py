"""Settings files: where they are found, and hyper-parameters with inheritance and overrides."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.config.hyperparameters import Hyperparameters, check_settings
from utils.config.schema import SettingError
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
        validate: a further check, e.g. whether the losses can be built; raises UserError. It is called for each entry
            alone, with everything else at its default, so that its error can name the line, and in the end for the
            whole. A ContradictionError counts only there.
        direct: keyword overrides, e.g. ``label_smoothing=0.1``.

    Returns:
        Hyperparameters: complete and validated.

    Raises:
        UserError: missing file, a chain of bases that closes, unknown key or bad value (with file and line).
    """
    settings = Hyperparameters().to_mapping()
    layers = [_Layer("hyper-parameters", file)] if isinstance(file, Mapping) else _file_layers(file)
    for layer in layers:
        with layer.placing_errors():
            _merge(settings, layer.content, validate)
    # Several overrides may together describe one entry: it is checked when it is complete.
    overridden: dict[tuple[str, ...], _Layer] = {}
    for text in overrides:
        layer = _Layer(f"--set {text}")
        with layer.placing_errors():
            overridden[_apply_override(settings, text)] = layer
    for key, layer in overridden.items():
        with layer.placing_errors():
            _check_alone(key, _entry(settings, key), validate)
    layer = _Layer("options", direct)
    with layer.placing_errors():
        _merge(settings, layer.content, validate)
    result = Hyperparameters.from_mapping(settings, layers[-1].where)
    if validate is not None:
        try:
            validate(result)
        except UserError as error:
            raise type(error)(f"{layers[-1].where}: {error}") from None
    return result


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Settings from one source.

    Attributes:
        where: file, or option of the command line.
        content: keys to values.
        path: of the file, if it is one.
    """

    where: str
    content: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    path: Path | None = None

    @contextlib.contextmanager
    def placing_errors(self) -> Iterator[None]:
        """Put file and line before the message of a wrong setting."""
        try:
            yield
        except SettingError as error:
            line = None if self.path is None else key_lines(self.path).get(error.key)
            raise UserError(f"{self.where if line is None else f'{self.where}:{line}'}: {error}") from None


def _file_layers(name: str | Path) -> list[_Layer]:
    """A file and the files it inherits from, the last ``base`` first, each with its content less that key."""
    path = find_file(name, "hyper-parameter file", (HYPS_FOLDER,))
    paths: list[Path] = []
    layers: list[_Layer] = []
    while True:
        if any(path.samefile(earlier) for earlier in paths):
            names = " -> ".join(earlier.name for earlier in [*paths, path])
            raise UserError(f"{paths[-1]}: base: the files inherit from each other in a circle: {names}")
        content = load_yaml(path)
        base = content.pop("base", None)
        paths.append(path)
        layers.append(_Layer(str(path), content, path))
        if base is None:
            return layers[::-1]
        with layers[-1].placing_errors():
            path = _base_file(base, path.parent)


def _base_file(base: object, folder: Path) -> Path:
    """The file that ``base`` names: beside the file that names it, or among the program's own."""
    if not isinstance(base, str):
        raise SettingError(f"base: expected the name of a file but got {base!r}", ("base",))
    if (folder / base).is_file():
        return folder / base
    try:
        return find_file(base, "base file", (HYPS_FOLDER,))
    except UserError as error:
        raise SettingError(str(error), ("base",)) from None


def _merge(settings: dict[str, Any], content: Mapping[str, Any], validate: Validator | None = None) -> None:
    """Override settings in place. Entries are checked one by one, so that an error carries the key of its entry."""
    for name, value in content.items():
        if name == "loss" and isinstance(value, Mapping):
            for key, entry in value.items():
                settings["loss"][key] = _check_alone(("loss", key), _with_control_points(key, entry), validate)
        elif name != "loss" or value is not None:
            settings[name] = _check_alone((name,), value, validate)


def _check_alone(key: tuple[str, ...], value: Any, validate: Validator | None) -> Any:
    """Check one entry, ``("lr0",)`` or ``("loss", "box")``, with everything else at its default; returns the entry."""
    mapping = value
    for name in reversed(key):
        mapping = {name: mapping}
    alone = check_settings(mapping)
    if validate is not None:
        try:
            validate(alone)
        except ContradictionError:
            pass  # beside the other entries of the file it may be right
        except UserError as error:
            raise SettingError(f"{'.'.join(key)}: {error}", key) from None
    return value


def _with_control_points(key: str, entry: Any) -> Any:
    """The entry with what a file of control points holds in place of its name: a run's settings need no other file."""
    if key == "control_points" and isinstance(entry, str):
        return _control_points(entry, key)
    if isinstance(entry, Mapping) and isinstance(entry.get("control_points"), str):
        return {**entry, "control_points": _control_points(entry["control_points"], key)}
    return entry


def _control_points(file: str, key: str) -> Any:
    try:
        return parse_yaml(find_file(file, "file of control points", (HYPS_FOLDER,)).read_text(encoding="utf-8"), file)
    except UserError as error:
        raise SettingError(f"loss.control_points: {error}", ("loss", key)) from None


def _entry(settings: Mapping[str, Any], key: tuple[str, ...]) -> Any:
    for name in key:
        settings = settings[name]
    return settings


def _apply_override(settings: dict[str, Any], text: str) -> tuple[str, ...]:
    """Apply one ``key=value`` of ``--set`` in place; the key of the entry that it changed."""
    given, equals, value_text = text.partition("=")
    if not equals or not given.strip():
        raise SettingError("expected KEY=VALUE, for example lr0=0.005 or loss.box=sca")
    value = parse_yaml(value_text, f"--set {text}")
    names = tuple(given.strip().split("."))
    parents = ("loss",) if names[0] == "loss" else ()
    if len(names) == len(parents) + 2 and _takes_parameters(settings, names[:-1]):
        key, current = names[:-1], _entry(settings, names[:-1])
        block = dict(current) if isinstance(current, Mapping) else {"name": current}
        value = {**block, names[-1]: value}
    elif len(names) <= len(parents) + 1:
        key = names
    else:
        raise SettingError(f"expected a key, loss.KEY, loss.KEY.PARAMETER or assigner.PARAMETER but got {given!r}")
    mapping = value
    for name in reversed(key):
        mapping = {name: mapping}
    _merge(settings, mapping)
    return key


def _takes_parameters(settings: Mapping[str, Any], key: tuple[str, ...]) -> bool:
    """Whether an entry is a name that may have parameters."""
    block = settings["loss"] if key[0] == "loss" else settings
    return key[-1] in block and (key[0] == "loss" or key == ("assigner",))
