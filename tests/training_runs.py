"""What trainings left behind, read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from utils.checkpoint import load_checkpoint


def results(save_dir: Path) -> pd.DataFrame:
    return pd.read_csv(save_dir / "results.csv")


def same_weights(first: Path, second: Path) -> bool:
    states = [load_checkpoint(path)["model"] for path in (first, second)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])
