"""Assigners: which anchors are positive. Importing this package registers those of all its modules."""

from utils.assigners.base import ASSIGNERS, Assigner, AssignerInfo, register_assigner
from utils.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["ASSIGNERS", "Assigner", "AssignerInfo", "register_assigner"]
