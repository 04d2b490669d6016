"""Reading a split: which images are skipped, what the cache remembers, and that user data stays untouched."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.cases import case
from utils.config.hyperparameters import Hyperparameters
from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets import pixels as pixels_module
from utils.datasets import scan as scan_module
from utils.datasets.image_files import check_image, read_image
from utils.errors import UserError


@pytest.fixture
def root(monkeypatch, tmp_path: Path) -> Path:
    """A YOLO data set of 6 images of 40 x 60, one object each."""
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "cache"))
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"{number}.jpg"), pixels)
        (root / "labels" / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.2 0.{number + 1}\n")
    (root / "set.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    return root


def open_split(root: Path, **options) -> DetectionDataset:
    return DetectionDataset(read_data_yaml(root / "set.yaml"), "train", image_size=64, **options)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_scan_reads_everything_and_writes_nothing_beside_it(root: Path) -> None:
    before = snapshot(root)
    for cache in (None, "ram", "disk"):
        dataset = open_split(root, augment=True, cache=cache)
        assert [labels[0, 0] for labels in dataset.labels] == [0, 1, 0, 1, 0, 1]
        assert dataset[0, 3].labels.shape[1] == 5
    assert snapshot(root) == before
    np.testing.assert_array_equal(dataset.sizes_hw, np.tile([40, 60], (6, 1)))


def test_second_reading_comes_from_the_cache(root: Path, monkeypatch) -> None:
    first = open_split(root)

    def refuse(path: str) -> None:
        raise AssertionError(f"{path} was opened again")

    monkeypatch.setattr(scan_module, "check_image", refuse)
    second = open_split(root)
    assert first.paths == second.paths and first.report == second.report
    for one, other in zip(first.labels, second.labels, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cache_keeps_polygons(root: Path) -> None:
    (root / "labels" / "2.txt").write_text("1 0.1 0.1 0.9 0.1 0.5 0.7\n0 0.2 0.2 0.3 0.2 0.3 0.3 0.2 0.3\n")
    for dataset in (open_split(root), open_split(root)):
        assert [len(polygons.owner) for polygons in dataset.polygons] == [0, 0, 7, 0, 0, 0]
        np.testing.assert_allclose(dataset.polygons[2].points[2], [0.5, 0.7])


@pytest.mark.parametrize("what", ["label", "new label", "image", "names"])
def test_a_change_makes_the_cache_anew(root: Path, what: str) -> None:
    (root / "labels" / "5.txt").unlink()
    before = open_split(root)
    if what == "label":
        (root / "labels" / "0.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    elif what == "new label":
        (root / "labels" / "5.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    elif what == "image":
        cv2.imwrite(str(root / "images" / "0.jpg"), np.zeros((50, 60, 3), np.uint8))
    else:
        (root / "set.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
        with pytest.raises(UserError, match="expected a class index"):
            open_split(root)
        return
    after = open_split(root)
    changed = [
        not np.array_equal(one, other)
        for one, other in zip((*before.labels, before.sizes_hw), (*after.labels, after.sizes_hw), strict=True)
    ]
    assert changed == [what == "label", False, False, False, False, what == "new label", what == "image"]


def test_damaged_cache_is_made_anew(root: Path, tmp_path: Path, caplog) -> None:
    open_split(root)
    (file,) = (tmp_path / "cache" / "labels").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert len(open_split(root)) == 6
    assert "damaged" in caplog.text


def test_a_cache_folder_that_cannot_be_written_does_not_matter(root: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "file"))
    dataset = open_split(root, cache="disk")
    assert dataset[0].image.shape == (64, 64, 3)
    assert "not cached" in caplog.text


def test_bad_images_are_reported_and_left_out(root: Path, caplog) -> None:
    images = root / "images"
    (images / "0.jpg").write_bytes(b"this is text")
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:-200])
    cv2.imwrite(str(images / "2.jpg"), np.zeros((9, 60, 3), np.uint8))
    (images / "3.jpg").write_bytes(b"")
    (images / "4.jpg").write_bytes((images / "4.jpg").read_bytes() + b"\0\0trailing")  # harmless
    with caplog.at_level(logging.INFO):
        dataset = open_split(root)
    assert [Path(path).name for path in dataset.paths] == ["4.jpg", "5.jpg"]
    assert dataset.report.corrupt == 4 and len(dataset.report.problems) == 4
    for number, reason in [(0, "cannot be read"), (1, "truncated"), (2, "60 x 9"), (3, "cannot be read")]:
        assert any(f"{number}.jpg" in problem and reason in problem for problem in dataset.report.problems)
        assert f"{number}.jpg" in caplog.text
    assert "4 unreadable, skipped" in caplog.text


def test_report_counts_missing_and_empty_labels(root: Path) -> None:
    (root / "labels" / "0.txt").unlink()
    (root / "labels" / "1.txt").write_text("")
    (root / "labels" / "2.txt").write_text("0 0.5 0.5 0.1\n")
    report = open_split(root).report
    assert (report.found, report.missing, report.empty, report.corrupt) == (5, 1, 2, 0)
    assert "2.txt:1" in report.problems[0]


def test_no_labels_at_all_is_a_user_error(root: Path) -> None:
    for file in (root / "labels").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"set.yaml: train: expected labels to train on.*labels/0.txt"):
        open_split(root)
    validation = DetectionDataset(read_data_yaml(root / "set.yaml"), "val", image_size=64)
    assert validation[0].labels.shape == (0, 5)


def test_only_bad_images_is_a_user_error(root: Path) -> None:
    for file in (root / "images").iterdir():
        file.write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected readable images but all were skipped: .*0.jpg"):
        open_split(root)


@pytest.mark.parametrize("augment", [False, True])
def test_an_image_that_breaks_after_the_scan_becomes_grey(root: Path, caplog, augment: bool) -> None:
    dataset = open_split(root, augment=augment, hyp=Hyperparameters(mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0))
    (root / "images" / "2.jpg").write_bytes(b"broken")
    (root / "images" / "3.jpg").unlink()
    for index in (2, 3):
        sample = dataset[0, index]
        assert (sample.image == 114).all()
        assert len(sample.labels) == (0 if augment else 1), "validation counts its objects as missed"
        dataset[1, index]
        assert caplog.text.count(f"{index}.jpg: the image cannot be decoded") == 1


def test_mosaics_of_polygons_are_copy_pasted_and_those_of_boxes_are_not(root: Path) -> None:
    def objects_with(fraction: float) -> int:
        hyp = Hyperparameters(copy_paste=fraction, scale=0, translate=0)
        return sum(len(open_split(root, augment=True, hyp=hyp)[epoch, 0].labels) for epoch in range(5))

    assert objects_with(1.0) == objects_with(0.0)
    for number in range(6):
        (root / "labels" / f"{number}.txt").write_text("1 0.1 0.1 0.3 0.1 0.2 0.5 0.1 0.4\n")
    assert objects_with(1.0) > objects_with(0.0)


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("augment", [False, True])
def test_cached_images_give_the_same_samples(root: Path, cache: str, augment: bool) -> None:
    plain, cached = open_split(root, augment=augment), open_split(root, augment=augment, cache=cache)
    for file in (
        root / "images"
    ).iterdir():  # cached ones need no files any more, on disk they are found by time and size
        if cache == "ram":
            plain[0, int(file.stem)]
    for index in range(6):
        one, other = plain[1, index], cached[1, index]
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_ram_cache_outlives_the_files(root: Path) -> None:
    dataset = open_split(root, cache="ram")
    expected = [dataset[index].image for index in range(6)]
    for index in range(6):
        np.testing.assert_array_equal(dataset[index].image, expected[index])


def test_disk_cache_notices_a_changed_image(root: Path) -> None:
    first = open_split(root, cache="disk")[0].image
    cv2.imwrite(str(root / "images" / "0.jpg"), np.zeros((40, 60, 3), np.uint8))
    assert open_split(root, cache="disk")[0].image[20:40].max() == 0 != first[20:40].max()


def test_memory_that_does_not_suffice_leaves_the_cache_off(root: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("utils.datasets.pixels._free_memory", lambda: 6 * 64 * 42 * 3)  # without the margin of 10 %
    assert open_split(root, cache="ram")[0].image.shape == (64, 64, 3)
    assert "images are not cached" in caplog.text


def test_processes_of_one_machine_share_its_memory(monkeypatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert pixels_module._free_memory() == 4000 * 1024
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert pixels_module._free_memory() == 1000 * 1024


@pytest.mark.parametrize("cache", [None, "ram", "disk"])
def test_an_image_that_is_listed_twice_is_trained_on_twice(root: Path, cache: str | None) -> None:
    (root / "labels" / "3.txt").write_text("1 0.5 0.5 0.2 0.2\n1 0.5\n")
    (root / "list.txt").write_text("images/3.jpg\nimages/1.jpg\nimages/3.jpg\n")
    (root / "set.yaml").write_text("train: list.txt\nval: images\nnames: [cat, dog]\n")
    for dataset in (open_split(root, cache=cache), open_split(root, cache=cache)):  # read, then from the cache
        assert [Path(path).stem for path in dataset.paths] == ["1", "3", "3"]
        assert len(dataset.report.problems) == 1
        first, second = dataset[1], dataset[2]
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.labels, second.labels)


def test_the_size_is_that_of_the_decoded_image_whatever_exif_says(tmp_path: Path) -> None:
    for orientation in [1, 3, 6, 8]:
        for suffix in ["jpg", "png", "tif", "webp"]:
            with case(orientation, suffix):
                exif = Image.Exif()
                exif[0x0112] = orientation
                file = str(tmp_path / f"turned.{suffix}")
                Image.fromarray(np.zeros((20, 50, 3), np.uint8)).save(file, exif=exif)
                assert check_image(file) == read_image(file).shape[:2]
                if suffix == "jpg":
                    assert check_image(file) == ((50, 20) if orientation > 4 else (20, 50))


def test_grey_and_transparent_images_become_three_channels(tmp_path: Path) -> None:
    for name, mode in (("grey.png", "L"), ("clear.png", "RGBA"), ("palette.png", "P"), ("bits.tif", "1")):
        Image.new(mode, (30, 20)).save(tmp_path / name)
        assert check_image(str(tmp_path / name)) == (20, 30)
        assert read_image(str(tmp_path / name)).shape == (20, 30, 3)


def test_file_names_need_not_be_ascii(root: Path) -> None:
    os.rename(root / "images" / "0.jpg", root / "images" / "Größe 1.jpg")
    os.rename(root / "labels" / "0.txt", root / "labels" / "Größe 1.txt")
    dataset = open_split(root)
    assert len(dataset) == 6 and all(len(labels) for labels in dataset.labels)
    assert not (dataset[5].image == 114).all(), "an image that cannot be decoded is grey"


def test_single_class_merges_all(root: Path) -> None:
    dataset = open_split(root, single_cls=True)
    assert len(dataset.names) == 1
    assert {float(labels[0, 0]) for labels in dataset.labels} == {0.0}
    assert {float(dataset[index].labels[0, 0]) for index in range(6)} == {0.0}


def test_unknown_cache_is_a_user_error(root: Path) -> None:
    with pytest.raises(UserError, match=r"unknown image cache 'rma'. Known: disk, ram. Did you mean 'ram'"):
        open_split(root, cache="rma")
