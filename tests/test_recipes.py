"""The recipes of CONTRIBUTING.md work as they are written."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models import build_model
from tests.assigner_scenes import table_of
from tests.box_cases import random_pairs
from tests.criterion_scenes import build, scene
from utils.assigners import ASSIGNERS
from utils.losses import BOX_LOSSES, SCORE_LOSSES, box_loss

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def recipe(heading: str, language: str) -> list[str]:
    """The fenced blocks of a language below a heading."""
    section = re.search(rf"^### {heading}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section, f"no recipe: {heading}"
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", section.group(1), re.DOTALL | re.MULTILINE)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Imports the Python block of a recipe; what it registers is forgotten in the end."""
    for registry in (BOX_LOSSES, SCORE_LOSSES, ASSIGNERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.syspath_prepend(tmp_path)

    def load(heading: str) -> None:
        name = heading.replace(" ", "_")
        (text,) = recipe(heading, "python")
        (tmp_path / f"recipe_of_{name}.py").write_text(text, encoding="utf-8")
        importlib.import_module(f"recipe_of_{name}")

    return load


def test_a_box_loss(imported: Callable[[str], None]):
    imported("A box loss")
    pred, target = random_pairs(20)
    iou = box_loss("iou").similarity(pred, target)
    assert torch.allclose(box_loss("root_iou").similarity(pred, target), iou.sqrt(), atol=1e-3)
    assert torch.allclose(box_loss("root_iou", n=1).similarity(pred, target), iou, atol=1e-6)
    assert build(loss={"box": {"name": "root_iou", "n": 3}})(*scene()).total.isfinite()


def test_a_score_loss(imported: Callable[[str], None]):
    imported("A score loss")
    logits, targets = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5])
    both = [SCORE_LOSSES.build(name)(logits, targets) for name in ("poly", "bce")]
    assert torch.allclose(both[0] - both[1], torch.tensor([0.5, 0.0]))
    assert build(loss={"score": {"name": "poly", "epsilon": 2}})(*scene()).total.isfinite()


def test_an_assigner(imported: Callable[[str], None]):
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


def test_a_backbone(tmp_path: Path):
    (text,) = recipe("A backbone", "yaml")
    path = tmp_path / "two-level.yaml"
    path.write_text(text, encoding="utf-8")
    model = build_model(path, nc=2).eval()
    assert tuple(model.stride) == (16, 32)
    predictions = model(torch.rand(1, 3, 64, 96))
    assert predictions.shape == (1, 3 * (4 * 6 + 2 * 3), 5 + 2)
