"""Losses by name: ``BOX_LOSSES`` compare boxes, ``SCORE_LOSSES`` compare scores."""

from utils.losses.box import BOX_LOSSES, BoxContext, BoxLoss, SimilarityLoss, box_loss
from utils.losses.classification import SCORE_LOSSES, ScoreLoss
from utils.losses.correlation import correlation_loss
from utils.losses.ranking_score import RankedScores, RankingLoss

__all__ = [
    "BOX_LOSSES",
    "SCORE_LOSSES",
    "BoxContext",
    "BoxLoss",
    "RankedScores",
    "RankingLoss",
    "ScoreLoss",
    "SimilarityLoss",
    "box_loss",
    "correlation_loss",
]
