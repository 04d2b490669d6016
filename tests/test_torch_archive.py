"""Files of torch.save from other programs: what is read of them, and what is refused."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.foreign import read_foreign_checkpoint
from models.yolo import build_model
from tests.golden import FOLDER
from utils.errors import UserError
from utils.torch_archive import Record, RefusedError, read_torch_archive


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


class HasState:
    """Pickles as a call with a state behind it."""

    def __init__(self, function: Callable, arguments: tuple, state: Any) -> None:
        self.parts = function, arguments, state

    def __reduce__(self) -> tuple:
        return self.parts


def archive(path: Path, data: bytes, entries: dict[str, bytes] | None = None, compression: int = 0) -> Path:
    """An archive as torch.save lays it out, with this pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in (entries or {}).items():
            file.writestr(name, content)
    return path


def mark(path: Path) -> str:
    return f"touch {path}"


@pytest.fixture
def marker(tmp_path: Path):
    """A path that hostile files try to create; it must not exist in the end."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


def hostile_pickles(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Name to pickle and what the message must name."""
    command = mark(marker)
    nested = Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.system, command)))
    mapping = collections.OrderedDict
    return {
        "os.system": (pickle.dumps(Calls(os.system, command), 2), "posix.system"),
        "inside a state dict": (pickle.dumps({"model": {"a": Calls(os.system, command)}}, 2), "posix.system"),
        "a nested archive": (pickle.dumps({"model": nested}, 2), "torch.storage._load_from_bytes"),
        "eval as a name": (b"c__builtin__\neval\n.", "builtins.eval"),
        "eval as a name, protocol 4": (pickle.dumps(eval, 4), "builtins.eval"),
        "exec called": (pickle.dumps(Calls(exec, f"open({str(marker)!r}, 'w')"), 2), "builtins.exec"),
        "getattr of a module": (b"cos\nsystem\n.", "os.system"),
        "getattr of a function": (
            b"\x80\x02c__builtin__\ngetattr\nccollections\nOrderedDict\nX\x08\x00\x00\x00__init__\x86R.",
            "builtins.getattr",
        ),
        "a class that is called": (b"cmodels.yolo\nDetectionModel\n)R.", "models.yolo.DetectionModel"),
        "a function of torch": (b"ctorch\nload\nX\x01\x00\x00\x00x\x85R.", "torch.load"),
        "a function of torch.nn": (b"ctorch.nn.functional\nrelu\n.", "torch.nn.functional.relu"),
        "an old-style instance": (b"(ios\nsystem\n.", "INST"),
        "the extension registry": (b"\x80\x02\x82\x01.", "EXT1"),
        "a memo of gigabytes": (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo"),
        "state of a mapping": (pickle.dumps(HasState(mapping, (), {"items": 1}), 2), "state"),
        "state of a function": (b"\x80\x02ccollections\nOrderedDict\n}b.", "state"),
        "slots of a function": (b"\x80\x02ccollections\nOrderedDict\nN}X\x08\x00\x00\x00__code__Ns\x86b.", "state"),
        "state of a tensor": (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
            b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89NtR}b.",
            "state",
        ),
    }


@pytest.mark.parametrize("name", hostile_pickles(Path("marker")))
def test_what_only_running_could_need_is_refused_by_name(name: str, tmp_path: Path, marker: Path) -> None:
    data, named = hostile_pickles(marker)[name]
    file = archive(tmp_path / "hostile.pt", data, {"archive/data/0": b"\0" * 4})
    with pytest.raises(UserError) as caught:
        read_torch_archive(file)
    assert named in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("pid", "named"),
    [
        ("/etc/passwd", "/etc/passwd"),
        (("storage", "FloatStorage", "../0", "cpu", 1), r"\.\./0"),
        (("module", 1, 2, 3), "module"),
    ],
)
def test_a_persistent_id_names_a_storage_and_nothing_else(pid: Any, named: str, tmp_path: Path) -> None:
    data = b"\x80\x02" + pickle.dumps(pid, 2)[2:-1] + b"Q."
    with pytest.raises(RefusedError, match=named):
        read_torch_archive(archive(tmp_path / "hostile.pt", data))


def test_storages_are_numbers_in_the_file(tmp_path: Path) -> None:
    start = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    for key in (b"../data", b"7"):
        data = start + b"X" + len(key).to_bytes(4, "little") + key + b"X\x03\x00\x00\x00cpuK\x01tQ."
        with pytest.raises(RefusedError, match=key.decode()):
            read_torch_archive(archive(tmp_path / "hostile.pt", data, {"archive/data/0": b"\0" * 4}))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "archive/../../outside", "archive\\data", "c:/x"])
def test_an_archive_with_other_paths_is_refused(name: str, tmp_path: Path) -> None:
    file = archive(tmp_path / "hostile.pt", pickle.dumps({}, 2), {name: b""})
    with pytest.raises(RefusedError, match="path"):
        read_torch_archive(file)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "bomb.pt", pickle.dumps({}, 2), {"archive/data/0": b"\0" * 10**6}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RefusedError, match="compressed"):
        read_torch_archive(file)


def test_tensors_stay_within_their_storage(tmp_path: Path) -> None:
    """Sizes and strides of a file are claims."""

    def tensor_of(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
        head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        head += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
        return head + b"".join(pickle.dumps(part, 2)[2:-1] for part in (offset, size, stride)) + b"\x89NtR."

    def read(*claims: Any) -> Any:
        values = np.arange(4, dtype=np.float32).tobytes()
        return read_torch_archive(archive(tmp_path / "tensor.pt", tensor_of(*claims), {"archive/data/0": values}))

    assert torch.equal(read((2, 2), (2, 1)), torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert torch.equal(read((2, 2), (1, 2)), torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
    assert torch.equal(read((2,), (2,), 1), torch.tensor([1.0, 3.0]))
    for claims in (((5,), (1,)), ((2, 2), (4, 1)), ((4,), (1,), 1), ((10**6, 10**6), (0, 0))):
        with pytest.raises(UserError, match="reaches beyond"):
            read(*claims)
    for claims in (((-1,), (1,)), ((2,), (-1,)), ((2, 2), (1,)), ((2.0,), (1,))):
        with pytest.raises(RefusedError, match="expected"):
            read(*claims)


@pytest.mark.parametrize("legacy", [False, True])
def test_modules_become_inert_records(legacy: bool, tmp_path: Path) -> None:
    """Both layouts of torch.save: tensors as they were, classes as records, shared parts shared."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1)).half()
    content = {"model": network, "again": network, "epoch": 3, "names": ["a", "b"], "path": Path("x") / "y"}
    torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=not legacy)
    read = read_torch_archive(tmp_path / "file.pt")
    assert read["epoch"] == 3 and read["names"] == ["a", "b"] and read["path"] == "x/y"
    model = read["model"]
    assert isinstance(model, Record) and model.kind == "torch.nn.modules.container.Sequential"
    assert read["again"] is model
    convolution, norm, activation = model.get("_modules").values()
    assert torch.equal(convolution.get("_parameters")["weight"], network[0].weight)
    assert norm.get("_buffers")["running_var"].dtype == torch.float16
    assert activation.get("negative_slope") == 0.1


def test_damaged_files_are_told_by_name(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save({"model": torch.arange(10.0)}, good)
    data = good.read_bytes()
    for number, content in enumerate((b"", b"text", data[: len(data) // 2], b"\x80\x02", b"\x80\x02K\x01.")):
        file = tmp_path / f"{number}.pt"
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{number}\.pt"):
            read_torch_archive(file)


@pytest.mark.parametrize("name", ["ultralytics_yolov5n", "ultralytics_yolov5n-seg"])
def test_predictions_of_their_checkpoints(name: str) -> None:
    """Equal to what their own code predicts, within 1e-4 of the largest value."""
    if not (FOLDER / f"{name}.pt").exists():
        pytest.skip(f"no {name}.pt in {FOLDER} (set GOLDEN_DIR)")
    content = read_foreign_checkpoint(FOLDER / f"{name}.pt")
    model = build_model(content["cfg"], nc=len(content["names"]))
    model.load_state_dict(content["model"])
    expected = np.load(FOLDER / f"{name}_expected.npz")
    with torch.no_grad():
        found = model.eval()(torch.tensor(expected["images"]).float() / 255).numpy()
    wanted = expected["predictions"][..., : found.shape[-1]]
    assert found.shape[-1] == 5 + len(content["names"])
    for column in range(found.shape[-1]):
        assert np.abs(found - wanted)[..., column].max() <= 1e-4 * np.abs(wanted[..., column]).max()
