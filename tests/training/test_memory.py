"""Losses with a memory through a whole training: it is in the checkpoints, and validation does not change it."""

from __future__ import annotations

import pytest

import train
from tests.training_runs import results, same_weights
from utils.checkpoint import load_checkpoint

KEY = "box_loss.mean_iou_loss"


def test_an_interrupted_run_goes_on_with_the_same_mean(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    options |= {"epochs": 4, "set": ["loss.box={name: wiou, momentum: 0.2}"]}
    whole = train.run(**options)
    one_epoch, seen = train.train_one_epoch, []

    def interrupted(session: train.Session, epoch: int) -> dict:
        if epoch == 2:
            seen.append(float(session.criterion.state_dict()[KEY]))
            raise KeyboardInterrupt
        return one_epoch(session, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_one_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(**options)
    last = whole.save_dir.with_name("exp2") / "weights" / "last.pt"
    assert 0 < seen[0] < 1 and float(load_checkpoint(last)["criterion"][KEY]) == seen[0]
    resumed = train.run(resume=str(last))
    assert results(resumed.save_dir).equals(results(whole.save_dir))
    assert same_weights(resumed.last, whole.last)


BALANCE = "parts.balance.ratio"


@pytest.mark.parametrize(("preset", "key"), [("hyp.wiou.yaml", KEY), ("hyp.alrp.yaml", BALANCE)])
def test_only_training_moves_the_mean(
    options: dict,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
    key: str,
) -> None:
    """Two runs that differ in how often they validate have the same mean, of WIoU or of aLRP's self-balancing."""
    means: dict[bool, list[float]] = {False: [], True: []}
    one_epoch = train.train_one_epoch

    def watched(session: train.Session, epoch: int) -> dict:
        parts = one_epoch(session, epoch)
        means[session.options.noval].append(float(session.criterion.state_dict()[key]))
        return parts

    monkeypatch.setattr(train, "train_one_epoch", watched)
    for noval in (False, True):
        train.run(**options | {"hyp": preset, "epochs": 2, "noval": noval})
    assert means[False] == means[True] and means[True][0] != means[True][1] and min(means[True]) > 0
