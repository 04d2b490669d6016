"""Build losses, assigner and the parts of the criterion from the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from utils.assigners import ASSIGNERS, Assigner
from utils.config.hyperparameters import Hyperparameters, LossSettings
from utils.criterion.class_loss import ClassLoss
from utils.criterion.compatibility import check_compatibility, has_class_loss
from utils.criterion.correlation import CorrelationPart
from utils.criterion.elementwise import ElementwiseParts
from utils.criterion.ranking import RankingParts
from utils.errors import ContradictionError
from utils.losses import BOX_LOSSES, SCORE_LOSSES, BoxLoss, RankingLoss, ScoreLoss

# Objectness weight of each level, finest first: fine levels have many cells and few objects.
LEVEL_BALANCE = {3: (4.0, 1.0, 0.4)}
LEVEL_BALANCE_OTHERWISE = (4.0, 1.0, 0.25, 0.06, 0.02)
# What the gains of a hyper-parameter file are made for.
LEVELS, CLASSES, SIDE = 3, 80, 640


def check_loss_settings(hyp: Hyperparameters) -> None:
    """Build the losses of ``hyp`` once, so that a wrong name or parameter is found before anything slow begins.

    Raises:
        UserError: unknown loss, assigner or parameter.
        ContradictionError: settings that contradict each other.
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
        ContradictionError: settings that contradict each other.
    """
    box_loss, score_loss = BOX_LOSSES.build_from(hyp.loss.box), _build_score_loss(hyp)
    check_compatibility(hyp, box_loss, score_loss, num_classes)
    return box_loss, score_loss, _build_assigner(hyp)


def _build_score_loss(hyp: Hyperparameters) -> ScoreLoss | RankingLoss:
    return SCORE_LOSSES.build_with_block(_score_setting(hyp), _changed(hyp.loss), "loss.")


def anchor_ratio_limit(hyp: Hyperparameters) -> float:
    """Ratio of sides below which an anchor fits an object: that of the assigner, where it has one, or ``anchor_t``."""
    return getattr(_build_assigner(hyp), "anchor_t", hyp.anchor_t)


def _build_assigner(hyp: Hyperparameters) -> Assigner:
    return ASSIGNERS.build_with_block(hyp.assigner, _changed(hyp), "")


def _changed(settings: Hyperparameters | LossSettings) -> dict[str, Any]:
    """Keys that are not at their defaults."""
    pairs = ((field, getattr(settings, field.name)) for field in dataclasses.fields(settings))
    return {field.name: value for field, value in pairs if value != field.default}


def _score_setting(hyp: Hyperparameters) -> str | Mapping[str, Any]:
    """The setting of the score loss; ``fl_gamma`` of old files turns bce into focal."""
    if hyp.fl_gamma == 0:
        return hyp.loss.score
    if hyp.loss.score == "bce":
        return {"name": "focal", "gamma": hyp.fl_gamma}
    name, _ = SCORE_LOSSES.name_and_parameters(hyp.loss.score)
    raise ContradictionError(
        f"fl_gamma: {hyp.fl_gamma:g} and loss.score: {name} contradict each other; "
        "fl_gamma only turns bce into focal. Write loss.score: {name: focal, gamma: ...} and leave fl_gamma at 0."
    )


def build_score_part(
    hyp: Hyperparameters,
    score_loss: ScoreLoss | RankingLoss,
    box_range: tuple[float, float],
    *,
    num_classes: int,
    num_levels: int,
    image_size: int,
) -> ElementwiseParts | RankingParts:
    """The loss of boxes, objectness and classes around a score loss.

    Args:
        hyp: settings; the gains are those of three levels, 80 classes and 640 pixels.
        score_loss: built from them.
        box_range: interval of the box loss.
        num_classes, num_levels: C, L.
        image_size: side of the square training image in pixels; scales the objectness gain.
    """
    loss = hyp.loss
    smoothed = {"label_smoothing": hyp.label_smoothing, "positive_weight": hyp.cls_pw}
    class_gain = hyp.cls * num_classes / CLASSES * LEVELS / num_levels
    if not isinstance(score_loss, RankingLoss):
        return ElementwiseParts(
            score_loss,
            ClassLoss(score_loss, **smoothed),
            gains={
                "box": hyp.box * LEVELS / num_levels,
                "obj": hyp.obj * (image_size / SIDE) ** 2 * LEVELS / num_levels,
                "cls": class_gain,
            },
            level_balance=LEVEL_BALANCE.get(num_levels, LEVEL_BALANCE_OTHERWISE[:num_levels]),
            positive_weight=hyp.obj_pw,
            global_rank=loss.global_rank,
        )
    cross_entropy = SCORE_LOSSES.build("bce")
    assert isinstance(cross_entropy, ScoreLoss)
    return RankingParts(
        score_loss,
        ClassLoss(cross_entropy, **smoothed) if has_class_loss(hyp) else None,
        box_range=box_range,
        joint=_scores_are_joint(hyp, num_classes),
        rank_gain=loss.rank_gain,
        box_gain=hyp.box * LEVELS,  # the mean over the positives of all levels, where the sum of L means has L
        class_gain=class_gain,
        self_balance=loss.self_balance,
        global_rank=loss.global_rank,
    )


def build_correlation(hyp: Hyperparameters, num_classes: int) -> CorrelationPart | None:
    """The correlation part, or None where ``loss.correlation`` is none."""
    loss = hyp.loss
    if loss.correlation == "none":
        return None
    return CorrelationPart(
        loss.correlation,
        loss.correlation_gain,
        joint=_scores_are_joint(hyp, num_classes),
        regularization_strength=loss.regularization_strength,
        regularization=loss.regularization,
        global_rank=loss.global_rank,
    )


def _scores_are_joint(hyp: Hyperparameters, num_classes: int) -> bool:
    """Whether a score is objectness times class probability; with one class that is the objectness alone."""
    return hyp.loss.rank_on == "joint" and num_classes > 1
