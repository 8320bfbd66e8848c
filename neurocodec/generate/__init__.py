"""Generation from the learnt distribution of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Generative


def start(model: str | None, device: str = "auto", threads: int | None = None) -> Generative:
    """The bundle of a name or path, "tiny-gen" by default, ready to generate.

    Raises ModelError, and UsageError for a device that is not there.
    """
    import torch

    from ..device import choose_device
    from .model import find

    if threads is not None:
        torch.set_num_threads(threads)
    return find(model, choose_device(device))
