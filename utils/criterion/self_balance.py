"""Self-balancing: weights that make the box part as large as the score part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.distributed import all_reduce_sum


def step_balance(score: Tensor, box: Tensor) -> Tensor:
    """The ratio of this step's values, Oksuz et al., arXiv:2107.11669, section 4.

    Args:
        score, box: scalars >= 0 without gradient.
    """
    return score / box.clamp(min=torch.finfo(box.dtype).tiny ** 0.5)


class EpochBalance(nn.Module):
    """The ratio of the last epoch's means, Oksuz et al., arXiv:2009.13592, section 4.2 on self-balancing.

    Until the first epoch has ended it is the ratio of the means so far. Only steps in training mode count. The sums are
    buffers, so a checkpoint has them, and steps that all processes take together leave the same values in each.
    """

    ratio: Tensor
    score_sum: Tensor
    box_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("ratio", "score_sum", "box_sum"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float32))

    def forward(self, score: Tensor, box: Tensor, *, across_processes: bool = False) -> Tensor:
        """The weight of this step's box part.

        Args:
            score, box: scalars >= 0; ``score`` is here the whole loss.
            across_processes: add the values of all processes; each must then call this.
        """
        if self.training:
            sums = torch.stack((score, box))
            score_sum, box_sum = (all_reduce_sum(sums) if across_processes else sums).to(self.score_sum)
            self.score_sum += score_sum
            self.box_sum += box_sum
        so_far = step_balance(self.score_sum, self.box_sum)
        return torch.where(self.ratio > 0, self.ratio, so_far).to(score)

    def end_epoch(self) -> None:
        """The means of this epoch become the ratio."""
        self.ratio.copy_(step_balance(self.score_sum, self.box_sum))
        self.score_sum.zero_()
        self.box_sum.zero_()
