"""What this machine can do: device and number format, chosen late and only where asked."""

from __future__ import annotations

import torch
from torch import Tensor

PRECISIONS = ("auto", "bf16", "fp32")


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, then Apple's MPS, then the CPU; any other name is torch's own.

    Raises:
        ValueError: torch does not know the name, or the device is not there.
    """
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:0 or mps") from error
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ValueError(f"device {name!r} is not available on this machine; use auto or cpu")
    return device


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device; the host does not wait for a GPU, which reads pinned memory."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic runs in hardware: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))
    return False


def choose_precision(name: str, device: torch.device) -> str:
    """``bf16`` or ``fp32``; ``auto`` is bf16 where the hardware has it.

    Raises:
        ValueError: the name is none of ``PRECISIONS``.
    """
    if name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}; use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return name
