"""The class loss of the positives, beside whichever loss trains the objectness."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.criterion.matches import Matches
from utils.losses import ScoreLoss


class ClassLoss:
    """An elementwise score loss on the class logits of each positive.

    Args:
        score_loss: elementwise.
        label_smoothing: s; targets are 1 - s/2 for the object's class and s/2 for the others.
        positive_weight: weight of the object's class.
    """

    def __init__(self, score_loss: ScoreLoss, *, label_smoothing: float = 0.0, positive_weight: float = 1.0) -> None:
        self.score_loss = score_loss
        self.positive_weight = positive_weight
        self.on, self.off = 1 - label_smoothing / 2, label_smoothing / 2

    def __call__(self, matches: Matches) -> Tensor:
        """Mean over classes for each positive, (P,); 0 with a single class, where there is nothing to learn."""
        logits = matches.pred.classes
        if matches.pred.num_classes == 1:
            return logits.new_zeros(len(logits))
        target = torch.full_like(logits, self.off)
        target.scatter_(1, matches.classes[:, None], self.on)
        return self.score_loss(logits, target, positive_weight=self.positive_weight).mean(dim=1)
