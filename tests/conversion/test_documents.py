"""The examples of docs/data.md: every data YAML is one, and the layouts are found."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import convert
from tests.cases import case
from utils.datasets import read_data_yaml
from utils.datasets.scan import scan_split
from utils.files import ROOT

TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
XML = (
    "<annotation><object><name>WBC</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    "</object></annotation>"
)


def test_shown_data_files_are_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path))
    blocks = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    formats = []
    for text in blocks:
        with case(text):
            (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
            formats.append(read_data_yaml(tmp_path / "data.yaml").format)
    assert set(formats) == {"yolo", "voc", "coco", "rows"}


def test_shown_rows_and_voc_folders_are_converted(tmp_path: Path) -> None:
    """The layouts of the page, with the commands of the page."""
    rows = re.search(r"^rows\.txt +(file .*)\n((?:  images/.*\n)+)", TEXT, re.MULTILINE)
    assert rows is not None
    lines = [rows[1], *(line.strip() for line in rows[2].splitlines())]
    (tmp_path / "rows.txt").write_text("\n".join(lines))
    for name in ("images/a.jpg", "images/b.jpg", "cells3/train/a.jpg", "cells3/val/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((100, 100, 3), 90, np.uint8))
    (tmp_path / "cells3" / "annots").mkdir()
    for name in ("a", "b"):
        (tmp_path / "cells3" / "annots" / f"{name}.xml").write_text(XML)
    sources = {"rows": [tmp_path / "rows.txt"], "voc": [tmp_path / "cells3" / "train", tmp_path / "cells3" / "val"]}
    for kind, source in sources.items():
        out = convert.run(source=source, source_format=kind, to="yolo", output=tmp_path / f"from-{kind}")
        found = [scan_split(read_data_yaml(out), split) for split in ("train", "val")]
        assert [[len(labels) for labels in split.labels] for split in found] == [[1], [1]], kind
