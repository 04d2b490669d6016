"""The rows of a model YAML, ``[from, number, module, args]``, and the modules they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from models.head import Detect
from models.layers import C3, SPP, SPPF, Bottleneck, Concat, Conv, DWConv, Focus
from utils.errors import UserError, unknown_name

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
PARTS = ("backbone", "head")
# Modules that read several rows; all others read one.
SEVERAL_INPUTS = ("Concat", "Detect")
# What torch raises for arguments and inputs that a module cannot take: the YAML is wrong. Anything else that a module
# raises, such as AttributeError or AssertionError, is a bug in it and comes through.
MISFITS = (TypeError, ValueError, RuntimeError, ZeroDivisionError, IndexError)


class Row(NamedTuple):
    """One checked row.

    Attributes:
        place: file, part and number, for error messages.
        source: row or rows that it reads, -1 for the one before.
        number: how often it is repeated, before depth_multiple.
        name: of the module.
        args: of the module, channels before width_multiple.
    """

    place: str
    source: int | list[int]
    number: int
    name: str
    args: list[Any]

    @property
    def sources(self) -> list[int]:
        """The rows that it reads, as a list."""
        return self.source if isinstance(self.source, list) else [self.source]


def read_rows(cfg: Mapping[str, Any], files: Mapping[str, str] | None = None) -> list[Row]:
    """Check the types of all rows of backbone and head.

    Args:
        cfg: with ``backbone`` and ``head``, both lists.
        files: the files that these keys come from, where they are files.

    Raises:
        UserError: a row has another form or reads a later row; names file, part and row, counted from 0.
    """
    rows: list[Row] = []
    for part in PARTS:
        for number, row in enumerate(cfg[part]):
            place = f"{(files or {}).get(part, 'model')}: {part} row {number}"
            if part != PARTS[0]:
                place += f", in all row {len(rows)}"
            rows.append(_read_row(row, len(rows), place))
    return rows


def _read_row(row: Any, index: int, place: str) -> Row:
    if not isinstance(row, list | tuple) or len(row) != 4:
        raise UserError(f"{place}: expected [from, number, module, args] but got {row}")
    source, number, name, args = row
    sources = source if isinstance(source, list) else [source]
    if not sources or not all(is_whole(entry) for entry in sources):
        raise UserError(f"{place}: expected 'from' to be a row number, or a list of them, but got {source!r}")
    lowest = -max(index, 1)  # the first row reads the image, as -1
    wrong = [entry for entry in sources if not lowest <= entry < index]
    if wrong:
        raise UserError(f"{place}: expected 'from' below {index}, or -1 for the row before, but got {wrong[0]}")
    if not is_whole(number) or number < 1:
        raise UserError(f"{place}: expected 'number' to be a whole number, 1 or more, but got {number!r}")
    if name not in (known := [*CHANNEL_MODULES, *PLAIN_MODULES, *OTHER_MODULES]):
        raise unknown_name("module", name, known, place)
    if (name in SEVERAL_INPUTS) != isinstance(source, list):
        wanted = "a list of row numbers" if name in SEVERAL_INPUTS else "one row number"
        raise UserError(f"{place}: {name}: expected 'from' to be {wanted} but got {source!r}")
    if not isinstance(args, list | tuple):
        raise UserError(f"{place}: {name}: expected a list of arguments but got {args!r}")
    return Row(place, source, number, name, list(args))


def is_whole(value: Any) -> bool:
    """Whether a value of a YAML is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_anchors(anchors: Any, where: str) -> None:
    """Check the form of the YAML's anchors.

    Raises:
        UserError: neither a number of anchors nor lists of equal length of widths and heights above 0.
    """
    if is_whole(anchors) and anchors >= 1:
        return
    levels = list(anchors) if isinstance(anchors, list | tuple) else []
    good = len(levels) > 0 and all(
        isinstance(level, list | tuple)
        and len(level) == len(levels[0])
        and len(level) >= 2
        and len(level) % 2 == 0
        and all(isinstance(side, int | float) and not isinstance(side, bool) and side > 0 for side in level)
        for level in levels
    )
    if not good:
        raise UserError(
            f"{where}: anchors: expected a list for each level, of equally many width, height pairs in pixels, or the "
            f"number of anchors per level, but got {anchors}"
        )


def level_anchors(anchors: Any, num_levels: int, where: str) -> list[list[float]]:
    """The YAML's anchors as L lists of flat pairs; a number n stands for n anchors per level, still to be computed.

    Raises:
        UserError: as :func:`check_anchors`, or not as many lists as levels.
    """
    check_anchors(anchors, where)
    if isinstance(anchors, int):
        return [list(map(float, range(1, 2 * anchors + 1)))] * num_levels
    if len(anchors) != num_levels:
        raise UserError(
            f"{where}: anchors: expected {num_levels} lists (one per input of Detect) of width, height pairs "
            f"but got {anchors}"
        )
    return [list(level) for level in anchors]


def build_layers(
    cfg: Mapping[str, Any], in_channels: int, files: Mapping[str, str] | None = None
) -> tuple[nn.Sequential, list[int | list[int]], list[int]]:
    """Build every row of backbone and head.

    Args:
        cfg: from :func:`models.architecture.read_architecture`, ``nc`` set.
        in_channels: channels of the image.
        files: the files that ``backbone`` and ``head`` come from, for error messages.

    Returns:
        layers: one module per row.
        sources: the row or rows that each reads, -1 for the previous one.
        save: rows whose output a later row reads.

    Raises:
        UserError: a row is invalid, a module rejects its arguments, or Detect is not the last row.
    """
    channels: list[int] = []
    layers: list[nn.Module] = []
    save: set[int] = set()
    rows = read_rows(cfg, files)
    for index, row in enumerate(rows):
        inputs = [channels[source] for source in row.sources] if index else [in_channels]
        layer, c_out = _build_row(cfg, row, inputs)
        layers.append(layer)
        channels.append(c_out)
        save.update(source % index for source in row.sources if source != -1)
    if not isinstance(layers[-1], Detect):
        raise UserError(f"{rows[-1].place}: expected Detect as the last row but got {rows[-1].name}")
    return nn.Sequential(*layers), [row.source for row in rows], sorted(save)


def _build_row(cfg: Mapping[str, Any], row: Row, inputs: list[int]) -> tuple[nn.Module, int]:
    """One row's module and its output channels."""
    words = {"nc": cfg["nc"], "anchors": cfg["anchors"], "None": None, "True": True, "False": False}
    args = [words.get(arg, arg) if isinstance(arg, str) else arg for arg in row.args]
    repeats = max(round(row.number * cfg.get("depth_multiple", 1.0)), 1) if row.number > 1 else 1
    name, c_out = row.name, inputs[0]
    if name in CHANNEL_MODULES:
        kind = CHANNEL_MODULES[name]
        if not args or not is_whole(args[0]) or args[0] < 1:
            raise UserError(f"{row.place}: {name}: expected the output channels as first argument but got {row.args}")
        c_out = _scaled_channels(args[0], cfg)
        args = [inputs[0], c_out, *args[1:]]
        if name in REPEATS_INSIDE:
            args.insert(2, repeats)
            repeats = 1
    elif name == "Concat":
        kind, c_out = Concat, sum(inputs)
    elif name == "Detect":
        if len(args) != 2 or not is_whole(args[0]):
            raise UserError(f"{row.place}: Detect: expected the arguments [nc, anchors] but got {row.args}")
        kind, args = Detect, [args[0], level_anchors(args[1], len(inputs), row.place), inputs]
    elif name == "nn.BatchNorm2d":
        kind, args = nn.BatchNorm2d, [inputs[0]]
    else:
        kind = PLAIN_MODULES[name]
    try:
        modules = [kind(*args)]
        if repeats > 1 and name in CHANNEL_MODULES:
            args = [c_out, *args[1:]]
        modules += [kind(*args) for _ in range(repeats - 1)]
    except MISFITS as error:
        raise UserError(f"{row.place}: {name} does not take {row.args}: {error}") from error
    return (modules[0] if repeats == 1 else nn.Sequential(*modules)), c_out


def _scaled_channels(channels: int, cfg: Mapping[str, Any]) -> int:
    """Channels times width_multiple, up to the next multiple of 8."""
    scaled = channels * cfg.get("width_multiple", 1.0)
    return int(-(-scaled // 8) * 8)
