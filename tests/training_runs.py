"""What trainings left behind, read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

import train
from utils.checkpoint import load_checkpoint


def results(save_dir: Path) -> pd.DataFrame:
    return pd.read_csv(save_dir / "results.csv")


def same_weights(first: Path, second: Path) -> bool:
    states = [load_checkpoint(path)["model"] for path in (first, second)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def interrupted_run(options: dict, after: int) -> Path:
    """Train, with Ctrl-C after so many epochs; the last checkpoint."""
    folders: set[Path] = set(Path(options["project"]).glob("*"))

    def interrupt(epoch: int, _: object) -> None:
        if epoch + 1 == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(**options, on_epoch=interrupt)
    (folder,) = set(Path(options["project"]).glob("*")) - folders
    return folder / "weights" / "last.pt"
