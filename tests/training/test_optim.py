"""Optimiser groups, schedule and moving average, against the contract's golden numbers."""

from __future__ import annotations

import pytest
from torch import nn

from models import build_model
from tests.cases import case
from utils.config.hyperparameters import Hyperparameters
from utils.errors import UserError
from utils.training.optim import ModelEMA, Schedule, build_optimizer, freeze, full_accumulation, learning_rate_factor

HYP = Hyperparameters()


def test_accumulation_and_weight_decay() -> None:
    for batch, accumulate, decay in [(16, 4, 0.0005), (40, 2, 0.000625), (128, 1, 0.001)]:
        with case(batch, accumulate, decay):
            assert full_accumulation(batch) == accumulate
            groups = build_optimizer(build_model("yolov5n.yaml", nc=1), "SGD", HYP, batch).param_groups
            assert [group["weight_decay"] for group in groups] == pytest.approx([0, decay, 0])


def test_groups_are_biases_weights_norms() -> None:
    for name in ["SGD", "Adam", "AdamW"]:
        with case(name):
            model = build_model("yolov5n.yaml", nc=1)
            optimizer = build_optimizer(model, name, HYP, 16)
            biases, weights, norms = (group["params"] for group in optimizer.param_groups)
            assert type(optimizer).__name__ == name
            assert len(biases) == 57 + 3 and len(weights) == 57 + 3 and len(norms) == 57
            assert all(p.ndim == 4 for p in weights) and all(p.ndim == 1 for p in (*biases, *norms))
            assert sum(len(group) for group in (biases, weights, norms)) == len(list(model.parameters()))


def test_unknown_optimizer() -> None:
    with pytest.raises(UserError, match=r"unknown optimizer 'SDG'. Known: Adam, AdamW, SGD. Did you mean 'SGD'"):
        build_optimizer(nn.Linear(1, 1), "SDG", HYP, 16)


def test_learning_rate_factors() -> None:
    linear = [learning_rate_factor(epoch, 100, 0.01) for epoch in (0, 50, 99)]
    cosine = [learning_rate_factor(epoch, 100, 0.01, cosine=True) for epoch in (0, 50, 99)]
    assert linear == pytest.approx([1.0, 0.505, 0.0199])
    assert cosine == pytest.approx([1.0, 0.505, 0.010244], abs=1e-6)


def rates(schedule: Schedule, iteration: int) -> tuple[int, list[float], float]:
    optimizer = build_optimizer(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "SGD", HYP, 16)
    accumulate = schedule.apply(optimizer, iteration)
    return accumulate, [group["lr"] for group in optimizer.param_groups], optimizer.param_groups[0]["momentum"]


def test_warm_up() -> None:
    """1000 iterations an epoch: 3000 of warm-up. Biases fall from 0.1, the others rise from 0, to lr0."""
    schedule = Schedule(HYP, epochs=100, num_batches=1000, batch_size=16, cosine=False)
    assert rates(schedule, 0) == (1, pytest.approx([0.1, 0, 0]), pytest.approx(0.8))
    accumulate, lr, momentum = rates(schedule, 1500)
    factor = 0.01 * (1 - 0.01 * 0.99)
    assert accumulate == 2 and momentum == pytest.approx(0.8685)
    assert lr == pytest.approx([(0.1 + factor) / 2, factor / 2, factor / 2])
    accumulate, lr, momentum = rates(schedule, 50_000)
    assert accumulate == 4 and momentum == pytest.approx(0.937) and lr == pytest.approx([0.00505] * 3)


def test_warm_up_lasts_100_iterations_at_least_and_can_be_switched_off() -> None:
    short = Schedule(HYP, epochs=100, num_batches=5, batch_size=16, cosine=False)
    assert rates(short, 99)[1][1] < 0.01 * learning_rate_factor(19, 100, 0.01)
    assert rates(short, 100)[1] == pytest.approx([0.01 * learning_rate_factor(20, 100, 0.01)] * 3)
    off = Schedule(Hyperparameters(warmup_epochs=0.0), epochs=100, num_batches=5, batch_size=16, cosine=False)
    assert rates(off, 0) == (4, pytest.approx([0.01] * 3), pytest.approx(0.937))


def test_ema_decay_and_values() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(model[0].weight, 1.0)
    ema = ModelEMA(model)
    nn.init.constant_(model[0].weight, 3.0)
    model[1].num_batches_tracked += 5
    ema.update(model)
    decay = 0.000499825
    assert ema.decay_now() == pytest.approx(decay, abs=1e-9)
    assert ema.model[0].weight.item() == pytest.approx(decay * 1 + (1 - decay) * 3)
    assert ema.model[1].num_batches_tracked == 5 and not ema.model.training
    for updates, expected in ((100, 0.0487657), (2000, 0.632057), (10_000, 0.993163)):
        ema.updates = updates
        assert ema.decay_now() == pytest.approx(expected, abs=1e-6)


def test_freeze() -> None:
    model = build_model("yolov5n.yaml", nc=1)
    frozen = lambda: {int(name.split(".")[1]) for name, p in model.named_parameters() if not p.requires_grad}  # noqa: E731
    freeze(model, [0])
    assert frozen() == set()
    freeze(model, [3])
    assert frozen() == {0, 1, 2}
    freeze(model, [1, 5])
    assert frozen() == {1, 5}
    assert len(build_optimizer(model, "SGD", HYP, 16).param_groups[1]["params"]) == 58
    with pytest.raises(UserError, match="--freeze: expected rows from 0 to 24 but got 30"):
        freeze(model, [30])
