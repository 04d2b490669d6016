"""The recipes of CONTRIBUTING.md work as they are written."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from models import build_model
from tests.assigner_scenes import table_of
from tests.box_cases import random_pairs
from tests.criterion_scenes import build, scene
from utils.assigners import ASSIGNERS
from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets.formats import LABEL_FORMATS
from utils.errors import UserError
from utils.losses import BOX_LOSSES, SCORE_LOSSES, box_loss
from utils.registry import Info

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def recipe(heading: str, language: str) -> list[str]:
    """The fenced blocks of a language below a heading."""
    section = re.search(rf"^### {heading}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section, f"no recipe: {heading}"
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", section.group(1), re.DOTALL | re.MULTILINE)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports the Python block of a recipe; what it registers is forgotten afterwards."""
    for registry in (BOX_LOSSES, SCORE_LOSSES, ASSIGNERS, LABEL_FORMATS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.syspath_prepend(tmp_path)

    def load(heading: str) -> ModuleType:
        name = heading.replace(" ", "_")
        (text,) = recipe(heading, "python")
        (tmp_path / f"recipe_of_{name}.py").write_text(text, encoding="utf-8")
        return importlib.import_module(f"recipe_of_{name}")

    return load


def test_a_box_loss(imported: Callable[[str], ModuleType]):
    imported("A box loss")
    pred, target = random_pairs(20)
    iou = box_loss("iou").similarity(pred, target)
    assert torch.allclose(box_loss("root_iou").similarity(pred, target), iou.sqrt(), atol=1e-3)
    assert torch.allclose(box_loss("root_iou", n=1).similarity(pred, target), iou, atol=1e-6)
    assert build(loss={"box": {"name": "root_iou", "n": 3}})(*scene()).total.isfinite()


def test_a_score_loss(imported: Callable[[str], ModuleType]):
    imported("A score loss")
    logits, targets = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5])
    both = [SCORE_LOSSES.build(name)(logits, targets) for name in ("poly", "bce")]
    assert torch.allclose(both[0] - both[1], torch.tensor([0.5, 0.0]))
    assert build(loss={"score": {"name": "poly", "epsilon": 2}})(*scene()).total.isfinite()


def test_an_assigner(imported: Callable[[str], ModuleType]):
    imported("An assigner")
    raw, targets = scene()
    criterion = build(assigner="own_cell")
    assert criterion(raw, targets).total.isfinite()
    table = table_of()
    found = criterion.assigner(targets, table)
    num_levels, num_shapes, _ = table.level_size.shape
    assert len(found.target) == num_levels * num_shapes * len(targets)
    centre = targets[found.target, 2:4] * table.level_grid[table.level[found.anchor]]
    assert torch.equal(table.cell[found.anchor], centre.floor())


def test_a_label_format(imported: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = imported("A label format")
    assert 'LABEL_FORMATS.add(Info(name="csv", build=CsvTable))' in TEXT
    LABEL_FORMATS.add(Info(name="csv", build=module.CsvTable))
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "my_set"
    folder.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((40, 60, 3), 200, np.uint8))
    rows = ["file,class,left,top,right,bottom", "a.png,dog,10,0,30,20", "b.png,cat,0,5,60,40", "b.png,dog,1,2,3,4"]
    for split in ("train", "val"):
        (folder / f"{split}.csv").write_text("\n".join(rows), encoding="utf-8")
    (text,) = recipe("A label format", "yaml")
    (tmp_path / "my_set.yaml").write_text(text, encoding="utf-8")
    dataset = DetectionDataset(read_data_yaml(tmp_path / "my_set.yaml"), "val", image_size=64)
    truth = [dataset.ground_truth(index) for index in range(2)]
    assert [list(each.classes) for each in truth] == [[1], [0, 1]]
    np.testing.assert_allclose(truth[0].boxes, [[10, 0, 30, 20]], atol=1e-4)
    np.testing.assert_allclose(truth[1].boxes, [[0, 5, 60, 40], [1, 2, 3, 4]], atol=1e-4)

    (folder / "val.csv").write_text("\n".join([*rows, "a.png,cow,0,0,9,9"]), encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown class 'cow'.*cat, dog"):
        DetectionDataset(read_data_yaml(tmp_path / "my_set.yaml"), "val", image_size=64)


def test_a_backbone(tmp_path: Path):
    (text,) = recipe("A backbone", "yaml")
    path = tmp_path / "two-level.yaml"
    path.write_text(text, encoding="utf-8")
    model = build_model(path, nc=2).eval()
    assert tuple(model.stride) == (16, 32)
    predictions = model(torch.rand(1, 3, 64, 96))
    assert predictions.shape == (1, 3 * (4 * 6 + 2 * 3), 5 + 2)
