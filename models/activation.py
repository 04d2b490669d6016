"""Activations as a model YAML names them, e.g. ``nn.LeakyReLU(0.1)``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from models.layers import Conv
from utils.config.yaml_files import parse_yaml
from utils.errors import UserError, unknown_name

ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"nn.{kind.__name__}": kind
    for kind in (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Mish, nn.GELU, nn.ELU, nn.Identity)
}


def activation_builder(text: Any, where: str = "activation") -> Callable[[], nn.Module]:
    """Parse the text of an activation into a function that builds it.

    Args:
        text: ``nn.Name`` or ``nn.Name(...)`` with plain arguments.
        where: beginning of the error message.

    Raises:
        UserError: the text has another form, the name is unknown, or the activation rejects the arguments.
    """
    match = re.fullmatch(r"(nn\.\w+)(?:\((.*)\))?", text.strip()) if isinstance(text, str) else None
    if not match:
        raise UserError(f"{where}: expected a text like nn.LeakyReLU(0.1) but got {text!r}")
    name, arguments = match.groups()
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS, where)
    positional, keywords = [], {}
    for argument in filter(None, (part.strip() for part in (arguments or "").split(","))):
        key, equals, value = argument.rpartition("=")
        if equals:
            keywords[key.strip()] = parse_yaml(value, where)
        else:
            positional.append(parse_yaml(argument, where))

    def build() -> nn.Module:
        return ACTIVATIONS[name](*positional, **keywords)

    try:
        build()(torch.zeros(1))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {text} cannot be built: {error}") from None
    return build


def set_activation(model: nn.Module, text: str) -> None:
    """Replace the activation of every Conv that has one.

    Raises:
        UserError: as :func:`activation_builder`.
    """
    build = activation_builder(text)
    for module in model.modules():
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            module.act = build()
