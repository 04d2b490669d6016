"""Data sets from format to format: what comes through, what is told to be lost, and where files end up."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import convert
import val
from tests.cases import case
from tests.painted_objects import write_checkpoint
from utils.conversion.options import FORMATS
from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets.description import SPLITS
from utils.datasets.scan import ScannedSplit, scan_split
from utils.errors import UserError

BCCD = Path(os.environ.get("DATASETS_DIR", "../datasets")) / "BCCD"
NAMES = ["dog", "cat", "blurred"]
SQUARE = [10, 10, 30.25, 10, 30.25, 40, 10, 40]
RLE = {"size": [60, 80], "counts": "abc"}


def write_source(folder: Path) -> Path:
    """COCO JSON with everything: outlines, masks, crowds, areas, an ignored class, an image without objects."""
    images = [{"id": 5, "file_name": "b.jpg"}, {"id": 9, "file_name": "a.jpg"}, {"id": 2, "file_name": "c.png"}]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "blurred"}]
    for split, shift in (("train", 0), ("val", 1.125)):
        (folder / split).mkdir(parents=True)
        for image in images:
            cv2.imwrite(str(folder / split / str(image["file_name"])), np.full((60, 80, 3), 90, np.uint8))
        rows: list[dict[str, Any]] = [
            {"image_id": 9, "category_id": 7, "bbox": [10, 10, 20.25, 30], "segmentation": [SQUARE], "area": 600},
            {"image_id": 9, "category_id": 3, "bbox": [40.5 + shift, 20, 10, 10.33], "segmentation": RLE, "area": 55.5},
            {"image_id": 9, "category_id": 3, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            {"image_id": 5, "category_id": 90, "bbox": [0, 30, 80, 30]},
            {"image_id": 5, "category_id": 3, "bbox": [70, 50, 30, 30]},
            {"image_id": 5, "category_id": 3, "bbox": [70, 50, 10, 10]},
        ]
        content = {"images": images, "annotations": rows, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    settings = {"format": "coco", "train": "train", "val": "val", "names": NAMES, "ignore": ["blurred"]}
    settings |= {"annotations": {"train": "train.json", "val": "val.json"}, "defaults": {"imgsz": 64}}
    (folder / "data.yaml").write_text(yaml.safe_dump(settings))
    return folder / "data.yaml"


def scan(file: Path, split: str = "train") -> ScannedSplit:
    return scan_split(read_data_yaml(file), split)


def assert_equal_labels(ours: ScannedSplit, theirs: ScannedSplit, regions: bool = True) -> None:
    """To the last bit, and in the same order; paths may differ in their folders and suffixes."""
    assert [Path(path).stem for path in ours.paths] == [Path(path).stem for path in theirs.paths]
    for kind in ("labels", "crowds") if regions else ("labels",):
        for own, other in zip(getattr(ours, kind), getattr(theirs, kind), strict=True):
            assert own.dtype == np.float32 and sorted(own.tolist()) == sorted(other.tolist()), kind
    np.testing.assert_array_equal(ours.sizes_hw, theirs.sizes_hw)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


def test_every_format_to_every_format(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Boxes are equal to the last bit; what a format cannot hold is told, once, with its number."""
    caplog.set_level("INFO")
    before = tree(source.parent)
    boxes = {"coco": source}
    told = {}
    for target in FORMATS:
        caplog.clear()
        boxes[target] = convert.run(data=source, to=target, output=tmp_path / f"first-{target}", boxes_only=True)
        told[target] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told["coco"] == []
    assert told["yolo"] == [
        "2 regions to ignore (crowds, difficult objects) are left out and become background: YOLO txt cannot hold them",
        "2 repeated objects are written once",
    ]
    renamed, *others = told["voc"]
    assert "6 images are renamed" in renamed and others == ["2 repeated objects are written once"]
    assert told["rows"] == ["2 repeated objects are written once"]
    wanted = {split: scan(boxes["yolo"], split) for split in ("train", "val")}
    assert_equal_labels(scan(boxes["coco"]), scan(source))
    for first, file in boxes.items():
        for second in FORMATS:
            with case(first, second):
                again = convert.run(data=file, to=second, output=tmp_path / f"{first}-{second}", images="symlink")
                for split in ("train", "val"):
                    found = scan(again, split)
                    if first == second == "coco":
                        assert_equal_labels(found, scan(source, split))
                        continue
                    np.testing.assert_array_equal(np.concatenate(found.labels), np.concatenate(wanted[split].labels))
                    regions = 0 if "yolo" in (first, second) else 1
                    # and the object of the ignored class is one of any class
                    assert [len(crowds) for crowds in found.crowds] == [regions, 1, 0]
                description = read_data_yaml(again)
                assert description.names == ("dog", "cat") and description.ignored == ("blurred",)
                assert dict(description.defaults) == {"imgsz": 64}
    assert tree(source.parent) == before


def test_outlines_and_masks(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    coco = convert.run(data=source, to="coco", output=tmp_path / "coco")
    original, again = scan(source), scan(coco)
    assert_equal_labels(again, original)
    assert again.masks == original.masks and [a.tolist() for a in again.areas or []] == [
        a.tolist() for a in original.areas or []
    ]
    for ours, theirs in zip(again.polygons, original.polygons, strict=True):
        np.testing.assert_array_equal(ours.points, theirs.points)
    content = json.loads((tmp_path / "coco" / "annotations" / "instances_train.json").read_text())
    assert content["annotations"][0]["bbox"] == [10, 10, 20.25, 30]
    assert content["annotations"][0]["segmentation"] == [SQUARE] and content["annotations"][1]["segmentation"] == RLE
    assert content["categories"] == [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]

    yolo = convert.run(data=source, to="yolo", output=tmp_path / "yolo")
    for text in ("2 masks of several parts", "4 areas of masks", "2 boxes are written as rectangular outlines"):
        assert caplog.text.count(text) == 1, text
    found = scan(yolo)
    np.testing.assert_allclose(found.labels[0], original.labels[0], atol=1e-6)
    np.testing.assert_array_equal(found.polygons[0].points[:4], original.polygons[0].points)
    back = convert.run(data=yolo, to="coco", output=tmp_path / "back")
    assert_equal_labels(scan(back), found)
    np.testing.assert_array_equal(scan(back).polygons[0].points, found.polygons[0].points)
    caplog.clear()
    convert.run(data=source, to="voc", output=tmp_path / "voc")
    assert "2 outlines of objects are left out: Pascal VOC holds boxes alone" in caplog.text


def test_a_box_beside_its_outline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """YOLO has the bounds of the outline as the box: how far that is from the box is told."""
    file = write_source(tmp_path / "source")
    text = (tmp_path / "source" / "train.json").read_text()
    (tmp_path / "source" / "train.json").write_text(text.replace("[10, 10, 20.25, 30]", "[10, 10, 22.25, 30]"))
    convert.run(data=file, to="yolo", output=tmp_path / "yolo")
    assert "1 boxes become the bounds of their outlines, up to 2 pixels away" in caplog.text


def test_how_images_get_there(source: Path, tmp_path: Path) -> None:
    originals = [source.parent / "train" / name for name in ("a.jpg", "b.jpg", "c.png")]
    refused = {"yolo": "found by the paths of their images", "voc": "have one name"}
    for how in ("copy", "link", "symlink", "none"):
        for target in FORMATS:
            with case(how, target):
                options: dict[str, Any] = {"data": source, "to": target, "output": tmp_path / f"{how}-{target}"}
                if how == "none" and target in refused:
                    with pytest.raises(UserError, match=f"--images none: .*{refused[target]}.*--images symlink"):
                        convert.run(**options, images=how)
                    assert not options["output"].exists()
                    continue
                paths = [Path(path) for path in scan(convert.run(**options, images=how)).paths]
                if target == "voc":
                    assert [path.name for path in paths] == ["train_a.jpg", "train_b.jpg", "train_c.png"]
                for path, original in zip(paths, originals, strict=True):
                    assert path.samefile(original) == (how != "copy") and path.is_symlink() == (how == "symlink")
                    assert path.read_bytes() == original.read_bytes()
                    assert path.is_relative_to(source.parent) == (how == "none")
    pool: dict[str, Any] = {"source": source.parent / "train", "annotations": source.parent / "train.json"}
    pool |= {"source_format": "coco", "split": ["ratio", "0.7", "0.3"]}
    only = convert.run(**pool, to="voc", output=tmp_path / "stay", images="none")
    assert sorted(len(labels) for split in ("train", "val") for labels in scan(only, split).labels) == [0, 2, 2]
    assert not [path for path in (tmp_path / "stay").rglob("*") if path.suffix in (".jpg", ".png")]


def test_the_output_is_new_and_apart_from_the_input(source: Path, tmp_path: Path) -> None:
    before = tree(source.parent)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    (tmp_path / "linked").symlink_to(source.parent)
    for output, message in [
        (tmp_path / "full", "exists already: expected a new or empty folder"),
        (tmp_path / "full" / "note.txt", "exists already"),
        (source.parent / "coco", "lies in your data"),
        (tmp_path / "linked" / "coco", "lies in your data"),
    ]:
        with case(output), pytest.raises(UserError, match=message):
            convert.run(data=source, to="voc", output=output)
    (tmp_path / "empty").mkdir()
    assert convert.run(data=source, to="voc", output=tmp_path / "empty").is_file()
    assert tree(source.parent) == before


def test_a_mistake_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    bad = json.loads((source.parent / "val.json").read_text())
    bad["annotations"][0]["category_id"] = 55
    (source.parent / "val.json").write_text(json.dumps(bad))
    with pytest.raises(UserError, match=r"val\.json: annotations\[0\]: category_id 55"):
        convert.run(data=source, to="voc", output=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_unreadable_images_and_wrong_rows_are_counted(source: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    content = json.loads((source.parent / "train.json").read_text())
    content["annotations"].append({"id": 1, "image_id": 9, "category_id": 7, "bbox": [500, 1, 1, 1]})
    (source.parent / "train.json").write_text(json.dumps(content))
    (source.parent / "train" / "c.png").write_bytes(b"no image")
    convert.run(data=source, to="yolo", output=tmp_path / "out")
    assert "5 images with 10 objects are in" in caplog.text and "skipped as unreadable: 1 images, 1 rows" in caplog.text


def test_images_of_one_name(tmp_path: Path) -> None:
    """All get the folders in which they differ, so that the order stays; labels follow."""
    rows = []
    for index, name in enumerate(("b/1.jpg", "a/1.jpg", "a/2.jpg", "a/2.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), np.full((60, 80, 3), 90, np.uint8))
        rows.append(f"{name},{index},1,{index + 10},9,cat\n")
    (tmp_path / "rows.csv").write_text("file,x1,y1,x2,y2,class\n" + "".join(rows))
    options = {"source": tmp_path / "in", "annotations": tmp_path / "rows.csv", "source_format": "rows"}
    for target in FORMATS:
        with case(target):
            out = convert.run(**options, to=target, output=tmp_path / target, split=["ratio", "0.75", "0.25"])
            found = {}
            for split in ("train", "val"):
                scanned = scan(out, split)
                names = [Path(path).name for path in scanned.paths]
                found |= {name: round(rows[0, 1] * 80 - 5) for name, rows in zip(names, scanned.labels, strict=True)}
            assert set(found) <= {"b_1.jpg", "a_1.jpg", "a_2.jpg", "a_2-2.png", "a_2.png", "1.jpg", "2.jpg", "2.png"}
            assert sorted(found.values()) == [0, 1, 2, 3]


def test_names_that_lists_of_ids_could_not_hold(tmp_path: Path) -> None:
    """``cell 1`` looks like an id with a second column, ``a.jpg`` (of a.jpg.png) like a file."""
    for stems in (["cell 0", "cell 1"], ["a.jpg", "b.jpg"], ["x y", "z.w"]):
        with case(stems):
            folder = tmp_path / stems[0]
            (folder / "in").mkdir(parents=True)
            for stem in stems:
                cv2.imwrite(str(folder / "in" / f"{stem}.png"), np.full((60, 80, 3), 90, np.uint8))
                (folder / "in" / f"{stem}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
            options: dict[str, Any] = {"source": folder / "in", "source_format": "yolo", "names": ["cat"]}
            out = convert.run(**options, to="voc", output=folder / "out", split=["ratio", "0.5", "0.5"])
            found = [Path(path).stem for split in ("train", "val") for path in scan(out, split).paths]
            assert sorted(found) == stems and all(len(scan(out, split).labels[0]) == 1 for split in ("train", "val"))


def test_folders_find_their_class_names(source: Path, tmp_path: Path) -> None:
    """COCO by id, VOC by name, YOLO from classes.txt; numbers without names are an error that says what to do."""
    split: dict[str, Any] = {"split": ["ratio", "0.5", "0.5"]}
    coco = convert.run(
        source=source.parent / "train.json", source_format="coco", to="voc", output=tmp_path / "voc", **split
    )
    assert read_data_yaml(coco).names == ("dog", "cat", "blurred")
    voc = convert.run(
        source=tmp_path / "voc" / "JPEGImages", source_format="voc", to="yolo", output=tmp_path / "yolo", **split
    )
    assert read_data_yaml(voc).names == ("blurred", "cat", "dog")
    images = tmp_path / "yolo" / "images" / "train"
    with pytest.raises(UserError, match=r"no classes\.txt or .*give their names in order with --names"):
        convert.run(source=images, source_format="yolo", to="coco", output=tmp_path / "a", **split)
    (tmp_path / "yolo" / "labels" / "classes.txt").write_text("blurred\ncat\ndog\n")
    yolo = convert.run(source=images, source_format="yolo", to="coco", output=tmp_path / "a", **split)
    assert read_data_yaml(yolo).names == ("blurred", "cat", "dog")
    (tmp_path / "rows.txt").write_text("source/train/a.jpg 1 1 9 9 1\nsource/train/b.jpg 1 1 9 9 2\n")
    rows: dict[str, Any] = {
        "source": tmp_path / "rows.txt",
        "source_format": "rows",
        "columns": ["file", "x1", "y1", "x2", "y2", "class"],
    }
    with pytest.raises(UserError, match="the classes are numbers, from 1 to 2: give their names in order with --names"):
        convert.run(**rows, to="coco", output=tmp_path / "b", **split)
    out = convert.run(**rows, names=["cat", "dog"], first_class=1, to="coco", output=tmp_path / "b", **split)
    assert sorted(scan(out, part).labels[0][0, 0] for part in ("train", "val")) == [0, 1]


def test_rows_as_they_are_asked_for(source: Path, tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [
        {"columns": ["class", "x", "y", "w", "h"], "box": "xywh", "units": "fractions", "separator": "space"},
        {"columns": ["x1", "y1", "x2", "y2", "class"], "first_class": 1, "separator": "tab"},
        {"columns": ["file", "left", "top", "width", "height", "label", "difficult"], "separator": "semicolon"},
    ]
    yolo = convert.run(data=source, to="yolo", output=tmp_path / "yolo", boxes_only=True)
    wanted = scan(yolo)
    for number, form in enumerate(forms):
        with case(form):
            out = convert.run(data=source, to="rows", output=tmp_path / str(number), **form)
            found = scan(out)
            assert [labels.tolist() for labels in found.labels] == [labels.tolist() for labels in wanted.labels]
            assert len(found.crowds[0]) == (number == 2)
    assert (tmp_path / "1" / "labels" / "train" / "b.txt").read_text() == "0\t30\t80\t60\t3\n70\t50\t80\t60\t1\n"
    for form, message in [
        ({"columns": ["file", "x", "y", "w", "h", "class"]}, "x y w h: expected to be told"),
        ({"columns": ["file", "x1", "y1", "x2", "y2"]}, "expected a column 'class'"),
        ({"columns": ["file", "x1", "y1", "x2", "y2", "class", "_"]}, "_ says nothing to write"),
        ({"columns": ["file", "x1", "y1", "x3", "y2", "class"]}, "unknown column 'x3'"),
    ]:
        with case(form), pytest.raises(UserError, match=message):
            convert.run(data=source, to="rows", output=tmp_path / "wrong", **form)


def test_options_that_do_not_go_together(source: Path, tmp_path: Path) -> None:
    folder = source.parent / "train"
    common = {"to": "coco", "output": tmp_path / "out"}
    for options, message in [
        ({}, "expected an input: either --data"),
        ({"data": source, "source": folder}, "expected an input: either --data"),
        ({"source": folder}, "expected the format of the labels as well, --from coco"),
        ({"source": folder / "no", "source_format": "voc"}, "--source: there is no"),
        ({"source": folder, "source_format": "voc"}, "expected objects with classes but found none; is --from right"),
        ({"source": folder, "source_format": "voc", "annotations": "no"}, "--annotations: there is no no"),
        ({"source": folder, "source_format": "vocc"}, "unknown value 'vocc'.*Did you mean 'voc'"),
        ({"data": source, "source_format": "voc"}, "--from: .*says this already"),
        ({"data": source, "names": ["a"]}, "--names: .*says this already"),
        ({"data": source, "columns": ["x1"]}, "--columns is for rows, but the conversion has none"),
        ({"data": source, "split": ["half"]}, "unknown way to split 'half'. Known: lists, ratio"),
        ({"data": source, "split": ["ratio", "1"]}, "expected a value for train, one for val"),
        ({"data": source, "split": ["ratio", "0.8", "0.1"]}, r"parts that add to 1 but 0.8 \+ 0.1 = 0.9"),
        ({"data": source, "split": ["ratio", "0.8", "x"]}, "expected a number"),
        ({"data": source, "split": ["lists", "a.txt", "b.txt"], "group": "a"}, "--group: lists say"),
    ]:
        with case(options), pytest.raises(UserError, match=message):
            convert.run(**options, **common)
    assert not (tmp_path / "out").exists()


def subset(folder: Path, count: int | None = None) -> Path:
    """BCCD, or the first images of each split, as Pascal VOC."""
    if not BCCD.is_dir():
        pytest.skip("BCCD is not in DATASETS_DIR")
    entries = {}
    for split in SPLITS:
        ids = (BCCD / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        (folder / f"{split}.txt").write_text("".join(f"{BCCD.resolve() / 'JPEGImages' / name}.jpg\n" for name in ids))
        entries[split] = str(folder / f"{split}.txt")
    content = {"path": str(BCCD.resolve()), "format": "voc", "names": ["RBC", "WBC", "Platelets"], **entries}
    (folder / "bccd.yaml").write_text(yaml.safe_dump(content))
    return folder / "bccd.yaml"


def chain(file: Path, folder: Path, *targets: str) -> list[Path]:
    files = [file]
    for target in targets:
        files.append(convert.run(data=files[-1], to=target, output=folder / f"{len(files)}-{target}", images="symlink"))
    return files


def test_bccd_goes_round_without_a_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """VOC, COCO, YOLO, rows, VOC: boxes equal to the last bit; the last XML has the pixels of the first."""
    sets = chain(subset(tmp_path), tmp_path, "coco", "yolo", "rows", "voc")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for split in SPLITS:
        first = scan(sets[0], split)
        for file in sets[1:]:
            found = scan(file, split)
            assert [Path(path).name for path in found.paths] == [Path(path).name for path in first.paths]
            for ours, theirs in zip(found.labels, first.labels, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=str(file))

    for path in sorted((tmp_path / "4-voc" / "Annotations").iterdir())[:40]:
        files = (path, BCCD / "Annotations" / path.name)
        found, original = (set(re.findall(r"<[xy]m(?:in|ax)>.*<", file.read_text())) for file in files)
        assert found <= original and not any("." in text for text in found)


def test_equal_batches_and_numbers_from_all_formats(tmp_path: Path) -> None:
    files = chain(subset(tmp_path, 6), tmp_path, "coco", "yolo", "voc")
    sets = [DetectionDataset(read_data_yaml(file), "train", image_size=96, augment=True, seed=0) for file in files]
    for key in [(epoch, index) for epoch in range(2) for index in range(len(sets[0]))]:
        first = sets[0][key]
        for other in (each[key] for each in sets[1:]):
            np.testing.assert_array_equal(other.image, first.image)
            np.testing.assert_array_equal(other.labels, first.labels)
    weights = write_checkpoint(tmp_path / "net.pt")
    numbers = []
    for file in files:
        done = val.evaluate(weights=weights, data=file, imgsz=96, plots=False, workers=0, project=tmp_path / "runs")
        numbers.append(json.loads((done.save_dir / "metrics.json").read_text()))
    assert numbers[0]["recall"] > 0
    for other in numbers[1:]:
        assert {**other, "data": "", "speed_ms": 0} == {**numbers[0], "data": "", "speed_ms": 0}
