"""Networks of YOLOv5 and YOLOv3 checkpoints: architecture, names, anchors and weights, read from inert records.

The files hold whole pickled modules: ``models.yolo.Model``, ``DetectionModel`` or ``SegmentationModel``. What is read
is data; no class of theirs is imported. Of a segmentation network the boxes are taken, the mask coefficients left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.rows import CHANNEL_MODULES, OTHER_MODULES, PLAIN_MODULES
from utils.errors import UserError, unknown_name
from utils.torch_archive import Record, read_torch_archive

HEADS = {"Detect": 0, "Segment": 1}  # rows that end a network; with masks their arguments go on
MAX_CLASSES = 10_000

log = logging.getLogger(__name__)


def read_foreign_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of YOLOv5 or YOLOv3 in the keys of ours.

    Args:
        path: file of whole modules, or of a state dict alone.

    Returns:
        ``names`` and ``cfg`` (None for a state dict alone), ``model`` with float32 tensors, the average where the file
        has one, ``image_size`` where the file tells, ``epoch`` -1, ``origin`` that says whose it is.

    Raises:
        UserError: a damaged or hostile file, another kind of network, or rows that this program does not have.
    """
    content = _read_safetensors(Path(path)) if Path(path).suffix == ".safetensors" else read_torch_archive(path)
    try:
        return _converted(content, Path(path))
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"{path}: needs the package safetensors: pip install safetensors") from None
    try:
        state: dict[str, Tensor] = load_file(path)
    except Exception as error:  # the package has its own types of errors
        raise UserError(f"{path}: cannot be read: {error!s:.200}") from None
    return state


def _converted(content: Any, path: Path) -> dict[str, Any]:
    entries = content if isinstance(content, dict) else {"model": content}
    # the average first, as the original does
    network = next((entries[key] for key in ("ema", "model") if isinstance(entries.get(key), Record)), None)
    if network is None:
        state = _plain_state(entries)
        log.info("%s holds a state dict alone, %d tensors", path, len(state))
        return {"model": state, "cfg": None, "names": None, "epoch": -1, "origin": "state dict"}
    if network.kind.rpartition(".")[2] in ("DataParallel", "DistributedDataParallel"):
        network = _children(network).get("module", network)
    state = dict(_tensors(network, ""))
    cfg = _architecture(network, state)
    names = _class_names(network.get("names"), cfg["nc"])
    options = entries.get("opt")
    options = options.state if isinstance(options, Record) else options
    size = options.get("imgsz") if isinstance(options, dict) else None
    found = {"model": state, "cfg": cfg, "names": names, "epoch": -1, "origin": f"YOLOv5 family, {network.kind}"}
    return found | ({"image_size": size} if type(size) is int and 32 <= size <= 2**15 else {})


def _plain_state(entries: Mapping[Any, Any]) -> dict[str, Tensor]:
    """A state dict alone, or under one of the usual keys."""
    for candidate in (entries, *(entries.get(key) for key in ("ema", "model", "state_dict", "model_state_dict"))):
        if isinstance(candidate, dict) and candidate and all(isinstance(entry, Tensor) for entry in candidate.values()):
            return {
                str(name).removeprefix("module."): value.float() if value.is_floating_point() else value
                for name, value in candidate.items()
            }
    keys = ", ".join(map(str, list(entries)[:10]))
    raise UserError(f"expected a network of YOLOv5 or YOLOv3, or a state dict, but found the keys {keys or 'none'}")


def _children(record: Record) -> dict[str, Record]:
    children = record.get("_modules")
    children = children if isinstance(children, dict) else {}
    return {str(name): child for name, child in children.items() if isinstance(child, Record)}


def _tensors(record: Record, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module and those inside it, floats as float32, as ``state_dict`` names them."""
    for kind in ("_parameters", "_buffers"):
        group = record.get(kind)
        for name, value in (group if isinstance(group, dict) else {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.float() if value.is_floating_point() else value
    for name, child in _children(record).items():
        yield from _tensors(child, f"{prefix}{name}.")


def _architecture(network: Record, state: dict[str, Tensor]) -> dict[str, Any]:
    """The model YAML that the network was built from, with its own classes, anchors and activation."""
    cfg = network.get("yaml")
    rows = _children(_children(network).get("model", Record()))
    if not isinstance(cfg, dict) or not rows or not isinstance(cfg.get("head"), list):
        raise UserError(f"expected a detection network with its YAML but found {network.kind}")
    head = rows[str(len(rows) - 1)]
    kind = head.kind.rpartition(".")[2]
    if kind not in HEADS:
        raise UserError(f"expected a network that ends in {' or '.join(HEADS)} but found {kind}")
    num_classes = _num_classes(head)
    cfg = {key: cfg[key] for key in ("depth_multiple", "width_multiple", "backbone", "head", "ch") if key in cfg}
    *earlier, last = cfg["head"]
    if kind == "Segment":
        _drop_mask_coefficients(state, len(rows) - 1, num_classes, head)
        log.warning("the masks of this segmentation network are left out: its boxes and classes are used")
    if not isinstance(last, list) or len(last) != 4:
        raise UserError(f"expected a head row [from, number, module, args] but found {last!r:.100}")
    cfg["head"] = [*earlier, [last[0], last[1], "Detect", ["nc", "anchors"]]]
    _check_modules(cfg)
    cfg |= {"nc": num_classes, "anchors": _anchors(state, len(rows) - 1, head)}
    if activation := _activation(rows):
        cfg["activation"] = activation
    return cfg


def _num_classes(head: Record) -> int:
    count = head.get("nc")
    if type(count) is not int or not 1 <= count <= MAX_CLASSES:
        raise UserError(f"expected the number of classes in its head but found {count!r:.40}")
    return count


def _check_modules(cfg: Mapping[str, Any]) -> None:
    known = [*CHANNEL_MODULES, *PLAIN_MODULES, *OTHER_MODULES]
    for part in ("backbone", "head"):
        for number, row in enumerate(cfg.get(part) or []):
            name = row[2] if isinstance(row, list) and len(row) == 4 else None
            if name not in known:
                raise unknown_name("module", name, known, f"{part} row {number}")


def _drop_mask_coefficients(state: dict[str, Tensor], index: int, num_classes: int, head: Record) -> None:
    """Keep x, y, w, h, objectness and classes of each anchor, and nothing that makes masks, in place."""
    anchors = head.get("na")
    for name in [name for name in state if name.startswith(f"model.{index}.")]:
        if name.startswith(f"model.{index}.proto."):
            del state[name]
        elif re.fullmatch(rf"model\.{index}\.m\.\d+\.(weight|bias)", name) and type(anchors) is int and anchors > 0:
            by_anchor = state[name].unflatten(0, (anchors, -1))
            state[name] = by_anchor[:, : 5 + num_classes].flatten(0, 1).contiguous()


def _anchors(state: dict[str, Tensor], index: int, head: Record) -> list[list[float]]:
    """Anchors in pixels, one flat list for each level; the weights hold them in cells."""
    anchors, stride = state.get(f"model.{index}.anchors"), head.get("stride")
    if not isinstance(anchors, Tensor) or not isinstance(stride, Tensor) or anchors.ndim != 3:
        raise UserError("expected anchors and strides in its head but found none")
    if len(stride) != len(anchors) or not (anchors > 0).all() or not (stride > 0).all():
        raise UserError(f"expected a stride for each level of anchors but found {len(stride)} for {len(anchors)}")
    state.pop(f"model.{index}.anchor_grid", None)  # the same in pixels, in files of 2020 and 2021
    pixels = anchors.double() * stride.double()[:, None, None]
    return [[round(value, 3) for value in level.flatten().tolist()] for level in pixels]


def _activation(rows: Mapping[str, Record]) -> str | None:
    """The activation of the first convolution as a model YAML names it; None for SiLU, the default."""
    for row in rows.values():
        act = _children(row).get("act") or _children(_children(row).get("conv", Record())).get("act")
        if act is None:
            continue
        name = act.kind.rpartition(".")[2]
        if name == "LeakyReLU":
            slope = act.get("negative_slope", 0.01)
            return f"nn.LeakyReLU({float(slope):g})"
        return None if name == "SiLU" else f"nn.{name}"
    return None


def _class_names(names: Any, num_classes: int) -> dict[int, str]:
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or len(names) != num_classes:
        log.warning("expected %d class names but found %s: classes are numbered", num_classes, len(names or ()))
        names = {index: f"class{index}" for index in range(num_classes)}
    if not all(type(index) is int and 0 <= index < num_classes for index in names):
        raise UserError(f"expected class names numbered from 0 to {num_classes - 1}")
    return {index: str(names[index]) for index in sorted(names)}
