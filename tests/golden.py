"""Numbers of the papers' own code, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(os.environ.get("GOLDEN_DIR", Path(__file__).resolve().parents[2] / "shared" / "golden"))


def load_cases(file: str) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of a golden file by case and key; keys without a case stand under ''. Skips where the file is absent."""
    path = FOLDER / file
    if not path.exists():
        pytest.skip(f"no golden numbers: {path} does not exist (set GOLDEN_DIR)")
    cases: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            case, _, key = name.rpartition("/")
            cases.setdefault(case, {})[key] = arrays[name]
    return cases
