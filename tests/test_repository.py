"""What a clone contains, and what its documents promise."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import shlex
import statistics
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from utils.config.loading import load_hyperparameters
from utils.config.yaml_files import load_yaml
from utils.criterion.criterion import Criterion
from utils.errors import UserError
from utils.files import find_file

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("check", "convert", "train", "val", "detect", "study", "search")


def git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout


def test_the_repository_is_complete():
    documents = (
        "LICENSE",
        "CITATION.cff",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "Makefile",
        ".editorconfig",
        ".pre-commit-config.yaml",
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


def test_tracked_files_are_small_and_only_pictures_and_golden_cases_are_binary():
    pictures = (".jpg", ".jpeg", ".png")
    for path in (ROOT / name for name in git("ls-files", "-z").split("\0")):
        if path.is_file() and path.suffix not in pictures:
            is_golden = path.parent == ROOT / "tests" / "data" / "golden"
            assert path.stat().st_size < (400_000 if is_golden else 200_000), path
            assert (is_golden and path.suffix == ".npz") or b"\0" not in path.read_bytes(), path


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
    optional = {"safetensors"}  # one message says what to install where it is asked for
    assert {distributions.get(name, name) for name in foreign} - required - optional == set()


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def anchor_of(heading: str) -> str:
    """The anchor of a heading on a code host: lower case, punctuation dropped, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_links_lead_somewhere():
    broken = []
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
            if link.startswith("https://"):
                continue
            file, _, anchor = link.partition("#")
            target = (document.parent / file) if file else document
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor and target.exists() else []
            if not target.exists() or (anchor and anchor not in map(anchor_of, headings)):
                broken.append(f"{name_of(document)}: {link}")
    assert not broken


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page for page in DOCUMENTS if page.parent.name == "docs" and page.name != "index.md"]
    assert [page.name for page in pages if f"]({page.name})" not in index] == []


def test_files_named_in_the_documents_exist():
    pattern = re.compile(
        r"(?<![\w/.])(?:utils|models|tests|data|docs|benchmarks)/[\w./-]+\.(?:py|yaml|md|csv|png|jpg)\b"
    )
    sources = [*DOCUMENTS, ROOT / "CHANGELOG.md", *ROOT.glob("data/**/*.yaml"), *ROOT.glob("models/*.yaml")]
    missing = []
    for source in sources:
        names = pattern.findall(source.read_text(encoding="utf-8"))
        missing += [f"{name_of(source)}: {name}" for name in names if not (ROOT / name).exists()]
    # what the recipes create, and folders of the user's own
    assert not [line for line in missing if not line.startswith("CONTRIBUTING.md")]


def fenced_blocks(language: str) -> list[tuple[str, str]]:
    """Document and text of each fenced block of a language, "" for those without."""
    blocks = []
    for document in DOCUMENTS:
        found = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        blocks += [(name_of(document), text) for own, text in found if own == language]
    return blocks


def shown_commands() -> list[tuple[str, list[str]]]:
    """Document and words of each command line in a fenced block without a language, comments removed."""
    commands = []
    for document, text in fenced_blocks(""):
        for line in text.replace("\\\n", " ").splitlines():
            commands += [(document, shlex.split(part, comments=True)) for part in line.split(" && ")]
    return [(document, words) for document, words in commands if words]


@functools.cache
def known_flags(command: str) -> set[str]:
    """Every flag that a command's help names, those of its subcommands included."""
    forms = [[command], *([command, action] for action in ("train", "table", "plot") if command == "study")]
    flags: set[str] = set()
    for form in forms:
        call = [sys.executable, f"{form[0]}.py", *form[1:], "--help"]
        text = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        flags |= set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
    if command in ("study", "search"):
        flags |= known_flags("train")  # whose options may follow
    return flags


def test_shown_flags_and_files_exist():
    wrong, checked = [], 0
    for document, words in shown_commands():
        if words[0] != "python" or words[1].removesuffix(".py") not in COMMANDS:
            continue
        checked += 1
        unknown = {word for word in words if re.match("--?[a-z]", word)} - known_flags(words[1].removesuffix(".py"))
        wrong += [f"{document}: {words[1]} {flag}" for flag in sorted(unknown)]
        for word in words[2:]:
            if word.endswith(".yaml") and "/" not in word:
                try:
                    find_file(word, "file")
                except UserError:
                    wrong.append(f"{document}: {word}")
    assert checked > 20 and not wrong


def accepted_keywords(function: Callable[..., object]) -> set[str]:
    """Names of the parameters, and of the keywords that ``**options: Unpack[...]`` stands for."""
    names = set()
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            (keywords,) = typing.get_args(typing.get_type_hints(function)[name])
            names |= set(keywords.__annotations__)
        names.add(name)
    return names


def test_shown_python_calls_what_exists():
    wrong, checked = [], 0
    for document, text in fenced_blocks("python"):
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            module, _, name = ast.unparse(call.func).partition(".")
            if module in COMMANDS and name.isidentifier():
                checked += 1
                function = getattr(importlib.import_module(module), name, None)
                given = {keyword.arg for keyword in call.keywords}
                if function is None or given - accepted_keywords(function):
                    wrong.append(f"{document}: {ast.unparse(call)}")
    assert checked > 5 and not wrong


def test_flags_named_in_the_text_exist():
    known = set().union(*map(known_flags, COMMANDS))
    for path in (path for folder in ("utils", "models", "tests") for path in ROOT.glob(f"{folder}/**/*.py")):
        known |= set(re.findall(r'"(--[a-z][\w-]*)"', path.read_text(encoding="utf-8")))  # of other commands
    wrong = []
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(re.findall(r"`([^`]+)`", text))))
        wrong += [f"{name_of(document)}: {flag}" for flag in sorted(shown - known)]
    assert not wrong


def test_shown_modules_and_tasks_exist():
    tasks = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wrong = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for module in re.findall(r"python -m ([\w.]+)", text):
            path = ROOT / module.replace(".", "/")
            found = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
            if not found and module not in ("pytest", "venv"):
                wrong.append(f"{name_of(document)}: {module}")
        wrong += [f"{name_of(document)}: make {task}" for task in re.findall(r"`make (\w+)", text) if task not in tasks]
    assert not wrong


def test_shown_settings_can_be_trained_with(tmp_path: Path):
    """A YAML block with ``loss`` or ``assigner`` is a hyper-parameter file, from which a criterion is built."""
    blocks = [text for _, text in fenced_blocks("yaml") if re.search("^(loss|assigner):", text, re.MULTILINE)]
    assert blocks
    for text in blocks:
        (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
        Criterion(torch.rand(3, 3, 2) + 1, (8, 16, 32), 2, 320, load_hyperparameters(tmp_path / "settings.yaml"))


def test_the_results_in_the_readme_are_those_of_the_rows():
    files = [ROOT / "docs" / "results" / name for name in ("bccd-ranking.csv", "bccd-correlation.csv")]
    rows = pd.concat([pd.read_csv(file) for file in files]).drop_duplicates(["preset", "seed"])
    presets = {
        "BCE": "bce-tuned",
        "aLRP": "alrp",
        "AP": "ap",
        "BCE + concordance": "corr-concordance",
        "Rank & Sort": "rs-lr0.04-delta1",
        "Parameterized AP": "pap-published",
    }
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    table = {cells[0]: cells[2:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    for name, preset in presets.items():
        own = rows[rows["preset"] == preset]
        assert sorted(own["seed"]) == [0, 1, 2], name
        columns = [own[metric].tolist() for metric in ("map", "map50", "map75", "olrp")]
        assert table[name] == [f"{statistics.mean(c):.3f} ± {statistics.stdev(c):.3f}" for c in columns], name


def test_paragraphs_of_the_readme_are_short():
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    paragraphs = [part.splitlines() for part in re.split(r"\n\s*\n", text)]
    assert [lines[0] for lines in paragraphs if len(lines) > 4 and not lines[0].startswith("|")] == []
