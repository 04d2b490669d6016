"""Pascal VOC as people have it: where images and annotations are looked for, ids with blanks, difficult objects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from utils.datasets import read_data_yaml
from utils.datasets.scan import scan_split
from utils.errors import UserError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
    "<xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((60, 80, 3), 90, np.uint8))


def write_xml(path: Path, *objects: tuple[str, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(OBJECT.format(name=name, difficult=difficult) for name, difficult in objects or [("cat", 0)])
    path.write_text(f"<annotation>{rows}</annotation>")


def data_yaml(folder: Path, train: str, **settings: object) -> Path:
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"format": "voc", "train": train, "val": train, "names": ["cat"], **settings}))
    return file


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images", "images"),
        ("images", "annots"),
        ("images", "Annotations"),
        ("images", "annotations"),
        ("images", "labels"),
        ("images", "xmls"),
        ("JPEGImages", "Annotations"),
        ("train", "train/xmls"),
        ("train/images", "train/annotations"),
        (".", "."),
    ],
)
def test_folders_of_the_usual_names(images: str, annotations: str, tmp_path: Path) -> None:
    for stem in ("a", "b c", "d.e"):
        write_image(tmp_path / images / f"{stem}.jpg")
        write_xml(tmp_path / annotations / f"{stem}.xml")
    scanned = scan_split(read_data_yaml(data_yaml(tmp_path, images)), "train")
    assert [Path(path).name for path in scanned.paths] == ["a.jpg", "b c.jpg", "d.e.jpg"]
    assert [len(labels) for labels in scanned.labels] == [1, 1, 1]


def test_the_folder_that_the_yaml_names(tmp_path: Path) -> None:
    write_image(tmp_path / "pictures" / "a.png")
    write_xml(tmp_path / "boxes" / "checked" / "a.xml")
    file = data_yaml(tmp_path, "pictures", annotations="boxes/checked")
    assert len(scan_split(read_data_yaml(file), "train").labels[0]) == 1
    with pytest.raises(UserError, match="annotations: expected a folder of XML files but there is none"):
        scan_split(read_data_yaml(data_yaml(tmp_path, "pictures", annotations="nowhere")), "train")


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ("ImageSets/Main/train.txt", "a\nb c\n"),
        ("ImageSets/Main/cat_train.txt", "a  1\nb c -1\n"),
        ("train.txt", "images/a.jpg\nimages/b c.jpg\n"),
        ("lists/train.txt", "../images/a.jpg\n../images/b c.jpg\n"),
        ("train.txt", "a\nb c\n"),
    ],
)
def test_lists_of_ids_and_of_files(place: str, lines: str, tmp_path: Path) -> None:
    for stem in ("a", "b c", "unlisted"):
        write_image(tmp_path / "images" / f"{stem}.jpg")
        write_xml(tmp_path / "Annotations" / f"{stem}.xml")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(lines)
    scanned = scan_split(read_data_yaml(data_yaml(tmp_path, place)), "train")
    assert [Path(path).stem for path in scanned.paths] == ["a", "b c"]
    assert [len(labels) for labels in scanned.labels] == [1, 1]


def test_an_id_without_an_image_is_told(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "train.txt").write_text("a\nghost\n")
    scanned = scan_split(read_data_yaml(data_yaml(tmp_path, "train.txt")), "train")
    assert len(scanned.paths) == 1 and "ghost" in scanned.report.problems[0]


def test_difficult_objects_are_regions_to_ignore(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    write_xml(tmp_path / "annots" / "a.xml", ("cat", 0), ("cat", 1), ("dog", 0))
    scanned = scan_split(read_data_yaml(data_yaml(tmp_path, "images", ignore=["dog"])), "train")
    assert len(scanned.labels[0]) == 1
    assert sorted(scanned.crowds[0][:, 0].tolist()) == [-1, 0]
    np.testing.assert_allclose(scanned.crowds[0][0, 1:], [20 / 80, 25 / 60, 20 / 80, 30 / 60], atol=1e-7)
    kept = scan_split(read_data_yaml(data_yaml(tmp_path, "images", ignore=["dog"], ignore_as="background")), "train")
    assert len(kept.labels[0]) == 1 and len(kept.crowds[0]) == 0
