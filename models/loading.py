"""Load networks from checkpoint files."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.architecture import read_architecture
from models.ensemble import Ensemble
from models.foreign import read_foreign_checkpoint
from models.network import Network
from models.test_time import TestTimeAugmented
from models.yolo import DetectionModel, build_model
from utils.checkpoint import load_checkpoint, transfer
from utils.errors import ForeignCheckpointError, UserError

log = logging.getLogger(__name__)


def load_model(
    weights: str | Path, device: str | torch.device = "cpu", fuse: bool = True, cfg: str | Path | None = None
) -> tuple[DetectionModel, dict[str, Any]]:
    """Build the network of a checkpoint and load its weights: the moving average where there is one.

    Args:
        weights: checkpoint file.
        device: of the network.
        fuse: fold batch norms into convolutions: faster, equal up to rounding, no longer trainable.
        cfg: model YAML, needed where the file holds a state dict alone.

    Returns:
        The network in eval mode, without gradients, float32, with ``names``; and the content of the file.

    Raises:
        UserError: unreadable file, or weights that do not fit the architecture stored with them.
    """
    content = read_weights(weights, cfg)
    names = class_names(content["names"])
    model = build_model(content["cfg"], nc=len(names))
    try:
        model.load_state_dict(content.get("ema") or content["model"])
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise UserError(f"{weights}: its weights do not fit its own architecture: {detail}") from None
    model.names = names
    model.to(device).eval().requires_grad_(False)
    return (model.fuse() if fuse else model), content


def load_networks(
    weights: str | Path | Sequence[str | Path],
    device: str | torch.device = "cpu",
    augment: bool = False,
    cfg: str | Path | None = None,
) -> tuple[Network, list[dict[str, Any]]]:
    """Load the network of one checkpoint, or of several as an ensemble.

    Args:
        weights: checkpoint file, or several of them with the same classes.
        device: of the networks.
        augment: each network sees every image at three sizes, see ``models.test_time``.
        cfg: as in :func:`load_model`.

    Returns:
        As :func:`load_model`, with weights stored channels last; and the content of each file.

    Raises:
        UserError: as :func:`load_model`; no file at all, or files whose classes differ.
    """
    files = [weights] if isinstance(weights, str | Path) else list(weights)
    if not files:
        raise UserError("weights: expected at least one checkpoint but got none")
    loaded = [load_model(file, device, cfg=cfg) for file in files]
    networks, contents = [network for network, _ in loaded], [content for _, content in loaded]
    first = networks[0].names
    for file, network in zip(files, networks, strict=True):
        if network.names != first:
            theirs, ours = (", ".join(names.values()) for names in (first, network.names))
            raise UserError(f"{file}: expected the classes of {files[0]} ({theirs}) but found {ours}")
    members: list[Network] = [network.to_channels_last() for network in networks]
    members = [TestTimeAugmented(network) for network in members] if augment else members
    return (members[0] if len(members) == 1 else Ensemble(members)).eval(), contents


def new_model(
    cfg: str | Path | Mapping[str, Any], names: Sequence[str], *, anchors_per_level: int | None = None
) -> DetectionModel:
    """A network with fresh weights for these classes.

    Args:
        cfg: name or path of a model YAML, or its mapping.
        names: C class names.
        anchors_per_level: replace the YAML's anchors by so many per level, which must then be computed from data.
    """
    model = build_model(cfg, nc=len(names))
    if anchors_per_level is not None:
        model = build_model({**model.cfg, "anchors": anchors_per_level}, nc=len(names))
    model.names = class_names(names)
    return model


def model_from_weights(
    weights: str | Path,
    names: Sequence[str],
    *,
    cfg: str | Path | None = None,
    anchors_per_level: int | None = None,
) -> DetectionModel:
    """A network to fine-tune: every entry of the checkpoint that fits by name and shape is taken over.

    Args:
        weights: checkpoint file.
        names: C class names of the new data.
        cfg: model YAML; without one, the architecture stored in the checkpoint. Anchors then come from there too.
        anchors_per_level: as in :func:`new_model`.
    """
    content = read_weights(weights, cfg)
    model = new_model(cfg or content["cfg"], names, anchors_per_level=anchors_per_level)
    exclude = ("anchors",) if cfg or anchors_per_level is not None else ()
    done = transfer(model.state_dict(), content["model"], exclude)
    if not any(done.state[name].numel() > 1 for name in done.taken):  # counters of batch norms fit anything
        raise UserError(f"{weights}: none of its tensors fits the network: {done}")
    model.load_state_dict(done.state)
    few = 2 * len(done.taken) < len(done.state)
    log.log(logging.WARNING if few else logging.INFO, "weights: %s gives %s", weights, done)
    return model


def read_weights(weights: str | Path, cfg: str | Path | None = None) -> dict[str, Any]:
    """The content of a checkpoint of this program, or of one of YOLOv5 or YOLOv3 in the same keys.

    Args:
        weights: checkpoint file. Code in it is never run.
        cfg: model YAML of a file that holds a state dict alone.

    Returns:
        At least ``cfg``, ``names`` and ``model``.

    Raises:
        UserError: an unreadable or hostile file, one without a network, or a state dict without ``cfg``.
    """
    is_foreign = Path(weights).suffix == ".safetensors" and Path(weights).is_file()
    try:
        content = {} if is_foreign else load_checkpoint(weights)
    except ForeignCheckpointError:
        is_foreign = True
    if is_foreign:
        content = read_foreign_checkpoint(weights)
        log.info("%s: %s; its licence is that of its authors", weights, content["origin"])
    if content.get("cfg") is None and content.get("model"):
        if not cfg:
            raise UserError(f"{weights}: holds a state dict alone: --cfg must name the model file of its network")
        architecture = read_architecture(cfg)
        num_classes = _classes_of(content["model"], architecture["anchors"], weights)
        content["cfg"] = {**architecture, "nc": num_classes}
        content["names"] = {index: f"class{index}" for index in range(num_classes)}
    missing = [key for key in ("cfg", "names", "model") if not content.get(key)]
    if missing:
        raise UserError(f"{weights}: expected the keys cfg, names and model but {', '.join(missing)} is missing")
    return content


def _classes_of(state: Mapping[str, Tensor], anchors: int | Sequence[Sequence[float]], weights: str | Path) -> int:
    """Number of classes of a network from its weights alone: its head has A (5 + C) output channels."""
    per_level = anchors if isinstance(anchors, int) else len(anchors[0]) // 2
    heads = [value for name, value in state.items() if re.fullmatch(r"model\.\d+\.m\.0\.bias", name)]
    outputs = len(heads[-1]) if heads and heads[-1].ndim == 1 else 0
    if outputs % per_level or outputs // per_level <= 5:
        raise UserError(f"{weights}: expected a head with {per_level} x (5 + classes) outputs but found {outputs}")
    return outputs // per_level - 5


def class_names(names: Sequence[str] | Mapping[int, str]) -> dict[int, str]:
    """Class names of a checkpoint or data file, a list or a mapping, as a mapping from index to name in order."""
    entries = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {int(index): str(name) for index, name in sorted(entries, key=lambda entry: int(entry[0]))}
