"""Label formats as an extension point: one that keeps the labels of a whole split in one file, with crowds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets.formats import LABEL_FORMATS
from utils.datasets.formats.base import Annotation, LabelFormat, LabelledSplit
from utils.datasets.objects import Polygons
from utils.errors import UserError
from utils.evaluation.coco_json import coco_annotations
from utils.parameters import Choice
from utils.registry import Info, Registry

TABLE = """\
file,left,top,right,bottom,class,crowd
a.jpg,10,0,30,20,cat,0
a.jpg,0,0,60,40,dog,1
b.jpg,30,20,60,40,dog,0
"""


class CsvLabels:
    """One table for the whole split; ``corners: first`` says that boxes are left, top, right, bottom."""

    def __init__(self, corners: str) -> None:
        assert corners == "first"

    def open_split(self, split: str, sources: Sequence[Path], root: Path, names: Sequence[str]) -> LabelledSplit:
        (table,) = sources
        rows = list(csv.DictReader(table.read_text().splitlines()))
        images = sorted({str(root / "pictures" / row["file"]) for row in rows})

        def read(image: str, size_hw: tuple[int, int]) -> Annotation:
            height, width = size_hw
            found: dict[str, list] = {"0": [], "1": []}
            for row in rows:
                if row["file"] == Path(image).name:
                    x1, y1, x2, y2 = (float(row[side]) for side in ("left", "top", "right", "bottom"))
                    box = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
                    found[row["crowd"]].append((names.index(row["class"]), *box))
            labels, crowds = (np.array(each, np.float32).reshape(-1, 5) for each in found.values())
            return Annotation(labels, Polygons.none(), True, crowds=crowds)

        return LabelledSplit(images, lambda image: str(table), read)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of 40 x 60 and their table, with the format registered."""
    registry: Registry[Info, LabelFormat] = Registry("label format")
    for name in LABEL_FORMATS.names():
        registry.add(LABEL_FORMATS.entry(name))
    registry.add(Info(name="csv", build=CsvLabels, parameters={"corners": Choice("last", ("first", "last"))}))
    for module in ("description", "scan"):
        monkeypatch.setattr(f"utils.datasets.{module}.LABEL_FORMATS", registry)
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.jpg"), np.full((40, 60, 3), 200, np.uint8))
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "set.yaml").write_text(
        "train: table.csv\nval: table.csv\nnames: [cat, dog]\nformat: csv\ncorners: first\n"
    )
    return tmp_path


def open_val(root: Path, **settings: object) -> DetectionDataset:
    return DetectionDataset(read_data_yaml(root / "set.yaml"), "val", image_size=64, **settings)


def test_one_file_for_the_whole_split_is_a_format_like_the_others(root: Path) -> None:
    for source in ("read", "cached"):
        dataset = open_val(root)
        assert [Path(path).name for path in dataset.paths] == ["a.jpg", "b.jpg"], source
        assert [rows[:, 0].tolist() for rows in dataset.labels] == [[0], [1]], source
        assert [rows[:, 0].tolist() for rows in dataset.crowds] == [[1], []], source
        assert dataset[0].labels.shape == (1, 5), "a crowd is not trained on"
    (root / "table.csv").write_text(TABLE.replace("a.jpg,10,0", "a.jpg,20,0"))
    assert open_val(root).labels[0][0, 3] == pytest.approx(10 / 60), "a change of the table is noticed"


def test_ground_truth_is_objects_and_crowds_in_pixels_of_the_file(root: Path) -> None:
    truth = open_val(root).ground_truth(0)
    np.testing.assert_allclose(truth.boxes, [[10, 0, 30, 20], [0, 0, 60, 40]], rtol=1e-6)
    assert truth.boxes.dtype == np.float64
    assert truth.classes.tolist() == [0, 1] and truth.crowd.tolist() == [False, True]
    merged = open_val(root, single_cls=True)
    assert merged.ground_truth(0).classes.tolist() == [0, 0] and merged.ground_truth(1).crowd.tolist() == [False]
    tall = root / "pictures" / "b.jpg"
    cv2.imwrite(str(tall), np.full((90, 60, 3), 200, np.uint8))
    turned = open_val(root, rect=True, batch_size=1)
    widest = turned.paths.index(str(root / "pictures" / "a.jpg"))
    np.testing.assert_allclose(turned.ground_truth(widest).boxes[0], [10, 0, 30, 20], rtol=1e-6)
    assert turned.ground_truth(widest).crowd.any(), "crowds follow their image into the order of rectangular batches"


def test_crowds_are_crowds_in_the_json_of_coco(root: Path) -> None:
    content = coco_annotations(open_val(root), [1, 2], [3, 4], ["cat", "dog"])
    found = [(row["image_id"], row["category_id"], row["iscrowd"], row["area"]) for row in content["annotations"]]
    assert found == [(1, 3, 0, pytest.approx(400)), (1, 4, 1, pytest.approx(2400)), (2, 4, 0, pytest.approx(600))]


def test_keys_of_a_format_are_keys_of_its_data_yaml_alone(root: Path) -> None:
    text = (root / "set.yaml").read_text()
    (root / "set.yaml").write_text(text.replace("corners: first", "corners: frist"))
    with pytest.raises(UserError, match=r"set.yaml:5: corners: unknown value 'frist'.*Did you mean 'first'"):
        read_data_yaml(root / "set.yaml")
    (root / "set.yaml").write_text(text.replace("format: csv", "format: yolo"))
    with pytest.raises(UserError, match=r"set.yaml:5: unknown key 'corners'"):
        read_data_yaml(root / "set.yaml")
