"""Losses of lengths get pixels: from a call that says so, and from the criterion, whose boxes are in cells."""

from __future__ import annotations

import pytest
import torch

from tests.box_cases import NAMES, SETTINGS, build, has_similarity, random_pairs
from tests.cases import case
from tests.criterion_scenes import ANCHORS, STRIDES, scene
from tests.criterion_scenes import build as build_criterion
from utils.criterion.criterion import Criterion
from utils.errors import UserError
from utils.losses import BoxContext, box_loss

IMAGE_WH = (200.0, 120.0)


def test_boxes_in_cells_with_a_stride_cost_what_boxes_in_pixels_cost() -> None:
    """Rows of three levels in one call, each with its stride."""
    for setting in SETTINGS:
        with case(setting):
            pred, target = random_pairs(60)
            stride = torch.tensor([8.0, 16.0, 32.0], dtype=torch.float64).repeat(20)[:, None]
            in_pixels = build(setting)(pred, target, context=BoxContext(image_wh=IMAGE_WH))
            in_cells = build(setting)(pred / stride, target / stride, context=BoxContext(stride, IMAGE_WH))
            assert torch.allclose(in_cells, in_pixels, atol=1e-5)


def test_losses_of_ratios_stay_in_cells_to_the_last_bit() -> None:
    """Coordinates in cells are near 1, where floats are dense."""
    for setting in (entry for entry in SETTINGS if not build(entry).pixels):
        with case(setting):
            pred, target = (boxes.float() for boxes in random_pairs(60))
            plain = build(setting)(pred, target)
            assert torch.equal(build(setting)(pred, target, context=BoxContext(12.7, IMAGE_WH)), plain)


def test_wrappers_pass_the_unit_and_the_image_on() -> None:
    pred, target = random_pairs(30)
    context = BoxContext(16.0, IMAGE_WH)
    for name in ("l1", "mpdiou", "nwd", "smooth_l1"):
        plain = box_loss(name)(pred, target, context=context)
        for wrapper in ({"name": "inner", "of": name, "ratio": 1}, {"name": "focaler", "of": name, "d": 0, "u": 1}):
            for setting in (wrapper, {"name": "inner", "of": wrapper, "ratio": 1}):
                with case(setting):
                    assert build(setting).pixels
                    assert torch.allclose(build(setting)(pred, target, context=context), plain)


def test_the_divisor_of_mpdiou_and_the_constant_of_nwd_are_pixels() -> None:
    """One pixel of offset costs the same on every level; copies that divide by the grid size, or take cells, do not."""
    target = torch.tensor([[100.0, 60.0, 140.0, 90.0]], dtype=torch.float64)
    for name in ("mpdiou", "nwd"):
        costs = [
            box_loss(name)((target + 1) / stride, target / stride, context=BoxContext(stride, (640, 384)))
            for stride in STRIDES
        ]
        assert torch.allclose(costs[0], costs[1], atol=1e-7) and torch.allclose(costs[0], costs[2], atol=1e-7)
    far = box_loss("nwd")(target + 12.8 / 2**0.5, target)
    assert far.item() == pytest.approx(1 - 1 / 2.718281828), "an offset of C costs 1 - 1 / e"


def test_an_image_size_of_the_call_goes_before_the_parameter() -> None:
    pred, target = random_pairs(10)
    loss = box_loss("mpdiou", image_size=[200, 120])
    told = box_loss("mpdiou", image_size=1)(pred, target, context=BoxContext(image_wh=(200, 120)))
    assert torch.equal(loss(pred, target), told)


def positives(criterion: Criterion, raw: list, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the criterion passes to its box loss, and the part that comes of it."""
    seen = {}

    def look(module, arguments, keywords, output) -> None:
        seen.update(pred=arguments[0], target=arguments[1], loss=output, **keywords["context"]._asdict())

    handle = criterion.box_loss.register_forward_hook(look, with_kwargs=True)
    seen["part"] = criterion(raw, targets).parts["box"]
    handle.remove()
    return seen


def test_the_criterion_compares_pixels_of_the_images_at_hand() -> None:
    """The scene is 128 x 96 pixels, rectangular, and not what image_size says."""
    for name in NAMES:
        with case(name):
            raw, targets = scene()
            seen = positives(build_criterion(loss={"box": name}), raw, targets)
            assert seen["image_wh"].tolist() == [128, 96]
            assert set(seen["stride"].flatten().tolist()) <= set(STRIDES) and len(seen["stride"].unique()) > 1
            # the targets in pixels have the sides of the labels
            sides = (seen["target"][:, 2:] - seen["target"][:, :2]) * seen["stride"]
            labelled = targets[:, 4:] * torch.tensor([128.0, 96.0], dtype=targets.dtype)
            assert (sides[:, None] - labelled).abs().sum(dim=2).min(dim=1).values.max() < 1e-9
            in_pixels = box_loss(name)(
                seen["pred"] * seen["stride"], seen["target"] * seen["stride"], context=BoxContext(image_wh=(128, 96))
            )
            assert torch.allclose(seen["loss"], in_pixels, atol=1e-4)


def test_the_box_part_is_the_mean_of_the_loss_over_the_positives_of_each_level() -> None:
    raw, targets = scene()
    criterion = build_criterion(loss={"box": "smooth_l1"}, box=1.0)
    seen = positives(criterion, raw, targets)
    means = [seen["loss"][seen["stride"].flatten() == stride].mean() for stride in seen["stride"].unique()]
    assert seen["part"].item() == pytest.approx(sum(means).item())


def test_the_box_similarity_as_objectness_target_is_refused_where_there_is_none() -> None:
    for name in NAMES:
        for setting, called in ((name, name), ({"name": "inner", "of": name}, "inner")):
            with case(setting):
                settings = {"box": setting, "objectness_target": "box"}
                if has_similarity(name):
                    assert torch.isfinite(build_criterion(loss=settings)(*scene()).total)
                    continue
                with pytest.raises(UserError, match=rf"objectness_target: box needs .* but {called} is none"):
                    build_criterion(loss=settings)


def test_a_similarity_beyond_1_is_held_at_1_as_target() -> None:
    """SCA with larger auxiliary boxes may go below 0; a score target of more than 1 would have no minimum."""
    raw, targets = scene()
    raw = [level * 0.01 for level in raw]
    setting = {"name": "inner", "of": "sca", "ratio": 3}
    out = build_criterion(loss={"box": setting, "objectness_target": "box"})(raw, targets)
    assert torch.isfinite(out.total)


def test_every_setting_trains_and_backs_up_through_the_criterion() -> None:
    for setting in SETTINGS:
        with case(setting):
            raw, targets = scene()
            raw = [level.float().requires_grad_() for level in raw]
            criterion = Criterion(ANCHORS, STRIDES, 3, 128, {"loss": {"box": setting}})
            for count in (len(targets), 1, 0):
                out = criterion(raw, targets[:count])
                out.total.backward()
                assert torch.isfinite(out.total)
            assert all(torch.isfinite(level.grad).all() for level in raw)
