"""Bytes to network input, and its rescaling."""

from __future__ import annotations

import pytest
import torch

from utils.errors import UserError
from utils.inference import rescale, select_device, to_network_input


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


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_select_device_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("") == select_device("cpu") == select_device("CPU") == torch.device("cpu")
    with pytest.raises(UserError, match=r"device: expected one of .*cpu.* but got '0'"):
        select_device("0")


def test_select_device_with_gpus(two_gpus):
    for text, index in (("", 0), ("cuda", 0), ("0", 0), ("1", 1), ("cuda:1", 1)):
        assert select_device(text) == torch.device("cuda", index), text


def test_select_device_refuses_what_does_not_exist(two_gpus):
    for text in ("2", "gpu", "0,x", ","):
        with pytest.raises(UserError, match="device: expected one of 0, 1, cpu"):
            select_device(text)
    with pytest.raises(UserError, match="torchrun"):
        select_device("0,1")


def test_each_process_gets_its_own_gpu(two_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("") == select_device("0,1") == torch.device("cuda", 1)
    assert select_device("1,0") == torch.device("cuda", 0)
    with pytest.raises(UserError, match="process 1 has no GPU of its own"):
        select_device("0")
