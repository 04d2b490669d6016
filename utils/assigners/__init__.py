"""Assigners by name. Importing this package registers them."""

from utils.assigners import anchor_ratio  # noqa: F401  (registration)
from utils.assigners.base import ASSIGNERS

__all__ = ["ASSIGNERS"]
