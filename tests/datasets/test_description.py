"""Data YAML files: what they may say, where roots lie, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cases import case
from utils.datasets import read_data_yaml
from utils.datasets.scan import list_images
from utils.errors import UserError

DATA = Path(__file__).resolve().parents[2] / "data"
PLAIN = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


@pytest.fixture
def described(tmp_path: Path):
    def read(text: str):
        (tmp_path / "set.yaml").write_text(text)
        return read_data_yaml(tmp_path / "set.yaml")

    return read


def test_the_files_that_come_along_are_valid() -> None:
    for name, nc in [("coco", 80), ("VOC", 20), ("bccd", 3), ("shapes", 5)]:
        with case(name, nc):
            description = read_data_yaml(DATA / f"{name}.yaml")
            assert description.nc == nc == len(set(description.names))
            assert {"train", "val"} <= set(description.splits)


def test_names_may_be_a_mapping(described) -> None:
    description = described("train: a\nval: b\nnames: {1: dog, 0: cat}\nnc: 2\n")
    assert description.names == ("cat", "dog")


def test_keys_of_labelling_services_have_no_effect(described) -> None:
    plain = described(PLAIN)
    exported = "nc: 2\nroboflow:\n  workspace: zoo\n  version: 3\nlicense: CC BY 4.0\nurl: https://example.org\n"
    assert described(PLAIN + exported) == plain


def test_mistakes_name_file_and_line(described) -> None:
    for text, message in [
        (PLAIN + "nmes: [cat]\n", r"set.yaml:4: unknown key 'nmes'. .*Did you mean 'names'"),
        (PLAIN + "nc: 3\n", r"set.yaml:4: nc: expected 2, the number of names, but got 3"),
        (
            PLAIN + "format: vok\n",
            r"set.yaml:4: unknown label format 'vok'. Known: coco, rows, voc, yolo. Did you mean 'voc'",
        ),
        (PLAIN + "defaults: 160\n", r"set.yaml:4: defaults: expected a mapping"),
        (PLAIN + "path: [1]\n", r"set.yaml:4: path: expected a folder"),
        (PLAIN + "generator: {name: shape}\n", r"set.yaml:4: unknown generator 'shape'"),
        (PLAIN + "generator: {name: shapes, trian: 3}\n", r"set.yaml:4: unknown key of the generator 'trian'"),
        (PLAIN + "generator: {name: shapes}\n", r"set.yaml:4: unknown figure 'cat'"),
        ("train: a\nval: b\nnames: {0: cat, 2: dog}\n", r"set.yaml:3: names: expected the class indices 0 to 1"),
        ("train: a\nval: b\nnames: [cat, cat]\n", r"set.yaml:3: names: .*cat occurs more than once"),
        ("train: a\nval: b\nnames: 5\n", r"set.yaml:3: names: expected a list"),
        ("train: 5\nval: b\nnames: [cat]\n", r"set.yaml:1: expected a folder"),
        ("train: a\nval: b\n", r"'names' is missing"),
        (PLAIN + "train: c\n", r"set.yaml:4: .*'train' is given twice, first in line 1"),
        ("train: a\nval: b\nnames: {0: cat, 0: dog}\n", r"set.yaml:3: .*'0' is given twice"),
        ("- a\n", r"expected a mapping"),
        ("a: [\n", r"set.yaml:2: not valid YAML"),
    ]:
        with case(text, message), pytest.raises(UserError, match=message):
            described(text)


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: cannot be read"):
        read_data_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", ["blood", "../datasets/blood"])
def test_a_relative_root_lies_under_datasets_dir(described, monkeypatch, tmp_path: Path, path: str) -> None:
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path / "sets"))
    description = described(PLAIN + f"path: {path}\n")
    assert description.splits["train"] == ((tmp_path / "sets" / "blood" / "images" / "train").resolve(),)


def test_a_root_beside_the_yaml_is_found_too(described, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path / "sets"))
    (tmp_path / "mine" / "images" / "train").mkdir(parents=True)
    assert described(PLAIN + "path: mine\n").root == (tmp_path / "mine").resolve()
    assert described(PLAIN).root == tmp_path.resolve()


def test_a_missing_set_says_where_it_was_looked_for_and_where_to_get_it(described, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATASETS_DIR", str(tmp_path / "sets"))
    description = described(PLAIN + "path: far\ndownload: https://example.org/far.zip\n")
    with pytest.raises(UserError, match=r"sets/far/images/val.*DATASETS_DIR.*https://example.org/far.zip"):
        description.require("val")
    with pytest.raises(UserError, match=r"unknown split 'test'. Known: train, val"):
        description.require("test")


def test_download_scripts_are_accepted_and_not_quoted(described) -> None:
    description = described(PLAIN + "download: |\n  import os\n  os.remove('x')\n")
    with pytest.raises(UserError) as caught:
        description.require("train")
    assert "os.remove" not in str(caught.value)


def test_images_of_folders_and_list_files(described, tmp_path: Path) -> None:
    for name in ("images/train/sub/a.PNG", "images/train/b.jpg", "images/train/notes.txt", "images/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "x.png"), np.zeros((20, 20, 3), np.uint8))
        (tmp_path / name).write_bytes((tmp_path / "x.png").read_bytes())
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.txt").write_text(f"./../images/c.jpg\n\nimages/train/b.jpg\n{tmp_path}/images/c.jpg\n")
    description = described("train: [images/train, lists/val.txt]\nval: lists/val.txt\nnames: [cat]\n")
    root = tmp_path.resolve()
    listed = ["images/c.jpg", "images/c.jpg", "images/train/b.jpg"]
    assert list_images(description, "val") == [str(root / name) for name in listed], "sorted, repetitions kept"
    assert list_images(description, "train") == sorted(
        str(root / name) for name in [*listed, "images/train/b.jpg", "images/train/sub/a.PNG"]
    )


def test_a_folder_without_images_is_a_user_error(described, tmp_path: Path) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"train: expected images in .*found none"):
        list_images(described(PLAIN), "train")
