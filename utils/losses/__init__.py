"""Losses: ``BOX_LOSSES`` compare boxes, ``SCORE_LOSSES`` scores one by one; the ranking losses sort them."""

from utils.losses.box import BOX_LOSSES, BoxContext, BoxLoss, SimilarityLoss, box_loss
from utils.losses.classification import SCORE_LOSSES, ScoreLoss
from utils.losses.ranking import ALRP, RankSort, alrp_loss, ap_loss, rank_sort_loss

__all__ = [
    "ALRP",
    "BOX_LOSSES",
    "SCORE_LOSSES",
    "BoxContext",
    "BoxLoss",
    "RankSort",
    "ScoreLoss",
    "SimilarityLoss",
    "alrp_loss",
    "ap_loss",
    "box_loss",
    "rank_sort_loss",
]
