"""``check.py`` on clean data, on planted faults of every kind, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import check
import train
from tests.painted_objects import write_data_set
from utils.datasets import DetectionDataset, read_data_yaml
from utils.errors import UserError
from utils.files import ROOT
from utils.inspection.findings import KINDS, Finding
from utils.inspection.quick import quick_findings
from utils.inspection.report import Report

PUBLIC_SETS = Path(os.environ.get("DATASETS_DIR") or ROOT.parent / "shared" / "datasets")


def inspect(data: Path | str, folder: Path, **options: object) -> Report:
    return check.run(data=data, html=folder / "report.html", **options)


def kinds(findings: Iterable[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file and folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def public_set(name: str) -> Path:
    if not (PUBLIC_SETS / name).is_dir():
        pytest.skip(f"{name} is not in {PUBLIC_SETS}: set DATASETS_DIR to the folder that holds it")
    return PUBLIC_SETS / name


# Clean data


def shapes(folder: Path) -> Path:
    settings = yaml.safe_load((ROOT / "data" / "shapes.yaml").read_text(encoding="utf-8"))
    settings["generator"] |= {"train": 24, "val": 8}
    file = folder / "few.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def test_generated_shapes_are_clean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    report = inspect(shapes(tmp_path), tmp_path)
    assert report.findings == () and report.exit_code == 0 and report.usable
    assert report.image_size == 160, "the data YAML says so"
    assert report.splits["train"].images == 24 and report.splits["val"].labelled == 8
    assert sum(report.splits["train"].classes) == report.splits["train"].objects > 24
    assert report.anchors is not None and report.anchors.best_possible_recall > 0.98
    assert "nothing found" in caplog.text and "ellipse" in caplog.text


# Planted faults in a part of BCCD: Pascal VOC, lists of ids


class Bccd:
    """A part of BCCD in a folder of its own, in which faults are planted."""

    names = ("RBC", "WBC", "Platelets")

    def __init__(self, folder: Path) -> None:
        self.folder, origin = folder, public_set("BCCD")
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / name).mkdir(parents=True)
        lists = {split: (origin / f"ImageSets/Main/{split}.txt").read_text().split() for split in ("train", "val")}
        lists["train"] = ["BloodImage_00020", *(name for name in lists["train"][:24] if name != "BloodImage_00020")]
        lists["val"] = lists["val"][:8]
        self.lists = lists
        for name in (*lists["train"], *lists["val"]):
            for home, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
                shutil.copyfile(origin / home / f"{name}.{suffix}", folder / home / f"{name}.{suffix}")
        self.write()

    def write(self, names: Iterable[str] = names) -> None:
        for split, ids in self.lists.items():
            (self.folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(ids) + "\n")
        entries = {split: f"ImageSets/Main/{split}.txt" for split in self.lists}
        data = {"path": str(self.folder), "format": "voc", **entries, "names": list(names)}
        self.yaml.write_text(yaml.safe_dump(data))

    @property
    def yaml(self) -> Path:
        return self.folder / "part.yaml"

    def image(self, name: str) -> Path:
        return self.folder / "JPEGImages" / f"{name}.jpg"

    def xml(self, name: str) -> Path:
        return self.folder / "Annotations" / f"{name}.xml"

    def add(self, name: str, label: str, *box: object) -> tuple[str, int]:
        """Append an object to an annotation; its file and line."""
        sides = "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        head = self.xml(name).read_text().rstrip().removesuffix("</annotation>")
        head = head.rstrip() + "\n"
        self.xml(name).write_text(
            f"{head}<object><name>{label}</name><bndbox>{sides}</bndbox></object>\n</annotation>\n"
        )
        return str(self.xml(name)), head.count("\n") + 1

    def first_box(self, name: str) -> tuple[str, list[int]]:
        text = self.xml(name).read_text()
        label = re.search(r"<name>(\w+)</name>", text[text.index("<object>") :])
        sides = [re.search(rf"<{side}>(\d+)</{side}>", text) for side in ("xmin", "ymin", "xmax", "ymax")]
        assert label and all(sides)
        return label[1], [int(side[1]) for side in sides if side]

    def copy(self, name: str, new: str, split: str) -> None:
        shutil.copyfile(self.image(name), self.image(new))
        shutil.copyfile(self.xml(name), self.xml(new))
        self.lists[split].append(new)


def plant(bccd: Bccd, clean: list[str]) -> list[tuple[str, str, int | None]]:
    """Faults of eighteen kinds; kind, file and line of each."""
    names = iter(clean)
    planted: list[tuple[str, str, int | None]] = []

    def expect(kind: str, file: object, line: int | None = None) -> None:
        planted.append((kind, str(file), line))

    expect("unknown-class", *bccd.add(next(names), "Basophil", 10, 10, 60, 60))
    bccd.lists["train"].append("gone")
    expect("missing-image", bccd.image("gone"))
    name = next(names)
    bccd.image(name).write_bytes(bccd.image(name).read_bytes()[:2000])
    expect("unreadable-image", bccd.image(name))
    name = next(names)
    bccd.xml(name).write_text(bccd.xml(name).read_text()[:-40])
    expect("unreadable-labels", bccd.xml(name))
    expect("invalid-row", *bccd.add(next(names), "RBC", 90, 10, 40, 60))
    name = next(names)
    bccd.xml(name).unlink()
    expect("missing-labels", bccd.image(name))
    bccd.xml("nobody").write_text("<annotation></annotation>")
    expect("orphan-labels", bccd.xml("nobody"))
    name = next(names)
    bccd.lists["train"].append(name)
    expect("listed-twice", bccd.image(name))
    name = next(names)
    bccd.lists["val"].append(name)
    expect("leak", bccd.image(name))
    bccd.copy(next(names), "a_leak", "val")
    bccd.copy(next(names), "a_twin", "train")
    name = next(names)
    label, box = bccd.first_box(name)
    expect("repeated-box", *bccd.add(name, label, *box))  # exactly
    name = next(names)
    label, (left, top, right, bottom) = bccd.first_box(name)
    expect("repeated-box", *bccd.add(name, label, left, top, right + 1, bottom))  # nearly
    name = next(names)
    label, box = bccd.first_box(name)
    expect("conflict", *bccd.add(name, "WBC" if label != "WBC" else "RBC", *box))
    expect("outside", *bccd.add(next(names), "RBC", 600, 200, 660, 260))
    expect("tiny", *bccd.add(next(names), "RBC", 100, 100, 104, 130))
    expect("extreme", *bccd.add(next(names), "RBC", 30, 100, 629, 114))
    small = np.full((60, 80, 3), 200, np.uint8)
    cv2.imwrite(str(bccd.image("small")), small)
    bccd.xml("small").write_text("<annotation>\n</annotation>\n")
    bccd.add("small", "RBC", 10, 10, 50, 40)
    bccd.lists["train"].append("small")
    expect("mixed-sizes", "")
    expect("class-not-in-train", "")
    for name in bccd.lists["val"]:
        text = bccd.xml(name).read_text()
        bccd.xml(name).write_text(re.sub(r"<object>\s*<name>Platelets.*?</object>\s*", "", text, flags=re.DOTALL))
    expect("class-not-in-val", "")
    return planted


def test_planted_faults_are_found_and_nothing_else(tmp_path: Path) -> None:
    bccd = Bccd(tmp_path / "bccd")
    before = inspect(bccd.yaml, tmp_path, imgsz=320)
    assert before.exit_code == 1 and kinds(before.findings) <= {"repeated-box", "tiny"}, "flaws that BCCD has itself"
    flawed = {Path(finding.image).stem for finding in before.findings}
    assert "BloodImage_00020" in flawed
    clean = [name for name in bccd.lists["train"] if name not in flawed]
    assert not flawed & set(bccd.lists["val"]), "lines of these files move"
    planted = plant(bccd, clean)
    bccd.write([*bccd.names, "Monocyte"])

    files = tree(bccd.folder)
    after = inspect(bccd.yaml, tmp_path, imgsz=320)
    assert tree(bccd.folder) == files, "the data are only read"
    new = Counter((finding.kind, finding.file, finding.line) for finding in after.findings)
    new -= Counter((finding.kind, finding.file, finding.line) for finding in before.findings)
    # which of two copies is named first is a matter of their names
    by_content = [finding for finding in after.findings if "the same content" in finding.text]
    assert sorted(finding.kind for finding in by_content) == ["copy", "leak"]
    for finding in by_content:
        assert ("a_leak" if finding.kind == "leak" else "a_twin") in finding.file + finding.text
        new -= Counter([(finding.kind, finding.file, finding.line)])
    assert new == Counter(planted)
    assert len(kinds(after.findings)) >= 18 and not after.usable and after.exit_code == 2
    assert after.splits["train"].orphan == 1 and after.splits["train"].missing == 1
    assert after.splits["train"].unreadable == 4, "of images and of labels"
    unknown = next(finding for finding in after.findings if finding.kind == "unknown-class")
    assert "Basophil" in unknown.text and "RBC" in unknown.text, "it says which classes there are"


# Planted faults in YOLO text files


def test_faults_of_yolo_text_files(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "set")
    labels = tmp_path / "set" / "labels"
    street = labels / "street.txt"
    street.write_text(street.read_text() + "0 0.5 0.5 0.2\n1 0.9 0.9 0.4 0.1\n\n7 0.5 0.5 0.1 0.1\n")
    first = labels / "1.txt"
    first.write_text(first.read_text() + first.read_text().splitlines()[0] + "\n0 0.5 0.5 1.5 0.2\n0 .9 .5 .3 .3\n")
    (labels / "classes.txt").write_text("red\ngreen\nblue\n")  # labelling tools leave it there
    (labels / "other.txt").write_text("")
    report = inspect(data, tmp_path, imgsz=128)
    found = {(finding.kind, Path(finding.file).name, finding.line) for finding in report.findings}
    lines = {number for kind, name, number in found if (kind, name) == ("invalid-row", "1.txt")}
    assert lines == {4}
    assert found >= {
        ("unknown-class", "street.txt", 7),
        ("repeated-box", "1.txt", 3),
        ("outside", "1.txt", 5),
        ("orphan-labels", "other.txt", None),
    }
    assert kinds(report.findings) == {
        "unknown-class",
        "invalid-row",
        "repeated-box",
        "outside",
        "orphan-labels",
        "leak",
    }
    assert [finding.text for finding in report.findings if finding.kind == "leak"] == [
        "train and val are the same 4 images"
    ]


def test_labels_and_lists_beside_the_images(tmp_path: Path) -> None:
    """One folder with everything: the lists are no labels without image, and images of the other split have labels."""
    write_data_set(tmp_path / "set")
    folder = tmp_path / "flat"
    folder.mkdir()
    for file in [*(tmp_path / "set" / "images").iterdir(), *(tmp_path / "set" / "labels").iterdir()]:
        shutil.copyfile(file, folder / file.name)
    for split, names in {"train": ("1.png", "2.png", "street.png"), "val": ("1.png",)}.items():
        (folder / f"{split}.txt").write_text("".join(f"./{name}\n" for name in names))
    data = folder / "data.yaml"
    data.write_text(yaml.safe_dump({"train": "train.txt", "val": "val.txt", "names": ["red", "green", "blue"]}))
    report = inspect(data, tmp_path, imgsz=128)
    found = [(finding.kind, Path(finding.file).name, finding.text) for finding in report.findings]
    assert found == [
        ("leak", "1.png", "in train and in val"),
        ("class-not-in-val", "", "green: 2 objects in train"),
    ]
    (folder / "left.txt").write_text("")
    report = inspect(data, tmp_path, imgsz=128)
    assert [Path(finding.file).name for finding in report.findings if finding.kind == "orphan-labels"] == ["left.txt"]


def test_split_without_objects_and_without_images(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "set")
    for file in (tmp_path / "set" / "labels").iterdir():
        file.unlink()
    report = inspect(data, tmp_path)
    assert kinds(report.findings) >= {"no-objects", "missing-labels"} and report.exit_code == 2
    assert report.anchors is None and str(tmp_path / "set" / "labels") in str(report.findings[0])
    for file in (tmp_path / "set" / "images").iterdir():
        file.write_bytes(b"no image")
    report = inspect(data, tmp_path)
    assert kinds(report.findings) >= {"no-images", "unreadable-image"} and report.exit_code == 2
    settings = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({**settings, "val": "images/nowhere"}))
    with pytest.raises(UserError, match="data set not found"):
        inspect(data, tmp_path)


def test_an_absent_test_split_is_a_note(tmp_path: Path) -> None:
    file = shapes(tmp_path)
    file.write_text(file.read_text(encoding="utf-8") + "test: images/nowhere\n", encoding="utf-8")
    report = inspect(file, tmp_path)
    assert kinds(report.findings) == {"absent-split"} and report.exit_code == 0


# COCO JSON


def coco_set(folder: Path) -> Path:
    """Four images, one of them without objects; of the objects one repeats another and one is nearly outside."""
    (folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = []
    for number in range(4):
        cv2.imwrite(str(folder / "train" / f"{number}.png"), rng.integers(0, 255, (100, 120, 3), np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 120, "height": 100})
    boxes = [(0, [10, 10, 40, 40]), (1, [20, 20, 50, 30]), (1, [20.5, 20, 50, 30]), (2, [90, 50, 60, 40])]
    rows = [
        {"id": 70 + number, "image_id": image, "category_id": 5, "bbox": box, "iscrowd": 0, "area": 1}
        for number, (image, box) in enumerate(boxes)
    ]
    rows.append({"id": 80, "image_id": 0, "category_id": 5, "bbox": [60, 60, 30, 30], "iscrowd": 1, "area": 1})
    content = {"images": images, "annotations": rows, "categories": [{"id": 5, "name": "cell"}]}
    (folder / "train.json").write_text(json.dumps(content))
    file = folder / "coco.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "format": "coco",
                "train": "train",
                "val": "train",
                "names": ["cell"],
                "annotations": {"train": "train.json", "val": "train.json"},
            }
        )
    )
    return file


def test_coco_json_names_the_annotation(tmp_path: Path) -> None:
    report = inspect(coco_set(tmp_path / "set"), tmp_path, imgsz=128)
    found = [(finding.kind, finding.split, finding.text.partition(":")[0], finding.line) for finding in report.findings]
    assert [entry for entry in found if entry[1] == "train" and entry[0] != "leak"] == [
        ("repeated-box", "train", "annotation 72", None),
        ("outside", "train", "annotation 73", None),
    ]
    counts = report.splits["train"]
    assert counts.regions == 1 and counts.objects == 4 and counts.background == 1 and counts.missing == 0


def test_nuclei_have_a_sliver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real set with masks in RLE, by its name."""
    public_set("nuclei")
    monkeypatch.setenv("DATASETS_DIR", str(PUBLIC_SETS))
    report = inspect("nuclei.yaml", tmp_path)
    assert [(finding.kind, finding.text.partition(":")[0]) for finding in report.findings] == [
        ("tiny", "annotation 6553")
    ]
    assert (report.splits["train"].images, report.splits["val"].objects) == (240, 4015)


# What it leaves behind


def test_json_page_and_exit_status_of_the_command(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "set")
    command = [sys.executable, "check.py", "--data", data, "--img", "128", "--project", tmp_path / "runs"]
    done = subprocess.run([*command, "--json", tmp_path / "report.json"], cwd=ROOT, capture_output=True, text=True)
    page = tmp_path / "runs" / "exp" / "report.html"
    assert done.returncode == 1 and str(page) in done.stdout and "1 warning" in done.stdout
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["exit_code"] == 1 and content["usable"] and content["page"] == str(page)
    assert content["splits"]["train"]["classes"] == {"red": 2, "green": 2, "blue": 2}
    assert [(finding["kind"], finding["severity"]) for finding in content["findings"]] == [("leak", "warning")]
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == 8 and "<svg" in html
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|<script|@import", html), "nothing to fetch or to run"
    done = subprocess.run([*command[:3], "no.yaml"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown data file")


def test_text_of_the_user_is_escaped(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / 'a<b>&"c')
    settings = yaml.safe_load(data.read_text())
    settings["names"] = ["<script>alert(1)</script>", 'x" onload="y', "&amp;"]
    data.write_text(yaml.safe_dump(settings))
    (data.parent / "labels" / "<i>.txt").write_text("")
    (data.parent / "images" / "1.png").rename(data.parent / "images" / "<img src=x>.png")
    inspect(data, tmp_path, imgsz=128)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in html and "&amp;amp;" in html and "&lt;i&gt;.txt" in html
    assert not re.search(r"<script|<i>\.txt|<img src=x|\" onload=", html)


def test_a_page_stays_small_whatever_is_found(tmp_path: Path) -> None:
    """Many large noisy images, each with a finding, and long names."""
    folder = tmp_path / "set"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(60):
        name = f"{number}_{'long' * 40}"
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), rng.integers(0, 255, (500, 500, 3), np.uint8))
        rows = [f"{number} 0.5 0.5 {0.001 + index / 1e6} 0.1\n" for index in range(20)]
        (folder / "labels" / f"{name}.txt").write_text("".join(rows) + "nonsense\n")
    data = folder / "data.yaml"
    names = [f"class {number} {'x' * 100}" for number in range(300)]
    data.write_text(yaml.safe_dump({"train": "images", "val": "images", "names": names}))
    report = inspect(data, tmp_path)
    size = (tmp_path / "report.html").stat().st_size
    assert size < 3_000_000 and len(report.findings) > 60 * 20


# In short, before a training


def test_short_findings_name_kinds_and_splits(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "set")
    street = tmp_path / "set" / "labels" / "street.txt"
    street.write_text(street.read_text() + "0 0.5 0.5 0.02 0.2\nnonsense\n1 0.4 0.4 0.2 0.2\n0 0.4 0.4 0.2 0.2\n")
    (tmp_path / "set" / "labels" / "3.txt").unlink()
    datasets = [DetectionDataset(read_data_yaml(data), split, image_size=128) for split in ("train", "val")]
    lines = quick_findings(datasets[0], datasets[1], 128)
    expected = ("invalid-row", "missing-labels", "leak", "conflict", "tiny")
    assert lines == [
        f"{KINDS[kind].title}: {'1 in train' if kind == 'leak' else '1 in train, 1 in val'}" for kind in expected
    ]
    assert not [line for line in quick_findings(datasets[0], None, 640) if line.startswith(KINDS["tiny"].title)]


def test_short_findings_of_clean_data_are_none(tmp_path: Path) -> None:
    description = read_data_yaml(shapes(tmp_path))
    check.run(data=tmp_path / "few.yaml", html=tmp_path / "report.html")  # which generates them
    assert (
        quick_findings(*(DetectionDataset(description, split, image_size=160) for split in ("train", "val")), 160) == []
    )


def test_a_training_warns_and_strict_refuses(options: dict, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"(?s)--strict: .*the same image in two splits: 1 in train"):
        train.run(**options, strict=True)
    assert not Path(options["project"]).exists(), "no run folder is left behind"
    sets = [DetectionDataset(read_data_yaml(Path(options["data"])), split, image_size=64) for split in ("train", "val")]
    train.check_data(sets[0], sets[1], 64)
    assert [record.levelname for record in caplog.records if "two splits" in record.message] == ["WARNING"]


def test_kinds_are_documented() -> None:
    text = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
