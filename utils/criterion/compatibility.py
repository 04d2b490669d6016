"""Which settings contradict each other, or have no effect together."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from utils.config.hyperparameters import Hyperparameters, LossSettings
from utils.errors import ContradictionError
from utils.losses import BOX_LOSSES, SCORE_LOSSES, BoxLoss, RankingLoss, ScoreLoss, SimilarityLoss

RANKING_KEYS = ("rank_gain", "class_bce", "self_balance")  # without effect on an elementwise score loss


def acting_settings(hyp: Hyperparameters) -> dict[str, Any]:
    """The keys of the ``loss`` block that have an effect with these settings, and the assigner."""
    loss = hyp.loss
    name, _ = SCORE_LOSSES.name_and_parameters(loss.score)
    entry = SCORE_LOSSES.entry(name)
    keys = ["box", "score", "objectness_target"]
    if entry.ranking or loss.correlation != "none":
        keys.append("rank_on")
    if entry.ranking:
        keys += [*RANKING_KEYS, *entry.block_keys]
    keys.append("correlation")
    if loss.correlation != "none":
        keys.append("correlation_gain")
    if loss.correlation == "spearman":
        keys += ["regularization_strength", "regularization"]
    if loss.global_rank:
        keys.append("global_rank")
    return {"assigner": hyp.assigner} | {key: getattr(loss, key) for key in keys}


def check_compatibility(
    hyp: Hyperparameters, box_loss: BoxLoss, score_loss: ScoreLoss | RankingLoss, num_classes: int | None
) -> None:
    """Refuse settings that contradict each other or have no effect together.

    Args:
        hyp: settings.
        box_loss, score_loss: built from them.
        num_classes: C, where known.

    Raises:
        ContradictionError: names both settings.
    """
    if hyp.loss.objectness_target == "box" and not isinstance(box_loss, SimilarityLoss):
        raise ContradictionError(
            f"objectness_target: box needs a box loss that is 1 - similarity, but {box_loss.name} is none; "
            "expected objectness_target: iou or one, or another box loss"
        )
    if isinstance(score_loss, RankingLoss):
        _check_ranking(hyp, score_loss, box_loss, num_classes)
    else:
        correlated = hyp.loss.correlation != "none"
        _refuse_idle(hyp, RANKING_KEYS if correlated else (*RANKING_KEYS, "rank_on"), "score", score_loss.name)
    own = SCORE_LOSSES.entry(score_loss.name).block_keys
    foreign = {key for name in SCORE_LOSSES for key in SCORE_LOSSES.entry(name).block_keys if key not in own}
    _refuse_idle(hyp, tuple(sorted(foreign)), "score", score_loss.name)
    if hyp.loss.correlation == "none":
        _refuse_idle(hyp, ("correlation_gain",), "correlation", "none")
    if hyp.loss.correlation != "spearman":
        _refuse_idle(hyp, ("regularization_strength", "regularization"), "correlation", hyp.loss.correlation)


def _check_ranking(hyp: Hyperparameters, score_loss: RankingLoss, box_loss: BoxLoss, num_classes: int | None) -> None:
    name = score_loss.name
    if hyp.label_smoothing > 0:
        raise ContradictionError(
            f"label_smoothing: {hyp.label_smoothing:g} and loss.score: {name} contradict each other: a ranking "
            "loss has hard labels. Leave label_smoothing at 0, or take an elementwise score loss"
        )
    if hyp.obj_pw != 1:
        raise ContradictionError(f"obj_pw: {hyp.obj_pw:g} has no effect with loss.score: {name}; leave it at 1")
    if hyp.cls_pw != 1 and not has_class_loss(hyp):
        raise ContradictionError(
            f"cls_pw: {hyp.cls_pw:g} has no effect without a class loss; leave it at 1, or set loss.class_bce: on"
        )
    if score_loss.takes_box_error and not math.isfinite(box_loss.range[1]):
        bounded = [known for known in BOX_LOSSES if math.isfinite(BOX_LOSSES.entry(known).range[1])]
        raise ContradictionError(
            f"loss.score: {name} needs a box loss with a largest value, but {box_loss.name} has none. "
            f"Bounded: {', '.join(bounded)}."
        )
    if hyp.loss.global_rank and not score_loss.ranks_globally:
        raise ContradictionError(f"loss.global_rank: true is not possible with loss.score: {name}; leave it at false")
    if num_classes != 1 and num_classes is not None and hyp.loss.rank_on == "objectness" and not has_class_loss(hyp):
        raise ContradictionError(
            "loss.rank_on: objectness and loss.class_bce: off leave nothing that trains the classes; "
            "set class_bce: auto, or rank_on: joint"
        )


def _refuse_idle(hyp: Hyperparameters, keys: tuple[str, ...], chosen: str, name: str) -> None:
    """Refuse keys that were changed but have no effect."""
    usual = {field.name: field.default for field in dataclasses.fields(LossSettings)}
    for key in keys:
        value = getattr(hyp.loss, key)
        if value != usual[key]:
            raise ContradictionError(
                f"loss.{key}: {value} has no effect with loss.{chosen}: {name}; "
                f"leave it at {usual[key]}, or choose another {chosen}"
            )


def has_class_loss(hyp: Hyperparameters) -> bool:
    """Whether classes have a cross-entropy of their own beside the ranking loss."""
    chosen = hyp.loss.class_bce
    return hyp.loss.rank_on == "objectness" if chosen == "auto" else chosen == "on"
