"""Rows of text and CSV files as labels: columns, units, forms of boxes, classes, files, and what cannot be right."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.cases import case
from utils.datasets import read_data_yaml
from utils.datasets.scan import ScannedSplit, scan_split
from utils.errors import UserError

WANTED = np.array([[1, 20 / 80, 25 / 60, 20 / 80, 30 / 60], [0, 45.5 / 80, 25 / 60, 10 / 80, 10 / 60]], np.float32)


def write_images(folder: Path, *names: str) -> None:
    """Pictures of 80 x 60 pixels."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((60, 80, 3), 90, np.uint8))


def data_yaml(folder: Path, train: str, **settings: object) -> Path:
    content = {"format": "rows", "train": train, "val": train, "names": ["cat", "dog"], **settings}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def scan(folder: Path, train: str = "rows.txt", **settings: object) -> ScannedSplit:
    return scan_split(read_data_yaml(data_yaml(folder, train, **settings)), "train")


def test_columns_units_forms_and_separators(tmp_path: Path) -> None:
    """The same two objects in many files."""
    corners = ["file", "x1", "y1", "x2", "y2", "class"]
    cases: list[tuple[str, dict[str, object]]] = [
        ("a.jpg 10 10 30 40 dog\na.jpg 40.5 20 50.5 30 cat\n", {"columns": corners}),
        ("a.jpg,10,10,30,40,dog\r\n\r\n# comment\r\na.jpg,40.5,20,50.5,30,cat", {"columns": corners}),
        ("\ufeffa.jpg\t10\t10\t30\t40\t1\na.jpg\t40.5\t20\t50.5\t30\t0\n", {"columns": corners}),
        ("a.jpg;10;10;30;40;2\na.jpg;40.5;20;50.5;30;1\n", {"columns": corners, "first_class": 1}),
        ("file xmin ymin xmax ymax class\na.jpg 10 10 30 40 dog\na.jpg 40.5 20 50.5 30 cat\n", {"columns": corners}),
        # the size of the image beside the corners, as exporters write it
        (
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,80,60,dog,10,10,30,40\na.jpg,80,60,cat,40.5,20,50.5,30",
            {},
        ),
        ('"image_id","Label",left,top,width,height\n"a","dog",10,10,20,30\na,cat,40.5,20,10,10', {}),
        (
            "dog|20|25|20|30|a.jpg\ncat|45.5|25|10|10|a.jpg",
            {"columns": ["class", "x", "y", "w", "h", "file"], "box": "xywh", "separator": "|"},
        ),
        (
            "dog 10 10 20 30 x a.jpg\ncat 40.5 20 10 10 y a.jpg",
            {"columns": ["class", "x", "y", "w", "h", "_", "file"], "box": "ltwh"},
        ),
        (
            "a.jpg .25 .4166666666667 .25 .5 dog\na.jpg .56875 .4166666666667 .125 .1666666666667 cat",
            {"columns": ["file", "cx", "cy", "w", "h", "class"], "units": "fractions"},
        ),
    ]
    write_images(tmp_path, "a.jpg")
    for text, settings in cases:
        with case(text):
            (tmp_path / "rows.txt").write_bytes(text.encode())
            scanned = scan(tmp_path, **settings)
            assert [Path(path).name for path in scanned.paths] == ["a.jpg"] and not scanned.report.problems
            np.testing.assert_array_equal(scanned.labels[0], WANTED)


def test_where_images_are_looked_for(tmp_path: Path) -> None:
    """Beside the rows, in the folder of the data set, in the usual folders; by path, name, or name without suffix."""
    write_images(tmp_path, "images/a b.jpg", "sub/c.png", "lists/d.jpg")
    names = ["a b.jpg", "a b", "sub/c.png", "sub\\c.png", "sub/c", "d.jpg", "../images/a b.jpg"]
    for name in names:
        with case(name):
            (tmp_path / "lists" / "rows.csv").write_text(f"{name},1,1,9,9\n")
            scanned = scan(tmp_path, "lists/rows.csv", columns=["file", "x1", "y1", "x2", "y2"], names=["cat"])
            assert len(scanned.paths) == 1 and len(scanned.labels[0]) == 1, scanned.report
    (tmp_path / "lists" / "rows.csv").write_text("file x1 y1 x2 y2\na b.jpg 1 1 9 9\n")  # a name with blanks
    assert len(scan(tmp_path, "lists/rows.csv", names=["cat"]).labels[0]) == 1


def test_images_without_objects_regions_and_repeated_rows(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    rows = ["file,x1,y1,x2,y2,class,difficult", "b.jpg,,,,,,", "a.jpg,10,10,30,40,dog,0", "a.jpg,0,0,40,20,cat,1"]
    (tmp_path / "rows.txt").write_text("\n".join([*rows, rows[2], "c.jpg,1,1,9,9,cat,maybe"]))
    scanned = scan(tmp_path)
    assert [len(labels) for labels in scanned.labels] == [1, 0, 0] and scanned.report.empty == 2
    np.testing.assert_allclose(scanned.crowds[0], [[0, 0.25, 1 / 6, 0.5, 1 / 3]], atol=1e-7)
    repeated, maybe = scanned.report.problems
    assert "rows.txt:5: repeats line 3" in repeated and "rows.txt:6: expected 0 or 1 for ignore" in maybe


def test_rows_of_the_images_of_folders(tmp_path: Path) -> None:
    """``annotations`` names the file; images without rows are background, rows of other splits belong there."""
    write_images(tmp_path, "train/a.jpg", "train/b.jpg", "val/c.jpg")
    (tmp_path / "all.csv").write_text("file,x1,y1,x2,y2,class\na.jpg,10,10,30,40,dog\nc.jpg,1,1,9,9,cat\n")
    file = data_yaml(tmp_path, "train", annotations="all.csv", val="val")
    scanned = [scan_split(read_data_yaml(file), split) for split in ("train", "val")]
    assert [[len(labels) for labels in split.labels] for split in scanned] == [[1, 0], [1]]
    assert scanned[0].report.missing == 1 and not scanned[0].report.problems
    strays = scan(tmp_path, "train", annotations={"train": "all.csv", "val": "all.csv"}).report.problems
    assert "all.csv:3: 'c.jpg' is not among the images" in strays[0]
    write_images(tmp_path, "train/deep/a.jpg")
    with pytest.raises(UserError, match=r"all\.csv:2: 'a\.jpg' may be .*a\.jpg or .*a\.jpg"):
        scan(tmp_path, "train/..", annotations="all.csv")


def test_a_file_for_each_image(tmp_path: Path) -> None:
    """As DeepPCB has them: ``1/1_test.jpg`` beside ``1_not/1.txt``; in ``labels``; in a folder that is named."""
    settings = {"columns": ["x1", "y1", "x2", "y2", "class"], "first_class": 1}
    for number in (1, 2):
        write_images(tmp_path, f"pcb/{number}/{number}_test.jpg", f"pcb/{number}/{number}_temp.jpg")
        (tmp_path / f"pcb/{number}_not").mkdir()
        (tmp_path / f"pcb/{number}_not/{number}.txt").write_text("10 10 30 40 2\n" * number)
    scanned = scan(tmp_path, "pcb", image_name="{stem}_test", **settings)
    assert [Path(path).name for path in scanned.paths] == ["1_test.jpg", "2_test.jpg"]
    assert [labels.tolist() for labels in scanned.labels] == [[WANTED[0].tolist()]] * 2
    assert "2.txt:2: repeats line 1" in scanned.report.problems[0]

    write_images(tmp_path, "images/a.jpg", "images/b.jpg")
    for folder in ("labels", "boxes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("10,10,30,40,2\n")
        for more in ({"annotations": "boxes"}, {}) if folder == "boxes" else ({},):
            scanned = scan(tmp_path, "images", **settings, **more)
            assert [len(labels) for labels in scanned.labels] == [1, 0] and scanned.report.missing == 1
    for folder in ("images/x", "images/y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("10,10,30,40,2\n")
    with pytest.raises(UserError, match=r"a\.jpg: its rows may be in .*x/a\.txt or in .*y/a\.txt"):
        scan(tmp_path, "images", **settings)


def test_the_cache_notices_changed_rows(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    for count in (1, 2):
        rows = "".join(f"a.jpg {10 + index} 10 30 40 dog\n" for index in range(count))
        (tmp_path / "rows.txt").write_text(rows)
        assert len(scan(tmp_path, columns=["file", "x1", "y1", "x2", "y2", "class"]).labels[0]) == count


def test_rows_that_cannot_be_right_are_left_out_with_file_and_line(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    columns = ["file", "x1", "y1", "x2", "y2", "class"]
    for row, message in [
        ("a.jpg 10 ten 30 40 dog", "expected numbers for x1 y1 x2 y2 but got '10 ten 30 40'"),
        ("a.jpg 10 nan 30 40 dog", "expected finite numbers"),
        ("a.jpg 10 inf 30 40 dog", "expected finite numbers"),
        ("a.jpg 30 10 10 40 dog", "expected a box inside the image of 80 x 60 pixels but got 30 10 10 40 for xyxy"),
        ("a.jpg 90 10 99 40 dog", "expected a box inside the image"),
    ]:
        with case(row):
            (tmp_path / "rows.txt").write_text(f"a.jpg 10 10 30 40 dog\n{row}\n")
            scanned = scan(tmp_path, columns=columns)
            assert len(scanned.labels[0]) == 1 and f"rows.txt:2: {message}" in scanned.report.problems[0]
    (tmp_path / "rows.txt").write_text("a.jpg 0.1 0.1 0.3 0.4 dog\na.jpg 10 10 30 40 dog\n")
    scanned = scan(tmp_path, columns=columns, units="fractions")
    assert "rows.txt:2: expected fractions of the image's size, from 0 to 1, but got 10" in scanned.report.problems[0]
    (tmp_path / "rows.txt").write_text("a.jpg -5 -5 95 65 dog\nghost.jpg 1 1 9 9 dog\n")
    scanned = scan(tmp_path, columns=columns)
    assert (
        scanned.labels[0].tolist() == [[1, 0.5, 0.5, 1, 1]] and "there is no such image" in scanned.report.problems[0]
    )


def test_mistakes_that_end_the_run_name_file_and_line(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "images/a.jpg")
    corners = ["file", "x1", "y1", "x2", "y2", "class"]
    good = "a.jpg 10 10 30 40 dog\n"
    cases: list[tuple[str, dict[str, object], str]] = [
        (good + "a.jpg 10 10 30 40 cow", {"columns": corners}, r"rows\.txt:2: unknown class 'cow'. Known: cat, dog"),
        (
            good + "a.jpg 10 10 30 40 2",
            {"columns": corners},
            r"rows\.txt:2: expected a class from 0 to 1.*got 2.*numbered from 1",
        ),
        (good + "a.jpg 10 10 30 40 1.5", {"columns": corners}, r"rows\.txt:2: expected a class from 0 to 1"),
        ("a.jpg 10 10 30 40 0", {"columns": corners, "first_class": 1}, r"rows\.txt:1: expected a class from 1 to 2"),
        (
            "a.jpg 10 10 30 40",
            {"columns": corners},
            r"rows\.txt:1: expected 6 columns, file x1 y1 x2 y2 class, but found 5",
        ),
        ("a.jpg 10 10 30 40 dog x", {"columns": corners}, r"rows\.txt:1: expected 6 columns"),
        ("a.jpg 10 10 30 40", {"columns": corners[:5]}, r"rows\.txt:1: expected a column 'class', for there are 2"),
        ("a.jpg 0.1 0.1 0.3 0.4 dog", {"columns": corners}, r"rows\.txt:1: no coordinate of this image is above 1"),
        (good, {}, r"expected a line with the names of the columns but got 'a\.jpg 10 10"),
        (
            "file x1 y1 class\n",
            {},
            r"rows\.txt: expected the columns of a box, x1 y1 x2 y2, or .*found file x1 y1 class",
        ),
        ("file x1 x1 y1 x2 y2\n", {}, r"rows\.txt:1: more than one column holds x1"),
        ("", {"columns": ["file", "x", "y", "w", "h", "class"]}, "x y w h: expected to be told"),
        (good, {"columns": corners, "box": "xywh"}, "box: the columns make xyxy but box says xywh"),
        (
            good,
            {"columns": [*corners[:5], "clas"]},
            r"data\.yaml:\d+: columns: unknown column 'clas'.*Did you mean 'class'",
        ),
        (good, {"columns": [*corners, "xmin"]}, r"columns: expected different columns but 'x1' stands twice"),
        (
            good,
            {"columns": corners, "units": "inches"},
            r"data\.yaml:\d+: units: unknown value 'inches'. Known: fractions, pixels",
        ),
        (good, {"columns": corners, "separator": "colon"}, "separator: unknown separator 'colon'"),
        (good, {"columns": corners, "image_name": "test"}, "image_name: expected a name with '{stem}' in it"),
        (good, {"columns": corners, "annotations": "nowhere"}, "annotations: there is no such file or folder"),
        (good, {"columns": corners, "train": "images"}, r"images: expected a file of rows that name images"),
        ("\n,1,1,9,9,dog", {"columns": corners}, r"rows\.txt:2: expected the file of an image but the field is empty"),
        ('"a.jpg,1,1,9,9,dog', {"columns": corners}, r"rows\.txt:1: .*: '\"a\.jpg,1,1"),
    ]
    for text, settings, message in cases:
        with case((text, settings)):
            (tmp_path / "rows.txt").write_text(text or "a.jpg 1 1 9 9 dog")
            with pytest.raises(UserError, match=message):
                scan(tmp_path, **{"train": "rows.txt", **settings})
    (tmp_path / "rows.txt").write_bytes(b"a.jpg \xff\xfe\n")
    with pytest.raises(UserError, match=r"rows\.txt: expected a text or CSV file"):
        scan(tmp_path, columns=corners)
