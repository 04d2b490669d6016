"""docs/losses.md, its tables, pictures and example, and the printed list agree with the registries."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.loss_magnitudes import magnitude, rows
from benchmarks.loss_pictures import curves, draw
from tests.box_cases import random_pairs
from tests.criterion_scenes import build, scene
from utils.assigners.__main__ import table
from utils.config.yaml_files import load_yaml
from utils.files import ROOT
from utils.losses import BOX_LOSSES, SCORE_LOSSES, box_loss
from utils.losses.__main__ import interval, tables
from utils.registry_tables import defaults, run_tables

DOCUMENT = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_registries(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for module, text in (("utils.losses", tables()), ("utils.assigners", table())):
        make, outdated = partial(str, text), tmp_path / f"{module}.md"
        run_tables(module, make, "", ["--check", str(ROOT / "docs" / "losses.md")])  # else: make docs
        outdated.write_text(DOCUMENT.replace(text, "an older table"), encoding="utf-8")
        with pytest.raises(SystemExit) as left:
            run_tables(module, make, "", ["--check", str(outdated)])
        assert left.value.code == 2 and f"run python -m {module} --write {outdated}" in capsys.readouterr().err
        run_tables(module, make, "", ["--write", str(outdated)])
        assert outdated.read_text(encoding="utf-8") == DOCUMENT


def test_the_command_prints_and_refuses_documents_without_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    printed = subprocess.run([sys.executable, "-m", "utils.assigners"], cwd=ROOT, capture_output=True, text=True)
    assert printed.stdout == table() + "\n" and printed.returncode == 0
    (tmp_path / "empty.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(SystemExit):
        run_tables("utils.losses", tables, "", ["--check", str(tmp_path / "empty.md")])
    assert "empty.md: expected the markers <!-- tables of python -m utils.losses -->" in capsys.readouterr().err


def test_intervals_and_defaults_as_text():
    assert interval((0.0, 2.5)) == "[0, 2.5]" and interval((0.0, float("inf"))) == "[0, inf)"
    assert defaults(BOX_LOSSES.entry("interp_iou")) == "alpha = 0.99, dynamic = false, low = 0.6"
    assert defaults(BOX_LOSSES.entry("mpdiou")) == "image_size = [640, 640]"


def test_every_box_loss_has_a_section_with_a_small_picture():
    for name in BOX_LOSSES:
        section = re.search(rf"### {name}\n\n(.+?)\n\n!\[{name}\]\((.+?)\)\n", DOCUMENT, re.DOTALL)
        assert section and len(section.group(1)) > 60, name
        path = ROOT / "docs" / section.group(2)
        assert path.stat().st_size < 60_000, name
        with Image.open(path) as picture:
            assert picture.size == (660, 300), name


def test_every_score_loss_is_explained():
    assert not [name for name in SCORE_LOSSES if f"`{name}`" not in DOCUMENT.partition("## Score losses")[2]]


def test_pictures_are_drawn_from_the_losses(tmp_path: Path):
    assert draw("siou", tmp_path).is_file()
    position, loss, slope = curves("l1", "shift")
    assert torch.allclose(loss, position.abs()), "normalised L1 of a shift by t sides is t"
    assert torch.allclose(slope[:200], -torch.ones(200, dtype=slope.dtype)) and (slope[201:] > 0.99).all()


def test_magnitudes_are_those_of_the_document():
    written = re.findall(r"^\| (hyp\.\S+) \| (\S+) \| (\S+) \| (\S+) \|$", DOCUMENT, re.MULTILINE)
    found = [re.findall(r"[^| ]+", line) for line in rows(640)[2:]]
    assert [row[0] for row in found] == [row[0] for row in written]
    for new, old in zip(found, written, strict=True):
        assert [float(cell) for cell in new[1:]] == pytest.approx([float(cell) for cell in old[1:]], abs=0.02), new[0]
    pixels = magnitude("l1", 640)
    ciou = magnitude("ciou", 640)
    assert pixels[0] / ciou[0] == pytest.approx(37, abs=3) and pixels[1] / ciou[1] == pytest.approx(110, abs=5)


def test_the_example_of_a_loss_of_ones_own_works(monkeypatch, tmp_path):
    example = re.search(r"## Your own in ten lines.*?```python\n(.*?)```", DOCUMENT, re.DOTALL).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    monkeypatch.setattr(BOX_LOSSES, "_entries", dict(BOX_LOSSES._entries))
    (tmp_path / "my_corner_loss.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_corner_loss")
    pred, target = random_pairs(50)
    loss = box_loss("corner_iou")
    value = loss(pred, target)
    assert value.min() >= 0 and value.max() <= 2 and loss(target, target).abs().max() < 1e-6
    raw, targets = scene()
    for setting in ("corner_iou", {"name": "inner", "of": "corner_iou"}):
        out = build(loss={"box": setting, "objectness_target": "box"})(raw, targets)
        assert torch.isfinite(out.total)
    assert "corner_iou" in tables()


def test_every_paper_of_a_loss_can_be_cited():
    citation = load_yaml(ROOT / "CITATION.cff")
    known = {entry["identifiers"][0]["value"].removeprefix("arXiv:") for entry in citation["references"]}
    papers = " ".join(registry.entry(name).paper for registry in (BOX_LOSSES, SCORE_LOSSES) for name in registry)
    named = set(re.findall(r"arXiv:(\d+\.\d+)|doi:(\S+)", papers))
    assert named and {arxiv or doi for arxiv, doi in named} <= known
