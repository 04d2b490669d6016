"""The recipes of CONTRIBUTING.md work as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from models import build_model

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def recipe(heading: str, language: str) -> list[str]:
    """The fenced blocks of a language below a heading."""
    section = re.search(rf"^### {heading}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section, f"no recipe: {heading}"
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", section.group(1), re.DOTALL | re.MULTILINE)


def test_a_backbone(tmp_path: Path):
    (text,) = recipe("A backbone", "yaml")
    path = tmp_path / "two-level.yaml"
    path.write_text(text, encoding="utf-8")
    model = build_model(path, nc=2).eval()
    assert tuple(model.stride) == (16, 32)
    predictions = model(torch.rand(1, 3, 64, 96))
    assert predictions.shape == (1, 3 * (4 * 6 + 2 * 3), 5 + 2)
