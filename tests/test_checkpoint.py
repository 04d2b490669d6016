"""Checkpoints: safe to read, whole on disk, and reduced without changing a number."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from utils import checkpoint
from utils.checkpoint import (
    add_to_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    strip_checkpoint,
    transfer,
)
from utils.errors import UserError

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).resolve().parents[2] / "shared" / "golden"))


@pytest.fixture
def state() -> dict:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.rand(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    average = {name: value.double().mul(0.5).to(value.dtype) for name, value in network.state_dict().items()}
    return {
        "model": network.state_dict(),
        "ema": average,
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "names": {0: "cat", 1: "dog"},
        "cfg": {"nc": 2, "anchors": [[10, 13], [16, 30]], "activation": None},
        "hyp": {"lr0": 0.01, "loss": {"box": "sca"}},
        "opt": {"imgsz": 320, "cos_lr": False, "freeze": (0,)},
        "image_size": 320,
        "best_fitness": 0.5,
        "epoch": 7,
    }


def test_everything_comes_back_as_it_was(tmp_path, state):
    save_checkpoint(tmp_path / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "last.pt")
    for key in ("names", "cfg", "hyp", "opt", "image_size", "best_fitness", "epoch"):
        assert loaded[key] == state[key]
    for key in ("model", "ema"):
        assert list(loaded[key]) == list(state[key])
        for name, value in state[key].items():
            assert torch.equal(loaded[key][name], value) and loaded[key][name].dtype == value.dtype
    momentum = state["optimizer"]["state"][0]["momentum_buffer"]
    assert torch.equal(loaded["optimizer"]["state"][0]["momentum_buffer"], momentum)
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert torch.equal(loaded["rng"], state["rng"])


def test_files_open_without_this_program(tmp_path, state):
    save_checkpoint(tmp_path / "last.pt", state)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert content["format"] == "yolo-losses/1"
    assert content["versions"]["torch"] == str(torch.__version__)
    assert content["date"] and "git" in content


def test_parameters_are_stored_as_plain_tensors_and_views_without_their_base(tmp_path):
    parameter = nn.Parameter(torch.rand(3))
    save_checkpoint(tmp_path / "a.pt", {"model": {"w": parameter, "view": torch.rand(1_000_000)[:2]}})
    loaded = load_checkpoint(tmp_path / "a.pt")["model"]
    assert type(loaded["w"]) is torch.Tensor and not loaded["w"].requires_grad
    assert (tmp_path / "a.pt").stat().st_size < 20_000


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"opt": {"project": Path("runs")}}, "'opt.project'.*Path"),
        ({"metrics": [1.0, torch.rand(2).numpy()]}, r"'metrics\[1\]'.*ndarray"),
        ({"best_fitness": torch.rand(1).numpy()[0]}, "'best_fitness'.*float32"),
        ({"model": nn.Conv2d(1, 1, 1)}, "'model'.*Conv2d"),
        ({"names": {None: "a"}}, "'names'.*keys but got None"),
    ],
)
def test_values_that_a_safe_load_would_refuse_are_refused_on_saving(tmp_path, content, key):
    with pytest.raises(TypeError, match=f"checkpoint key {key}"):
        save_checkpoint(tmp_path / "a.pt", content)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_previous_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "last.pt", {"epoch": 1})

    def full_disk(content: object, file: object) -> None:
        file.write(b"half a check")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path / "last.pt", {"epoch": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 1


def test_files_are_as_readable_as_any_other(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- what is not trusted --------------------------------------------------------------------------------------------


class Explosive:
    """Pickles to a call; reading it without care would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def test_pickled_code_is_named_and_never_run(tmp_path):
    torch.save({"model": Explosive(tmp_path / "trace")}, tmp_path / "bad.pt")
    with pytest.raises(
        UserError, match=r"bad\.pt: holds pickled code.*none of it was run.*Expected a checkpoint of this program"
    ):
        load_checkpoint(tmp_path / "bad.pt")
    torch.save({"model": nn.Conv2d(1, 1, 1)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="holds pickled code"):
        load_checkpoint(tmp_path / "old.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.skipif(not (GOLDEN_DIR / "ultralytics_yolov5n.pt").exists(), reason=f"no golden numbers in {GOLDEN_DIR}")
def test_a_real_checkpoint_of_yolov5_is_named_for_what_it_is():
    with pytest.raises(UserError, match="holds pickled code, as checkpoints of YOLOv5 do"):
        load_checkpoint(GOLDEN_DIR / "ultralytics_yolov5n.pt")


def test_foreign_and_damaged_files(tmp_path):
    torch.save({"weight": torch.rand(2)}, tmp_path / "state_dict.pt")
    torch.save(torch.rand(2), tmp_path / "tensor.pt")
    for name in ("state_dict.pt", "tensor.pt"):
        with pytest.raises(UserError, match=r"expected a checkpoint of this program .* but found another file"):
            load_checkpoint(tmp_path / name)
    (tmp_path / "text.pt").write_text("no checkpoint")
    (tmp_path / "empty.pt").touch()
    save_checkpoint(tmp_path / "cut.pt", {"model": {"w": torch.rand(10_000)}})
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:20_000])
    for name in ("text.pt", "empty.pt", "cut.pt"):
        with pytest.raises(UserError, match=rf"{name}: expected a checkpoint but found a damaged file"):
            load_checkpoint(tmp_path / name)


def test_another_format_version_is_refused(tmp_path):
    torch.save({"format": "yolo-losses/2", "model": {}}, tmp_path / "new.pt")
    with pytest.raises(UserError, match="expected checkpoint format 'yolo-losses/1' but found 'yolo-losses/2'"):
        load_checkpoint(tmp_path / "new.pt")


def test_a_missing_file_lists_those_nearby(tmp_path):
    save_checkpoint(tmp_path / "best.pt", {})
    with pytest.raises(UserError, match=r"bets\.pt'\. Known: .*best\.pt.*Did you mean '.*best\.pt'"):
        load_checkpoint(tmp_path / "bets.pt")


# ---- strip, transfer, newest ----------------------------------------------------------------------------------------


def test_strip_keeps_the_averaged_weights_bit_for_bit_and_drops_the_rest(tmp_path, state):
    path = tmp_path / "best.pt"
    save_checkpoint(path, state)
    before = load_checkpoint(path)
    size = path.stat().st_size
    strip_checkpoint(path)
    after = load_checkpoint(path)
    assert after["epoch"] == -1
    assert not {"ema", "optimizer", "rng"} & set(after)
    for name, value in state["ema"].items():
        assert torch.equal(after["model"][name], value) and after["model"][name].dtype == value.dtype
    for key in ("names", "cfg", "hyp", "opt", "image_size", "best_fitness", "date", "git", "format"):
        assert after[key] == before[key]
    assert path.stat().st_size < size
    strip_checkpoint(path)
    assert torch.equal(load_checkpoint(path)["model"]["0.weight"], state["ema"]["0.weight"])


def test_entries_are_added_in_place_and_outlive_the_stripping(tmp_path, state):
    path = tmp_path / "best.pt"
    save_checkpoint(path, {**state, "date": "2001-01-01"})
    before = load_checkpoint(path)
    points = {"thresholds": [0.25, None], "calibration": {"platt": [{"kind": "platt", "slope": 1.0}]}}
    add_to_checkpoint(path, operating_points=points)
    after = load_checkpoint(path)
    assert after["operating_points"] == points
    assert set(after) - set(before) == {"operating_points"} and after["date"] == "2001-01-01"
    assert all(torch.equal(after["model"][name], value) for name, value in before["model"].items())
    strip_checkpoint(path)
    assert load_checkpoint(path)["operating_points"] == points


def test_transfer_takes_what_fits_by_name_and_shape():
    model = OrderedDict(a=torch.zeros(2), b=torch.zeros(3), anchors=torch.zeros(1), only_model=torch.zeros(1))
    weights = {"a": torch.ones(2), "b": torch.ones(4), "anchors": torch.ones(1), "only_weights": torch.ones(1)}
    done = transfer(model, weights)
    sums = {name: value.sum().item() for name, value in done.state.items()}
    assert sums == {"a": 2, "b": 0, "anchors": 1, "only_model": 0}
    assert done.taken == ["a", "anchors"] and list(done.state) == list(model)
    assert done.left_out == {"of another shape": ["b: 4 there, 3 here"], "not in the file": ["only_model"]}
    done = transfer(model, weights, exclude=["anchors"])
    assert done.taken == ["a"] and done.state["anchors"].item() == 0
    assert str(done).startswith("1 of 4 tensors; left out: 1 of another shape (b: 4 there, 3 here)")


def test_newest_checkpoint_goes_by_the_time_of_writing(tmp_path):
    with pytest.raises(UserError, match=r"expected a last\.pt to resume from"):
        newest_checkpoint(tmp_path)
    for age, name in enumerate(("exp2/weights/last.pt", "exp/weights/last.pt", "exp3/weights/last.pt")):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "best.pt").touch()
    assert newest_checkpoint(tmp_path) == tmp_path / "exp2/weights/last.pt"
