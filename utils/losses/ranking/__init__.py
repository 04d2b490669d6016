"""Ranking losses: differentiable by their papers' own updates, exact, without the matrix of all pairs."""

from utils.losses.ranking.alrp import ALRP, alrp_loss
from utils.losses.ranking.ap import ap_loss
from utils.losses.ranking.control_points import ControlPoints, control_points_from
from utils.losses.ranking.parameterized_ap import parameterized_ap_loss
from utils.losses.ranking.rank_sort import RankSort, rank_sort_loss

__all__ = [
    "ALRP",
    "ControlPoints",
    "RankSort",
    "alrp_loss",
    "ap_loss",
    "control_points_from",
    "parameterized_ap_loss",
    "rank_sort_loss",
]
