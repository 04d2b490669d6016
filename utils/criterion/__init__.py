"""The training loss: assignment, losses and the weights of their parts."""

from utils.criterion.criterion import Criterion

__all__ = ["Criterion"]
