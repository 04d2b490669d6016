"""What holds for every box loss: golden numbers, ranges, units, precision, what no box may break, and errors."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tests.box_cases import (
    BESIDE,
    HOSTILE,
    INSIDE,
    NAMES,
    SETTINGS,
    SHIFTED,
    TALL,
    TARGET,
    boxes,
    build,
    gradient,
    has_similarity,
    random_pairs,
    settings_of,
)
from tests.cases import case
from tests.golden import SHARED_EDGES, load_cases
from utils.errors import UserError
from utils.losses import BOX_LOSSES, box_loss

IN_PIXELS = ("l1", "mpdiou", "nwd", "smooth_l1")


@pytest.mark.parametrize("name", ["iou", "giou", "diou", "ciou", "sca"])
def test_golden(name: str) -> None:
    golden = load_cases("boxes.npz")[""]
    for dtype, value_tolerance, grad_tolerance in ((torch.float64, 1e-6, 1e-5), (torch.float32, 1e-4, 1e-3)):
        pred = torch.tensor(golden["pred"], dtype=dtype, requires_grad=True)
        similarity = box_loss(name).similarity(pred, torch.tensor(golden["target"], dtype=dtype))
        similarity.sum().backward()
        expected = torch.tensor(golden[f"{name}_grad"])
        # the last pairs are identical or share an edge: minimum and maximum tie there, any sub-gradient is right
        error = (pred.grad.double() - expected)[:-SHARED_EDGES].abs().max() / expected.abs().max()
        with case(dtype):
            assert (similarity.detach().double() - torch.tensor(golden[name])).abs().max() < value_tolerance
            assert error < grad_tolerance


@pytest.mark.parametrize("name", NAMES)
def test_finite_value_and_gradient(name: str) -> None:
    for setting, pair, dtype in product(settings_of(name), HOSTILE, (torch.float32, torch.float64)):
        with case(setting, pair, dtype):
            pred, target = (boxes(box, dtype=dtype) for box in HOSTILE[pair])
            pred.requires_grad_()
            loss = build(setting)
            value = loss(pred, target)
            value.sum().backward()
            assert torch.isfinite(value).all() and torch.isfinite(pred.grad).all()
            low, high = loss.range
            assert low - 1e-5 <= value.item() <= high + 1e-5


def test_range_and_least_value() -> None:
    for setting in SETTINGS:
        with case(setting):
            loss = build(setting)
            pred, target = random_pairs(500)
            value = loss(pred, target)
            assert value.min() >= loss.range[0] and value.max() <= loss.range[1]
            assert torch.allclose(loss(target, target), torch.zeros_like(value), atol=1e-6)


def test_a_loss_of_ratios_does_not_know_the_unit() -> None:
    """Boxes of 1 to 41 and of 7 to 287: the same loss. eps is all that has a unit."""
    for setting in (entry for entry in SETTINGS if not build(entry).pixels):
        with case(setting):
            pred, target = random_pairs(500)
            assert torch.allclose(build(setting)(pred * 7, target * 7), build(setting)(pred, target), atol=1e-6)


def test_only_losses_of_lengths_know_the_unit() -> None:
    assert [name for name in NAMES if box_loss(name).pixels] == list(IN_PIXELS)
    pred, target = random_pairs(20)
    for name in IN_PIXELS:
        assert not torch.allclose(box_loss(name)(pred * 7, target * 7), box_loss(name)(pred, target), atol=1e-3), name


def test_similarity_is_1_minus_the_loss() -> None:
    for name in filter(has_similarity, NAMES):
        with case(name):
            loss = box_loss(name)
            pred, target = random_pairs(100)
            assert torch.allclose(loss.similarity(pred, target), 1 - loss(pred, target))
            assert torch.allclose(loss.similarity(target, target), torch.ones(100, dtype=target.dtype), atol=1e-6)


def test_an_additive_loss_is_the_iou_loss_plus_a_penalty() -> None:
    """Wrappers keep the range of such a loss, and widen that of the others by 1 on both sides."""
    others = {"alpha_iou", "focal_eiou", "gcd", "l1", "nwd", "piou2", "sca", "smooth_l1", "wiou"}
    assert {name for name in NAMES if not box_loss(name).additive} == others
    pred, target = random_pairs(500)
    for name in NAMES:
        loss = box_loss(name)
        low, high = loss.range
        assert box_loss("inner", of=name).range == ((low, high) if loss.additive else (low - 1, high + 1)), name
        if loss.additive and not hasattr(loss, "inside"):
            penalty = loss(pred, target) - box_loss("iou")(pred, target)
            assert penalty.min() > -1e-6 and penalty.max() < high - 1 + 1e-6, name


def test_losses_that_say_nothing_about_how_good_a_box_is_have_no_similarity() -> None:
    without = {name for name in NAMES if not has_similarity(name)}
    assert without == {"focal_eiou", "l1", "piou2", "smooth_l1", "wiou"}
    for name in without:
        assert not hasattr(box_loss(name), "similarity")
        assert not hasattr(box_loss("inner", of=name), "similarity")
    assert hasattr(box_loss("inner", of={"name": "focaler", "of": "siou"}), "similarity")


def test_disjoint_boxes_attract() -> None:
    """All but IoU itself, its focal weight and an attention that fades pull a box that misses towards its target."""
    for name in sorted({*NAMES} - {"iou", "focal_eiou", "piou2"}):
        with case(name):
            pred = boxes(BESIDE)
            assert gradient(box_loss(name), pred, boxes(TARGET))[0, 0] > 0, (
                "moving the left edge left must lower the loss"
            )
            far = box_loss(name)(boxes((26.0, 0.0, 29.0, 2.0)), boxes(TARGET))
            assert far > box_loss(name)(pred, boxes(TARGET))


def test_empty_batch_has_a_gradient() -> None:
    for setting, reduction in product(SETTINGS, ("mean", "sum", "none")):
        with case(setting, reduction):
            pred = torch.zeros(0, 4, requires_grad=True)
            value = build(setting)(pred, torch.zeros(0, 4), reduction=reduction)
            value.sum().backward()
            assert value.sum() == 0 and pred.grad.shape == (0, 4)


def test_reductions_and_precision() -> None:
    for setting in SETTINGS:
        with case(setting):
            pred, target = random_pairs(9)
            loss = build(setting)
            each = loss(pred, target)
            assert torch.isclose(loss(pred, target, reduction="mean"), each.mean())
            assert torch.isclose(loss(pred, target, reduction="sum"), each.sum())
            half = loss(pred.half(), target.half())
            assert half.dtype == torch.float32 and torch.allclose(half.double(), each, atol=0.05)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(loss(pred.float(), target.float()), loss(pred.float(), target.float()).float())
                assert loss(pred.float(), target.float()).dtype == torch.float32


def test_one_box_and_many_have_equal_losses() -> None:
    """Elementwise: no box changes the loss of another, and the inputs stay as they were."""
    for setting in SETTINGS:
        with case(setting):
            pred, target = random_pairs(7)
            before = pred.clone(), target.clone()
            each = torch.cat([build(setting)(pred[i : i + 1], target[i : i + 1]) for i in range(7)])
            assert torch.allclose(build(setting)(pred, target), each, rtol=1e-12)
            assert torch.equal(pred, before[0]) and torch.equal(target, before[1])


def test_eps_reaches_every_term() -> None:
    """A large eps must change each loss but plain L1, CIoU in its DIoU part too."""
    pred, target = boxes(INSIDE, SHIFTED, TALL), boxes(TARGET, TARGET, TARGET)
    for setting in SETTINGS:
        loss = build(setting)
        if loss.name not in ("l1", "smooth_l1") or loss.settings["normalise"]:
            assert (loss(pred, target, eps=1.0) - loss(pred, target)).abs().max() > 1e-3, setting
    pred, target = boxes(SHIFTED), boxes(TARGET)
    change = box_loss("ciou")(pred, target, eps=1.0) - box_loss("ciou")(pred, target)
    assert change == pytest.approx((box_loss("diou")(pred, target, eps=1.0) - box_loss("diou")(pred, target)).item())


def test_errors_say_what_was_expected() -> None:
    loss = box_loss("giou")
    with pytest.raises(ValueError, match=r"Expected pred boxes of shape \(N, 4\) but got \(4, 7\)"):
        loss(torch.zeros(4, 7), torch.zeros(4, 7))
    with pytest.raises(ValueError, match=r"Expected target boxes of shape \(3, 4\), as pred, but got \(1, 4\)"):
        loss(torch.zeros(3, 4), torch.zeros(1, 4))
    with pytest.raises(UserError, match=r"unknown reduction 'avg'. Known: mean, none, sum."):
        loss(torch.zeros(3, 4), torch.zeros(3, 4), reduction="avg")
    with pytest.raises(UserError, match=r"unknown box loss 'ciuo'. Known: .*ciou.* Did you mean 'ciou'\?"):
        box_loss("ciuo")
    with pytest.raises(UserError, match=r"unknown parameter of the box loss 'iou' 'alpha'"):
        box_loss("iou", alpha=3)


WRONG = [
    ({"name": "focal_eiou", "gamma": -1}, r"focal_eiou: gamma: expected a number of at least 0 but got -1"),
    ({"name": "siou", "theta": 0.5}, r"siou: theta: expected a number of at least 1 but got 0.5"),
    ({"name": "alpha_iou", "alpha": "big"}, r"alpha_iou: alpha: expected a number of at least 1 but got 'big'"),
    ({"name": "alpha_iou", "of": "eiuo"}, r"alpha_iou: of: unknown value 'eiuo'. Known: ciou, diou, giou, iou"),
    ({"name": "wiou", "version": 4}, r"wiou: version: unknown value '4'. Known: 1, 2, 3"),
    ({"name": "wiou", "version": True}, r"wiou: version: unknown value 'True'. Known: 1, 2, 3"),
    ({"name": "wiou", "alpha": 1}, r"wiou: alpha: expected a number above 1 but got 1"),
    ({"name": "wiou", "momentum": 2}, r"wiou: momentum: expected a number above 0 and at most 1 but got 2"),
    (
        {"name": "mpdiou", "image_size": [640]},
        r"mpdiou: image_size: expected a side or \[width, height\] but got \[640",
    ),
    ({"name": "mpdiou", "image_size": 0}, r"mpdiou: image_size: expected a number above 0 but got 0"),
    ({"name": "nwd", "constant": None}, r"nwd: constant: expected a number above 0 but got None"),
    ({"name": "shape_iou", "scale": float("nan")}, r"shape_iou: scale: expected a number of at least 0 but got nan"),
    ({"name": "piou2", "lam": 0}, r"piou2: lam: expected a number above 0 but got 0"),
    ({"name": "interp_iou", "alpha": 1}, r"interp_iou: expected alpha below 1"),
    ({"name": "interp_iou", "alpha": 0.5, "dynamic": True}, r"expected low of at most alpha, 0.5, but got 0.6"),
    ({"name": "interp_iou", "dynamic": "yes"}, r"interp_iou: dynamic: expected true or false but got 'yes'"),
    ({"name": "smooth_l1", "beta": 0}, r"smooth_l1: beta: expected a number above 0 but got 0"),
    ({"name": "l1", "normalise": 1}, r"l1: normalise: expected true or false but got 1"),
    ({"name": "inner", "ratio": 0}, r"inner: ratio: expected a number above 0 but got 0"),
    ({"name": "inner", "of": 3}, r"inner: of: expected a name or a mapping with 'name' and parameters but got 3"),
    ({"name": "inner", "of": "cious"}, r"unknown box loss 'cious'.*Did you mean 'ciou'"),
    ({"name": "inner", "of": {"name": "siou", "tehta": 4}}, r"unknown parameter of the box loss 'siou' 'tehta'.*theta"),
    ({"name": "focaler", "d": 0.5, "u": 0.5}, r"focaler: expected d below u but got d 0.5 and u 0.5"),
    ({"name": "focaler", "u": 1.5}, r"focaler: u: expected a number from 0 to 1 but got 1.5"),
]


def test_wrong_parameters() -> None:
    for setting, message in WRONG:
        with case(setting), pytest.raises(UserError, match=message):
            BOX_LOSSES.build_from(setting)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert box_loss("wiou", momentum="1e-3").momentum == 0.001


def test_documented() -> None:
    for name in NAMES:
        with case(name):
            entry = BOX_LOSSES.entry(name)
            assert entry.paper and entry.formula and entry.range == box_loss(name).range
            assert repr(box_loss(name)).startswith(f"box_loss('{name}'")
            assert entry.build.__doc__
