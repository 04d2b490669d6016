"""Box losses: values worked out by hand, golden numbers, gradients, and what no box may break."""

from __future__ import annotations

import math

import pytest
import torch

from tests.golden import load_cases
from utils.errors import UserError
from utils.losses import BOX_LOSSES, box_loss

NAMES = BOX_LOSSES.names()
ATAN = 4 / math.pi**2


def boxes(*rows: tuple[float, float, float, float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(rows, dtype=dtype)


# target 4 x 2 at the origin; none of the pairs is square, so that every term of every loss counts
TARGET = (0.0, 0.0, 4.0, 2.0)
INSIDE = (1.0, 0.0, 3.0, 2.0)  # 2 x 2, same centre: I 4, U 8, enclosing box = target, corners 1 apart
BESIDE = (6.0, 0.0, 9.0, 2.0)  # 3 x 2, a gap of 2: I 0, U 14, enclosing box 9 x 2, centres 5.5 apart
SHIFTED = (2.0, 1.0, 6.0, 3.0)  # 4 x 2, half a box right and down: I 2, U 14, enclosing box 6 x 3
ASPECT_INSIDE = ATAN * (math.atan(2) - math.atan(1)) ** 2
ASPECT_BESIDE = ATAN * (math.atan(2) - math.atan(1.5)) ** 2

BY_HAND = {
    ("iou", INSIDE): 1 - 0.5,
    ("iou", BESIDE): 1.0,
    ("iou", SHIFTED): 1 - 2 / 14,
    ("giou", INSIDE): 1 - 0.5,  # the enclosing box is the union
    ("giou", BESIDE): 1 + (18 - 14) / 18,
    ("giou", SHIFTED): 1 - 2 / 14 + (18 - 14) / 18,
    ("diou", INSIDE): 1 - 0.5,  # concentric
    ("diou", BESIDE): 1 + 5.5**2 / (81 + 4),
    ("diou", SHIFTED): 1 - 2 / 14 + (4 + 1) / (36 + 9),
    ("ciou", INSIDE): 1 - 0.5 + ASPECT_INSIDE**2 / (1 - 0.5 + ASPECT_INSIDE),
    ("ciou", BESIDE): 1 + 5.5**2 / 85 + ASPECT_BESIDE**2 / (1 + ASPECT_BESIDE),
    ("ciou", SHIFTED): 1 - 2 / 14 + 5 / 45,  # equal aspect ratios
    ("sca", INSIDE): 2 - (2 / 4 + 2 / 2) + (1 + 1) / math.sqrt(20),
    ("sca", BESIDE): 2 - (-2 / 9 + 2 / 2) + (6 + 5) / math.sqrt(85),  # the gap counts as negative overlap
    ("sca", SHIFTED): 2 - (2 / 6 + 1 / 3) + 2 * math.sqrt(5) / math.sqrt(45),
}


@pytest.mark.parametrize(("name", "pred"), BY_HAND, ids=lambda value: str(value))
def test_value_by_hand(name: str, pred: tuple) -> None:
    loss = box_loss(name)(boxes(pred), boxes(TARGET))
    assert loss.item() == pytest.approx(BY_HAND[name, pred], abs=1e-6)


def test_every_loss_has_values_by_hand() -> None:
    assert {name for name, _ in BY_HAND} == set(NAMES)


@pytest.mark.parametrize(
    ("dtype", "value_tolerance", "grad_tolerance"), [("float64", 1e-6, 1e-5), ("float32", 1e-4, 1e-3)]
)
@pytest.mark.parametrize("name", ["iou", "giou", "diou", "ciou", "sca"])
def test_golden(name: str, dtype: str, value_tolerance: float, grad_tolerance: float) -> None:
    golden = load_cases("boxes.npz")[""]
    pred = torch.tensor(golden["pred"], dtype=getattr(torch, dtype), requires_grad=True)
    similarity = box_loss(name).similarity(pred, torch.tensor(golden["target"], dtype=pred.dtype))
    similarity.sum().backward()
    assert (similarity.detach().double() - torch.tensor(golden[name])).abs().max() < value_tolerance
    expected = torch.tensor(golden[f"{name}_grad"])
    # the last 40 pairs are identical or share an edge: minimum and maximum tie there, any sub-gradient is right
    error = (pred.grad.double() - expected)[:-40].abs().max() / expected.abs().max()
    assert error < grad_tolerance


def random_pairs(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 50
    sides = 1 + torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 40
    pred, target = torch.cat((corners, corners + sides), dim=-1)
    return pred, target


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_the_value(name: str) -> None:
    pred, target = random_pairs(12)
    loss = box_loss(name)
    if name == "ciou":  # the trade-off carries no gradient by definition: hold it fixed while differentiating
        pred = pred.requires_grad_()
        loss(pred, target, reduction="sum").backward()
        step = 1e-6 * torch.randn(pred.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            change = (
                _ciou_with_alpha_of(pred + step, target, pred) - _ciou_with_alpha_of(pred - step, target, pred)
            ) / 2
        assert torch.allclose((pred.grad * step).sum(dim=1), change, rtol=1e-4, atol=1e-12)
    else:
        assert torch.autograd.gradcheck(lambda x: loss(x, target), (pred.requires_grad_(),), eps=1e-6, atol=1e-6)


def _ciou_with_alpha_of(pred: torch.Tensor, target: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """CIoU loss written out once more, with alpha computed from other boxes."""

    def aspect(box: torch.Tensor) -> torch.Tensor:
        angles = [torch.atan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (target, box)]
        return ATAN * (angles[0] - angles[1]) ** 2

    iou = 1 - box_loss("iou")(fixed, target)
    alpha = aspect(fixed) / (1 - iou + aspect(fixed))
    return box_loss("diou")(pred, target) + alpha * aspect(pred)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("pair", HOSTILE)
@pytest.mark.parametrize("name", NAMES)
def test_finite_value_and_gradient(name: str, pair: str, dtype: torch.dtype) -> None:
    pred, target = (boxes(box, dtype=dtype) for box in HOSTILE[pair])
    pred.requires_grad_()
    loss = box_loss(name)
    value = loss(pred, target)
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(pred.grad).all()
    low, high = loss.range
    assert low - 1e-5 <= value.item() <= high + 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_range_scale_and_order(name: str) -> None:
    loss = box_loss(name)
    pred, target = random_pairs(500)
    value = loss(pred, target)
    assert value.min() >= loss.range[0] and value.max() <= loss.range[1]
    assert torch.allclose(loss(pred * 7, target * 7), value, atol=1e-6), "a loss of ratios does not know the unit"
    assert torch.allclose(loss(target, target), torch.zeros_like(value), atol=1e-6)
    assert torch.allclose(loss.similarity(pred, target), 1 - value)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "iou"])
def test_disjoint_boxes_attract(name: str) -> None:
    """All losses but IoU itself pull a box that misses towards its target."""
    pred = boxes(BESIDE).requires_grad_()
    box_loss(name)(pred, boxes(TARGET)).sum().backward()
    assert pred.grad[0, 0] > 0, "moving the left edge left must lower the loss"
    far = box_loss(name)(boxes((26.0, 0.0, 29.0, 2.0)), boxes(TARGET))
    assert far > box_loss(name)(boxes(BESIDE), boxes(TARGET))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_empty_batch_has_a_gradient(name: str, reduction: str) -> None:
    pred = torch.zeros(0, 4, requires_grad=True)
    value = box_loss(name)(pred, torch.zeros(0, 4), reduction=reduction)
    value.sum().backward()
    assert value.sum() == 0 and pred.grad.shape == (0, 4)


@pytest.mark.parametrize("name", NAMES)
def test_reductions_and_precision(name: str) -> None:
    pred, target = random_pairs(9)
    loss = box_loss(name)
    each = loss(pred, target)
    assert torch.isclose(loss(pred, target, reduction="mean"), each.mean())
    assert torch.isclose(loss(pred, target, reduction="sum"), each.sum())
    half = loss(pred.half(), target.half())
    assert half.dtype == torch.float32 and torch.allclose(half.double(), each, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(pred.float(), target.float()), loss(pred.float(), target.float()).float())
        assert loss(pred.float(), target.float()).dtype == torch.float32


def test_eps_reaches_every_term() -> None:
    """A large eps must change each loss, CIoU in its DIoU part too."""
    pred, target = boxes(SHIFTED), boxes(TARGET)
    for name in NAMES:
        assert abs(box_loss(name)(pred, target, eps=1.0) - box_loss(name)(pred, target)) > 1e-3, name
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


@pytest.mark.parametrize("name", NAMES)
def test_documented(name: str) -> None:
    info = BOX_LOSSES.entry(name).info
    assert info["paper"] and info["formula"] and tuple(info["range"]) == box_loss(name).range
