"""Bytes to network input, and its rescaling."""

from __future__ import annotations

import pytest
import torch

from utils.inference import rescale, to_network_input


def test_bytes_become_fractions() -> None:
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    inputs = to_network_input(images, torch.device("cpu"))
    assert inputs.dtype == torch.float32 and torch.equal(inputs, images / 255)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((320, 320), 160, (160, 160)),
        ((192, 320), 480, (288, 480)),
        ((320, 224), 256, (256, 192)),
        ((64, 640), 320, (32, 320)),
    ],
)
def test_rescaling_keeps_the_aspect_ratio_up_to_the_stride(shape: tuple, size: int, expected: tuple) -> None:
    ramp = torch.linspace(0, 1, shape[1]).expand(1, 3, *shape)
    scaled = rescale(ramp, size, 32)
    assert scaled.shape == (1, 3, *expected)
    assert scaled[0, 0, 0, 0] < 0.01 and scaled[0, 0, 0, -1] > 0.99
