"""Processes that train one model together, as ``torchrun`` starts them.

Everything here also works in a single process, where it does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..device import choose_device
from ..errors import UsageError

_PATIENCE = timedelta(hours=2)  # the first rank validates and searches motion while others wait


@dataclass(frozen=True)
class Ranks:
    """This process's place among ``size`` of them."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes: logs, checkpoints, pictures."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's part of ``count`` things, a multiple of the number of ranks."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def total(self, x: Tensor) -> Tensor:
        """Sum over ranks. Differentiable: a loss that each rank computes from it, averaged over
        ranks as DistributedDataParallel does, has the gradient of the loss in one process."""
        if self.size == 1:
            return x
        from torch.distributed.nn.functional import all_reduce

        summed: Tensor = all_reduce(x)
        return summed

    def mean(self, figures: dict[str, float], device: torch.device) -> dict[str, float]:
        """Means over ranks."""
        if self.size == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
        dist.all_reduce(values)
        return dict(zip(figures, (values / self.size).tolist(), strict=True))

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            dist.barrier()


def current() -> Ranks:
    """Those that :func:`joined` has brought together; one alone without it."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Meet the other processes that torchrun has started, if it has: gloo on CPUs, nccl on GPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UsageError(f"rank {local} of this machine has no GPU of its own")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def refuse_several(what: str) -> None:
    """Raises UsageError under torchrun with more than one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{what}: runs in one process only; start it without torchrun")


def parallel(model: nn.Module, device: torch.device, unused: bool = False) -> nn.Module:
    """A model whose gradients are averaged over ranks in backward passes.

    unused: whether there are parameters that not every pass reaches.
    """
    if current().size == 1:
        return model
    options: dict[str, Any] = {"broadcast_buffers": False, "find_unused_parameters": unused}
    if device.type == "cuda":
        options["device_ids"] = [torch.cuda.current_device()]
    return nn.parallel.DistributedDataParallel(model, **options)


def not_syncing(model: nn.Module, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Within it backward passes keep their gradients to the rank, where that is wanted: all but
    the last of an accumulation."""
    if wanted and isinstance(model, nn.parallel.DistributedDataParallel):
        return model.no_sync()
    return contextlib.nullcontext()
