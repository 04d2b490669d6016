"""Checkpoints: plain tensors and data in one file, written whole or not at all, and read without trusting it.

Keys of a checkpoint (a run may add others):
    model          state dict of the network
    ema            state dict of its moving average; not in a stripped file
    cfg            the model YAML as data, with nc and anchors
    names          class index to name
    hyp, opt       resolved hyper-parameters and options
    data           the data YAML
    image_size     pixels
    epoch          last finished epoch, from 0; -1 in a stripped file, which cannot be resumed
    metrics, best_fitness, best_epoch
    operating_points    thresholds and calibrations of the classes, utils/operating_points.py; may be missing
    format, date, git, versions            added on saving
"""

from __future__ import annotations

import datetime
import functools
import logging
import platform
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.errors import ForeignCheckpointError, UserError, unknown_name
from utils.files import ROOT, write_atomically

FORMAT = "yolo-losses/1"
SHOWN_NAMES = 3  # of tensors that were left out
_FAMILY = FORMAT.partition("/")[0]
_KEPT_WHEN_STRIPPED = (
    *("model", "cfg", "names", "hyp", "opt", "data", "image_size", "metrics", "best_fitness", "best_epoch"),
    "operating_points",
    *("format", "date", "git", "versions"),
)

log = logging.getLogger(__name__)


def save_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint. A run that dies meanwhile leaves the previous file as it was.

    Args:
        path: file to write; its folder is made where missing.
        state: tensors, numbers, text, None, and mappings, lists and tuples of them.

    Raises:
        TypeError: another kind of value; the message names its key.
    """
    header = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": _git_commit(),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    content = {**header, **_plain(state, ""), "format": FORMAT}
    write_atomically(path, functools.partial(torch.save, content))


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this program, to CPU memory. Code in a file is never run.

    Raises:
        ForeignCheckpointError: a file of another program, such as YOLOv5: ``models.loading`` reads their weights.
        UserError: no such file, a damaged one, or one of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise _missing(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # torch reports foreign and damaged files by half a dozen types, OSError among them
        raise _foreign(path, error) from None
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, str) or version.partition("/")[0] != _FAMILY:
        raise ForeignCheckpointError(
            f"{path}: expected a checkpoint of this program (format {FORMAT!r}) but found another file"
        )
    if version != FORMAT:
        raise UserError(f"{path}: expected checkpoint format {FORMAT!r} but found {version!r}")
    return content


def strip_checkpoint(path: str | Path) -> None:
    """Reduce a checkpoint, in place, to what validation, detection and fine-tuning need; the averaged weights stay."""
    content = load_checkpoint(path)
    stripped = {key: content[key] for key in _KEPT_WHEN_STRIPPED if key in content}
    # The weights stay float32: half would flush small batch-norm variances and move the metrics that were logged.
    stripped["model"] = content.get("ema") or content["model"]
    stripped["epoch"] = -1
    save_checkpoint(path, stripped)


def add_to_checkpoint(path: str | Path, **entries: Any) -> None:
    """Put entries into a checkpoint, in place; everything else, its date included, stays as it is.

    Args:
        path: checkpoint file.
        entries: plain data by key.
    """
    save_checkpoint(path, {**load_checkpoint(path), **entries})


class Transfer(NamedTuple):
    """What came of taking weights over.

    Attributes:
        state: complete state dict for the network.
        taken: names of the entries that came from the weights.
        left_out: reason to the names of the network's entries that did not.
    """

    state: dict[str, Tensor]
    taken: list[str]
    left_out: dict[str, list[str]]

    def __str__(self) -> str:
        """``349 of 355 tensors; left out: 6 of another shape (model.24.m.0.weight, ...)``."""
        reasons = [
            f"{len(names)} {reason} ({', '.join(names[:SHOWN_NAMES])}{', ...' if len(names) > SHOWN_NAMES else ''})"
            for reason, names in self.left_out.items()
        ]
        left_out = f"; left out: {'; '.join(reasons)}" if reasons else ""
        return f"{len(self.taken)} of {len(self.state)} tensors{left_out}"


def transfer(
    model_state: Mapping[str, Tensor], weights_state: Mapping[str, Tensor], exclude: Iterable[str] = ()
) -> Transfer:
    """Take over what fits by name and shape.

    Args:
        model_state: state dict of the network to fill.
        weights_state: state dict to take from.
        exclude: parts of names to leave alone, e.g. ``anchors``.
    """
    excluded, state, taken = tuple(exclude), dict(model_state), []
    left_out: dict[str, list[str]] = {}
    for name, value in model_state.items():
        if name not in weights_state:
            left_out.setdefault("not in the file", []).append(name)
        elif any(part in name for part in excluded):
            left_out.setdefault("kept as the model file has them", []).append(name)
        elif weights_state[name].shape != value.shape:
            theirs, ours = (" x ".join(map(str, entry.shape)) for entry in (weights_state[name], value))
            left_out.setdefault("of another shape", []).append(f"{name}: {theirs} there, {ours} here")
        else:
            state[name] = weights_state[name]
            taken.append(name)
    return Transfer(state, taken, left_out)


def newest_checkpoint(folder: str | Path = ".") -> Path:
    """The ``last*.pt`` below a folder that was written most recently: what a bare ``--resume`` continues.

    Raises:
        UserError: there is none.
    """
    files = [file for file in Path(folder).rglob("last*.pt") if file.is_file()]
    if not files:
        raise UserError(f"{Path(folder).resolve()}: expected a last.pt to resume from, here or below, but found none")
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def _plain(value: Any, key: str) -> Any:
    """Copy of a value in the types that a safe load accepts; tensors are detached, and freed of larger storages."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        tensor = value.detach()
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
    if isinstance(value, Mapping):
        return {_plain_key(name, key): _plain(entry, f"{key}.{name}".lstrip(".")) for name, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(entry, f"{key}[{index}]") for index, entry in enumerate(value))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"checkpoint key {key!r}: expected tensors and plain data but got {kind}: {value!r:.80}")


def _plain_key(name: Any, key: str) -> str | int:
    if type(name) not in (str, int):
        raise TypeError(f"checkpoint key {key!r}: expected names or whole numbers as keys but got {name!r:.80}")
    return name


def _missing(path: Path) -> UserError:
    if re.fullmatch(r"yolov[358](u|[nsmlx]6?|-tiny|-spp)*(-seg|-cls)?\.pt", path.name):
        return UserError(
            f"{path} does not exist. No weights are shipped with this program, and none are downloaded. Those of "
            "YOLOv5 and YOLOv3 are published at https://github.com/ultralytics/yolov5/releases, under their "
            f"own licence (AGPL-3.0). Put the file here, and --weights {path.name} works"
        )
    folder = path.parent if path.parent.is_dir() else Path()
    nearby = [*folder.glob("*.pt"), *Path().glob("runs/train/*/weights/*.pt")]
    if not nearby:
        return UserError(f"unknown checkpoint file {str(path)!r}: it does not exist")
    return unknown_name("checkpoint file", path, {str(file) for file in nearby}, f"{path} does not exist")


def _foreign(path: Path, error: Exception) -> UserError:
    with path.open("rb") as file:
        start = file.read(2)
    if not zipfile.is_zipfile(path) and start[:1] != b"\x80":
        return UserError(f"{path}: expected a checkpoint but found a damaged file, or one that is no checkpoint at all")
    if "TorchScript" in str(error):
        return UserError(f"{path}: expected a checkpoint of this program but found a TorchScript archive")
    if "global" in str(error).lower() or "class" in str(error).lower():
        return ForeignCheckpointError(
            f"{path}: holds pickled code, as checkpoints of YOLOv5 do; none of it was run. Expected a checkpoint of "
            "this program, which is plain tensors and data"
        )
    return UserError(f"{path}: expected a checkpoint but found a damaged file")


@functools.cache
def _git_commit() -> str | None:
    """Commit of this program, None outside its own repository (not that of a repository around it)."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
