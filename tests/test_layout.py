"""The house as designed: which station may import which, no circle, and nothing evaluated, pickled or global.

Each test is one rule and names every offender.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.layout import ROOT, Layout

LAYOUT = Layout()
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")

# Station (a package, a single file, or a command) to the stations that it may import besides itself. Bottom up.
PRIMITIVES = {"utils.errors", "utils.structures", "utils.distributed"}
BASE = PRIMITIVES | {"utils.boxes", "utils.parameters", "utils.registry", "utils.files", "utils.config"}
PARTS = BASE | {"utils.checkpoint", "utils.torch_archive", "utils.label_files"}
JOINTS = PARTS | {"utils.losses", "utils.assigners", "utils.datasets", "utils.metrics", "utils.postprocess", "models"}
WORKSHOPS = JOINTS | {"utils.criterion", "utils.inference", "utils.training", "utils.plots", "utils.operating_points"}
MAY_IMPORT = {
    "utils.errors": set(),
    "utils.structures": set(),
    "utils.distributed": set(),
    "utils.boxes": PRIMITIVES,
    "utils.parameters": PRIMITIVES,
    "utils.registry": PRIMITIVES | {"utils.parameters"},
    "utils.files": PRIMITIVES,
    "utils.config": PRIMITIVES | {"utils.parameters", "utils.registry", "utils.files"},
    "utils.registry_tables": PRIMITIVES | {"utils.registry", "utils.files", "utils.config"},
    "utils.checkpoint": PRIMITIVES | {"utils.files"},
    "utils.torch_archive": PRIMITIVES,
    "utils.label_files": PRIMITIVES | {"utils.boxes"},
    # blind to one another
    "utils.losses": BASE | {"utils.registry_tables"},
    "utils.assigners": BASE | {"utils.registry_tables"},
    "utils.datasets": BASE,
    "utils.metrics": BASE,
    "utils.postprocess": BASE,
    "models": PARTS,
    # join them
    "utils.criterion": BASE | {"utils.losses", "utils.assigners"},
    "utils.inference": PRIMITIVES | {"utils.config"},
    "utils.operating_points": BASE | {"utils.metrics"},
    "utils.training": JOINTS | {"utils.criterion", "utils.inference"},
    "utils.plots": JOINTS | {"utils.training"},
    "utils.evaluation": WORKSHOPS - {"models", "utils.criterion", "utils.training"},
    "utils.detection": WORKSHOPS - {"utils.criterion", "utils.training"},
    "utils.inspection": BASE | {"utils.datasets", "utils.plots"},
    "utils.conversion": BASE | {"utils.datasets"},
    "utils.study": WORKSHOPS,
    "utils.search": WORKSHOPS | {"utils.study"},
    "val": WORKSHOPS - {"utils.training"} | {"utils.evaluation"},
    "detect": WORKSHOPS - {"utils.training"} | {"utils.detection"},
    "check": WORKSHOPS | {"utils.inspection"},
    "train": WORKSHOPS | {"utils.evaluation", "utils.inspection", "utils.search"},
    "study": WORKSHOPS | {"utils.study", "train"},
    "search": {"utils.config", "utils.search", "train"},
    "convert": BASE | {"utils.conversion"},
    "hubconf": {"detect"},
}
GRAB_BAGS = {"general", "misc", "common", "helpers", "util", "tools", "functions"}


def station_of(module: str) -> str:
    """The row of the table that a module belongs to; the module itself where it has none."""
    parts = module.split(".")
    candidates = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in candidates if name in MAY_IMPORT), module)


def test_imports_go_down():
    offenders = []
    for module, imports in LAYOUT.imports.items():
        own = station_of(module)
        if own not in MAY_IMPORT:
            offenders.append(f"{module} has no row in the table of this test, nor in docs/design.md")
            continue
        strangers = sorted(name for name in imports if station_of(name) not in MAY_IMPORT[own] | {own})
        offenders += [f"{module} imports {name}" for name in strangers]
    assert not offenders


def test_no_import_goes_round_in_a_circle():
    assert len(LAYOUT.longest_chain()) > 1  # CycleError names the circle


def test_only_loading_knows_checkpoints_among_the_models():
    importers = {name for name, imports in LAYOUT.imports.items() if "utils.checkpoint" in imports}
    assert {name for name in importers if name.startswith("models")} <= {"models.loading"}


def test_the_table_names_only_what_exists():
    assert set(MAY_IMPORT).union(*MAY_IMPORT.values()) <= set(LAYOUT.files)


def written_rule(text: str) -> set[str]:
    """The stations of a cell of docs/design.md, such as ``workshops - models + evaluation, detection``."""
    groups: dict[str, set[str]] = {"nothing": set(), "primitives": PRIMITIVES, "base": BASE}
    groups |= {"parts": PARTS, "joints": JOINTS, "workshops": WORKSHOPS}
    stations: set[str] = set()
    for sign, names in re.findall(r"(^|[+-])\s*([\w., ]+)", text):
        for name in names.strip().split(", "):
            in_utils = f"utils.{name}"
            found = groups.get(name, {in_utils if sign and in_utils in MAY_IMPORT else name})
            stations = stations - found if sign == "-" else stations | found
    return stations


def test_the_design_document_has_the_same_table():
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", DESIGN, flags=re.MULTILINE)
    written = {station: written_rule(rule) for station, rule in rows}
    assert written == MAY_IMPORT


def test_modules_are_named_after_what_they_hold():
    assert not [name for name in LAYOUT.files if name.rpartition(".")[2] in GRAB_BAGS]


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(LAYOUT.trees[module])
    return (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_function_is_annotated():
    offenders = []
    for module in LAYOUT.files:
        for node in functions(module):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [entry.arg for entry in arguments if entry.annotation is None and entry.arg not in ("self", "cls")]
            if bare or node.returns is None:
                offenders.append(f"{module}:{node.lineno} {node.name}({', '.join(bare)})")
    assert not offenders


def test_everything_public_is_documented():
    offenders = [module for module, tree in LAYOUT.trees.items() if not ast.get_docstring(tree)]
    for module, tree in LAYOUT.trees.items():
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        public = [node for node in public if not node.name.startswith("_")]
        offenders += [f"{module}.{node.name}" for node in public if not ast.get_docstring(node)]
    assert not offenders


def calls(module: str) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line, called name and keyword arguments of each call, as written."""
    for node in ast.walk(LAYOUT.trees[module]):
        if isinstance(node, ast.Call):
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
            yield node.lineno, ast.unparse(node.func), keywords


def test_nothing_is_evaluated_or_loaded_on_trust():
    forbidden = {"eval", "exec", "compile", "__import__", "yaml.unsafe_load", "yaml.full_load", "os.system"}
    offenders = []
    for module in LAYOUT.files:
        for line, called, keywords in calls(module):
            trusts = called == "torch.load" and keywords.get("weights_only") != "True"
            trusts |= "True" in (keywords.get("allow_pickle"), keywords.get("shell"))
            if called in forbidden or trusts:
                offenders.append(f"{module}:{line} {called}")
    assert not offenders


def test_nothing_is_pickled():
    pickles = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    offenders = []
    readers = {"utils.torch_archive"}  # reads the pickles of others as data, see its tests
    for module in set(LAYOUT.files) - readers:
        for node in ast.walk(LAYOUT.trees[module]):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                offenders += [f"{module}:{node.lineno} {name}" for name in names & pickles]
    assert not offenders


def test_no_global_random_state():
    """Randomness is a function of seed, epoch and sample: no generator that is shared behind the scenes."""
    shared = ("np.random.seed", "np.random.rand", "np.random.uniform", "random.seed", "random.random", "random.choice")
    assert not [
        f"{name}:{line} {called}" for name in LAYOUT.files for line, called, _ in calls(name) if called in shared
    ]
