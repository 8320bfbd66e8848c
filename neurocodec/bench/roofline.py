"""How near the networks of a decoder come to what this machine can do.

MACs of one picture of the ``motion`` family, the time they take, and the machine's peak: the
fastest product of square matrices in the type that the networks run in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import models
from ..codec.tokens import grid_of
from ..device import has_fast_bf16
from ..errors import UsageError
from ..tokenizer.config import BETWEEN, SPATIAL_STRIDE
from ..tokenizer.motion_inference import Buffer, FastPictureCodec

_SIDE = 1024  # of the matrices
_RUNS = 5  # of which the fastest counts
_STEP = 0.1


@dataclass(frozen=True)
class Roofline:
    """Of the networks of one picture. macs: of all; of_pixel: a pixel of the picture; speed, peak:
    MACs a second; share: of the peak."""

    size: str
    type: str
    threads: int
    macs: int
    of_pixel: int
    seconds: float
    speed: float
    peak: float
    share: float


def _fastest(run: Callable[[], Any]) -> float:
    run()
    found = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def peak(dtype: torch.dtype) -> float:
    """MACs a second of a product of two matrices, on all threads."""
    a, b = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    return _SIDE**3 / _fastest(lambda: a @ b)


@torch.inference_mode()
def roofline(width: int, height: int, model: str | None = None) -> Roofline:
    """Of pictures with two references, of whole cells. Raises UsageError for a model of another
    family, ModelError."""
    bundle = models.find(model)
    if not bundle.is_motion:
        raise UsageError(f"{bundle.name}: not of the family motion")
    device = torch.device("cpu")
    tokenizer: Any = bundle.tokenizer()
    networks = FastPictureCodec(tokenizer.networks(BETWEEN), device, Buffer())
    h, w = grid_of(width, height)
    steps = torch.full((1, 1, 1, 1), _STEP)
    condition = tokenizer.condition_of(BETWEEN, steps)
    half = SPATIAL_STRIDE // 2
    first, second = torch.rand(2, h * half, w * half, 6)
    cells = torch.arange(h * w)
    q = torch.randn(h * w, bundle.config.latent_dim) * _STEP

    def picture() -> None:
        prediction, context = networks.context(first, second, condition)
        networks.decode(q, cells, prediction, context, condition, steps[0, 0, ..., None])

    counter = FlopCounterMode(display=False)
    with counter:
        picture()
    macs = counter.get_total_flops() // 2
    dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
    seconds, highest = _fastest(picture), peak(dtype)
    speed = macs / seconds
    return Roofline(
        f"{width}x{height}", str(dtype).removeprefix("torch."), torch.get_num_threads(), macs,
        round(macs / (h * w * SPATIAL_STRIDE**2)), seconds, speed, highest, speed / highest,
    )  # fmt: skip
