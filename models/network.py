"""What every network has, whether it is one model, an ensemble, or one that looks at an image several times."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Network(nn.Module):
    """A detector: images to raw maps, raw maps to predictions.

    Attributes:
        names: class index to name.
        nc: number of classes C.
    """

    names: dict[int, str]
    nc: int

    @property
    def stride(self) -> tuple[int, ...]:
        """Pixels per cell of the L levels, finest first."""
        raise NotImplementedError

    @property
    def num_maps(self) -> int:
        """How many raw maps :meth:`raw` returns."""
        return len(self.stride)

    def raw(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to raw maps, each (B, A, H, W, 5 + C); in any mode."""
        raise NotImplementedError

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """What :meth:`raw` returned to (B, N, 5 + C): x, y, w, h in pixels, objectness and class probabilities."""
        raise NotImplementedError
