"""The criterion against YOLOv5's own numbers, and the rules that one knob has one effect."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.cases import case
from tests.criterion_scenes import ANCHORS, STRIDES, build, predictions_of, scene
from tests.golden import case_names, load_cases
from utils.boxes import build_anchor_table
from utils.criterion.criterion import Criterion
from utils.criterion.matches import cell_boxes, gather_matches
from utils.errors import UserError
from utils.losses import BOX_LOSSES, box_loss


def golden_case(name: str, dtype: torch.dtype) -> tuple[dict, Criterion, list[torch.Tensor], torch.Tensor]:
    arrays = load_cases("criterion.npz")[name]
    levels = len(arrays["strides"])
    raw = [torch.tensor(arrays[f"raw{level}"], dtype=dtype, requires_grad=True) for level in range(levels)]
    hyp = {"label_smoothing": float(arrays["label_smoothing"]), "loss": {"objectness_target": "box"}}
    criterion = Criterion(
        torch.tensor(arrays["anchors_px"]),
        arrays["strides"].tolist(),
        raw[0].shape[-1] - 5,
        int(arrays["image_size"]),
        hyp,
    )
    return arrays, criterion, raw, torch.tensor(arrays["targets"], dtype=dtype)


def test_golden_parts_and_gradients() -> None:
    for name, (dtype, tolerance) in itertools.product(
        case_names("criterion.npz"), [(torch.float64, 1e-8), (torch.float32, 1e-5)]
    ):
        with case(dtype, tolerance, name):
            arrays, criterion, raw, targets = golden_case(name, dtype)
            out = criterion(raw, targets)
            out.total.backward()
            assert out.total.item() == pytest.approx(float(arrays["total"]), abs=tolerance)
            parts = [out.parts[part].item() for part in ("box", "obj", "cls")]
            assert parts == pytest.approx(arrays["parts"], abs=tolerance)
            for level, tensor in enumerate(raw):
                expected = torch.tensor(arrays[f"grad{level}"])
                scale = expected.abs().max().clamp(min=1e-30)
                assert (tensor.grad.double() - expected).abs().max() / scale < tolerance


def test_golden_assignment() -> None:
    """Equal as sets: rows of image, anchor, row, column, class, and the box in cells."""
    for name in case_names("criterion.npz"):
        with case(name):
            arrays, criterion, raw, targets = golden_case(name, torch.float64)
            grids = [tensor.shape[2:4] for tensor in raw]
            table = build_anchor_table(torch.tensor(arrays["anchors_px"]).double(), arrays["strides"].tolist(), grids)
            found = criterion.assigner(targets, table)
            boxes = cell_boxes(targets[found.target, 2:6], table, found.anchor)
            for level in range(len(raw)):
                mine = table.level[found.anchor] == level
                anchor = found.anchor[mine]
                col, row = table.cell[anchor].long().unbind(dim=1)
                columns = (found.image[mine], table.shape[anchor], row, col, targets[found.target[mine], 1].long())
                ours = torch.cat((torch.stack(columns, dim=1).double(), boxes[mine]), dim=1).numpy()
                theirs = np.concatenate((arrays[f"assigned{level}"], arrays[f"box{level}"]), axis=1)
                assert ours.shape == theirs.shape
                assert np.allclose(_sorted_rows(ours), _sorted_rows(theirs), atol=1e-9)


def _sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(np.round(rows, 6).T[::-1])]


def test_box_loss_changes_the_box_part_alone() -> None:
    """Runs that differ only in loss.box have equal objectness and class losses, to the last bit."""
    raw, targets = scene()
    parts = {name: build(loss={"box": name})(raw, targets).parts for name in BOX_LOSSES}
    for name in BOX_LOSSES:
        assert torch.equal(parts[name]["obj"], parts["iou"]["obj"])
        assert torch.equal(parts[name]["cls"], parts["iou"]["cls"])
    assert len({round(part["box"].item(), 9) for part in parts.values()}) == len(parts)


def test_objectness_target_changes_the_objectness_part_alone() -> None:
    raw, targets = scene()
    parts = {
        kind: build(loss={"box": "sca", "objectness_target": kind})(raw, targets).parts
        for kind in ("iou", "box", "one")
    }
    assert len({part["box"].item() for part in parts.values()}) == 1
    assert len({part["cls"].item() for part in parts.values()}) == 1
    assert len({round(part["obj"].item(), 9) for part in parts.values()}) == 3


def test_objectness_part_by_hand() -> None:
    """One level, one anchor, one object: cross-entropy of every cell with the IoU (SCA value, or 1) of its own box."""
    for kind in ["iou", "box", "one"]:
        with case(kind):
            anchors, logit = torch.tensor([[[32.0, 32.0]]], dtype=torch.float64), 0.7
            raw = torch.full((1, 1, 4, 4, 6), logit, dtype=torch.float64)
            raw[..., :4] = 0.0  # boxes of the anchor's size, in the middle of their cells
            target = torch.tensor([[0, 0, 0.53, 0.61, 0.2, 0.35]], dtype=torch.float64)  # of 128 pixels, cells of 32
            hyp = {"loss": {"box": "sca", "objectness_target": kind}}
            part = Criterion(anchors, (32,), 1, 640, hyp)([raw], target).parts["obj"]
            wanted = torch.zeros(4, 4, dtype=torch.float64)
            x, y, w, h = (target[0, 2:] * 128).tolist()
            for row, col in ((2, 2), (1, 2), (2, 1)):  # the centre leans up and left: cells (2.12, 2.44)
                pred = torch.tensor([[col * 32.0, row * 32.0, col * 32.0 + 32, row * 32.0 + 32]], dtype=torch.float64)
                box = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], dtype=torch.float64)
                value = {"iou": box_loss("iou").similarity(pred, box), "box": box_loss("sca").similarity(pred, box)}
                wanted[row, col] = 1.0 if kind == "one" else value[kind].clamp(min=0).item()
            logits = torch.full((4, 4), logit, dtype=torch.float64)
            expected = functional.binary_cross_entropy_with_logits(logits, wanted)
            expected *= 4.0 * 3  # balance, and the gain of a level
            assert part.item() == pytest.approx(expected.item(), rel=1e-6)


def test_box_and_class_parts_by_hand() -> None:
    """Per level the mean over its positives, then the sum over levels; classes with smoothed targets."""
    raw, targets = scene()
    criterion = build(label_smoothing=0.2, loss={"box": "giou"})
    table = build_anchor_table(ANCHORS, STRIDES, [level.shape[2:4] for level in raw])
    found = criterion.assigner(targets, table)
    matches = gather_matches(predictions_of(raw), targets, table, found)
    boxes = box_loss("giou")(matches.pred_boxes, matches.target_boxes)
    wanted = torch.full_like(matches.pred.classes, 0.1)
    wanted[torch.arange(len(wanted)), matches.classes] = 0.9
    classes = functional.binary_cross_entropy_with_logits(matches.pred.classes, wanted, reduction="none").mean(dim=1)
    level = table.level[found.anchor]
    assert len(set(level.tolist())) == 3 and len(set(level.bincount().tolist())) > 1
    parts = criterion(raw, targets).parts
    for name, values, gain in (("box", boxes, 0.05), ("cls", classes, 0.5 * 3 / 80)):
        expected = gain * sum(values[level == number].mean() for number in range(3))
        assert parts[name].item() == pytest.approx(expected.item())


def test_objectness_of_levels_and_images() -> None:
    """Nothing but background of one logit: balanced levels, and a mean over the images."""
    logit = 0.7
    for num_images in (1, 3):
        raw = [torch.full((num_images, 3, 96 // stride, 128 // stride, 8), logit) for stride in STRIDES]
        out = Criterion(ANCHORS, STRIDES, 3, 640, {})(raw, torch.zeros(0, 6))
        part = (4.0 + 1.0 + 0.4) * functional.softplus(torch.tensor(logit))
        assert out.parts["obj"].item() == pytest.approx(part.item())
        assert out.total.item() == pytest.approx(num_images * part.item())


def test_gain_scales_its_own_part() -> None:
    for gain in ["box", "obj", "cls"]:
        with case(gain):
            raw, targets = scene()
            base, doubled = build()(raw, targets), build(**{gain: 2 * getattr(_defaults(), gain)})(raw, targets)
            for part in base.parts:
                assert doubled.parts[part].item() == pytest.approx(base.parts[part].item() * (1 + (part == gain)))


def _defaults() -> object:
    from utils.config.hyperparameters import Hyperparameters

    return Hyperparameters()


def test_gains_scale_with_levels_classes_and_image_size() -> None:
    """Golden numbers of the contract: YOLOv5 and v3-tiny with 80 classes at 640, one class, 320 pixels."""
    five = Criterion(ANCHORS, STRIDES, 80, 640, {}).parts.gains
    tiny = Criterion(ANCHORS[:2], (16, 32), 80, 640, {}).parts.gains
    assert (five["box"], five["cls"], five["obj"]) == pytest.approx((0.05, 0.5, 1.0))
    assert (tiny["box"], tiny["cls"], tiny["obj"]) == pytest.approx((0.075, 0.75, 1.5))
    assert Criterion(ANCHORS, STRIDES, 1, 640, {}).parts.gains["cls"] == pytest.approx(0.00625)
    assert Criterion(ANCHORS, STRIDES, 80, 320, {}).parts.gains["obj"] == pytest.approx(0.25)


def test_total_is_the_sum_of_the_parts_times_the_batch() -> None:
    raw, targets = scene()
    out = build()(raw, targets)
    assert out.total.item() == pytest.approx(2 * sum(part.item() for part in out.parts.values()))
    assert out.total.requires_grad is False and not any(part.requires_grad for part in out.parts.values())


def test_no_objects_and_one_object_have_gradients() -> None:
    for num_classes in [1, 3]:
        with case(num_classes):
            for count in (0, 1):
                raw, targets = scene(num_classes)
                for level in raw:
                    level.requires_grad_()
                out = build(num_classes)(raw, targets[:count])
                out.total.backward()
                assert all(torch.isfinite(level.grad).all() for level in raw)
                assert torch.isfinite(out.total)


def test_loss_does_not_depend_on_the_order_of_objects() -> None:
    """Two objects on one anchor: the better fitting one sets the objectness target, whichever comes first."""
    raw, targets = scene()
    twin = targets[:1].clone()
    twin[:, 4:] *= 1.3
    both = torch.cat((targets, twin))
    out, flipped = build()(raw, both), build()(raw, both.flip(0))
    for part in out.parts:
        assert out.parts[part].item() == pytest.approx(flipped.parts[part].item(), abs=1e-12)


def test_the_best_fitting_object_sets_the_objectness_target() -> None:
    """Raw boxes are the anchors; a second object on the same anchors counts only where it fits better."""
    raw = [torch.zeros_like(level) for level in scene()[0]]
    for level in raw:
        level[..., 4] = -2.0  # at 0 the loss would not depend on the target
    fits = torch.tensor([[0, 0, 0.5, 0.5, 30 / 128, 23 / 96]], dtype=torch.float64)
    smaller = fits * torch.tensor([1, 1, 1, 1, 0.8, 0.8])  # on anchors of the same levels, lower IoU on most
    parts = [build()(raw, torch.cat(rows)).parts["obj"] for rows in ([fits], [fits, fits], [fits, smaller])]
    assert torch.allclose(parts[1], parts[0])
    assert parts[2] != parts[0], "the smaller one fits some anchors better"
    total = parts[0] + build()(raw, smaller).parts["obj"] - build()(raw, fits[:0]).parts["obj"]
    assert abs(parts[2] - parts[0]) < abs(total - parts[0]), "targets of one anchor do not add up"


def test_bfloat16_outputs_are_judged_in_float32() -> None:
    raw, targets = scene()
    half = [level.bfloat16() for level in raw]
    with torch.autocast("cpu", torch.bfloat16):
        out = build()(half, targets.float())
    expected = build()([level.float() for level in half], targets.float())
    assert out.total.dtype == torch.float32 and torch.equal(out.total, expected.total)


def test_focal_is_bce_at_gamma_0_and_fades_easy_examples() -> None:
    raw, targets = scene()
    bce = build()(raw, targets).parts
    flat = build(loss={"score": {"name": "focal", "gamma": 0.0, "alpha": 0.5}})(raw, targets).parts
    assert flat["obj"].item() == pytest.approx(bce["obj"].item() / 2)
    assert flat["cls"].item() == pytest.approx(bce["cls"].item() / 2)
    focal = build(loss={"score": {"name": "focal", "gamma": 1.5}})(raw, targets).parts
    old_spelling = build(fl_gamma=1.5)(raw, targets).parts
    assert torch.equal(focal["obj"], old_spelling["obj"]) and focal["obj"] < bce["obj"]


def test_contradictions_and_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match=r"fl_gamma: 1.5 and loss.score: .* contradict"):
        build(fl_gamma=1.5, loss={"score": {"name": "focal", "gamma": 2.0}})
    with pytest.raises(UserError, match=r"unknown box loss 'scaa'.*Did you mean 'sca'"):
        build(loss={"box": "scaa"})
    with pytest.raises(UserError, match=r"unknown assigner 'atsss'"):
        build(assigner="atsss")
    with pytest.raises(UserError, match=r"loss: unknown key 'boxx'. Known: box, class_bce, "):
        build(loss={"boxx": "sca"})
    with pytest.raises(UserError, match=r"unknown key 'lr_0'. Known: .*Did you mean 'lr0'"):
        build(lr_0=1)


def test_label_smoothing_moves_the_class_targets() -> None:
    raw, targets = scene()
    with_gradient = [level.clone().requires_grad_() for level in raw]
    part = build(label_smoothing=0.2)(with_gradient, targets)
    plain = build()(raw, targets)
    assert part.parts["obj"] == plain.parts["obj"] and part.parts["cls"] != plain.parts["cls"]
    for level in raw:
        level[..., 5:] = torch.logit(torch.tensor(0.1, dtype=torch.float64))
    smooth = [level.clone().requires_grad_() for level in raw]
    build(label_smoothing=0.2, box=0, obj=0)(smooth, targets[:1]).total.backward()
    gradient = torch.cat([level.grad[..., 6:].flatten() for level in smooth])
    assert gradient.abs().max() < 1e-12, "0.1 is the target of the absent classes"
