"""The training loss: assignment, losses, and how their parts are weighed."""

from utils.criterion.criterion import Criterion

__all__ = ["Criterion"]
