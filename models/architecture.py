"""Read model YAML files: inheritance, checks, and a trial run on shapes that finds rows that do not fit together.

The keys are those of YOLOv5, and ``base``: a file that provides the missing keys. ``inplace`` is accepted for old files
and has no effect, since decoding never writes into the output of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.activation import activation_builder, set_activation
from models.rows import MISFITS, PARTS, build_layers, check_anchors, is_whole, read_rows
from utils.config.yaml_files import key_lines, load_yaml
from utils.errors import UserError, unknown_name

__all__ = ["build_layers", "read_architecture", "set_activation"]

FOLDER = Path(__file__).resolve().parent
KEYS = ("nc", "depth_multiple", "width_multiple", "anchors", "ch", "activation", "inplace", "backbone", "head", "base")
COUNTS, FACTORS = ("nc", "ch"), ("depth_multiple", "width_multiple")
DEFAULT_NC = 80
PROBE_SIDE = 128  # pixels; a multiple of every stride in use


class _Source(NamedTuple):
    """A model file, or a mapping in its place, and the line of each key of a file."""

    name: str
    lines: Mapping[tuple[str, ...], int]

    def place(self, key: object) -> str:
        names = (str(key),)
        return f"{self.name}:{self.lines[names]}" if names in self.lines else self.name


def find_model_yaml(name: str | Path, beside: Path | None = None) -> Path:
    """Find a model YAML: the path itself, else that name beside another file, else in models/.

    Raises:
        UserError: not found; the message lists the known files.
    """
    for path in (Path(name), *([beside.parent / name] if beside else []), FOLDER / name):
        if path.is_file():
            return path
    raise unknown_name("model YAML", name, (path.name for path in FOLDER.glob("*.yaml")))


def read_architecture(cfg: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read a model YAML, with ``base:`` merged in, and check keys, values, and that the rows fit together.

    Args:
        cfg: file name, path, or the mapping itself.

    Raises:
        UserError: missing file, invalid YAML, unknown or missing key, invalid value or row; names the file and the
            line, or the row, counted from 0 as ``from`` does.
    """
    mapping: dict[str, Any] = {}
    sources: dict[str, _Source] = {}
    for source, content in _base_chain(cfg):
        for key, value in content.items():
            if key not in mapping:
                mapping[key], sources[key] = value, source
    for key, source in sources.items():
        if key not in KEYS:
            raise unknown_name("key", key, KEYS, source.place(key))
    for key in ("anchors", "backbone", "head"):
        if key not in mapping:
            where = "model" if isinstance(cfg, Mapping) else str(cfg)
            raise UserError(f"{where}: expected the key {key!r}, found only {', '.join(map(str, mapping))}")

    for key, value in mapping.items():
        _check_value(key, value, sources[key].place(key))
    _rehearse(mapping, {part: sources[part].name for part in PARTS})
    return mapping


def _base_chain(cfg: str | Path | Mapping[str, Any]) -> list[tuple[_Source, dict[str, Any]]]:
    """The file and its bases, nearest first, each without its ``base`` key."""
    if isinstance(cfg, Mapping):
        path, source, content = None, _Source("model", {}), dict(cfg)
    else:
        path = find_model_yaml(cfg)
        source, content = _Source(str(path), key_lines(path)), load_yaml(path)
    chain, seen = [(source, content)], [path]
    while (base := content.pop("base", None)) is not None:
        place = f"{source.place('base')}: base"
        if not isinstance(base, str):
            raise UserError(f"{place}: expected the name of a file but got {base!r}")
        try:
            path = find_model_yaml(base, beside=path)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        if any(path.samefile(earlier) for earlier in seen if earlier is not None):
            raise UserError(f"{place}: {base} inherits from itself")
        seen.append(path)
        source, content = _Source(str(path), key_lines(path)), load_yaml(path)
        chain.append((source, content))
    return chain


def _check_value(key: str, value: Any, place: str) -> None:
    if key in COUNTS and not (is_whole(value) and value >= 1):
        raise UserError(f"{place}: {key}: expected a whole number, 1 or more, but got {value!r}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in FACTORS and not (is_number and 0 < value < float("inf")):
        raise UserError(f"{place}: {key}: expected a number above 0 but got {value!r}")
    if key in PARTS and not (isinstance(value, list | tuple) and value):
        raise UserError(f"{place}: {key}: expected a list of rows but got {value!r}")
    if key == "anchors":
        check_anchors(value, place)
    if key == "activation" and value is not None:
        activation_builder(value, f"{place}: activation")


def _rehearse(cfg: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Build the network on the meta device and run the shape of an image through it.

    Raises:
        UserError: a row cannot be built, or rejects the outputs of the rows it reads.
    """
    in_channels = cfg.get("ch", 3)
    with torch.device("meta"), torch.no_grad():
        layers, *_ = build_layers({"nc": DEFAULT_NC, **cfg}, in_channels, files)
        image = torch.zeros(1, in_channels, PROBE_SIDE, PROBE_SIDE)
        outputs: list[Any] = []
        # without Detect, which takes whatever channels come, and asks for autocast, which this device does not know
        for row, layer in zip(read_rows(cfg, files)[:-1], layers.eval()[:-1], strict=True):
            inputs = [outputs[source] for source in row.sources] if outputs else [image]
            try:
                outputs.append(layer(inputs if isinstance(row.source, list) else inputs[0]))
            except MISFITS as error:
                shapes = ", ".join(str(tuple(entry.shape)) for entry in inputs)
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"{row.place}: {row.name} {row.args} cannot take an input of {shapes}: {reason}"
                ) from error
