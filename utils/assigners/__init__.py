"""Assigners by name. Importing this package registers them."""

from utils.assigners import anchor_ratio, atss, best_iou  # noqa: F401  (registration)
from utils.assigners.base import ASSIGNERS, Assigner

__all__ = ["ASSIGNERS", "Assigner"]
