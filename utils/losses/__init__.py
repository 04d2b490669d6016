"""Losses by name: ``BOX_LOSSES`` compare boxes, ``SCORE_LOSSES`` compare scores, a few take all scores at once."""

from utils.losses.box import BOX_LOSSES, BoxContext, BoxLoss, SimilarityLoss, box_loss
from utils.losses.classification import SCORE_LOSSES, ScoreLoss
from utils.losses.control_points import ControlPoints, control_points_from
from utils.losses.correlation import correlation_loss
from utils.losses.parameterized_ap import parameterized_ap_loss

__all__ = [
    "BOX_LOSSES",
    "SCORE_LOSSES",
    "BoxContext",
    "BoxLoss",
    "ControlPoints",
    "ScoreLoss",
    "SimilarityLoss",
    "box_loss",
    "control_points_from",
    "correlation_loss",
    "parameterized_ap_loss",
]
