"""A part of the training set held out: disjoint, complete, never the validation set, and the data stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.painted_objects import NAMES, write_data_set
from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets.scan import list_images
from utils.errors import UserError
from utils.files import find_file
from utils.search.split import hold_out

XML = """<annotation><object><name>{name}</name><bndbox>
<xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>"""


def write_images(root: Path, folder: str, count: int) -> None:
    (root / folder).mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(root / folder / f"{number:02d} a.jpg"), np.full((40, 40, 3), 10 * number, np.uint8))


def yolo_set(root: Path) -> Path:
    """Twelve images to train on and three others, one object each; the class says which image it is."""
    for split, count in (("train", 12), ("val", 3)):
        write_images(root, f"images/{split}", count)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            text = f"{number % 3} 0.5 0.5 0.{number + 10} 0.5\n"
            (root / "labels" / split / f"{number:02d} a.txt").write_text(text)
    content = {"train": "images/train", "val": "images/val", "names": list(NAMES), "defaults": {"imgsz": 64}}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return root / "data.yaml"


def voc_set(root: Path) -> Path:
    """The same with XML labels; ids without a blank, as the format wants them."""
    write_images(root, "JPEGImages", 9)
    for path in (root / "JPEGImages").iterdir():
        path.rename(path.with_name(path.name.replace(" ", "")))
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number in range(9):
        (root / "Annotations" / f"{number:02d}a.xml").write_text(XML.format(name=NAMES[number % 3]))
    for split, numbers in (("train", range(6)), ("val", range(6, 9))):
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{number:02d}a\n" for number in numbers))
    content = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt", "names": list(NAMES)}
    (root / "data.yaml").write_text(yaml.safe_dump(content | {"format": "voc"}))
    return root / "data.yaml"


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}


@pytest.mark.parametrize("make", [yolo_set, voc_set])
def test_the_parts_make_up_the_training_split(make, tmp_path: Path) -> None:
    description = read_data_yaml(make(tmp_path / "set"))
    before = state(tmp_path / "set")
    made = read_data_yaml(hold_out(description, 0.25, seed=0, folder=tmp_path / "search/data"))
    train, held_out = (list_images(made, split) for split in ("train", "val"))
    whole, val = (list_images(description, split) for split in ("train", "val"))
    assert sorted(train + held_out) == whole and len(held_out) == round(0.25 * len(whole))
    assert not set(held_out) & set(train) and not set(held_out) & set(val) and "test" not in made.splits
    assert (made.names, made.format, dict(made.defaults)) == (
        description.names,
        description.format,
        dict(description.defaults),
    )
    # the labels of each image are still found
    original = DetectionDataset(description, "train", image_size=64)
    labels = dict(zip(original.paths, original.labels, strict=True))
    for split in ("train", "val"):
        part = DetectionDataset(made, split, image_size=64)
        assert part.report.missing == 0
        assert all(np.array_equal(labels[path], rows) for path, rows in zip(part.paths, part.labels, strict=True))
    assert state(tmp_path / "set") == before


def test_the_choice_depends_on_the_seed_and_the_names_alone(tmp_path: Path) -> None:
    def chosen(root: Path, seed: int) -> list[str]:
        description = read_data_yaml(root / "data.yaml")
        made = hold_out(description, 0.5, seed, tmp_path / f"{root.name}{seed}")
        return [Path(path).name for path in list_images(read_data_yaml(made), "val")]

    yolo_set(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    first = chosen(tmp_path / "one", 0)
    assert first == chosen(tmp_path / "one", 0) == chosen(tmp_path / "other", 0)
    assert len({tuple(chosen(tmp_path / "one", seed)) for seed in range(6)}) > 3


def test_an_image_listed_twice_is_on_one_side(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set").parent
    images = sorted(map(str, (root / "images/train").iterdir()))
    (root / "list.txt").write_text("\n".join(images * 2))
    content = {"train": "list.txt", "val": "images/val", "names": list(NAMES)}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    made = read_data_yaml(hold_out(read_data_yaml(root / "data.yaml"), 0.4, 3, tmp_path / "data"))
    train, held_out = (list_images(made, split) for split in ("train", "val"))
    assert not set(train) & set(held_out) and sorted(train + held_out) == sorted(images * 2)
    assert len(set(held_out)) == round(0.4 * 12)


def test_something_is_held_out_and_something_is_left(tmp_path: Path) -> None:
    description = read_data_yaml(write_data_set(tmp_path / "set"))
    for fraction, count in ((0.001, 1), (0.999, 3)):
        made = read_data_yaml(hold_out(description, fraction, 0, tmp_path / str(count)))
        assert len(list_images(made, "val")) == count and len(list_images(made, "train")) == 4 - count
    (tmp_path / "one.txt").write_text(list_images(description, "train")[0])
    content = {"train": "one.txt", "val": "one.txt", "names": list(NAMES)}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="expected two images or more to hold some out, but found one"):
        hold_out(read_data_yaml(tmp_path / "one.yaml"), 0.5, 0, tmp_path / "none")


def test_a_generated_data_set_is_made_first(tmp_path: Path) -> None:
    content = yaml.safe_load(find_file("shapes.yaml", "data file").read_text())
    content["generator"] |= {"train": 5, "val": 2, "seed": 12345}
    (tmp_path / "shapes.yaml").write_text(yaml.safe_dump(content))
    made = read_data_yaml(hold_out(read_data_yaml(tmp_path / "shapes.yaml"), 0.4, 0, tmp_path / "data"))
    assert len(list_images(made, "train")) == 3 and len(list_images(made, "val")) == 2
    assert made.generator is None and made.defaults["imgsz"] == content["defaults"]["imgsz"]
