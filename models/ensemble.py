"""Several networks that look at the same images; what they find is suppressed together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks of the same classes as one: their predictions stand side by side.

    Args:
        networks: each has ``raw``, ``decode``, ``names``, ``nc`` and ``stride``, and gives a raw map per stride unless
            it says ``num_maps``.

    Attributes:
        names, nc: class index to name, number of classes C.
        stride: pixels per cell, of the network whose strides are largest.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.names, self.nc = networks[0].names, networks[0].nc
        self.stride = max((network.stride for network in networks), key=max)

    def raw(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to the raw maps of the first network, of the second, ..."""
        return [level for network in self.networks for level in network.raw(images)]

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """What :meth:`raw` returned to (B, N, 5 + C), network by network."""
        ends = itertools.accumulate((num_maps(network) for network in self.networks), initial=0)
        parts = [raw[first:last] for first, last in itertools.pairwise(ends)]
        decoded = [network.decode(part) for network, part in zip(self.networks, parts, strict=True)]
        return torch.cat(decoded, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to decoded predictions (B, N, 5 + C)."""
        return self.decode(self.raw(images))


def num_maps(network: nn.Module) -> int:
    """How many raw maps a network gives: one for each stride, unless it says otherwise."""
    return getattr(network, "num_maps", len(network.stride))
