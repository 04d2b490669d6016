"""Checkpoints of YOLOv5 where a checkpoint is expected: validation, fine-tuning, detection, torch.hub."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import detect
from models.loading import load_model, model_from_weights
from models.state_dict import write_state_dict
from models.yolo import build_model
from tests.golden import FOLDER
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def yolov5n() -> Path:
    """A checkpoint as YOLOv5 writes it, 3 classes."""
    path = FOLDER / "ultralytics_yolov5n.pt"
    if not path.exists():
        pytest.skip(f"{path} does not exist (set GOLDEN_DIR)")
    return path


def expected() -> tuple[torch.Tensor, np.ndarray]:
    arrays = np.load(FOLDER / "ultralytics_yolov5n_expected.npz")
    return torch.tensor(arrays["images"]).float() / 255, arrays["predictions"]


def test_their_network_predicts_as_theirs_does(yolov5n: Path) -> None:
    images, wanted = expected()
    model, content = load_model(yolov5n)
    with torch.no_grad():
        found = model(images).numpy()
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert model.names == {0: "RBC", 1: "WBC", 2: "Platelets"}
    assert "YOLOv5" in content["origin"]


def test_fine_tuning_says_what_it_took_and_what_not(yolov5n: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    same = model_from_weights(yolov5n, ("RBC", "WBC", "Platelets"))
    total = len(same.state_dict())
    assert f"gives {total} of {total} tensors" in caplog.text and "licence" in caplog.text
    caplog.clear()
    other = model_from_weights(yolov5n, ("cell", "dust"))
    assert f"gives {total - 6} of {total} tensors; left out: 6 of another shape (model.24.m.0.weight" in caplog.text
    assert torch.equal(other.anchors_px, same.anchors_px) and other.nc == 2
    with pytest.raises(UserError, match="none of its tensors fits"):
        model_from_weights(yolov5n, ("RBC", "WBC", "Platelets"), cfg=tiny(9))


def tiny(kernel: int) -> dict:
    backbone = [[-1, 1, "Conv", [8, kernel, 4]], [-1, 1, "Conv", [8, kernel, 2]]]
    return {"anchors": [[1, 2]], "backbone": backbone, "head": [[[1], 1, "Detect", ["nc", "anchors"]]]}


def test_a_state_dict_alone_needs_its_model_file(yolov5n: Path, tmp_path: Path) -> None:
    images, wanted = expected()
    write_state_dict(yolov5n, tmp_path / "state.pt")
    assert set(torch.load(tmp_path / "state.pt", weights_only=True)) == set(build_model("yolov5n.yaml", 3).state_dict())
    with pytest.raises(UserError, match="exists already"):
        write_state_dict(yolov5n, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt: holds a state dict alone: --cfg"):
        load_model(tmp_path / "state.pt")
    again, _ = load_model(tmp_path / "state.pt", cfg="yolov5n.yaml")
    with torch.no_grad():
        assert np.abs(again(images).numpy() - wanted).max() <= 1e-4 * np.abs(wanted).max()
    (found,) = detect.predict(
        weights=tmp_path / "state.pt", cfg="yolov5n.yaml", source=np.zeros((64, 64, 3), np.uint8), nosave=True
    )
    assert found.names == {0: "class0", 1: "class1", 2: "class2"}
    torch.save({"only": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt: expected a head with 3 x \(5 \+ classes\) outputs but found 0"):
        load_model(tmp_path / "other.pt", cfg="yolov5n.yaml")


class Touch:
    """Pickles as a command of the shell."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": build_model("yolov5n.yaml", nc=1), "opt": Touch(tmp_path / "marker")}, tmp_path / "hostile.pt")
    with pytest.raises(UserError, match=r"hostile\.pt: names (posix|nt)\.system, which is not trusted"):
        load_model(tmp_path / "hostile.pt")
    assert not (tmp_path / "marker").exists()


def test_weights_that_are_not_there_are_explained() -> None:
    with pytest.raises(UserError, match=r"yolov5s\.pt does not exist. No weights are shipped.*--weights yolov5s\.pt"):
        load_model("yolov5s.pt")


def test_torch_hub_opens_them(yolov5n: Path) -> None:
    detector = torch.hub.load(str(ROOT), "custom", path=yolov5n, source="local")
    (result,) = detector(np.zeros((64, 64, 3), np.uint8))
    assert result.names == {0: "RBC", 1: "WBC", 2: "Platelets"}
