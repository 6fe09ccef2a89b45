"""Choose the device and the precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names of the precisions are known without torch
    import torch
    from torch import Tensor

PRECISIONS = ("auto", "bf16", "fp32")


def choose_device(name: str = "auto") -> torch.device:
    """Choose a device. ``auto`` prefers CUDA, then Apple's MPS, then the CPU; other names are torch's."""
    import torch

    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:0 or mps") from error
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, True):
        raise ValueError(f"device {name!r} is not available on this machine; use auto or cpu")
    return device


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device; the host does not wait for a GPU, which reads pinned memory."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def start_reading(value: Tensor) -> Callable[[], int]:
    """Begin to copy a number from the device; the returned function waits for the copy and returns it."""
    if value.device.type != "cuda":
        return lambda: int(value.cpu().numpy())
    import torch

    copy = value.to("cpu", non_blocking=True)  # into pinned memory
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def finish() -> int:
        done.synchronize()
        return int(copy.numpy())

    return finish


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes bfloat16 in hardware: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))
    return False


def choose_precision(name: str, device: torch.device) -> str:
    """Choose ``bf16`` or ``fp32``. ``auto`` chooses bf16 if the hardware supports it."""
    if name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}; use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return name
