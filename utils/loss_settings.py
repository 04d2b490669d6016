"""From the names in the settings to losses and assigner, and what does not go together."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from utils.assigners import ASSIGNERS, Assigner
from utils.errors import ContradictionError, UserError
from utils.hyperparameters import Hyperparameters, LossSettings
from utils.losses import BOX_LOSSES, SCORE_LOSSES, BoxLoss, RankingLoss, ScoreLoss, SimilarityLoss
from utils.ranking_parts import has_class_loss

RANKING_KEYS = ("rank_gain", "class_bce", "self_balance")  # without effect on an elementwise score loss


def check_loss_settings(hyp: Hyperparameters) -> None:
    """Build what ``hyp`` names and forget it: a wrong name or parameter is found before anything slow begins.

    Raises:
        UserError: unknown loss, assigner or parameter.
        ContradictionError: settings that are not right together.
    """
    build_losses(hyp)


def build_losses(
    hyp: Hyperparameters, num_classes: int | None = None
) -> tuple[BoxLoss, ScoreLoss | RankingLoss, Assigner]:
    """Box loss, score loss and assigner.

    Args:
        hyp: settings.
        num_classes: C, where known.

    Raises:
        UserError: unknown loss, assigner or parameter.
        ContradictionError: settings that are not right together.
    """
    box_loss, score_loss = BOX_LOSSES.build_from(hyp.loss.box), _build_score_loss(hyp)
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
    own = _block_settings(hyp)
    _refuse_idle(hyp, tuple({"delta", "control_points"} - {*own}), "score", score_loss.name)
    if hyp.loss.correlation == "none":
        _refuse_idle(hyp, ("correlation_gain",), "correlation", "none")
    if hyp.loss.correlation != "spearman":
        _refuse_idle(hyp, ("regularization_strength", "regularization"), "correlation", hyp.loss.correlation)
    return box_loss, score_loss, _build_assigner(hyp)


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
        bounded = [known for known in BOX_LOSSES if math.isfinite(BOX_LOSSES.entry(known).info["range"][1])]
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
    """A key that was changed but does nothing is a misunderstanding."""
    usual = {field.name: field.default for field in dataclasses.fields(LossSettings)}
    for key in keys:
        value = getattr(hyp.loss, key)
        if value != usual[key]:
            raise ContradictionError(
                f"loss.{key}: {value} has no effect with loss.{chosen}: {name}; "
                f"leave it at {usual[key]}, or choose another {chosen}"
            )


def _build_score_loss(hyp: Hyperparameters) -> ScoreLoss | RankingLoss:
    setting = _score_setting(hyp)
    given = {} if isinstance(setting, str) else {key: value for key, value in setting.items() if key != "name"}
    own = {key: getattr(hyp.loss, key) for key in _block_settings(hyp)}
    for key in own:
        if key in given:
            raise UserError(f"loss.score: {key} is a key of the loss block: write loss: {{{key}: {given[key]}}}")
    return SCORE_LOSSES.build(_score_name(setting), **given, **own)


def _block_settings(hyp: Hyperparameters) -> tuple[str, ...]:
    """Keys of the loss block that the score loss takes."""
    return SCORE_LOSSES.entry(_score_name(hyp.loss.score)).info.get("settings", ())


def _score_name(setting: str | Any) -> str:
    return setting if isinstance(setting, str) else setting["name"]


def _score_setting(hyp: Hyperparameters) -> str | dict:
    """The score loss, with the focal gamma of old files taken in."""
    if hyp.fl_gamma == 0:
        return hyp.loss.score
    if hyp.loss.score == "bce":
        return {"name": "focal", "gamma": hyp.fl_gamma}
    raise ContradictionError(
        f"fl_gamma: {hyp.fl_gamma:g} and loss.score: {_score_name(hyp.loss.score)} contradict each other; "
        "fl_gamma only turns bce into focal. Write loss.score: {name: focal, gamma: ...} and leave fl_gamma at 0."
    )


def _build_assigner(hyp: Hyperparameters) -> Assigner:
    settings = ASSIGNERS.entry(hyp.assigner).info["settings"]
    return ASSIGNERS.build(hyp.assigner, **{name: getattr(hyp, name) for name in settings})
