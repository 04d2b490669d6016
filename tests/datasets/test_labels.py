"""Label files: what is read, what is skipped with a message, and what ends the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cases import case
from utils.datasets.formats.voc_xml import read_voc_labels
from utils.datasets.formats.yolo_txt import label_path, read_yolo_labels
from utils.errors import UserError

NAMES = ("cat", "dog", "person")


@pytest.fixture
def yolo(tmp_path: Path):
    """Write a label file and read it."""
    (tmp_path / "labels").mkdir()

    def read(text: str):
        (tmp_path / "labels" / "a.txt").write_text(text)
        return read_yolo_labels(str(tmp_path / "images" / "a.jpg"), (100, 100), NAMES)

    return read


@pytest.fixture
def voc(tmp_path: Path):
    """Write an annotation of a 100 x 200 image and read it."""
    (tmp_path / "Annotations").mkdir()

    def read(*objects: str):
        text = (
            "<annotation>\n<size><width>7</width><height>7</height></size>\n" + "\n".join(objects) + "\n</annotation>"
        )
        (tmp_path / "Annotations" / "a.xml").write_text(text)
        return read_voc_labels(str(tmp_path / "JPEGImages" / "a.jpg"), (100, 200), NAMES)

    return read


def voc_object(name: str, *box: object, extra: str = "") -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object>\n<name>{name}</name>{extra}<bndbox>{sides}</bndbox>\n</object>"


def test_the_last_images_folder_becomes_labels() -> None:
    assert label_path("/images/set/images/train/a.b.jpg") == "/images/set/labels/train/a.b.txt"


def test_boxes(yolo) -> None:
    annotation = yolo("0 0.5 0.5 0.2 0.4\n\n2 0.25\t0.75 0.1 0.1\n")
    np.testing.assert_allclose(annotation.labels, [[0, 0.5, 0.5, 0.2, 0.4], [2, 0.25, 0.75, 0.1, 0.1]], rtol=1e-6)
    assert annotation.found and not annotation.problems and len(annotation.polygons.owner) == 0


def test_polygons_become_boxes_and_keep_their_points(yolo) -> None:
    annotation = yolo("1 0.1 0.2 0.5 0.2 0.3 0.6\n0 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.8\n")
    np.testing.assert_allclose(annotation.labels, [[1, 0.3, 0.4, 0.4, 0.4], [0, 0.7, 0.7, 0.4, 0.4]], rtol=1e-5)
    np.testing.assert_array_equal(annotation.polygons.owner, [0, 0, 0, 1, 1, 1, 1])


def test_one_polygon_makes_all_rows_corners_and_says_so(yolo) -> None:
    annotation = yolo("1 0.1 0.2 0.5 0.2 0.3 0.6\n0 0.2 0.2 0.4 0.6\n")
    np.testing.assert_allclose(annotation.labels[1], [0, 0.3, 0.4, 0.2, 0.4], rtol=1e-5)
    assert "a.txt:2" in annotation.problems[0]


def test_missing_and_empty_files_are_background(yolo, tmp_path: Path) -> None:
    missing = read_yolo_labels(str(tmp_path / "images" / "other.jpg"), (9, 9), NAMES)
    empty = yolo("\n \n")
    assert missing.labels.shape == empty.labels.shape == (0, 5)
    assert (missing.found, empty.found) == (False, True)


def test_a_bad_row_is_left_out_with_file_and_line(yolo) -> None:
    for row in [
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 0.9",
        "0 a 0.5 0.2 0.2",
        "0.5 0.5 0.5 0.2 0.2",
        "0 nan 0.5 0.2 0.2",
        "0 1.5 0.5 0.2 0.2",
        "0 -0.1 0.5 0.2 0.2",
        "0 0.5 0.5 0 0.2",
    ]:
        with case(row):
            annotation = yolo(f"1 0.5 0.5 0.2 0.2\n{row}\n")
            np.testing.assert_array_equal(annotation.labels[:, 0], [1])
            assert len(annotation.problems) == 1 and "a.txt:2: " in annotation.problems[0]


def test_rounding_beyond_the_border_is_clipped_not_dropped(yolo) -> None:
    annotation = yolo("0 1.0000001 0.5 0.2 1.0005\n1 -0.0001 0.5 0.1 0.1\n")
    np.testing.assert_allclose(annotation.labels, [[0, 1, 0.5, 0.2, 1], [1, 0, 0.5, 0.1, 0.1]])
    assert not annotation.problems


def test_repeated_rows_are_left_out_with_their_line(yolo) -> None:
    annotation = yolo("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n0 0.50 0.5 0.2 0.2\n")
    np.testing.assert_array_equal(annotation.labels[:, 0], [0, 1])
    assert "a.txt:3: repeats line 1" in annotation.problems[0]


def test_a_wrong_class_index_ends_the_run(yolo) -> None:
    for cls in [3, -1]:
        with (
            case(cls),
            pytest.raises(UserError, match=rf"a.txt:2: expected a class index from 0 to 2 but got {cls}\. .*2 person"),
        ):
            yolo(f"0 0.5 0.5 0.2 0.2\n{cls} 0.5 0.5 0.2 0.2\n")


def test_a_label_file_that_is_no_text_is_an_error_of_the_image(yolo, tmp_path: Path) -> None:
    yolo("")
    (tmp_path / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match=r"a.txt cannot be read"):
        read_yolo_labels(str(tmp_path / "images" / "a.jpg"), (100, 100), NAMES)


def test_voc_boxes_count_from_one_and_include_the_last_pixel(voc) -> None:
    # pixels 1..200 by 1..100 are the whole image, whatever size the XML claims
    annotation = voc(voc_object("dog", 1, 1, 200, 100), voc_object("cat", 11, 21, 20, 40))
    np.testing.assert_allclose(annotation.labels[0], [1, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(annotation.labels[1], [0, 15 / 200, 30 / 100, 10 / 200, 20 / 100], rtol=1e-6)


def test_voc_difficult_objects_are_regions_to_ignore(voc) -> None:
    annotation = voc(
        voc_object("dog", 1, 1, 50, 50, extra="<difficult>1</difficult>"),
        voc_object("cat", 1, 1, 50, 50, extra="<difficult>0</difficult>"),
    )
    np.testing.assert_array_equal(annotation.labels[:, 0], [0])
    np.testing.assert_array_equal(annotation.crowds[:, 0], [1])
    assert not annotation.problems


def test_voc_boxes_are_clipped_to_the_image(voc) -> None:
    annotation = voc(voc_object("dog", -5, 51, 300, 120))
    np.testing.assert_allclose(annotation.labels, [[1, 0.5, 0.75, 1, 0.5]])


def test_voc_degenerate_boxes_are_left_out_with_file_and_line(voc) -> None:
    for box in [(30, 30, 10, 40), (250, 10, 260, 20), ("x", 1, 2, 3), (1, 1, "nan", 5), ("", 1, 2, 3)]:
        with case(box):
            annotation = voc(voc_object("dog", 1, 1, 50, 50), voc_object("cat", *box))
            np.testing.assert_array_equal(annotation.labels[:, 0], [1])
            assert len(annotation.problems) == 1 and "a.xml:6: cat: expected" in annotation.problems[0]


def test_voc_one_pixel_wide_box_is_kept(voc) -> None:
    assert voc(voc_object("dog", 10, 10, 10, 20)).labels[0, 3] == pytest.approx(1 / 200)


def test_voc_unknown_name_ends_the_run_and_names_the_nearest(voc) -> None:
    with pytest.raises(UserError, match=r"a.xml:6: unknown class name 'persn'. Known: cat, dog, person. .*'person'"):
        voc(voc_object("dog", 1, 1, 50, 50), voc_object("persn", 1, 1, 50, 50))


def test_voc_missing_file_is_background_and_broken_xml_an_error_of_the_image(voc, tmp_path: Path) -> None:
    assert not read_voc_labels(str(tmp_path / "JPEGImages" / "b.jpg"), (9, 9), NAMES).found
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match=r"a.xml cannot be parsed"):
        read_voc_labels(str(tmp_path / "JPEGImages" / "a.jpg"), (9, 9), NAMES)


def test_rows_say_where_each_object_is_in_its_file(yolo, voc) -> None:
    annotation = yolo("0 .5 .5 .2 .2\n\n0 .5 .5 .2 .2\n9 9\n1 .5 .5 0 .1\n2 .9 .9 .4 .4\n")
    assert annotation.rows == (1, 6) and annotation.overhang is None
    assert len(annotation.problems) == 3 and len(annotation.repeated) == 1 and "a.txt:3" in annotation.repeated[0]
    annotation = voc(
        voc_object("cat", 1, 1, 50, 50), voc_object("dog", -4, 0, 50, 108), voc_object("cat", 1, 1, 50, 50)
    )
    assert annotation.rows == (3, 6) and annotation.overhang is not None
    assert annotation.overhang.tolist() == [0, 8], "the image has 100 rows: 8 pixels are beyond its lower side"
    assert annotation.repeated == annotation.problems and "a.xml:9" in annotation.problems[0]
