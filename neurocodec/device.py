"""Where and how the networks run: device, precision, threads."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from .errors import UsageError


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" -> device. Raises UsageError where CUDA is asked for and missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no CUDA device that torch can use")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def free_memory_of(device: torch.device) -> int | None:
    """Bytes of a GPU that processes could still take; None of a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def channels_last(model: nn.Module) -> nn.Module:
    """Lay out the kernels of a network's convolutions as CPUs like them, in place."""
    for p in model.parameters():
        if p.dim() == 5:
            p.data = p.data.contiguous(memory_format=torch.channels_last_3d)
        elif p.dim() == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
    return model


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than float32 ones. On CPUs without AVX512-BF16 or AMX they
    are 10 to 100 times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast where it is fast, nothing elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(device))
