"""Files of the program and folders of runs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.files import find_file, increment_path


def test_find_file_prefers_the_working_folder_and_falls_back_to_the_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_file("hyp.sca.yaml", "hyper-parameter file")
    assert shipped.is_absolute() and shipped.parts[-3:] == ("data", "hyps", "hyp.sca.yaml")
    assert find_file("data/hyps/hyp.sca.yaml", "hyper-parameter file").samefile(shipped)
    own = tmp_path / "hyp.sca.yaml"
    own.write_text("lr0: 0.1\n")
    assert find_file("hyp.sca.yaml", "hyper-parameter file").samefile(own)
    assert find_file(own, "hyper-parameter file") == own


def test_find_file_names_the_nearest_of_the_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown hyper-parameter file 'hyp\.scaa'.*Did you mean 'hyp\.sca\.yaml'"):
        find_file("hyp.scaa", "hyper-parameter file", ["data/hyps"])
    with pytest.raises(UserError, match=r"unknown hyper-parameter file 'hyp\.sca'.*Did you mean 'hyp\.sca\.yaml'"):
        find_file(Path("hyp.sca"), "hyper-parameter file", ["data/hyps"])


def test_increment_path_counts_from_2(tmp_path):
    names = [increment_path(tmp_path / "runs", "exp").name for _ in range(3)]
    assert names == ["exp", "exp2", "exp3"]
    assert increment_path(tmp_path / "runs", "exp", exist_ok=True).name == "exp"
    assert increment_path(tmp_path / "runs", "new", exist_ok=True).is_dir()


def test_runs_that_start_together_never_share_a_folder(tmp_path):
    folders: list[Path] = []
    start = threading.Barrier(8)

    def claim() -> None:
        start.wait()
        folders.extend(increment_path(tmp_path, "exp") for _ in range(10))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == len(set(folders)) == 80


def test_increment_path_refuses_a_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="cannot make the run folder"):
        increment_path(tmp_path / "runs", "exp")
    with pytest.raises(UserError, match="expected the name of a run folder"):
        increment_path(tmp_path, "")
