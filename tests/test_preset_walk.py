"""Every preset in data/hyps, whoever added it: it trains two epochs, validates and detects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import detect
import train
import val
from tests.painted_objects import SCENES
from tests.training_runs import results
from utils.checkpoint import load_checkpoint
from utils.config.loading import load_hyperparameters
from utils.files import ROOT

PRESETS = sorted(path.name for path in (ROOT / "data" / "hyps").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_validates_and_detects(options: dict, tmp_path: Path, preset: str) -> None:
    done = train.run(**options | {"hyp": preset, "epochs": 2})
    table = results(done.save_dir)
    losses = table.filter(like="_loss").dropna(axis=1, how="all")  # a part that a preset does not have is empty
    assert len(table) == 2 and np.isfinite(losses.to_numpy()).all()
    assert (losses[["train/box_loss", "val/box_loss"]] > 0).all().all()
    assert load_checkpoint(done.best)["hyp"] == load_hyperparameters(preset).to_mapping()

    again = val.evaluate(weights=done.best, workers=0, plots=False, project=tmp_path / "val", device="cpu")
    assert again.metrics.map == done.metrics.map and again.metrics.num_images == len(SCENES)
    pictures = str(tmp_path / "set" / "images")
    found = detect.predict(weights=done.best, source=pictures, conf_thres=1e-6, nosave=True, device="cpu")
    assert len(found) == len(SCENES) and sum(len(result.xyxy) for result in found) > 0
    assert all(torch.isfinite(result.xyxy).all() for result in found)
