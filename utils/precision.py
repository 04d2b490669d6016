"""Which floating-point type the network computes in. Losses and validation are float32 whatever is chosen here."""

from __future__ import annotations

import torch

from utils.errors import UserError, unknown_name

AMP_CHOICES = ("auto", "off", "bf16", "fp16")


def autocast_type(choice: str, device: torch.device) -> torch.dtype | None:
    """The type for autocast, None for float32.

    Args:
        choice: ``auto`` takes bfloat16 where the hardware has it, float16 on older GPUs, else float32; ``off``,
            ``bf16`` and ``fp16`` are taken at their word.
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
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
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
