"""Pairs of boxes that the tests of the box losses share, with what can be measured on them by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from utils.losses import BOX_LOSSES, BoxLoss, SimilarityLoss, box_loss

ATAN = 4 / math.pi**2

# target 4 x 2 at the origin; no pair is square in both boxes, so that every term of every loss counts
TARGET = (0.0, 0.0, 4.0, 2.0)
INSIDE = (1.0, 0.0, 3.0, 2.0)  # 2 x 2, same centre: I 4, U 8, enclosing box = target, corners 1 apart
BESIDE = (6.0, 0.0, 9.0, 2.0)  # 3 x 2, a gap of 2: I 0, U 14, enclosing box 9 x 2, centres 5.5 apart
SHIFTED = (
    2.0,
    1.0,
    6.0,
    3.0,
)  # 4 x 2, half a box right and down: I 2, U 14, enclosing box 6 x 3, centres 2 and 1 apart
TALL = (2.0, 1.0, 4.0, 5.0)  # 2 x 4, centre 1 right, 2 down: I 2, U 14, enclosing box 4 x 5, edges 2, 1, 0, 3 apart

PAIRS = {"inside": INSIDE, "beside": BESIDE, "shifted": SHIFTED, "tall": TALL}

HOSTILE = {
    "identical": ((1.0, 2.0, 5.0, 4.0), (1.0, 2.0, 5.0, 4.0)),
    "concentric": ((0.0, 0.0, 4.0, 2.0), (1.0, 0.5, 3.0, 1.5)),
    "disjoint": ((0.0, 0.0, 1.0, 2.0), (50.0, 70.0, 53.0, 71.0)),
    "zero size prediction": ((2.0, 2.0, 2.0, 2.0), (0.0, 0.0, 4.0, 2.0)),
    "zero width prediction": ((2.0, 0.0, 2.0, 3.0), (0.0, 0.0, 4.0, 2.0)),
    "zero size target": ((0.0, 0.0, 4.0, 2.0), (2.0, 2.0, 2.0, 2.0)),
    "both zero, same place": ((2.0, 2.0, 2.0, 2.0), (2.0, 2.0, 2.0, 2.0)),
    "both zero, apart": ((2.0, 2.0, 2.0, 2.0), (5.0, 1.0, 5.0, 1.0)),
    "enormous, identical": ((0.0, 0.0, 3e7, 1e7), (0.0, 0.0, 3e7, 1e7)),
    "enormous": ((-1e9, -2e9, 1e9, 3e9), (-1e8, 0.0, 2e9, 1e9)),
    "enormous against tiny": ((0.0, 0.0, 1e9, 1e8), (0.0, 0.0, 1e-6, 1e-5)),
}

NAMES = BOX_LOSSES.names()
# every name with its defaults, and the settings that take another path through a formula
SETTINGS = [
    *({"name": name} for name in NAMES),
    *({"name": "alpha_iou", "of": of} for of in ("iou", "giou", "diou")),
    {"name": "focal_eiou", "gamma": 2},
    {"name": "wiou", "version": 1},
    {"name": "wiou", "version": 2},
    {"name": "shape_iou", "scale": 1.5},
    {"name": "interp_iou", "alpha": 0.9, "dynamic": True, "low": 0.2},
    {"name": "l1", "normalise": True},
    {"name": "smooth_l1", "beta": 0.2, "normalise": True},
    {"name": "inner", "of": "sca", "ratio": 1.3},
    {"name": "inner", "of": {"name": "wiou", "version": 2}, "ratio": 0.8},
    {"name": "focaler", "of": "siou", "d": 0.1, "u": 0.7},
    {"name": "focaler", "of": {"name": "inner", "of": "nwd"}, "d": 0.2, "u": 1},
]


def settings_of(name: str) -> list[dict]:
    """The settings of one loss, or of the wrappers around others."""
    return [setting for setting in SETTINGS if setting["name"] == name]


def build(setting: dict) -> BoxLoss:
    """The loss of a YAML mapping, checked to be one."""
    loss = BOX_LOSSES.build_from(setting)
    assert isinstance(loss, BoxLoss)
    return loss


def has_similarity(name: str) -> bool:
    return isinstance(box_loss(name), SimilarityLoss)


def boxes(*rows: tuple[float, float, float, float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype)


def random_pairs(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes (count, 4) of 1 to 41 pixels in a window of 50, two of each."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 50
    sides = 1 + torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 40
    pred, target = torch.cat((corners, corners + sides), dim=-1)
    return pred, target


def gradient(loss: BoxLoss, pred: Tensor, target: Tensor, **arguments: object) -> Tensor:
    """Gradient (N, 4) of the summed loss; the state of the loss is left alone."""
    loss.eval()
    pred = pred.detach().clone().requires_grad_()
    loss(pred, target, **arguments).sum().backward()
    return pred.grad
