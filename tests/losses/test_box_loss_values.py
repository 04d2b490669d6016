"""Every box loss on four pairs of boxes, worked out by hand; limits at which a loss becomes a simpler one."""

from __future__ import annotations

import math
from math import exp, sqrt

import pytest
import torch

from tests.box_cases import ATAN, NAMES, PAIRS, TARGET, boxes, build, random_pairs
from tests.cases import case
from utils.losses import box_loss

IOU = {"inside": 1 / 2, "beside": 0, "shifted": 1 / 7, "tall": 1 / 7}
# squared centre distance over squared diagonal of the enclosing box
DISTANCE = {"inside": 0, "beside": 5.5**2 / 85, "shifted": 5 / 45, "tall": 5 / 41}
# aspect ratios 2 of the target and 1, 1.5, 2, 0.5 of the boxes
ASPECT = {
    "inside": ATAN * (math.atan(2) - math.atan(1)) ** 2,
    "beside": ATAN * (math.atan(2) - math.atan(1.5)) ** 2,
    "shifted": 0,
    "tall": ATAN * (math.atan(2) - math.atan(0.5)) ** 2,
}
TRADE_OFF = {pair: ASPECT[pair] / (1 - IOU[pair] + ASPECT[pair]) for pair in PAIRS}
EIOU = {
    "inside": 1 / 2 + (2 / 4) ** 2,  # 2 narrower, in an enclosing box of width 4
    "beside": 1 + DISTANCE["beside"] + (1 / 9) ** 2,  # 1 narrower
    "shifted": 6 / 7 + 1 / 9,  # equal sides
    "tall": 6 / 7 + 5 / 41 + (2 / 4) ** 2 + (2 / 5) ** 2,  # 2 narrower, 2 higher
}
# mean distance of the edges over the target's side across: left and right over 4, top and bottom over 2
EDGES = {
    "inside": (1 / 4 + 1 / 4) / 4,
    "beside": (6 / 4 + 5 / 4) / 4,
    "shifted": (2 / 4 + 1 / 2 + 2 / 4 + 1 / 2) / 4,
    "tall": (2 / 4 + 1 / 2 + 0 + 3 / 2) / 4,
}
PIOU = {pair: 2 - IOU[pair] - exp(-(EDGES[pair] ** 2)) for pair in PAIRS}


def wise(pair: str) -> float:
    return exp(DISTANCE[pair]) * (1 - IOU[pair])


def attention(x: float) -> float:
    return 3 * x * exp(-x * x)


BY_HAND = [
    ({"name": "iou"}, {pair: 1 - IOU[pair] for pair in PAIRS}),
    (
        {"name": "giou"},  # inside, the enclosing box is the union; else areas 18, 18, 20 against unions of 14
        {"inside": 1 / 2, "beside": 1 + 4 / 18, "shifted": 6 / 7 + 4 / 18, "tall": 6 / 7 + 6 / 20},
    ),
    ({"name": "diou"}, {pair: 1 - IOU[pair] + DISTANCE[pair] for pair in PAIRS}),
    ({"name": "ciou"}, {pair: 1 - IOU[pair] + DISTANCE[pair] + TRADE_OFF[pair] * ASPECT[pair] for pair in PAIRS}),
    (
        {"name": "sca"},
        {
            "inside": 2 - (2 / 4 + 2 / 2) + (1 + 1) / sqrt(20),
            "beside": 2 - (-2 / 9 + 2 / 2) + (6 + 5) / sqrt(85),  # the gap counts as negative overlap
            "shifted": 2 - (2 / 6 + 1 / 3) + 2 * sqrt(5) / sqrt(45),
            "tall": 2 - (2 / 4 + 1 / 5) + (sqrt(5) + 3) / sqrt(41),
        },
    ),
    ({"name": "eiou"}, EIOU),
    ({"name": "focal_eiou"}, {pair: sqrt(IOU[pair]) * EIOU[pair] for pair in PAIRS}),
    ({"name": "focal_eiou", "gamma": 2}, {pair: IOU[pair] ** 2 * EIOU[pair] for pair in PAIRS}),
    (
        {"name": "siou"},
        {
            "inside": 1 / 2 + (1 - exp(-2 / 4)) ** 4 / 2,  # one centre; half as wide
            # offset along the axis: factor 2; a quarter narrower
            "beside": 1 + (1 - exp(-2 * (5.5 / 9) ** 2) + (1 - exp(-1 / 4)) ** 4) / 2,
            # offset of 2 and 1: Lambda = 2 * 2 * 1 / 5 = 0.8, factor 1.2
            "shifted": 6 / 7 + (2 - exp(-1.2 * (2 / 6) ** 2) - exp(-1.2 * (1 / 3) ** 2)) / 2,
            # offset of 1 and 2, half as wide, twice as high
            "tall": 6 / 7 + (2 - exp(-1.2 * (1 / 4) ** 2) - exp(-1.2 * (2 / 5) ** 2) + 2 * (1 - exp(-1 / 2)) ** 4) / 2,
        },
    ),
    ({"name": "siou", "theta": 2}, {"inside": 1 / 2 + (1 - exp(-2 / 4)) ** 2 / 2}),
    (
        {"name": "alpha_iou"},
        {pair: 1 - IOU[pair] ** 3 + DISTANCE[pair] ** 3 + (TRADE_OFF[pair] * ASPECT[pair]) ** 3 for pair in PAIRS},
    ),
    ({"name": "alpha_iou", "alpha": 2, "of": "iou"}, {pair: 1 - IOU[pair] ** 2 for pair in PAIRS}),
    (
        {"name": "alpha_iou", "alpha": 2, "of": "giou"},
        {"beside": 1 + (4 / 18) ** 2, "tall": 1 - 1 / 49 + (6 / 20) ** 2},
    ),
    (
        {"name": "alpha_iou", "alpha": 2, "of": "diou"},
        {pair: 1 - IOU[pair] ** 2 + DISTANCE[pair] ** 2 for pair in PAIRS},
    ),
    ({"name": "wiou", "version": 1}, {pair: wise(pair) for pair in PAIRS}),
    # the running mean starts at 1, so that beta is the IoU loss itself
    ({"name": "wiou", "version": 2}, {pair: wise(pair) * sqrt(1 - IOU[pair]) for pair in PAIRS}),
    (
        {"name": "wiou"},
        {pair: wise(pair) * (1 - IOU[pair]) / (3 * 1.9 ** (1 - IOU[pair] - 3)) for pair in PAIRS},
    ),
    (
        {"name": "mpdiou", "image_size": [12, 5]},  # 12^2 + 5^2 = 169
        {
            "inside": 1 / 2 + (1 + 1) / 169,
            "beside": 1 + (36 + 25) / 169,
            "shifted": 6 / 7 + (5 + 5) / 169,
            "tall": 6 / 7 + (5 + 9) / 169,
        },
    ),
    (
        {"name": "nwd", "constant": 2},  # centre offsets, and half of the differences of the sides
        {
            "inside": 1 - exp(-sqrt(2**2 / 4) / 2),
            "beside": 1 - exp(-sqrt(5.5**2 + 1**2 / 4) / 2),
            "shifted": 1 - exp(-sqrt(2**2 + 1**2) / 2),
            "tall": 1 - exp(-sqrt(1**2 + 2**2 + (2**2 + 2**2) / 4) / 2),
        },
    ),
    (
        {
            "name": "gcd"
        },  # mean over both boxes of squared offsets, and quarters of squared side differences, over sides
        {
            "inside": 1 - exp(-sqrt((4 / 2**2 + 4 / 4**2) / 4 / 2)),  # 2 narrower, of 2 and of 4
            "beside": 1 - exp(-sqrt((30.25 / 9 + 30.25 / 16 + (1 / 9 + 1 / 16) / 4) / 2)),  # 5.5 apart, of 3 and of 4
            "shifted": 1 - exp(-sqrt((4 / 16 + 1 / 4) * 2 / 2)),  # 2 and 1, of 4 and 2 in both boxes
            # 1 and 2 apart, 2 narrower and 2 higher: of 2 x 4, and of 4 x 2
            "tall": 1 - exp(-sqrt((1 / 4 + 4 / 16 + 1 / 16 + 4 / 4 + (4 / 4 + 4 / 16 + 4 / 16 + 4 / 4) / 4) / 2)),
        },
    ),
    (
        {"name": "shape_iou", "scale": 1},  # target 4 x 2: ww = 2 * 4 / 6 = 4 / 3, hh = 2 / 3
        {
            "inside": 1 / 2 + (1 - exp(-2 / 3 * 2 / 4)) ** 4 / 2,
            "beside": 1 + 2 / 3 * 5.5**2 / 85 + (1 - exp(-2 / 3 * 1 / 4)) ** 4 / 2,
            "shifted": 6 / 7 + (2 / 3 * 4 + 4 / 3 * 1) / 45,
            "tall": 6 / 7
            + (2 / 3 * 1 + 4 / 3 * 4) / 41
            + ((1 - exp(-2 / 3 * 2 / 4)) ** 4 + (1 - exp(-4 / 3 * 2 / 4)) ** 4) / 2,
        },
    ),
    ({"name": "shape_iou"}, {"inside": 1 / 2 + (1 - exp(-2 / 4)) ** 4 / 2, "shifted": 6 / 7 + 5 / 45}),
    ({"name": "piou"}, PIOU),
    ({"name": "piou2"}, {pair: attention(1.3 * exp(-EDGES[pair])) * PIOU[pair] for pair in PAIRS}),
    ({"name": "piou2", "lam": 0.5}, {pair: attention(0.5 * exp(-EDGES[pair])) * PIOU[pair] for pair in PAIRS}),
    (
        {"name": "interp_iou", "alpha": 0.5},  # boxes half way to the target
        {
            "inside": 2 - 1 / 2 - 6 / 8,  # 3 x 2, inside the target
            "beside": 2 - 0 - 2 / 13,  # 3.5 x 2 from x = 3 on: I 1 x 2, U 8 + 7 - 2
            "shifted": 2 - 1 / 7 - 4.5 / 11.5,  # 4 x 2, 1 and 0.5 off: I 3 x 1.5, U 16 - 4.5
            "tall": 2 - 1 / 7 - 4.5 / 12.5,  # 3 x 3 from (1, 0.5): I 3 x 1.5, U 8 + 9 - 4.5
        },
    ),
    (
        {"name": "interp_iou", "alpha": 0.75, "dynamic": True, "low": 0.2},
        {
            "inside": 2 - 1 / 2 - 6 / 8,  # 1 - IoU is 0.5, as above
            "beside": 2 - 0 - 5 / 10.5,  # 1 - IoU is above alpha: 3.75 x 2 from x = 1.5 on, I 2.5 x 2, U 8 + 7.5 - 5
        },
    ),
    ({"name": "interp_iou", "alpha": 0.75, "dynamic": True, "low": 0.7}, {"inside": 2 - 1 / 2 - 6.8 / 8}),  # 3.4 x 2
    (
        {"name": "l1"},  # edges 1, 0, 1, 0 apart; 6, 0, 5, 0; 2, 1, 2, 1; 2, 1, 0, 3
        {"inside": 2 / 4, "beside": 11 / 4, "shifted": 6 / 4, "tall": 6 / 4},
    ),
    ({"name": "l1", "normalise": True}, EDGES),
    (
        {"name": "smooth_l1", "beta": 2},  # d^2 / 4 below 2, d - 1 above
        {"inside": (1 + 1) / 4 / 4, "beside": (5 + 4) / 4, "shifted": (1 + 1 / 4 + 1 + 1 / 4) / 4, "tall": 3.25 / 4},
    ),
    (
        {"name": "inner", "of": "iou", "ratio": 1.5},  # sides half as long again, about the same centres
        {
            "inside": 1 / 2,  # concentric: nothing changes
            "beside": 1,  # from x = 5.25 on, against up to x = 5
            "shifted": 1 - 8 / 28,  # 6 x 3 each, I 4 x 2
            "tall": 1 - 7.5 / 28.5,  # 3 x 6 against 6 x 3, I 3 x 2.5
        },
    ),
    ({"name": "inner", "of": "iou", "ratio": 2}, {"beside": 1 - 6 / 50}),  # 6 x 4 and 8 x 4, I 1.5 x 4
    ({"name": "inner", "of": "diou", "ratio": 1.5}, {"shifted": 1 - 8 / 28 + 5 / 45}),
    ({"name": "inner", "of": "iou", "ratio": 0.5}, {"shifted": 1}),  # 2 x 1 each, a corner apart
    (
        {"name": "focaler", "of": "diou", "d": 0.1, "u": 0.4},
        {"inside": 0, "beside": 1 + DISTANCE["beside"], "shifted": 1 - (1 / 7 - 0.1) / 0.3 + 1 / 9},
    ),
    ({"name": "focaler", "of": "l1", "d": 0.1, "u": 0.4}, {"inside": 2 / 4 + 0.5 - 1, "beside": 11 / 4}),
]


@pytest.mark.parametrize("name", NAMES)
def test_values_by_hand(name: str) -> None:
    of_name = [(setting, values) for setting, values in BY_HAND if setting["name"] == name]
    assert of_name
    for setting, values in of_name:
        for pair, expected in values.items():
            value = build(setting)(boxes(PAIRS[pair]), boxes(TARGET)).item()
            assert value == pytest.approx(expected, abs=1e-6), (setting, pair)


LIMITS = [
    ({"name": "focal_eiou", "gamma": 0}, {"name": "eiou"}),
    *(({"name": "alpha_iou", "alpha": 1, "of": of}, {"name": of}) for of in ("iou", "giou", "diou", "ciou")),
    ({"name": "interp_iou", "alpha": 0.9, "dynamic": True, "low": 0.9}, {"name": "interp_iou", "alpha": 0.9}),
    *(({"name": "inner", "of": name, "ratio": 1}, {"name": name}) for name in NAMES),
    *(({"name": "focaler", "of": name, "d": 0, "u": 1}, {"name": name}) for name in NAMES),
]


def test_limit_is_the_simpler_loss() -> None:
    for setting, simpler in LIMITS:
        with case(setting):
            pred, target = random_pairs(200)
            assert torch.allclose(build(setting)(pred, target), build(simpler)(pred, target), atol=1e-6)


def test_limits_that_are_a_multiple_or_a_limit_of_another_loss() -> None:
    pred, target = random_pairs(200)
    iou, l1 = box_loss("iou")(pred, target), box_loss("l1")(pred, target)
    assert torch.allclose(box_loss("interp_iou", alpha=0)(pred, target), 2 * iou)
    assert torch.allclose(box_loss("smooth_l1", beta=1e-9)(pred, target), l1)
    square = (pred - target).square().mean(dim=1)
    assert torch.allclose(box_loss("smooth_l1", beta=1e3)(pred, target), square / 2e3)
    assert torch.allclose(box_loss("mpdiou", image_size=1e6)(pred, target), iou, atol=1e-6)
    # the distance W is the same whatever the constant
    distances = [-constant * (1 - box_loss("nwd", constant=constant)(pred, target)).log() for constant in (20, 50)]
    assert torch.allclose(*distances)


def test_shape_iou_with_scale_0_has_the_distance_of_diou_and_the_shape_of_siou() -> None:
    """With equal centres SIoU has no distance; with equal sides there is no shape."""
    _, target = random_pairs(100)
    centre = (target[:, :2] + target[:, 2:]).repeat(1, 2) / 2
    shrunk = centre + (target - centre) * torch.tensor([0.6, 1.7, 0.6, 1.7], dtype=target.dtype)
    moved = target + torch.tensor([3.0, -2.0, 3.0, -2.0], dtype=target.dtype)
    loss = box_loss("shape_iou")
    assert torch.allclose(loss(shrunk, target), box_loss("siou")(shrunk, target), atol=1e-6)
    assert torch.allclose(loss(moved, target), box_loss("diou")(moved, target), atol=1e-6)


def test_gcd_is_symmetric_in_the_boxes_and_grows_with_the_offset_and_with_the_factor_of_the_sides() -> None:
    loss, (pred, target) = box_loss("gcd"), random_pairs(200)
    assert torch.allclose(loss(pred, target), loss(target, pred), rtol=1e-12)
    box = boxes(TARGET)
    # an offset of t widths: D = t; a box f times as large: D^2 = (f - 1)^2 (1 + 1 / f^2) / 4
    for t in (0.25, 1.0, 3.0):
        moved = box + torch.tensor([4 * t, 0.0, 4 * t, 0.0], dtype=box.dtype)
        assert loss(moved, box).item() == pytest.approx(1 - exp(-t)), t
    for f in (0.25, 0.5, 2.0, 4.0):
        centre = torch.tensor([2.0, 1.0, 2.0, 1.0], dtype=box.dtype)
        expected = 1 - exp(-sqrt((f - 1) ** 2 * (1 + 1 / f**2) / 4))
        assert loss(centre + (box - centre) * f, box).item() == pytest.approx(expected), f


def test_axes_and_directions_count_alike() -> None:
    """Swapping the axes, or a half turn, changes no value: no loss takes widths for heights or left for right."""
    pred, target = random_pairs(200)
    for name in NAMES:
        value = box_loss(name)(pred, target)
        swapped = box_loss(name)(pred[:, [1, 0, 3, 2]], target[:, [1, 0, 3, 2]])
        turned = box_loss(name)(-pred[:, [2, 3, 0, 1]], -target[:, [2, 3, 0, 1]])
        assert torch.allclose(swapped, value) and torch.allclose(turned, value), name
