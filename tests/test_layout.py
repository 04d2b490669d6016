"""The house as designed: which part may import which, no cycles, small files, small functions, nothing evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Everyone may import these; among themselves they import only each other.
PRIMITIVES = {
    "utils.errors",
    "utils.hyperparameters",
    "utils.structures",
    "utils.boxes",
    "utils.registry",
    "utils.yaml_files",
    "utils.distributed",
}

# Part (a module, or a package with all below it) to what it may import beside the primitives and itself.
MAY_IMPORT = {
    # mutually blind
    "utils.losses": set(),
    "utils.assigners": set(),
    "utils.datasets": set(),
    "utils.metrics": set(),
    "utils.postprocess": set(),
    "models": {"utils.checkpoint"},  # models/loading.py alone, see below
    # join the losses and the assigners, and nothing else does
    "utils.matches": set(),
    "utils.self_balance": set(),
    "utils.class_part": {"utils.losses", "utils.matches"},
    "utils.correlation_part": {"utils.losses", "utils.matches"},
    "utils.elementwise_parts": {"utils.class_part", "utils.losses", "utils.matches"},
    "utils.ranking_parts": {"utils.class_part", "utils.losses", "utils.matches", "utils.self_balance"},
    "utils.loss_settings": {"utils.assigners", "utils.losses", "utils.ranking_parts"},
    "utils.criterion": {
        "utils.assigners",
        "utils.correlation_part",
        "utils.elementwise_parts",
        "utils.loss_settings",
        "utils.losses",
        "utils.matches",
        "utils.ranking_parts",
    },
    # settings, files and figures
    "utils.commandline": set(),
    "utils.config": {"utils.commandline"},
    "utils.checkpoint": set(),
    "utils.runlog": set(),
    "utils.plots": {"utils.runlog"},
    "utils.optim": set(),
    "utils.precision": set(),
    "utils.stopwatch": set(),
    "utils.reproducibility": set(),
    "utils.image_size": set(),
    "utils.network_input": set(),
    "utils.setting_checks": set(),
    # data seen from outside
    "utils.autoanchor": {"utils.datasets"},
    "utils.media": {"utils.config", "utils.datasets"},
    # what the commands read and write
    "utils.results": {"utils.datasets", "utils.plots"},
    "utils.prediction_files": set(),
    "utils.detection_files": {"utils.prediction_files", "utils.results"},
    "utils.coco_files": {"utils.datasets", "utils.prediction_files"},
    "utils.class_budget": set(),
    "utils.size_study": {"utils.metrics"},
    "utils.coco_api": {"utils.metrics"},
    "utils.metric_plots": {"utils.metrics", "utils.plots"},
    "utils.operating_points": {"utils.metrics", "utils.setting_checks"},
    "utils.validation_report": {"utils.metrics"},
    "utils.validation": {
        "utils.class_budget",
        "utils.coco_files",
        "utils.commandline",
        "utils.datasets",
        "utils.metrics",
        "utils.network_input",
        "utils.postprocess",
        "utils.precision",
        "utils.stopwatch",
        "utils.validation_files",
    },
    "utils.validation_files": {
        "utils.coco_api",
        "utils.coco_files",
        "utils.config",
        "utils.datasets",
        "utils.metric_plots",
        "utils.metrics",
        "utils.plots",
        "utils.prediction_files",
    },
    "utils.validation_settings": {
        "utils.coco_api",
        "utils.config",
        "utils.datasets",
        "utils.image_size",
        "utils.operating_points",
        "utils.setting_checks",
    },
    "utils.session": {"utils.optim", "utils.precision"},
    "utils.train_report": {"utils.metrics", "utils.precision"},
    "utils.train_options": {
        "utils.checkpoint",
        "utils.config",
        "utils.datasets",
        "utils.optim",
        "utils.precision",
    },
    # many trainings
    "utils.study_rows": set(),
    "utils.study_table": {"utils.study_rows"},
    "utils.study_curves": {"utils.datasets", "utils.runlog"},
    "utils.study_runs": {
        "utils.checkpoint",
        "utils.config",
        "utils.loss_settings",
        "utils.runlog",
        "utils.study_rows",
        "utils.train_options",
    },
    "utils.search_space": set(),
    "utils.search_control_points": {"utils.losses", "utils.search_space"},
    "utils.search_split": {"utils.datasets"},
    "utils.search_study": set(),
    "utils.search_plots": {"utils.datasets"},
    "utils.search_report": {"utils.config", "utils.datasets", "utils.search_study", "utils.train_report"},
    "utils.search_plan": {
        "utils.commandline",
        "utils.config",
        "utils.loss_settings",
        "utils.datasets",
        "utils.search_control_points",
        "utils.search_space",
        "utils.setting_checks",
        "utils.study_rows",
        "utils.study_runs",
        "utils.train_options",
    },
}
COMMANDS = {"train": {"val", "search"}, "val": set(), "detect": set(), "study": {"train"}, "search": {"train"}}
HANDED_UP = ("train", "search")  # --evolve: the one import upwards, in a function
GRAB_BAGS = {"general", "misc", "common", "helpers", "util", "tools", "functions"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for path in [*ROOT.glob("*.py"), *ROOT.glob("models/**/*.py"), *ROOT.glob("utils/**/*.py")]
    if module_name(path) != "utils"
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imported_modules(module: str) -> set[str]:
    """Modules of this program that a module imports, anywhere in its text."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports name the whole path here"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & set(FILES)) or {node.module}
    return found & set(FILES)


def part_of(module: str) -> str:
    """The entry of the table that a module belongs to."""
    parts = module.split(".")
    candidates = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in candidates if name in MAY_IMPORT), module)


@pytest.mark.parametrize("module", FILES)
def test_imports_follow_the_arrows(module):
    imports = imported_modules(module)
    if module in PRIMITIVES:
        assert imports <= PRIMITIVES
    elif module in COMMANDS:
        assert {name for name in imports if "." not in name and name != "models"} <= COMMANDS[module]
    else:
        own = part_of(module)
        assert own in MAY_IMPORT, f"{module} has no place in the table of this test, nor in the design"
        allowed = MAY_IMPORT[own] | {own}
        strangers = {name for name in imports - PRIMITIVES if part_of(name) not in allowed}
        assert not strangers, f"{module} may not import {', '.join(sorted(strangers))}"


def test_only_loading_knows_checkpoints_among_the_models():
    importers = {name for name in FILES if name.startswith("models") and "utils.checkpoint" in imported_modules(name)}
    assert importers <= {"models.loading"}


def test_no_import_goes_round_in_a_circle():
    graph = {module: imported_modules(module) - {module} for module in FILES}
    importer, imported = HANDED_UP
    graph[importer].remove(imported)
    assert all(getattr(node, "module", None) != imported for node in tree(importer).body)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")


def test_the_table_names_only_what_exists():
    parts = set(MAY_IMPORT).union(*MAY_IMPORT.values()) | PRIMITIVES | set(COMMANDS)
    assert parts <= set(FILES)


@pytest.mark.parametrize("module", FILES)
def test_files_are_small_and_named_after_what_they_hold(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    assert module.rpartition(".")[2] not in GRAB_BAGS


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def code_lines(module: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, blank lines and comments."""
    lines = FILES[module].read_text(encoding="utf-8").splitlines()[function.lineno - 1 : function.end_lineno]
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        del lines[first.lineno - function.lineno : first.end_lineno - function.lineno + 1]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


@pytest.mark.parametrize("module", FILES)
def test_functions_fit_a_screen(module):
    long = {node.name: code_lines(module, node) for node in functions(module)}
    assert {name: length for name, length in long.items() if length > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("module", FILES)
def test_every_function_is_annotated_and_every_public_one_documented(module):
    for node in functions(module):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare = [entry.arg for entry in arguments if entry.annotation is None and entry.arg not in ("self", "cls")]
        assert not bare and node.returns is not None, f"{node.name}, line {node.lineno}: annotations missing: {bare}"
    public = [node for node in tree(module).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    silent = [node.name for node in public if not node.name.startswith("_") and not ast.get_docstring(node)]
    assert not silent
    assert ast.get_docstring(tree(module))


@pytest.mark.parametrize("module", FILES)
def test_nothing_is_evaluated_pickled_or_loaded_on_trust(module):
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}, f"line {node.lineno}"
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert called not in ("eval", "exec", "compile", "__import__"), f"line {node.lineno}: {called}"
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", f"line {node.lineno}"
        assert keywords.get("allow_pickle") != "True" and keywords.get("shell") != "True", f"line {node.lineno}"
        assert called not in ("yaml.unsafe_load", "yaml.full_load", "os.system"), f"line {node.lineno}: {called}"


@pytest.mark.parametrize("module", FILES)
def test_no_global_random_state(module):
    """Randomness is a function of seed, epoch and sample: no generator that is shared behind the scenes."""
    shared = ("np.random.seed", "np.random.rand", "np.random.uniform", "random.seed", "random.random", "random.choice")
    calls = {ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)}
    assert not calls & set(shared)
