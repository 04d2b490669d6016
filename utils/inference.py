"""Running a network: device, precision, image size, network input, timing."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from utils import distributed
from utils.config.choices import AMP_CHOICES
from utils.errors import UserError, unknown_name

log = logging.getLogger(__name__)


class DetectionNetwork(Protocol):
    """What validation and detection need of a network: an ``nn.Module`` with names, strides, ``raw`` and ``decode``."""

    training: bool

    @property
    def names(self) -> Mapping[int, str]:
        """Class index to name."""

    @property
    def nc(self) -> int:
        """Number of classes C."""

    @property
    def stride(self) -> Sequence[int]:
        """Pixels per cell of each level."""

    def raw(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to raw outputs, L x (B, A, H, W, 5 + C)."""

    def decode(self, raw: list[Tensor]) -> Tensor:
        """Raw outputs to (B, N, 5 + C): x, y, w, h in pixels, objectness and class probabilities."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of ``nn.Module``."""

    def train(self, mode: bool = True) -> Any:
        """As of ``nn.Module``."""

    def eval(self) -> Any:
        """As of ``nn.Module``."""


def select_device(text: str = "") -> torch.device:
    """Choose where to compute.

    Args:
        text: ``''`` for the first GPU, or the CPU without one; ``'cpu'``; a GPU, ``'0'`` or ``'cuda:0'``; ``'mps'``.
            Under torchrun ``''`` and lists such as ``'0,1'`` give each process of a machine its own GPU.

    Raises:
        UserError: no such device; the message lists those present.
    """
    text = str(text).strip().lower()
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "cpu" or (text == "" and num_gpus == 0):
        return torch.device("cpu")
    if text == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    numbers = text.replace("cuda:", "").split(",") if text not in ("", "cuda") else [str(i) for i in range(num_gpus)]
    present = [*map(str, range(num_gpus)), "cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
    for number in numbers or [text]:
        if number not in present[:num_gpus]:
            found = f"{num_gpus} CUDA GPU{'s' * (num_gpus != 1)} here" if num_gpus else "no CUDA GPU here"
            raise UserError(f"device: expected one of {', '.join(present)} but got {text!r}; there is {found}")
    if distributed.world_size() == 1 and len(numbers) > 1 and text not in ("", "cuda"):
        command = f"torchrun --nproc-per-node {len(numbers)} train.py --device {text} ..."
        raise UserError(f"device: {text!r} names {len(numbers)} GPUs; start one process for each: {command}")
    if distributed.local_rank() >= len(numbers):
        raise UserError(f"device: process {distributed.local_rank()} has no GPU of its own among {', '.join(numbers)}")
    return torch.device("cuda", int(numbers[distributed.local_rank()]))


def autocast_type(choice: str, device: torch.device) -> torch.dtype | None:
    """The type for autocast, None for float32.

    Args:
        choice: ``auto`` takes bfloat16 where the hardware has it, float16 on older GPUs, else float32; ``off``,
            ``bf16`` and ``fp16`` are used as given.
        device: where the network lives.

    Raises:
        UserError: unknown choice, or float16 off a GPU, where it would only be slow.
    """
    if choice not in AMP_CHOICES:
        raise unknown_name("value of --amp", choice, AMP_CHOICES)
    if choice == "auto":
        return _best_type(device)
    if choice == "fp16" and device.type != "cuda":
        raise UserError(f"--amp fp16: expected a CUDA device but got {device}; use bf16 or off")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[choice]


def _best_type(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        # emulated bfloat16 exists too, and is slower than float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        # a torch too old to be asked gets float32, which is never wrong
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"):
            return torch.bfloat16
    return None


def decoding_type(device: torch.device) -> torch.dtype:
    """The type to decode raw outputs in: float64 where the device has it.

    A ranking loss may drive logits to where neighbouring ones have the same probability in float32.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def describe_type(dtype: torch.dtype | None) -> str:
    """The name to print."""
    return "float32" if dtype is None else f"{str(dtype).removeprefix('torch.')} autocast, losses in float32"


DEFAULT_IMAGE_SIZE = 640  # where a checkpoint stores none


def fitting_image_size(size: int, stride: int) -> int:
    """The next multiple of the largest stride, and at least two of them; a change is reported.

    Args:
        size: side asked for, in pixels.
        stride: largest stride of the network, in pixels.
    """
    fitting = max(math.ceil(size / stride), 2) * stride
    if fitting != size:
        log.warning(
            "image size %d is no multiple of the stride %d, or below two of them: using %d", size, stride, fitting
        )
    return fitting


def to_network_input(images: Tensor, device: torch.device) -> Tensor:
    """Images (B, 3, H, W), uint8 or floats in [0, 1], to float32 in [0, 1] on the device, in channels-last memory."""
    images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
    return images.float() if images.is_floating_point() else images.float() / 255


def rescale(images: Tensor, size: int, stride: int) -> Tensor:
    """Resize (B, 3, H, W) so that the longer side becomes ``size`` and both are multiples of ``stride``, in pixels."""
    scale = size / max(images.shape[2:])
    shape = [math.ceil(side * scale / stride) * stride for side in images.shape[2:]]
    return functional.interpolate(images, size=shape, mode="bilinear", align_corners=False)


class Stopwatch:
    """Seconds per named section; waits for a GPU, so its work counts in the section that queued it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin the next section."""
        self._last = self._now()

    def lap(self, section: str) -> None:
        """End a section and begin the next."""
        now = self._now()
        self.seconds[section] = self.seconds.get(section, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
