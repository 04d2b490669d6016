"""Losses: ``BOX_LOSSES`` compare boxes; ``SCORE_LOSSES`` train scores, each alone or by their order."""

from utils.losses import elementwise  # noqa: F401  (registration)
from utils.losses.box import (
    BOX_LOSSES,
    BoxContext,
    BoxLoss,
    SimilarityLoss,
    box_loss,
    register_builder,
    register_formula,
)
from utils.losses.correlation import correlation_loss
from utils.losses.info import LossInfo
from utils.losses.ranking import (
    ALRP,
    ControlPoints,
    RankSort,
    alrp_loss,
    ap_loss,
    control_points_from,
    parameterized_ap_loss,
    rank_sort_loss,
)
from utils.losses.score import (
    SCORE_LOSSES,
    RankedScores,
    RankingLoss,
    ScoreLoss,
    register_elementwise,
    register_ranking,
)

__all__ = [
    "ALRP",
    "BOX_LOSSES",
    "SCORE_LOSSES",
    "BoxContext",
    "BoxLoss",
    "ControlPoints",
    "LossInfo",
    "RankSort",
    "RankedScores",
    "RankingLoss",
    "ScoreLoss",
    "SimilarityLoss",
    "alrp_loss",
    "ap_loss",
    "box_loss",
    "control_points_from",
    "correlation_loss",
    "parameterized_ap_loss",
    "rank_sort_loss",
    "register_builder",
    "register_elementwise",
    "register_formula",
    "register_ranking",
]
