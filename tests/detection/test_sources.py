"""Sources of pictures: what a user may name, and what is said of what is not there."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.painted_objects import SCENES, paint
from utils.detection.sources import find_media
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scenes as pictures, and a text file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in SCENES:
        cv2.imwrite(str(folder / f"{name}.png"), paint(name))
    (folder / "notes.md").write_text("nothing to see")
    return folder


def test_sources_are_found(folder: Path, tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.touch()
    pictures = sorted(folder.glob("*.png"))
    assert find_media(folder) == pictures
    assert find_media(str(folder / "[12].png")) == pictures[:2]
    assert find_media(video) == [video]
    assert find_media("0") == find_media(0) == [0]
    assert find_media("rtsp://camera/1") == ["rtsp://camera/1"]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{folder / '2.png'}\n\n./pictures/1.png\npictures/street.png\n")
    assert [Path(item).name for item in find_media(listed)] == ["2.png", "1.png", "street.png"]


def test_a_list_reports_its_bad_lines(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = folder / "list.txt"
    listed.write_text("1.png\nstreeet.png\n")
    assert [Path(item).name for item in find_media(listed)] == ["1.png"]
    assert f"{listed}:2" in caplog.text
    assert "street.png" in caplog.text
    listed.write_text("nothing.png\n")
    with pytest.raises(UserError, match="none of them exists"):
        find_media(listed)


def test_missing_sources_are_explained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist. Did you mean '.*street.png'"):
        find_media(folder / "steet.png")
    with pytest.raises(UserError, match=r"Did you mean '.*pictures'"):
        find_media(tmp_path / "picture" / "1.png")
    with pytest.raises(UserError, match="the pattern matches none"):
        find_media(str(folder / "*.jpg"))
    with pytest.raises(UserError, match=r"expected an image or a video .* but got '.md'"):
        find_media(folder / "notes.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found none"):
        find_media(tmp_path / "empty")
