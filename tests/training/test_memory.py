"""Losses with a memory through a whole training: it is in the checkpoints, and validation does not change it."""

from __future__ import annotations

import pytest

import train
from tests.training_runs import interrupted_run, results, same_weights
from utils.checkpoint import load_checkpoint

KEY = "box_loss.mean_iou_loss"


def test_an_interrupted_run_goes_on_with_the_same_mean(options: dict) -> None:
    options |= {"epochs": 4, "set": ["loss.box={name: wiou, momentum: 0.2}"]}
    whole = train.run(**options)
    last = interrupted_run(options, after=2)
    assert 0 < float(load_checkpoint(last)["criterion"][KEY]) < 1
    resumed = train.run(resume=str(last))
    assert results(resumed.save_dir).equals(results(whole.save_dir))
    assert same_weights(resumed.last, whole.last)


BALANCE = "parts.balance.ratio"


@pytest.mark.parametrize(("preset", "key"), [("hyp.wiou.yaml", KEY), ("hyp.alrp.yaml", BALANCE)])
def test_only_training_moves_the_mean(options: dict, preset: str, key: str) -> None:
    """Two runs that differ in how often they validate have the same mean, of WIoU or of aLRP's self-balancing."""
    means: dict[bool, list[float]] = {}
    for noval in (False, True):
        done = train.run(**options | {"hyp": preset, "epochs": 2, "noval": noval, "save_period": 1})
        states = [load_checkpoint(done.save_dir / "weights" / f"epoch{epoch}.pt") for epoch in range(2)]
        means[noval] = [float(state["criterion"][key]) for state in states]
    assert means[False] == means[True] and means[True][0] != means[True][1] and min(means[True]) > 0
