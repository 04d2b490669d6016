"""Correlation losses on a YOLO head: whose scores, which IoUs, what weight."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.cases import case
from tests.criterion_scenes import build, matches_of, raw_with_gradient, scene
from utils.errors import UserError
from utils.losses import correlation_loss

KINDS = ("spearman", "pearson", "concordance")


def test_part_by_hand() -> None:
    """Of the positives' scores, one for each anchor, and the IoUs of their boxes; beside the other parts."""
    for kind, score, rank_on in itertools.product(KINDS, ["bce", "rs"], ["objectness", "joint"]):
        with case(rank_on, score, kind):
            raw, targets = scene()
            loss = {"score": score, "rank_on": rank_on, "correlation": kind, "correlation_gain": 0.3}
            criterion = build(loss=loss)
            parts = criterion(raw, targets).parts
            _, matches = matches_of(criterion, raw, targets)
            scores = matches.pred.values[:, 4].sigmoid()
            if rank_on == "joint":
                scores = scores * matches.pred.values[torch.arange(len(scores)), 5 + matches.classes].sigmoid()
            assert parts["corr"].item() == pytest.approx(0.3 * correlation_loss(scores, matches.iou, kind).item())
            plain = build(loss={"score": score} | ({"rank_on": rank_on} if score == "rs" else {}))(raw, targets).parts
            assert {name: part for name, part in parts.items() if name != "corr"} == plain


def test_scores_are_moved_and_boxes_are_not() -> None:
    for kind in KINDS:
        with case(kind):
            raw, targets = raw_with_gradient()
            hyp = {"box": 0, "obj": 0, "cls": 0, "loss": {"correlation": kind, "rank_on": "joint"}}
            build(**hyp)(raw, targets).total.backward()
            boxes, scores = (
                torch.cat([level.grad[..., part].flatten() for level in raw]) for part in (slice(4), slice(4, 8))
            )
            assert (boxes == 0).all() and scores.abs().max() > 0


def test_too_few_positives_cost_nothing() -> None:
    for kind, count in itertools.product(KINDS, [0, 1]):
        with case(count, kind):
            raw, targets = raw_with_gradient()
            tiny = targets[:count] * torch.tensor([1, 1, 1, 1, 0.04, 0.04])  # fits no anchor
            out = build(loss={"correlation": kind})(raw, tiny)
            out.total.backward()
            assert out.parts["corr"] == 0 and all(torch.isfinite(level.grad).all() for level in raw)


def test_softness_belongs_to_spearman() -> None:
    raw, targets = scene()
    relative = {"correlation": "spearman", "regularization": "relative"}
    parts = [build(loss=loss)(raw, targets).parts["corr"] for loss in ({"correlation": "spearman"}, relative)]
    assert parts[0] != parts[1]
    with pytest.raises(UserError, match=r"regularization: relative has no effect with loss\.correlation: pearson"):
        build(loss=relative | {"correlation": "pearson"})
    with pytest.raises(UserError, match=r"loss\.correlation_gain: 0\.5 has no effect with loss\.correlation: none"):
        build(loss={"correlation_gain": 0.5})
    with pytest.raises(UserError, match=r"loss\.correlation: unknown value 'spearmann'.*Did you mean 'spearman'"):
        build(loss={"correlation": "spearmann"})
