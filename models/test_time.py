"""Test-time augmentation: one network looks at each image at several sizes, and mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.network import Network
from utils.structures import Predictions

GREY = 114 / 255  # of the border, as the letterbox has it


class View(NamedTuple):
    """How the network sees the images: resized by a factor, and with left and right exchanged."""

    scale: float
    mirrored: bool


VIEWS = (View(1.0, False), View(0.83, True), View(0.67, False))  # YOLOv5's


class TestTimeAugmented(Network):
    """Run a network on three views of each image; all predictions are in pixels of the image itself.

    The largest view drops its coarsest level and the smallest view its finest, as in YOLOv5: each leaves the objects
    that it shows worst to the other views.

    Args:
        network: gives one raw map for each stride, finest first.
    """

    __test__ = False  # its name is no invitation to pytest

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.names, self.nc = network.names, network.nc

    @property
    def stride(self) -> tuple[int, ...]:
        """Pixels per cell of the network's levels."""
        return self.network.stride

    @property
    def num_maps(self) -> int:
        """Raw maps of all views."""
        return len(VIEWS) * self.network.num_maps

    def raw(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to the raw maps of the first view, of the second, ..."""
        return [level for view in VIEWS for level in self.network.raw(self._seen(images, view))]

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """What :meth:`raw` returned to (B, N, 5 + C), view by view, boxes in pixels of the images."""
        levels = len(self.stride)
        height, width = (int(side) * self.stride[0] for side in raw[0].shape[2:4])
        found = []
        for index, view in enumerate(VIEWS):
            maps = raw[index * levels : (index + 1) * levels]
            rows = Predictions(self.network.decode(maps), self.nc)
            if levels > 1:
                counts = [math.prod(level.shape[1:4]) for level in maps]
                first = counts[0] if index == len(VIEWS) - 1 else 0
                last = sum(counts) - (counts[-1] if index == 0 else 0)
                rows = rows[:, first:last]
            found.append(_as_in_image(rows, view, height, width))
        return torch.cat(found, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to decoded predictions (B, N, 5 + C)."""
        return self.decode(self.raw(images))

    def _seen(self, images: Tensor, view: View) -> Tensor:
        """The images as the view has them, with a grey border on the right and below to a multiple of the stride."""
        seen = images.flip(3) if view.mirrored else images
        if view.scale != 1:
            size = _scaled(images.shape[2], images.shape[3], view.scale)
            seen = functional.interpolate(seen, size=size, mode="bilinear", align_corners=False)
            bottom, right = (-side % max(self.stride) for side in size)
            seen = functional.pad(seen, (0, right, 0, bottom), value=GREY)
        return seen.contiguous(memory_format=torch.channels_last)


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(height * scale)), max(1, round(width * scale))


def _as_in_image(rows: Predictions, view: View, height: int, width: int) -> Tensor:
    """Predictions (B, n, 5 + C) of a view with their boxes in pixels of the images, of ``height`` and ``width``."""
    seen_height, seen_width = _scaled(height, width, view.scale)
    factors = rows.values.new_tensor([width / seen_width, height / seen_height])
    xywh = rows.boxes * factors.repeat(2)
    if view.mirrored:
        xywh = torch.cat((width - xywh[..., :1], xywh[..., 1:]), dim=-1)
    return torch.cat((xywh, rows.scores), dim=-1)
