"""The correlation between the scores of the positives and their IoUs, beside any score loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.config.hyperparameters import Hyperparameters
from utils.criterion.matches import Matches
from utils.distributed import all_gather_rows, known_to_all_processes, rank
from utils.losses import correlation_loss


class CorrelationPart(nn.Module):
    """``loss.correlation_gain`` times a correlation loss.

    Args:
        hyp: the ``loss`` block, where ``correlation`` is not none.
        joint: whether the score is objectness times class probability, or the objectness alone.
    """

    def __init__(self, hyp: Hyperparameters, joint: bool) -> None:
        super().__init__()
        self.kind = hyp.loss.correlation
        self.gain = hyp.loss.correlation_gain
        self.softness = {
            "regularization_strength": hyp.loss.regularization_strength,
            "regularization": hyp.loss.regularization,
        }
        self.joint = joint
        self.global_rank = hyp.loss.global_rank

    def forward(self, matches: Matches) -> Tensor:
        """Scalar with gradient to the scores.

        Args:
            matches: the P positives, one for each anchor.
        """
        scores = matches.pred[:, 4].sigmoid()
        if self.joint:
            scores = scores * matches.pred[:, 5:].gather(1, matches.classes[:, None]).squeeze(1).sigmoid()
        if not (self.global_rank and self.training):  # one process alone validates
            return self.gain * correlation_loss(scores, matches.iou, self.kind, **self.softness)
        columns = all_gather_rows(torch.stack((scores, matches.iou), dim=1))
        ious = torch.cat([column[:, 1] for column in columns])
        everyone = [column[:, 0] for column in columns]
        everyone[rank()] = scores  # those of this process, with gradient
        loss = self.gain * correlation_loss(torch.cat(everyone), ious, self.kind, **self.softness)
        return known_to_all_processes(loss)
