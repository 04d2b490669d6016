"""Ranking losses: differentiable by their papers' own updates, exact, without the matrix of all pairs."""

from utils.losses.ranking.alrp import ALRP, alrp_loss
from utils.losses.ranking.ap import ap_loss
from utils.losses.ranking.rank_sort import RankSort, rank_sort_loss

__all__ = ["ALRP", "RankSort", "alrp_loss", "ap_loss", "rank_sort_loss"]
