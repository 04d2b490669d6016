"""Losses by name: ``BOX_LOSSES`` compare boxes, ``SCORE_LOSSES`` compare scores, a few take all scores at once."""

from utils.losses.box import BOX_LOSSES, BoxContext, BoxLoss, SimilarityLoss, box_loss
from utils.losses.classification import SCORE_LOSSES, ScoreLoss
from utils.losses.correlation import correlation_loss

__all__ = [
    "BOX_LOSSES",
    "SCORE_LOSSES",
    "BoxContext",
    "BoxLoss",
    "ScoreLoss",
    "SimilarityLoss",
    "box_loss",
    "correlation_loss",
]
