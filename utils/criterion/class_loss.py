"""The class loss of the positives, beside whichever loss trains the objectness."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.config.hyperparameters import Hyperparameters
from utils.criterion.matches import Matches
from utils.losses import ScoreLoss


class ClassLoss:
    """An elementwise score loss on the class logits of each positive.

    Args:
        score_loss: elementwise.
        hyp: label smoothing and the weight of positives.
        num_classes: C; nothing is learnt from one class.
    """

    def __init__(self, score_loss: ScoreLoss, hyp: Hyperparameters, num_classes: int) -> None:
        self.score_loss = score_loss
        self.num_classes = num_classes
        self.positive_weight = hyp.cls_pw
        self.on, self.off = 1 - hyp.label_smoothing / 2, hyp.label_smoothing / 2

    def __call__(self, matches: Matches) -> Tensor:
        """Mean over classes for each positive, (P,)."""
        logits = matches.pred[:, 5:]
        if self.num_classes == 1:
            return logits.new_zeros(len(logits))
        target = torch.full_like(logits, self.off)
        target.scatter_(1, matches.classes[:, None], self.on)
        return self.score_loss(logits, target, positive_weight=self.positive_weight).mean(dim=1)
