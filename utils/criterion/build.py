"""From the names in the settings to losses and assigner."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from utils.assigners import ASSIGNERS, Assigner
from utils.config.hyperparameters import Hyperparameters, LossSettings
from utils.criterion.compatibility import check_compatibility
from utils.errors import ContradictionError
from utils.losses import BOX_LOSSES, SCORE_LOSSES, BoxLoss, RankingLoss, ScoreLoss


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
    """The score loss, with the focal gamma of old files taken in."""
    if hyp.fl_gamma == 0:
        return hyp.loss.score
    if hyp.loss.score == "bce":
        return {"name": "focal", "gamma": hyp.fl_gamma}
    name, _ = SCORE_LOSSES.name_and_parameters(hyp.loss.score)
    raise ContradictionError(
        f"fl_gamma: {hyp.fl_gamma:g} and loss.score: {name} contradict each other; "
        "fl_gamma only turns bce into focal. Write loss.score: {name: focal, gamma: ...} and leave fl_gamma at 0."
    )
