"""From the bytes of a batch to what a network takes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def to_network_input(images: Tensor, device: torch.device) -> Tensor:
    """(B, 3, H, W) uint8 to floats in [0, 1] on the device, in channels-last memory."""
    images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
    return images.float() / 255


def rescale(images: Tensor, size: int, stride: int) -> Tensor:
    """Resize (B, 3, H, W) so that the longer side becomes ``size`` and both are multiples of ``stride``, in pixels."""
    scale = size / max(images.shape[2:])
    shape = [math.ceil(side * scale / stride) * stride for side in images.shape[2:]]
    return functional.interpolate(images, size=shape, mode="bilinear", align_corners=False)
