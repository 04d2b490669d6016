"""The correlation between the scores of the positives and their IoUs, beside any score loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.criterion.matches import Matches
from utils.distributed import all_gather_rows, known_to_all_processes, rank
from utils.losses import correlation_loss


class CorrelationPart(nn.Module):
    """A correlation loss times its gain.

    Args:
        kind: ``spearman`` | ``pearson`` | ``concordance``.
        gain: weight of the part.
        joint: whether the score is objectness times class probability, or the objectness alone.
        regularization_strength, regularization: of Spearman's soft ranks, see :func:`utils.losses.correlation_loss`.
        global_rank: correlate the positives of all processes.
    """

    def __init__(
        self,
        kind: str,
        gain: float,
        *,
        joint: bool,
        regularization_strength: float = 1.0,
        regularization: str = "absolute",
        global_rank: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.gain = gain
        self.joint = joint
        self.regularization_strength, self.regularization = regularization_strength, regularization
        self.joins_processes = global_rank

    def forward(self, matches: Matches, *, across_processes: bool) -> Tensor:
        """Scalar with gradient to the scores.

        Args:
            matches: the P positives, one for each anchor.
            across_processes: whether all processes take this step together; if not, no collective is entered.
        """
        scores = matches.pred.objectness.sigmoid()
        if self.joint:
            scores = scores * matches.pred.classes.gather(1, matches.classes[:, None]).squeeze(1).sigmoid()
        if not (self.joins_processes and across_processes):
            return self.gain * self._loss(scores, matches.iou)
        columns = all_gather_rows(torch.stack((scores, matches.iou), dim=1))
        ious = torch.cat([column[:, 1] for column in columns])
        everyone = [column[:, 0] for column in columns]
        everyone[rank()] = scores  # those of this process, with gradient
        return known_to_all_processes(self.gain * self._loss(torch.cat(everyone), ious))

    def _loss(self, scores: Tensor, ious: Tensor) -> Tensor:
        return correlation_loss(
            scores,
            ious,
            self.kind,
            regularization_strength=self.regularization_strength,
            regularization=self.regularization,
        )
