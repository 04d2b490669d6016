"""Losses: ``BOX_LOSSES`` compare boxes, ``SCORE_LOSSES`` train scores, one by one or by their order."""

from utils.losses.box import BOX_LOSSES, BoxContext, BoxLoss, SimilarityLoss, box_loss
from utils.losses.correlation import correlation_loss
from utils.losses.elementwise import SCORE_LOSSES, ScoreLoss
from utils.losses.ranking import ALRP, RankSort, alrp_loss, ap_loss, rank_sort_loss
from utils.losses.ranking.control_points import ControlPoints, control_points_from
from utils.losses.ranking.parameterized_ap import parameterized_ap_loss
from utils.losses.ranking.ranking_score import RankedScores, RankingLoss

__all__ = [
    "ALRP",
    "BOX_LOSSES",
    "SCORE_LOSSES",
    "BoxContext",
    "BoxLoss",
    "ControlPoints",
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
]
