"""Losses by name: ``BOX_LOSSES`` compare boxes, ``SCORE_LOSSES`` compare scores."""

from utils.losses.box import BOX_LOSSES, BoxLoss, box_loss
from utils.losses.classification import SCORE_LOSSES, ScoreLoss

__all__ = ["BOX_LOSSES", "SCORE_LOSSES", "BoxLoss", "ScoreLoss", "box_loss"]
