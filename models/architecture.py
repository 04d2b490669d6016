"""Read model YAML files and turn their rows into modules, through a table of names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from models.head import Detect
from models.layers import C3, SPP, SPPF, Bottleneck, Concat, Conv, DWConv, Focus
from utils.errors import UserError, unknown_name

FOLDER = Path(__file__).resolve().parent
KEYS = ("nc", "depth_multiple", "width_multiple", "anchors", "ch", "activation", "inplace", "backbone", "head", "base")

# Modules whose first arguments are input and output channels, the latter scaled by width_multiple.
CHANNEL_MODULES: dict[str, type[nn.Module]] = {
    "Conv": Conv,
    "DWConv": DWConv,
    "Bottleneck": Bottleneck,
    "C3": C3,
    "SPP": SPP,
    "SPPF": SPPF,
    "Focus": Focus,
    "nn.Conv2d": nn.Conv2d,
    "nn.ConvTranspose2d": nn.ConvTranspose2d,
}
# Modules that keep the number of channels.
PLAIN_MODULES: dict[str, type[nn.Module]] = {
    "nn.Upsample": nn.Upsample,
    "nn.MaxPool2d": nn.MaxPool2d,
    "nn.AvgPool2d": nn.AvgPool2d,
    "nn.ZeroPad2d": nn.ZeroPad2d,
    "nn.Identity": nn.Identity,
}
OTHER_MODULES = ("Concat", "Detect", "nn.BatchNorm2d")
REPEATS_INSIDE = ("C3",)
ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"nn.{kind.__name__}": kind
    for kind in (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Mish, nn.GELU, nn.ELU, nn.Identity)
}


def find_model_yaml(name: str | Path) -> Path:
    """A path as given, else a file of that name in models/.

    Raises:
        UserError: neither exists; the message lists the known files.
    """
    for path in (Path(name), FOLDER / name):
        if path.is_file():
            return path
    raise unknown_name("model YAML", name, (path.name for path in FOLDER.glob("*.yaml")))


def read_architecture(cfg: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read a model YAML, with ``base:`` merged in, and check its keys.

    Args:
        cfg: file name, path, or the mapping itself.

    Raises:
        UserError: missing file, YAML error, unknown or missing key.
    """
    where = "model" if isinstance(cfg, Mapping) else str(cfg)
    mapping = dict(cfg) if isinstance(cfg, Mapping) else _load(find_model_yaml(cfg))
    seen = {where}
    while "base" in mapping:
        base = str(mapping.pop("base"))
        if base in seen:
            raise UserError(f"{where}: base: {base} inherits from itself")
        seen.add(base)
        mapping = {**_load(find_model_yaml(base)), **mapping}
    for key in mapping:
        if key not in KEYS:
            raise unknown_name("key", key, KEYS, where)
    for key in ("anchors", "backbone", "head"):
        if key not in mapping:
            raise UserError(f"{where}: expected the key {key!r}, found only {', '.join(mapping)}")
    return mapping


def _load(path: Path) -> dict[str, Any]:
    try:
        mapping = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(mapping, dict):
        raise UserError(f"{path}: expected a mapping but got {type(mapping).__name__}")
    return mapping


def level_anchors(anchors: Any, num_levels: int) -> list[list[float]]:
    """The YAML's anchors as L lists of flat pairs; a number n stands for n anchors per level, still to be computed."""
    if isinstance(anchors, int):
        return [list(map(float, range(1, 2 * anchors + 1)))] * num_levels
    if len(anchors) != num_levels or any(len(level) != len(anchors[0]) or len(level) % 2 for level in anchors):
        raise UserError(
            f"anchors: expected {num_levels} lists (one per input of Detect) of equally many width, height pairs "
            f"but got {anchors}"
        )
    return anchors


def build_layers(cfg: Mapping[str, Any], in_channels: int) -> tuple[nn.Sequential, list[int]]:
    """Build every row of backbone and head.

    Args:
        cfg: from :func:`read_architecture`, ``nc`` set.
        in_channels: channels of the image.

    Returns:
        layers: one module per row, each with ``.source`` (row indices, -1 for the previous one).
        save: rows whose output a later row reads.
    """
    channels: list[int] = []
    layers, save = [], set()
    for index, row in enumerate([*cfg["backbone"], *cfg["head"]]):
        if not isinstance(row, list | tuple) or len(row) != 4:
            raise UserError(f"model row {index}: expected [from, number, module, args] but got {row}")
        source, number, name, args = row
        sources = [source] if isinstance(source, int) else list(source)
        bad = [s for s in sources if not -index <= s < index] if index else []
        if bad:
            raise UserError(f"model row {index}: expected 'from' below {index} but got {bad[0]}")
        inputs = [channels[s] for s in sources] if index else [in_channels]
        layer, c_out = _build_row(cfg, index, name, number, args, inputs)
        layer.source = source
        layers.append(layer)
        channels.append(c_out)
        save.update(s % index for s in sources if s != -1)
    if not isinstance(layers[-1], Detect):
        raise UserError(f"model: expected Detect as the last row but got {type(layers[-1]).__name__}")
    return nn.Sequential(*layers), sorted(save)


def _build_row(
    cfg: Mapping[str, Any], index: int, name: str, number: int, args: list, inputs: list[int]
) -> tuple[nn.Module, int]:
    """One row's module and its output channels."""
    words = {"nc": cfg["nc"], "anchors": cfg["anchors"], "None": None, "True": True, "False": False}
    args = [words.get(arg, arg) if isinstance(arg, str) else arg for arg in args]
    repeats = max(round(number * cfg.get("depth_multiple", 1.0)), 1) if number > 1 else 1
    c_out = inputs[0]
    if name in CHANNEL_MODULES:
        kind = CHANNEL_MODULES[name]
        c_out = _scaled_channels(args[0], cfg.get("width_multiple", 1.0))
        args = [inputs[0], c_out, *args[1:]]
        if name in REPEATS_INSIDE:
            args.insert(2, repeats)
            repeats = 1
    elif name == "Concat":
        kind, c_out = Concat, sum(inputs)
    elif name == "Detect":
        kind = Detect
        args = [args[0], level_anchors(args[1], len(inputs)), inputs]
    elif name == "nn.BatchNorm2d":
        kind, args = nn.BatchNorm2d, [inputs[0]]
    elif name in PLAIN_MODULES:
        kind = PLAIN_MODULES[name]
    else:
        known = [*CHANNEL_MODULES, *PLAIN_MODULES, *OTHER_MODULES]
        raise unknown_name("module", name, known, f"model row {index}")
    try:
        modules = [kind(*args)]
        if repeats > 1 and name in CHANNEL_MODULES:
            args = [c_out, *args[1:]]
        modules += [kind(*args) for _ in range(repeats - 1)]
    except TypeError as error:
        raise UserError(f"model row {index}: {name} does not take {args}: {error}") from None
    return (modules[0] if repeats == 1 else nn.Sequential(*modules)), c_out


def _scaled_channels(channels: int, width_multiple: float) -> int:
    """Channels times width, up to the next multiple of 8."""
    scaled = channels * width_multiple
    return int(-(-scaled // 8) * 8)


def set_activation(model: nn.Module, text: str) -> None:
    """Replace the activation of every Conv, e.g. by ``nn.LeakyReLU(0.1)``.

    Raises:
        UserError: not of the form ``nn.Name(...)`` with plain arguments, or an unknown name.
    """
    match = re.fullmatch(r"(nn\.\w+)(?:\((.*)\))?", text.strip())
    if not match:
        raise UserError(f"activation: expected a text like nn.LeakyReLU(0.1) but got {text!r}")
    name, arguments = match.groups()
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    keywords, positional = {}, []
    for argument in filter(None, (part.strip() for part in (arguments or "").split(","))):
        key, equals, value = argument.rpartition("=")
        if equals:
            keywords[key.strip()] = yaml.safe_load(value)
        else:
            positional.append(yaml.safe_load(argument))
    for module in model.modules():
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            module.act = ACTIVATIONS[name](*positional, **keywords)
