"""Assigners: which anchors are positive. Importing this package registers them."""

from utils.assigners import anchor_ratio, atss, best_iou  # noqa: F401  (registration)
from utils.assigners.base import ASSIGNERS, Assigner, AssignerInfo, register_assigner

__all__ = ["ASSIGNERS", "Assigner", "AssignerInfo", "register_assigner"]
