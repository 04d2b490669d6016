"""The running mean of WIoU is state: in checkpoints, moved once per training step, equal in all processes."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp

from tests.box_cases import INSIDE, SHIFTED, TARGET, boxes, random_pairs
from tests.criterion_scenes import build, scene
from utils import distributed
from utils.losses import box_loss

# IoU losses 1/2 and 6/7
PRED, BOTH_TARGETS = boxes(INSIDE, SHIFTED), boxes(TARGET, TARGET)
MEAN = (1 / 2 + 6 / 7) / 2


def train_on(loss: torch.nn.Module, pred: torch.Tensor, target: torch.Tensor) -> None:
    loss(pred.clone().requires_grad_(), target).sum().backward()


def test_one_step_moves_the_mean_once() -> None:
    loss = box_loss("wiou", momentum=0.25)
    assert loss.mean_iou_loss == 1
    train_on(loss, PRED, BOTH_TARGETS)
    assert loss.mean_iou_loss.item() == pytest.approx(0.75 + 0.25 * MEAN)
    train_on(loss, PRED, BOTH_TARGETS)
    assert loss.mean_iou_loss.item() == pytest.approx(0.75**2 + (1 - 0.75**2) * MEAN)


def test_the_loss_of_a_step_takes_the_mean_of_that_step() -> None:
    loss = box_loss("wiou", version=2, momentum=1)
    value = loss(PRED.clone().requires_grad_(), BOTH_TARGETS)
    expected = box_loss("wiou", version=1)(PRED, BOTH_TARGETS) * (torch.tensor([1 / 2, 6 / 7]) / MEAN).sqrt()
    assert torch.allclose(value.float(), expected.float())


def test_a_mean_of_the_own_iou_loss_gives_ordinary_boxes_a_weight_of_1_in_version_2() -> None:
    """beta = delta weighs 1 in version 3, and the weight falls on both sides of 1 / ln(alpha)."""
    loss = box_loss("wiou", alpha=1.9, delta=3)
    loss.mean_iou_loss.fill_(1 / 3 * 0.5)
    plain = box_loss("wiou", version=1)(PRED[:1], BOTH_TARGETS[:1])
    assert torch.allclose(loss(PRED[:1], BOTH_TARGETS[:1]), plain)
    weights = []
    for beta in (0.2, 1 / torch.tensor(1.9).log().item(), 6.0):
        loss.mean_iou_loss.fill_(0.5 / beta)
        weights.append((loss(PRED[:1], BOTH_TARGETS[:1]) / plain).item())
    assert weights[1] > max(weights[0], weights[2])


def test_validation_and_looking_leave_the_mean_alone() -> None:
    loss = box_loss("wiou")
    with torch.no_grad():
        loss(PRED.clone().requires_grad_(), BOTH_TARGETS)
    loss(PRED, BOTH_TARGETS)  # no gradient wanted
    loss.eval()
    train_on(loss, PRED, BOTH_TARGETS)
    assert loss.mean_iou_loss == 1
    loss.train()
    train_on(loss, PRED, BOTH_TARGETS)
    assert loss.mean_iou_loss < 1


def test_an_empty_step_leaves_the_mean_alone() -> None:
    """mean() of nothing is NaN, and would stay for ever."""
    loss = box_loss("wiou")
    train_on(loss, torch.zeros(0, 4), torch.zeros(0, 4))
    assert loss.mean_iou_loss == 1
    train_on(loss, PRED, BOTH_TARGETS)
    assert loss.mean_iou_loss < 1


def test_perfect_boxes_and_a_mean_of_0_stay_finite() -> None:
    for version in (2, 3):
        loss = box_loss("wiou", version=version, momentum=1)
        train_on(loss, BOTH_TARGETS, BOTH_TARGETS)
        assert loss.mean_iou_loss < 1e-6
        pred = PRED.clone().requires_grad_()
        loss.eval()(pred, BOTH_TARGETS).sum().backward()
        assert torch.isfinite(pred.grad).all()


def test_each_loss_has_a_mean_of_its_own() -> None:
    """In a copied script it is an attribute of the class."""
    used, fresh = box_loss("wiou"), box_loss("wiou")
    train_on(used, PRED, BOTH_TARGETS)
    assert used.mean_iou_loss < 1 and fresh.mean_iou_loss == 1


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("wiou", "box_loss.mean_iou_loss"),
        ({"name": "inner", "of": {"name": "focaler", "of": "wiou"}}, "box_loss.inside.inside.mean_iou_loss"),
    ],
)
def test_the_mean_is_part_of_the_criterion_and_of_its_state(setting: object, key: str) -> None:
    raw, targets = scene()
    criterion = build(loss={"box": setting})
    for level in raw:
        level.requires_grad_()
    criterion(raw, targets).total.backward()
    mean = criterion.state_dict()[key]
    assert mean < 1
    restored = build(loss={"box": setting})
    restored.load_state_dict(criterion.state_dict())
    assert torch.equal(restored.state_dict()[key], mean)
    assert restored.double().state_dict()[key].dtype == torch.float64, "it moves with the module"


def test_a_step_of_the_criterion_moves_the_mean_once_over_all_levels() -> None:
    """With momentum 1 it is the mean over all positives; level by level it would be that of the last level."""
    raw, targets = scene()
    for level in raw:
        level.requires_grad_()
    criterion = build(loss={"box": {"name": "wiou", "momentum": 1}})
    calls = []
    criterion.box_loss.register_forward_hook(lambda module, arguments, output: calls.append(arguments))
    criterion(raw, targets)
    assert len(calls) == 1
    expected = box_loss("iou")(*calls[0]).mean().item()
    assert criterion.box_loss.mean_iou_loss.item() == pytest.approx(expected)


def test_validation_with_the_same_criterion_and_a_step_without_objects_change_nothing() -> None:
    raw, targets = scene()
    criterion = build(loss={"box": "wiou"})
    with torch.no_grad():
        criterion(raw, targets)
    for level in raw:
        level.requires_grad_()
    out = criterion(raw, targets[:0])
    out.total.backward()
    assert criterion.box_loss.mean_iou_loss == 1 and out.parts["box"] == 0


def test_the_gradient_does_not_pass_through_the_mean() -> None:
    pred, target = random_pairs(6)
    pred.requires_grad_()
    loss = box_loss("wiou", momentum=1)
    loss(pred, target)[0].backward()
    assert pred.grad[1:].abs().max() == 0, "no box has a gradient from the weight of another"


def train_in_a_group(rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("cpu")
    loss = box_loss("wiou", momentum=0.5)
    # three boxes in one process, one in the other: the mean over boxes, not over processes
    pred, target = (PRED[[0, 0, 0]], BOTH_TARGETS[[0, 0, 0]]) if rank == 0 else (PRED[1:], BOTH_TARGETS[1:])
    train_on(loss, pred, target)
    expected = 0.5 + 0.5 * (3 / 2 + 6 / 7) / 4
    assert loss.mean_iou_loss.item() == pytest.approx(expected)
    # one process has no boxes, the other has: both take part, both move
    some = slice(0, 2) if rank == 0 else slice(0, 0)
    train_on(loss, PRED[some], BOTH_TARGETS[some])
    assert loss.mean_iou_loss.item() == pytest.approx(expected / 2 + MEAN / 2)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_share_one_mean(monkeypatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(train_in_a_group, args=(port,), nprocs=2)
