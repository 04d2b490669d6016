"""What a clone contains, and what its documents promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from utils.config.yaml_files import load_yaml

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout


def test_the_repository_is_complete():
    documents = (
        "LICENSE",
        "CITATION.cff",
        "README.md",
        "CHANGELOG.md",
        "requirements.txt",
        "pyproject.toml",
        ".ci/run",
    )
    assert [name for name in documents if not (ROOT / name).is_file()] == []


def test_no_file_of_the_program_is_ignored():
    patterns = ("data/**/*", "models/*", "utils/**/*.py", "*.py", "*.md", "tests/*.py", ".ci/*")
    present = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    names = [str(path.relative_to(ROOT)) for path in present if path.suffix != ".pyc"]
    assert len(names) > 50
    assert git("check-ignore", "--no-index", *names) == ""


def test_new_settings_files_are_not_ignored():
    paths = [
        "data/new.yaml",
        "data/hyps/hyp.new.yaml",
        "data/images/new.jpg",
        "models/new.yaml",
        "utils/datasets/new.py",
    ]
    assert git("check-ignore", *paths) == ""


def test_results_data_and_weights_are_ignored():
    paths = ["runs/train/exp/results.csv", "datasets/coco/a.jpg", "best.pt", "utils/__pycache__/a.pyc"]
    assert git("check-ignore", *paths).split() == paths


def test_no_large_and_no_binary_file_but_pictures_is_tracked():
    for path in (ROOT / name for name in git("ls-files", "-z").split("\0")):
        if path.is_file() and path.suffix not in (".jpg", ".jpeg", ".png"):
            assert path.stat().st_size < 200_000, path
            assert b"\0" not in path.read_bytes(), path


def test_the_licence_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_citation_file_names_the_papers_of_the_losses():
    citation = load_yaml(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    urls = {entry["url"].rpartition("/")[2] for entry in citation["references"]}
    assert urls >= {"1804.02767", "1608.01471", "1902.09630", "1911.08287", "2005.03572", "2104.00462", "1708.02002"}
    for entry in citation["references"]:
        assert entry["title"] and entry["authors"] and entry["year"]
        host, _, number = entry["url"].removeprefix("https://").partition("/")
        identifiers = {"arxiv.org": f"arXiv:{number.removeprefix('abs/')}", "doi.org": number}
        assert entry["identifiers"][0]["value"] == identifiers[host]


def imported_packages() -> set[str]:
    files = [*ROOT.glob("*.py"), *ROOT.glob("models/**/*.py"), *ROOT.glob("utils/**/*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {module.partition(".")[0] for module in modules}


def test_every_package_that_is_imported_is_required():
    files = [ROOT / name for name in ("requirements.txt", "requirements-search.txt")]
    lines = [line for file in files for line in file.read_text().splitlines()]
    required = {re.match(r"[\w-]+", line).group() for line in lines if line and not line.startswith(("#", "-r"))}
    own = {path.stem for path in ROOT.glob("*.py")} | {"models", "utils"}
    distributions = {"cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml"}
    foreign = imported_packages() - own - set(sys.stdlib_module_names)
    assert {distributions.get(name, name) for name in foreign} - required == set()
