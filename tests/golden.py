"""Numbers of the papers' own code: the full set where it is, else the excerpts that come with the tests.

``python -m tests.golden`` writes the excerpts, some cases of each file, from the full set to tests/data/golden.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("GOLDEN_DIR", Path(__file__).resolve().parents[2] / "shared" / "golden"))
EXCERPTS = Path(__file__).with_name("data") / "golden"
CASES = {
    "boxes.npz": (),
    "ranking.npz": ("small", "ignore"),
    "correlation.npz": ("n60", "ties"),
    "parameterized_ap.npz": ("small", "ignore"),
    "criterion.npz": ("tiny_nc1", "v5n_rect"),
}
WHOLE = ("eval_gt.json", "eval_dets.json", "eval_expected.json")
SHARED_EDGES = 40  # the last rows of boxes.npz, identical boxes and boxes that share an edge


def golden_file(name: str) -> Path:
    """A file of the full set, or its excerpt."""
    return FOLDER / name if (FOLDER / name).exists() else EXCERPTS / name


def load_cases(file: str) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of a golden file by case and key; keys without a case stand under ''."""
    cases: dict[str, dict[str, np.ndarray]] = {}
    with np.load(golden_file(file)) as arrays:
        for name in arrays.files:
            case, _, key = name.rpartition("/")
            cases.setdefault(case, {})[key] = arrays[name]
    return cases


def case_names(file: str) -> list[str]:
    """The cases of a golden file; those of the excerpts at least."""
    names = [name for name in load_cases(file) if name and "/" not in name]
    assert {*CASES[file]} <= {*names}, f"{golden_file(file)} lacks cases"
    return names


def main() -> None:
    """Write the excerpts."""
    EXCERPTS.mkdir(parents=True, exist_ok=True)
    for file, cases in CASES.items():
        with np.load(FOLDER / file) as arrays:
            kept = {name: arrays[name] for name in arrays.files if "/" not in name or name.split("/")[0] in cases}
        if file == "boxes.npz":
            kept = {name: np.concatenate((rows[:60], rows[-SHARED_EDGES:])) for name, rows in kept.items()}
        np.savez_compressed(EXCERPTS / file, **kept)
    for name in WHOLE:
        shutil.copyfile(FOLDER / name, EXCERPTS / name)
    for path in sorted(EXCERPTS.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
