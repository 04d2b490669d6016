"""Ranking losses on a YOLO head: what is ranked, what each part weighs, and which settings go together."""

from __future__ import annotations

import itertools

import pytest
import torch
import yaml

from tests.cases import case
from tests.criterion_scenes import ANCHORS, STRIDES, build, matches_of, predictions_of, raw_with_gradient, scene
from utils.boxes import build_anchor_table, decode_predictions, flatten_levels
from utils.config.loading import load_hyperparameters
from utils.criterion.matches import best_per_anchor, gather_matches
from utils.errors import UserError
from utils.losses import alrp_loss, ap_loss, box_loss, parameterized_ap_loss, rank_sort_loss

RANKING = ("ap", "alrp", "rs")
POINTS = load_hyperparameters("hyp.pap-published.yaml").loss.control_points


def joint(flat: torch.Tensor) -> torch.Tensor:
    return torch.logit(flat[..., 4:5].sigmoid() * flat[..., 5:].sigmoid())


def test_parts_by_hand() -> None:
    """The parts are the functions of utils.losses on the scores of the whole batch, times the gain."""
    for name, rank_on in itertools.product(RANKING, ["objectness", "joint"]):
        with case(rank_on, name):
            raw, targets = scene()
            settings = {"score": name, "box": "giou", "rank_on": rank_on, "rank_gain": 0.3, "delta": 0.7}
            criterion = build(loss=settings | {"self_balance": False})
            parts = criterion(raw, targets).parts
            flat, matches = matches_of(criterion, raw, targets)
            scores = flat[..., 4] if rank_on == "objectness" else joint(flat)
            labels = torch.zeros_like(scores)
            places = matches.image.tolist(), matches.anchor.tolist(), matches.classes.tolist()
            for image, anchor, kind, iou in zip(*places, matches.iou.tolist(), strict=True):
                place = (image, anchor) if rank_on == "objectness" else (image, anchor, kind)
                labels[place] = max(iou, 1e-6)  # a poor box is a positive still
            logits, labels = scores.flatten(), labels.flatten()
            boxes = box_loss("giou")(matches.pred_boxes, matches.target_boxes)
            weight = torch.ones_like(boxes)
            if name == "rs":
                rank, sort = rank_sort_loss(logits, labels, delta=0.7)
                assert parts["sort"].item() == pytest.approx(0.3 * sort.item())
                weight = logits[labels > 0].sigmoid()
            elif name == "ap":
                rank = ap_loss(logits, labels.sign(), delta=0.7)
            else:
                rank, box = alrp_loss(logits, labels.sign(), boxes, delta=0.7)  # GIoU loss / 2 / (1 - 0.5)
            if name != "alrp":
                box = (boxes * weight).sum() / weight.sum()
            assert parts["rank"].item() == pytest.approx(0.3 * rank.item())
            assert parts["box"].item() == pytest.approx(0.05 * 3 * box.item())
            wanted = ["box", "rank"] + ["sort"] * (name == "rs") + ["cls"] * (rank_on == "objectness")
            assert list(parts) == wanted


def test_self_balance_makes_the_box_part_as_large_as_the_score_part() -> None:
    for name in ["ap", "rs"]:
        with case(name):
            raw, targets = raw_with_gradient()
            for gain in (0.05, 0.5):  # the gain of a box part with a fixed weight
                out = build(box=gain, loss={"score": name})(raw, targets).parts
                assert out["box"].item() == pytest.approx((out["rank"] + out.get("sort", 0)).item())
            loss = {"score": name, "self_balance": False}
            fixed = [build(box=gain, loss=loss)(raw, targets).parts for gain in (0.05, 0.5)]
            assert fixed[1]["box"].item() == pytest.approx(10 * fixed[0]["box"].item())
            assert fixed[0]["rank"] == fixed[1]["rank"] == out["rank"]


def test_self_balance_is_a_weight_without_gradient() -> None:
    raw, targets = raw_with_gradient()
    criterion = build(loss={"score": "rs", "class_bce": "off", "rank_on": "joint"})
    criterion(raw, targets).total.backward()
    balanced = [level.grad[..., :4].clone() for level in raw]
    parts = criterion(raw, targets).parts
    plain = build(loss={"score": "rs", "class_bce": "off", "rank_on": "joint", "self_balance": False})
    raw, _ = raw_with_gradient()
    out = plain(raw, targets)
    out.total.backward()
    ratio = parts["box"] / out.parts["box"]
    for ours, theirs in zip(balanced, raw, strict=True):
        assert torch.allclose(ours, theirs.grad[..., :4] * ratio, atol=1e-12)


def test_alrp_balances_by_the_means_of_the_last_epoch() -> None:
    """Whole loss over localisation: of the steps so far in the first epoch, of the last epoch afterwards."""
    scenes = [scene(seed=seed) for seed in range(4)]
    loss = {"score": "alrp", "rank_on": "joint", "rank_gain": 1.0, "box": "giou"}
    plain = build(box=1 / 3, loss=loss | {"self_balance": False})
    values = [plain(*one).parts for one in scenes]
    rank, box = (torch.stack([value[name] for value in values]) for name in ("rank", "box"))
    criterion = build(loss=loss)
    found = [criterion(*one).parts["box"] / value for one, value in zip(scenes[:2], box, strict=False)]
    ratio = (rank + box).cumsum(0) / box.cumsum(0)
    assert torch.allclose(torch.stack(found), ratio[:2], rtol=1e-6)
    criterion.end_epoch()
    for index in (2, 3):
        assert (criterion(*scenes[index]).parts["box"] / box[index]).item() == pytest.approx(ratio[1].item(), rel=1e-6)
    criterion.eval()
    criterion(*scenes[0])
    criterion.train()
    other = build(loss=loss)
    other.load_state_dict(criterion.state_dict())
    for one in (criterion, other):
        one.end_epoch()
        last = one(*scenes[0]).parts["box"] / box[0]
        assert last.item() == pytest.approx((rank + box)[2:].sum().item() / box[2:].sum().item(), rel=1e-6)


def test_an_anchor_with_several_objects_is_one_positive() -> None:
    raw, targets = scene()
    twin = targets[:1] * torch.tensor([1, 1, 1, 1, 1.3, 1.3], dtype=torch.float64)
    twin[:, 1] = 2
    both = torch.cat((targets, twin))
    criterion = build(loss={"score": "rs", "rank_on": "joint"})
    flat, matches = matches_of(criterion, raw, both)
    table = build_anchor_table(ANCHORS.double(), STRIDES, [level.shape[2:4] for level in raw])
    every = gather_matches(predictions_of(raw), both, table, criterion.assigner(both, table))
    best = best_per_anchor(every, flat.shape[1])
    assert len(best.image) < len(every.image)
    assert torch.equal(best.pred.values, matches.pred.values)
    for found, expected in zip(best._replace(pred=best.image), matches._replace(pred=matches.image), strict=True):
        assert torch.equal(found, expected)
    parts, flipped = criterion(raw, both).parts, criterion(raw, both.flip(0)).parts
    for name, part in parts.items():
        assert part.item() == pytest.approx(flipped[name].item(), abs=1e-12)


def test_ignored_anchors_have_no_place_in_the_order() -> None:
    for name, rank_on in itertools.product(RANKING, ["objectness", "joint"]):
        with case(rank_on, name):
            raw, _ = scene()
            table = build_anchor_table(ANCHORS.double(), STRIDES, [level.shape[2:4] for level in raw])
            anchor = table.level_offset[1] + 5  # any: the object is the box that this one predicts
            decoded = decode_predictions(predictions_of(raw), table).boxes[0, anchor] / torch.tensor([128, 96, 128, 96])
            targets = torch.cat((torch.zeros(1, 2), decoded[None]), dim=1)
            criterion = build(assigner="best_iou", loss={"score": name, "rank_on": rank_on, "self_balance": False})
            ignored = criterion.assigner(targets.double(), table, predictions_of(raw)).ignore
            assert ignored[0, anchor]
            parts = criterion(raw, targets).parts
            for level in raw:
                level.requires_grad_()
            criterion(raw, targets).total.backward()
            gradient = flatten_levels([level.grad for level in raw])
            assert (gradient[ignored] == 0).all()
            with torch.no_grad():
                raw[1].view(2, -1, 8)[0, 5, 4] += 30.0  # an ignored score in front of all others
            for part, value in criterion(raw, targets).parts.items():
                assert value.item() == pytest.approx(parts[part].item(), abs=1e-12)


def test_no_objects_and_one_object_have_gradients() -> None:
    for name, count, num_classes, rank_on in itertools.product(RANKING, [0, 1], [1, 3], ["objectness", "joint"]):
        with case(rank_on, num_classes, count, name):
            raw, targets = raw_with_gradient(num_classes)
            out = build(num_classes, loss={"score": name, "rank_on": rank_on})(raw, targets[:count])
            out.total.backward()
            assert torch.isfinite(out.total)
            gradients = flatten_levels([level.grad for level in raw])
            assert torch.isfinite(gradients).all()
            assert (count == 0) == (gradients == 0).all()
            if count == 0:
                assert out.total == 0


def test_with_one_class_the_joint_score_is_the_objectness() -> None:
    for name in RANKING:
        with case(name):
            raw, targets = scene(1)
            losses = [{"score": name, "rank_on": kind} for kind in ("objectness", "joint")]
            parts = [build(1, loss=loss)(raw, targets).parts for loss in losses]
            for part in set(parts[1]) - {"cls"}:
                assert parts[0][part] == parts[1][part]


def test_class_loss_beside_the_ranking() -> None:
    """auto: with the objectness ranked classes need a loss of their own, jointly ranked they do not."""
    raw, targets = scene()
    for rank_on, chosen, there in (
        ("objectness", "auto", True),
        ("joint", "auto", False),
        ("objectness", "on", True),
        ("joint", "on", True),
        ("joint", "off", False),
    ):
        loss = {"score": "rs", "rank_on": rank_on, "class_bce": chosen}
        assert ("cls" in build(loss=loss)(raw, targets).parts) == there
    ranked, plain = (build(loss={"score": score})(raw, targets[:1]).parts["cls"] for score in ("rs", "bce"))
    assert ranked.item() == pytest.approx(plain.item())
    with pytest.raises(UserError, match="leave nothing that trains the classes"):
        build(loss={"score": "rs", "class_bce": "off"})
    build(1, loss={"score": "rs", "class_bce": "off"})


def test_a_bare_on_or_off_of_yaml_is_understood() -> None:
    raw, targets = scene()
    assert "cls" not in build(loss={"score": "rs", "rank_on": "joint", "class_bce": False})(raw, targets).parts


def test_contradictions_are_refused_by_name() -> None:
    for name in RANKING:
        with case(name):
            for hyp, message in (
                ({"label_smoothing": 0.1}, f"label_smoothing: 0.1 and loss.score: {name} contradict"),
                ({"fl_gamma": 1.5}, f"fl_gamma: 1.5 and loss.score: {name} contradict"),
                ({"obj_pw": 2.0}, f"obj_pw: 2 has no effect with loss.score: {name}"),
            ):
                with pytest.raises(UserError, match=message):
                    build(**hyp, loss={"score": name})
            with pytest.raises(UserError, match="cls_pw: 2 has no effect without a class loss"):
                build(cls_pw=2.0, loss={"score": name, "rank_on": "joint"})
            with pytest.raises(
                UserError, match=r"loss\.delta: 2\.0 and the parameter delta: 1\.0 .* set the same thing"
            ):
                build(loss={"score": {"name": name, "delta": 1.0}, "delta": 2.0})


def test_delta_may_stand_beside_the_name_or_in_the_block() -> None:
    for name in RANKING:
        with case(name):
            raw, targets = scene()
            block, parameter, default = (
                build(loss={"score": score, **rest})(raw, targets).total
                for score, rest in ((name, {"delta": 0.7}), ({"name": name, "delta": 0.7}, {}), (name, {}))
            )
            assert torch.equal(block, parameter) and not torch.equal(block, default)


def test_keys_without_effect_are_refused() -> None:
    for key, value in (("rank_on", "joint"), ("rank_gain", 0.3), ("class_bce", "on"), ("delta", 1.0)):
        with pytest.raises(UserError, match=f"loss.{key}: {value} has no effect with loss.score: bce"):
            build(loss={key: value})
    with pytest.raises(UserError, match=r"loss.self_balance: False has no effect with loss.score: qfocal"):
        build(loss={"score": "qfocal", "self_balance": False})


def test_alrp_needs_a_box_loss_with_a_largest_value() -> None:
    for name in ("iou", "giou", "diou", "ciou", "sca"):
        raw, targets = scene()
        assert torch.isfinite(build(loss={"score": "alrp", "box": name})(raw, targets).total)
    with pytest.raises(
        UserError, match=r"alrp needs a box loss with a largest value, but l1 has none\. Bounded: .*giou"
    ):
        build(loss={"score": "alrp", "box": "l1"})


def test_scores_of_bfloat16_networks_are_ranked_in_float32() -> None:
    for name in RANKING:
        with case(name):
            raw, targets = scene()
            half = [level.bfloat16() for level in raw]
            with torch.autocast("cpu", torch.bfloat16):
                out = build(loss={"score": name})(half, targets.float())
            expected = build(loss={"score": name})([level.float() for level in half], targets.float())
            assert out.total.dtype == torch.float32 and torch.equal(out.total, expected.total)


def test_parameterized_ap_by_hand_and_its_way_to_the_boxes() -> None:
    """Its IoU is 1 - the box loss scaled to [0, 1], and has a gradient; the box part comes beside it."""
    for form in ["searched", "linear", "square", "sigmoid"]:
        with case(form):
            raw, targets = raw_with_gradient()
            loss = {
                "score": {"name": "parameterized_ap", "form": form},
                "box": "giou",
                "rank_on": "joint",
                "rank_gain": 0.4,
            }
            if form == "searched":
                loss["control_points"] = POINTS
            criterion = build(box=0, loss=loss | {"self_balance": False})
            out = criterion(raw, targets)
            flat, matches = matches_of(criterion, raw, targets)
            logits, ious = joint(flat).flatten(), torch.zeros(flat[..., 5:].numel(), dtype=flat.dtype)
            place = (matches.image * flat.shape[1] + matches.anchor) * 3 + matches.classes
            ious[place] = 1 - box_loss("giou")(matches.pred_boxes, matches.target_boxes).detach() / 2
            labels = torch.zeros_like(ious).index_fill(0, place, 1)
            value = parameterized_ap_loss(logits, ious, labels, POINTS if form == "searched" else None, form=form)
            assert out.parts["rank"].item() == pytest.approx(0.4 * value.item())
            out.total.backward()
            assert sum(level.grad[..., :4].abs().sum() for level in raw) > 0


def test_parameterized_ap_settings_are_checked() -> None:
    pap = {"score": "parameterized_ap"}
    with pytest.raises(UserError, match=r"expected control_points, five curves or a file"):
        build(loss=pap)
    with pytest.raises(UserError, match=r"five curves in the order H2, I2, I3, I1, H1, but got 4 of them"):
        build(loss=pap | {"control_points": POINTS[:4]})
    with pytest.raises(UserError, match=r"control_points have no effect with form: linear"):
        build(loss={"score": {"name": "parameterized_ap", "form": "linear"}, "control_points": POINTS})
    with pytest.raises(UserError, match=r"loss\.control_points: .* no effect with loss\.score: rs"):
        build(loss={"score": "rs", "control_points": POINTS})
    with pytest.raises(UserError, match=r"loss\.delta: 1\.0 has no effect with loss\.score: parameterized_ap"):
        build(loss=pap | {"control_points": POINTS, "delta": 1.0})
    with pytest.raises(UserError, match="parameterized_ap: form: unknown value 'cubic'"):
        build(loss={"score": {"name": "parameterized_ap", "form": "cubic"}})
    with pytest.raises(UserError, match="global_rank: true is not possible with"):
        build(loss=pap | {"control_points": POINTS, "global_rank": True})


def test_control_points_may_stand_in_a_file(tmp_path) -> None:
    (tmp_path / "points.yaml").write_text(yaml.safe_dump(POINTS))
    (tmp_path / "hyp.yaml").write_text("loss: {score: parameterized_ap, control_points: points.yaml}")
    text = (tmp_path / "hyp.yaml").read_text().replace("points.yaml", str(tmp_path / "points.yaml"))
    (tmp_path / "hyp.yaml").write_text(text)
    assert load_hyperparameters(tmp_path / "hyp.yaml").loss.control_points == POINTS
    beside = {"name": "parameterized_ap", "control_points": str(tmp_path / "points.yaml")}
    assert load_hyperparameters({"loss": {"score": beside}}).loss.score == beside | {"control_points": POINTS}
    with pytest.raises(UserError, match=r"loss\.control_points: .*nowhere\.yaml"):
        load_hyperparameters({"loss": {"control_points": "nowhere.yaml"}})
