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
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .. import models
from ..codec.tokens import grid_of
from ..device import has_fast_bf16
from ..errors import UsageError
from ..tokenizer.config import BETWEEN, SPATIAL_STRIDE
from ..tokenizer.motion_inference import Convolutions, FastPictureCodec
from ..tokenizer.motion_model import PictureCodec

_SIDE = 1024  # of the matrices
_RUNS = 5  # of which the fastest counts
_STEP = 0.1


@dataclass(frozen=True)
class Roofline:
    """Of the networks of one picture. macs: of all, as convolutions are defined; of_pixel: a pixel
    of the picture; speed, peak: MACs a second; share: of the peak, above 1 where an algorithm takes
    fewer."""

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


def _macs(networks: PictureCodec, condition: Tensor, q: Tensor) -> int:
    """Of a picture, as the convolutions are defined: Winograd's algorithm takes fewer. condition:
    (1, ..., H/4, W/4), q: (h w, D)."""
    h, w = condition.shape[2:]
    planes, step = condition.new_zeros(1, 6, 2 * h, 2 * w), condition.new_ones(1, 1, 1, 1)
    q = q.t().reshape(1, -1, h // 2, w // 2)
    counter = FlopCounterMode(display=False)
    with counter:
        prediction, context = networks.context(planes, planes, condition)
        networks.decoder(q, prediction, context, condition, step)
    return counter.get_total_flops() // 2


@torch.inference_mode()
def roofline(width: int, height: int, model: str | None = None) -> Roofline:
    """Of pictures with two references, of whole cells. Raises UsageError for a model of another
    family, ModelError."""
    bundle = models.find(model)
    if not bundle.is_motion:
        raise UsageError(f"{bundle.name}: not of the family motion")
    device = torch.device("cpu")
    tokenizer: Any = bundle.tokenizer()
    slow = tokenizer.networks(BETWEEN)
    networks = FastPictureCodec(slow, Convolutions(device, torch.get_num_threads()))
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

    macs = _macs(slow, tokenizer.condition(BETWEEN, steps, first.permute(2, 0, 1)[None]), q)
    dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
    seconds, highest = _fastest(picture), peak(dtype)
    speed = macs / seconds
    return Roofline(
        f"{width}x{height}", str(dtype).removeprefix("torch."), torch.get_num_threads(), macs,
        round(macs / (h * w * SPATIAL_STRIDE**2)), seconds, speed, highest, speed / highest,
    )  # fmt: skip
