"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several at once, which take a core each: before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import yaml

from tests.painted_objects import write_data_set


@pytest.fixture(scope="session", autouse=True)
def _derived_files_of_tests_stay_among_them(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Label caches and generated pictures go to one temporary folder, not to the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


CFG = {
    "anchors": [[20, 30, 40, 60], [60, 40, 80, 90]],
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "C3", [16]]],
    "head": [[-1, 1, "Conv", [16, 3, 2]], [[2, 3], 1, "Detect", ["nc", "anchors"]]],
}


@pytest.fixture
def options(tmp_path: Path) -> dict:
    """Options of a training that takes a second or two."""
    return training_options(tmp_path)


def training_options(folder: Path) -> dict:
    """Options of a short training whose data and runs lie in a folder."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CFG))
    return {
        "data": str(write_data_set(folder / "set")),
        "cfg": str(folder / "tiny.yaml"),
        "imgsz": 64,
        "batch_size": 2,
        "epochs": 3,
        "workers": 0,
        "project": str(folder / "runs"),
        "noplots": True,
        "device": "cpu",
    }
