"""From the names in the settings to losses and assigner."""

from __future__ import annotations

from typing import Any

from utils.assigners import ASSIGNERS, Assigner
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.compatibility import check_compatibility
from utils.errors import ContradictionError, UserError
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
    setting = _score_setting(hyp)
    given = {} if isinstance(setting, str) else {key: value for key, value in setting.items() if key != "name"}
    taken = SCORE_LOSSES.entry(_score_name(hyp.loss.score)).info.get("settings", ())  # keys of the loss block
    own = {key: getattr(hyp.loss, key) for key in taken}
    for key in own:
        if key in given:
            raise UserError(f"loss.score: {key} is a key of the loss block: write loss: {{{key}: {given[key]}}}")
    return SCORE_LOSSES.build(_score_name(setting), **given, **own)


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
