"""Gradients of the box losses: those of the value, with the factors fixed that carry none by definition."""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import torch
from torch import Tensor

from tests.box_cases import ATAN, NAMES, SETTINGS, build, gradient, random_pairs
from tests.cases import case
from utils.losses import BoxLoss, box_loss

DETACHED = ("alpha_iou", "ciou", "focal_eiou", "wiou")


def has_fixed_factors(loss: BoxLoss) -> bool:
    """Whether some factor of the loss, or of the one inside it, carries no gradient."""
    inside = getattr(loss, "inside", loss)
    if inside is not loss:
        return has_fixed_factors(inside)
    if inside.settings.get("of") in ("iou", "giou", "diou"):
        return False
    return inside.name in DETACHED or bool(inside.settings.get("dynamic"))


def test_gradient_is_that_of_the_value() -> None:
    for setting in SETTINGS:
        loss = build(setting).eval()
        if not has_fixed_factors(loss):
            pred, target = random_pairs(12)
            moving = partial(moved_loss, loss, target)
            with case(setting):
                assert torch.autograd.gradcheck(moving, (pred.requires_grad_(),), eps=1e-6, atol=1e-6)


def moved_loss(loss: BoxLoss, target: Tensor, pred: Tensor) -> Tensor:
    return loss(pred, target)


def iou(pred: Tensor, target: Tensor) -> Tensor:
    return 1 - box_loss("iou")(pred, target)


def aspect(pred: Tensor, target: Tensor) -> Tensor:
    angles = [torch.atan((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1])) for box in (target, pred)]
    return ATAN * (angles[0] - angles[1]) ** 2


def trade_off(pred: Tensor, target: Tensor) -> Tensor:
    return aspect(pred, target) / (1 - iou(pred, target) + aspect(pred, target))


def offset_and_diagonal(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared centre distance, squared diagonal of the enclosing box."""
    offset = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    enclosing = torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(pred[:, :2], target[:, :2])
    return offset.square().sum(dim=1), enclosing.square().sum(dim=1)


# each loss written out once more: (moving boxes, target, boxes of which the fixed factors are computed) -> loss


def ciou(pred: Tensor, target: Tensor, fixed: Tensor) -> Tensor:
    return box_loss("diou")(pred, target) + trade_off(fixed, target) * aspect(pred, target)


def alpha_ciou(pred: Tensor, target: Tensor, fixed: Tensor) -> Tensor:
    powers = box_loss("alpha_iou", of="diou")(pred, target)
    return powers + (trade_off(fixed, target) * aspect(pred, target)) ** 3


def focal_eiou(pred: Tensor, target: Tensor, fixed: Tensor) -> Tensor:
    return iou(fixed, target) ** 0.5 * box_loss("eiou")(pred, target)


def wiou(version: int, pred: Tensor, target: Tensor, fixed: Tensor) -> Tensor:
    outlier = 1 - iou(fixed, target)  # the running mean starts at 1
    gain = {1: 1, 2: outlier**0.5, 3: outlier / (3 * 1.9 ** (outlier - 3))}[version]
    distance = offset_and_diagonal(pred, target)[0] / offset_and_diagonal(fixed, target)[1]
    return gain * torch.exp(distance) * (1 - iou(pred, target))


def dynamic_interp_iou(pred: Tensor, target: Tensor, fixed: Tensor) -> Tensor:
    share = (1 - iou(fixed, target)).clamp(0.2, 0.9)[:, None]
    return 2 - iou(pred, target) - iou((1 - share) * pred + share * target, target)


WRITTEN_OUT = [
    ({"name": "ciou"}, ciou),
    ({"name": "alpha_iou"}, alpha_ciou),
    ({"name": "focal_eiou"}, focal_eiou),
    *(({"name": "wiou", "version": v}, lambda *boxes, v=v: wiou(v, *boxes)) for v in (1, 2, 3)),
    ({"name": "interp_iou", "alpha": 0.9, "dynamic": True, "low": 0.2}, dynamic_interp_iou),
]


def test_gradient_with_the_fixed_factors_held() -> None:
    pred, target = random_pairs(40)
    step = 1e-6 * torch.randn(pred.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for setting, written_out in WRITTEN_OUT:
        loss = build(setting)
        change = (written_out(pred + step, target, pred) - written_out(pred - step, target, pred)) / 2
        slope = (gradient(loss, pred, target) * step).sum(dim=1)
        with case(setting):
            assert torch.allclose(loss(pred, target), written_out(pred, target, pred), atol=1e-6)
            assert torch.allclose(slope, change, rtol=1e-4, atol=1e-12)


def test_every_loss_with_fixed_factors_is_written_out() -> None:
    """Each name is differentiated numerically, with its fixed factors held or without any."""
    held = {setting["name"] for setting, _ in WRITTEN_OUT}
    free = {setting["name"] for setting in SETTINGS if not has_fixed_factors(build(setting))}
    assert held | free == set(NAMES)


def test_a_wrapper_adds_the_gradient_of_its_own_term() -> None:
    pred, target = random_pairs(30)
    replacement = {"inner": {"ratio": 1.3}, "focaler": {"d": 0.05, "u": 0.5}}
    for name, (wrapper, parameters) in product(("ciou", "focal_eiou", "wiou"), replacement.items()):
        own = gradient(box_loss(name), pred, target) - gradient(box_loss("iou"), pred, target)
        wrapped = gradient(box_loss(wrapper, of=name, **parameters), pred, target)
        expected = own + gradient(box_loss(wrapper, of="iou", **parameters), pred, target)
        assert torch.allclose(wrapped, expected, atol=1e-12), (name, wrapper)


def test_gradients_have_the_shape_of_the_geometry() -> None:
    """A pair that is too wide and well placed: every loss that sees the width pulls both sides in alike."""
    pred, target = torch.tensor([[0.0, 0.0, 6.0, 2.0]]), torch.tensor([[1.0, 0.0, 5.0, 2.0]])
    for name in NAMES:
        slope = gradient(box_loss(name), pred, target)[0]
        assert slope[0] < 0 < slope[2] and math.isclose(slope[0], -slope[2], rel_tol=1e-4), name
