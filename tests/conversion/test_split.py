"""Splits: ratios met, groups whole, lists followed, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.cases import case
from utils.conversion.split import by_lists, by_ratio
from utils.errors import UserError

IMAGES = [f"/data/{plate}{number:03d}.jpg" for plate in "abcdefghij" for number in range(20)]


def test_ratios_are_met_to_the_image_and_every_image_is_used_once() -> None:
    for parts in ((0.8, 0.1, 0.1), (0.5, 0.5), (0.7, 0.3), (0.98, 0.01, 0.01)):
        for count in (3, 10, 199, 200):
            with case(parts, count):
                found = by_ratio(IMAGES[:count], parts, 0)
                assert list(found) == ["train", "val", "test"][: len(parts)]
                assert sorted(image for images in found.values() for image in images) == IMAGES[:count]
                for part, images in zip(parts, found.values(), strict=True):
                    assert images == sorted(images) and abs(len(images) - max(part * count, 1)) < 2


def test_the_seed_decides_and_nothing_else() -> None:
    parts = (0.8, 0.2)
    moved = [image.replace("/data", "/elsewhere") for image in IMAGES]
    first = by_ratio(IMAGES, parts, 0)
    assert by_ratio(IMAGES, parts, 0) == first and by_ratio(IMAGES, parts, 1) != first
    assert [image.replace("/elsewhere", "/data") for image in by_ratio(moved, parts, 0)["val"]] == first["val"]
    assert len({image[6] for image in first["val"]}) > 5  # from all over the list


def test_groups_stay_together() -> None:
    uneven = [image for image in IMAGES if image[6] != "a" or image < "/data/a005"]
    for pattern in (r"^([a-j])", r"^[a-j]", r"^(?:x)?([a-j])\d"):
        for seed in range(3):
            found = by_ratio(uneven, (0.6, 0.2, 0.2), seed, pattern)
            splits = {image: split for split, images in found.items() for image in images}
            assert len(splits) == len(uneven)
            assert all(len({splits[i] for i in uneven if i[6] == plate}) == 1 for plate in "abcdefghij"), pattern
            counts = Counter(splits.values())
            assert abs(counts["train"] - 0.6 * len(uneven)) <= 20 and min(counts.values()) >= 5


def test_groups_that_cannot_be() -> None:
    for pattern, message in [
        ("(", r"--group: expected a regular expression but got '\('"),
        (r"^(z)", r"--group: '\^\(z\)' does not match the name 'a000\.jpg'"),
        ("data", "does not match"),  # the name, not the path
        (r"\.jpg", "at least 3 groups of images but found 1"),
    ]:
        with case(pattern), pytest.raises(UserError, match=message):
            by_ratio(IMAGES, (0.8, 0.1, 0.1), 0, pattern)
    with pytest.raises(UserError, match="at least 2 images but found 1"):
        by_ratio(IMAGES[:1], (0.5, 0.5), 0)


def test_lists_name_images_by_path_name_stem_or_first_column(tmp_path: Path) -> None:
    images = [str(tmp_path / name) for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "c d.jpg", "e_test.jpg", "f.jpg")]
    stems = {images[4]: "e"}
    (tmp_path / "train.txt").write_text("a/1.jpg\n\nb/2\n")
    (tmp_path / "val.txt").write_text("c d\npcb/e.jpg pcb_not/e.txt\n2.jpg\n")
    found, unlisted = by_lists(images, [tmp_path / "train.txt", tmp_path / "val.txt"], stems)
    assert found == {"train": [images[0], images[2]], "val": [images[2], images[3], images[4]]}
    assert unlisted == [images[1], images[5]]
    for text, message in [
        ("1.jpg", r"val\.txt:1: '1\.jpg' may be .*a/1\.jpg or .*b/1\.jpg"),
        ("f\nghost", r"val\.txt:2: 'ghost' is none of the images"),
        ("", r"val\.txt: expected a list of images for val but it is empty"),
    ]:
        with case(text):
            (tmp_path / "val.txt").write_text(text)
            with pytest.raises(UserError, match=message):
                by_lists(images, [tmp_path / "train.txt", tmp_path / "val.txt"], stems)
