"""The detection head: one 1x1 convolution per level, and its decoding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from utils.boxes import AnchorTables, decode_predictions, flatten_levels
from utils.structures import RawPredictions


class Detect(nn.Module):
    """YOLO head.

    Args:
        nc: number of classes C.
        anchors: L lists of flat width, height pairs in pixels.
        channels: input channels of the L levels.

    Attributes:
        anchors: (L, A, 2) buffer, in cells (pixels divided by the stride), as weights of the family store them.
        stride: L values, pixels per cell; set once the network around the head is complete.
    """

    anchors: Tensor

    def __init__(self, nc: int, anchors: Sequence[Sequence[float]], channels: Sequence[int]) -> None:
        super().__init__()
        self.nc = nc
        self.num_outputs = 5 + nc
        self.num_anchors = len(anchors[0]) // 2
        self.stride: tuple[int, ...] = ()
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32).view(len(anchors), -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(c, self.num_outputs * self.num_anchors, 1) for c in channels)
        self._tables = AnchorTables()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, L x (B, channels, H, W), to raw outputs, L x (B, A, H, W, 5 + C), in float32 or wider.

        The last convolution runs outside autocast: bfloat16 has eight significant bits, too few for boxes and ranking,
        and the cost is negligible.
        """
        raw = []
        for convolution, features in zip(self._convolutions(), maps, strict=True):
            with torch.autocast(features.device.type, enabled=False):
                out = convolution(features.to(convolution.weight.dtype))
            batch, _, rows, cols = out.shape
            out = out.view(batch, self.num_anchors, self.num_outputs, rows, cols)
            raw.append(out.permute(0, 1, 3, 4, 2).contiguous())
        return raw

    @property
    def anchors_px(self) -> Tensor:
        """(L, A, 2) anchor widths and heights in pixels."""
        return self.anchors * self.anchors.new_tensor(self.stride)[:, None, None]

    def set_anchors_px(self, anchors_px: Tensor) -> None:
        """Replace the anchors by others, (L, A, 2) pixels, finest level first."""
        strides = self.anchors.new_tensor(self.stride)[:, None, None]
        self.anchors.copy_(anchors_px.to(self.anchors) / strides)
        self._tables.clear()

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw outputs to (B, N, 5 + C): x, y, w, h pixels, objectness and class probabilities, in float32 or wider."""
        dtype = torch.promote_types(raw[0].dtype, torch.float32)
        table = self._tables.get(raw, dtype, self.stride, lambda: self.anchors_px)
        flat = flatten_levels([level.to(dtype) for level in raw])
        return decode_predictions(RawPredictions(flat, self.nc), table).values

    def _convolutions(self) -> Iterator[nn.Conv2d]:
        return (cast(nn.Conv2d, layer) for layer in self.m)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._tables.clear()  # the anchors may be others now

    @torch.no_grad()
    def initialise_biases(self) -> None:
        """Start from about 8 objects per 640-pixel image and level, and 0.6 / C of each class: RetinaNet, 3.3."""
        for convolution, stride in zip(self._convolutions(), self.stride, strict=True):
            assert convolution.bias is not None
            bias = RawPredictions(convolution.bias.view(self.num_anchors, -1), self.nc)
            bias.objectness.add_(math.log(8 / (640 / stride) ** 2))
            bias.classes.add_(math.log(0.6 / (self.nc - 0.99999)))
