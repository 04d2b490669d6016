"""Errors found in public copies of the box losses, each kept out by a test."""

from __future__ import annotations

import pytest
import torch

from tests.box_cases import BESIDE, INSIDE, SHIFTED, TALL, TARGET, boxes, gradient, random_pairs
from tests.cases import case
from utils.losses import BOX_LOSSES, SimilarityLoss, box_loss


def test_siou_of_boxes_with_one_centre() -> None:
    """The angle of an offset of nothing: 0 / 0 in several trainers."""
    for dtype in [torch.float32, torch.float64]:
        with case(dtype):
            target = boxes(TARGET, TARGET, TARGET, dtype=dtype)
            pred = boxes(TARGET, INSIDE, (1.0, -3.0, 3.0, 5.0), dtype=dtype)
            loss = box_loss("siou")
            assert torch.isfinite(loss(pred, target)).all() and torch.isfinite(gradient(loss, pred, target)).all()
            # and next to one centre: no jump, no exploding slope
            assert torch.allclose(loss(pred + 1e-6, target), loss(pred, target), atol=1e-5)
            assert gradient(loss, pred + 1e-5, target).abs().max() < 2


def test_siou_of_offsets_along_the_axes_and_the_diagonal() -> None:
    """arcsin has no slope at 1, where an offset lies along an axis."""
    target = boxes(*[TARGET] * 3)
    pred = boxes((1.0, 0.0, 5.0, 2.0), (0.0, 1.0, 4.0, 3.0), (1.0, 1.0, 5.0, 3.0))
    assert torch.isfinite(gradient(box_loss("siou"), pred, target)).all()


def test_the_exponent_of_a_focal_weight_is_not_overwritten() -> None:
    """A copied script reuses gamma for SIoU's angle, so that the weight IoU^gamma grows without limit as IoU falls."""
    loss = box_loss("focal_eiou", gamma=0.5)
    small = boxes((3.999, 0.0, 7.999, 2.0))  # overlap 0.001 wide
    assert loss(small, boxes(TARGET)) < 0.05 * box_loss("eiou")(small, boxes(TARGET))
    assert loss.settings == {"gamma": 0.5}
    before = loss(boxes(TALL), boxes(TARGET))
    for name in BOX_LOSSES:
        box_loss(name)(boxes(SHIFTED), boxes(TARGET))
    assert torch.equal(loss(boxes(TALL), boxes(TARGET)), before)


def test_the_focal_weight_grows_with_iou() -> None:
    """(1 - IoU)^gamma, the inverse, is found as well: it favours the bad boxes."""
    target = boxes(TARGET, TARGET)
    pred = boxes((0.5, 0.0, 4.5, 2.0), (2.0, 0.0, 6.0, 2.0))
    good, bad = (box_loss("focal_eiou", gamma=1)(pred, target) / box_loss("eiou")(pred, target)).tolist()
    assert good == pytest.approx(7 / 9) and bad == pytest.approx(1 / 3)


def test_the_trade_off_of_alpha_ciou_takes_the_iou_itself() -> None:
    """Inside the target IoU is 1/2; with IoU^3 = 1/8 in the trade-off the aspect term would be less than half."""
    of_ciou, of_diou = (box_loss("alpha_iou", of=of)(boxes(INSIDE), boxes(TARGET)) for of in ("ciou", "diou"))
    aspect = float(of_ciou - of_diou) ** (1 / 3)
    plain = box_loss("ciou")(boxes(INSIDE), boxes(TARGET)) - box_loss("diou")(boxes(INSIDE), boxes(TARGET))
    assert aspect == pytest.approx(plain.item(), rel=1e-3)


def test_the_diagonal_of_wiou_carries_no_gradient() -> None:
    """With one, a far box could lower its loss by growing: the edge on the far side would be pushed outwards."""
    slope = gradient(box_loss("wiou", version=1), boxes(BESIDE), boxes(TARGET))[0]
    assert slope[0] == pytest.approx(slope[2].item()), "both edges move with the centre and nothing else"
    assert slope[1] == slope[3] == 0


def test_every_loss_returns_one_number_per_box() -> None:
    """A copied script returns tuples for some losses, and 1 - tuple breaks."""
    pred, target = random_pairs(5)
    for name in BOX_LOSSES:
        value = box_loss(name)(pred, target)
        assert isinstance(value, torch.Tensor) and value.shape == (5,), name


def test_eiou_compares_sides_with_sides() -> None:
    """A published baseline divides the centre offset by the enclosing box where the side differences belong."""
    moved = boxes(SHIFTED)  # equal sides: nothing but DIoU
    assert torch.allclose(box_loss("eiou")(moved, boxes(TARGET)), box_loss("diou")(moved, boxes(TARGET)))
    resized = boxes(INSIDE)  # equal centre: more than DIoU
    assert box_loss("eiou")(resized, boxes(TARGET)) > box_loss("diou")(resized, boxes(TARGET)) + 0.2


def test_equal_boxes_have_no_loss() -> None:
    """'Extended' IoU, which some libraries call EIoU, is not 0 for equal boxes."""
    for name in sorted(BOX_LOSSES):
        with case(name):
            _, target = random_pairs(50)
            assert box_loss(name)(target, target).abs().max() < 1e-6


def test_inner_iou_scales_the_boxes_and_not_their_intersection() -> None:
    """Scaled boxes may miss each other where the boxes overlap, and the other way round."""
    inner = box_loss("inner", of="iou", ratio=0.5)
    assert inner(boxes(SHIFTED), boxes(TARGET)) == pytest.approx(1.0)
    outer = box_loss("inner", of="iou", ratio=3.0)  # 9 x 6 from x = 3 on, against up to x = 8
    assert outer(boxes(BESIDE), boxes(TARGET)) < 1
    _, target = random_pairs(20)
    assert torch.allclose(inner(target, target), torch.zeros(20, dtype=target.dtype), atol=1e-6)


def test_the_iou_term_of_focaler_has_a_gradient_between_d_and_u_alone() -> None:
    """IoU is 1/3, 3/5 and 7/9 for these offsets."""
    target = boxes(*[TARGET] * 3)
    pred = boxes((2.0, 0.0, 6.0, 2.0), (1.0, 0.0, 5.0, 2.0), (0.5, 0.0, 4.5, 2.0))
    slopes = gradient(box_loss("focaler", of="iou", d=0.5, u=0.7), pred, target)
    plain = gradient(box_loss("iou"), pred, target)
    assert slopes[0].abs().max() == 0 and slopes[2].abs().max() == 0
    assert torch.allclose(slopes[1], plain[1] / 0.2)


def test_the_inputs_stay_as_they_were() -> None:
    """A copied MPDIoU adds the grid to its arguments in place."""
    pred, target = random_pairs(5)
    before = pred.clone(), target.clone()
    for name in BOX_LOSSES:
        box_loss(name)(pred, target)
    assert torch.equal(pred, before[0]) and torch.equal(target, before[1])


def test_ciou_has_no_gate_and_its_trade_off_no_gradient() -> None:
    """Some libraries count the aspect term above IoU 0.5 only, and an old one differentiates alpha."""
    below = boxes(TALL)  # IoU 1/7
    assert box_loss("ciou")(below, boxes(TARGET)) > box_loss("diou")(below, boxes(TARGET)) + 1e-3


def test_half_precision_does_not_swallow_eps() -> None:
    """1e-7 is 0 in 16 bits: boxes without size divided by it."""
    empty = torch.zeros(1, 4, dtype=torch.float16)
    for name in BOX_LOSSES:
        assert torch.isfinite(box_loss(name)(empty, empty)).all(), name


def test_piou2_repels_where_its_attention_fades_faster_than_the_loss_grows() -> None:
    """As published: known, documented, and near P = 1, not nearer."""
    target = boxes(TARGET)
    pulled, pushed = (
        gradient(box_loss("piou2"), target + torch.tensor([d, 0.0, d, 0.0]), target)[0, 0] for d in (4, 12)
    )
    assert pulled > 0 > pushed
    assert not isinstance(box_loss("piou2"), SimilarityLoss)
