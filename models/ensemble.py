"""Ensembles: several networks see the same images and share one suppression."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.network import Network


class Ensemble(Network):
    """Networks of the same classes as one: their predictions are concatenated.

    Args:
        networks: at least one; names and number of classes are those of the first.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.names, self.nc = networks[0].names, networks[0].nc

    @property
    def parts(self) -> list[Network]:
        """The networks."""
        return [cast(Network, network) for network in self.networks]

    @property
    def stride(self) -> tuple[int, ...]:
        """Pixels per cell, of the network whose strides are largest."""
        return max((network.stride for network in self.parts), key=lambda strides: max(strides))

    @property
    def num_maps(self) -> int:
        """Raw maps of all networks."""
        return sum(network.num_maps for network in self.parts)

    def raw(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to the raw maps of the first network, of the second, ..."""
        return [level for network in self.parts for level in network.raw(images)]

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """What :meth:`raw` returned to (B, N, 5 + C), network by network."""
        ends = itertools.accumulate((network.num_maps for network in self.parts), initial=0)
        maps = [raw[first:last] for first, last in itertools.pairwise(ends)]
        decoded = [network.decode(part) for network, part in zip(self.parts, maps, strict=True)]
        return torch.cat(decoded, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to decoded predictions (B, N, 5 + C)."""
        return self.decode(self.raw(images))
