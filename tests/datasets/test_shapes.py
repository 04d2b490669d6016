"""The generated data set: the same everywhere, with boxes that are exactly those of the figures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.cases import case
from utils.datasets import DetectionDataset, read_data_yaml
from utils.datasets.randomness import Stream, keyed_rng
from utils.datasets.scenes import FIGURES, coverage, draw_scene, place_figure
from utils.datasets.shapes import ShapesSettings, ensure_generated, generated_root
from utils.errors import UserError

SETTINGS = ShapesSettings(classes=("ellipse", "star", "cross", "triangle"), train=4, val=2)


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "cache"))


def files_of(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_generation_is_deterministic_and_complete(monkeypatch, tmp_path: Path) -> None:
    ensure_generated(SETTINGS)
    first = files_of(generated_root(SETTINGS))
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "other"))
    ensure_generated(SETTINGS)
    assert files_of(generated_root(SETTINGS)) == first
    assert sum(name.startswith("images/train") for name in first) == 4
    assert sum(name.startswith("labels/val") for name in first) == 2
    assert [path.name for path in generated_root(SETTINGS).parent.iterdir()] == [generated_root(SETTINGS).name]


def test_generating_several_times_at_once_makes_one_data_set() -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ensure_generated, [SETTINGS] * 3))
    assert [path.name for path in generated_root(SETTINGS).parent.iterdir()] == [generated_root(SETTINGS).name]
    assert len(files_of(generated_root(SETTINGS))) == 12


def test_a_folder_that_cannot_be_written_is_a_user_error(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLO_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be generated in .*YOLO_CACHE_DIR"):
        ensure_generated(SETTINGS)


def test_another_seed_is_another_folder() -> None:
    other = ShapesSettings(classes=SETTINGS.classes, train=4, val=2, seed=1)
    ensure_generated(SETTINGS)
    ensure_generated(other)
    first, second = files_of(generated_root(SETTINGS)), files_of(generated_root(other))
    assert all(first[name] != second[name] for name in first)


def test_the_box_of_a_figure_is_that_of_its_pixels() -> None:
    for name in FIGURES:
        with case(name):
            for index in range(10):
                rng = keyed_rng(Stream.SHAPES, 0, 0, index)
                corners = place_figure(FIGURES[name](rng), 200, 200, rng)
                corners += 150 - corners.mean(axis=0)  # well inside a picture of 300 x 300
                rows, columns = np.nonzero(coverage(corners, 300, 300) > 0)
                found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                low, high = corners.min(axis=0), corners.max(axis=0)
                # the pixels touched reach up to one further than the corners, never less by more than the sampling step
                outside = np.concatenate((low - found[:2], found[2:] - high))
                assert (outside > -0.3).all() and (outside < 1.3).all()


def test_scenes_have_boxes_inside_and_several_classes() -> None:
    names = tuple(FIGURES)
    scenes = [draw_scene(130, 220, names, keyed_rng(Stream.SHAPES, 3, 0, index)) for index in range(20)]
    boxes = np.concatenate([scene.boxes for scene in scenes])
    assert (boxes >= 0).all() and (boxes <= [220, 130, 220, 130]).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 2).all()
    assert set(np.concatenate([scene.classes for scene in scenes])) == set(range(len(names)))
    assert all(2 <= len(scene.boxes) <= 8 for scene in scenes)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert sides.min() < 20 and sides.max() > 70


def test_a_yaml_with_a_generator_needs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [star, crescent]\ngenerator: {name: shapes, train: 3, val: 1}\n"
    )
    before = sorted(tmp_path.iterdir())
    dataset = DetectionDataset(read_data_yaml(tmp_path / "own.yaml"), "train", image_size=64)
    assert len(dataset) == 3
    assert set(np.concatenate(dataset.labels)[:, 0]) <= {0, 1}
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
