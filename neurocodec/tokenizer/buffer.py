"""Memory that is used again and again."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class Buffer:
    """Memory for one thing at a time in each thread: grown to the largest, and never given back,
    for fresh memory of this size costs more than the copying into it."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self, size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Contiguous, of this size, and holding anything. What it gave before is overwritten."""
        count = math.prod(size)
        memory: Tensor | None = getattr(self._of_thread, "memory", None)
        if memory is None or memory.numel() < count:
            memory = self._of_thread.memory = torch.empty(count, dtype=dtype, device=device)
        return memory[:count].view(size)
