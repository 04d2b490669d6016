"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _derived_files_of_tests_stay_among_them(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Label caches and generated pictures go to one temporary folder, not to the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
