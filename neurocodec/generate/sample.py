"""Sampling of token grids by a masked transformer, in a few steps (MaskGIT, CVPR 2022).

All in integers, so that a seed gives the same tokens everywhere.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .exact import ExactTransformer, exponentials
from .transformer import TASKS

_UNIT = 1 << 12  # of confidences and their noise, to one nat
_LOG_BITS = 12  # of a number's mantissa that its logarithm looks at
_NOISE_BITS = 12


def cosine_masked(progress: float) -> float:
    """The part of the cells that is masked, from 1 at progress 0 to 0 at 1."""
    return math.cos(math.pi / 2 * progress)


@cache
def log_table() -> Tensor:
    """Entry i: the logarithm of (2^11 + i) / 2^12, in units of confidence; int64."""
    half = 1 << (_LOG_BITS - 1)
    return torch.tensor([round(math.log((half + i) / (2 * half)) * _UNIT) for i in range(half)])


@cache
def gumbel_table() -> Tensor:
    """Gumbel noise at the middles of 2^12 equal parts of the unit interval; int64."""
    count = 1 << _NOISE_BITS
    return torch.tensor([round(-math.log(-math.log((i + 0.5) / count)) * _UNIT)
                         for i in range(count)])  # fmt: skip


_LOG_2 = round(math.log(2) * _UNIT)


def _log(x: Tensor) -> Tensor:
    """Of whole numbers from 1 on, in units of confidence."""
    mantissa, exponent = torch.frexp(x.double())  # exact
    at = (mantissa * (1 << _LOG_BITS)).floor().long() - (1 << (_LOG_BITS - 1))
    return log_table()[at] + exponent.long() * _LOG_2


class _Random:
    """Random numbers of 32 bits; PCG64's raw output is the same in every version of numpy."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def __call__(self, *shape: int) -> Tensor:
        raw = self._bits.random_raw(math.prod(shape)) >> np.uint64(32)
        return torch.from_numpy(raw.astype(np.int64)).view(shape)


def sample(
    model: ExactTransformer,
    tokens: Tensor,
    label: Tensor,
    known: Tensor,
    task: str = "generate",
    steps: int = 12,
    guidance: float = 0.0,
    temperature: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Tokens (B, N) of class ``label`` (B,), of which those of cells ``known`` (N,) bool stay.

    guidance: by how much the logits are drawn away from those without a class (classifier-free
    guidance). temperature: of the noise on confidences, which falls to none.
    """
    config, device = model.config, tokens.device
    random = _Random(seed)
    tokens, unknown = tokens.clone(), ~known.to(device)
    masked = unknown.expand(len(tokens), -1).clone()
    number = torch.full_like(label, TASKS.index(task))
    none = torch.full_like(label, config.classes)
    for step in range(steps):
        logits = model(tokens, masked, label, number)
        if guidance:
            free = model(tokens, masked, none, number)
            logits = [
                (f + (1 + guidance) * (x - f)).round() for x, f in zip(logits, free, strict=True)
            ]
        found = torch.zeros(tokens.shape, dtype=torch.int64)
        confidence = torch.zeros(tokens.shape, dtype=torch.int64)
        for k, group in zip(config.factors, logits, strict=True):
            drawn, log_p = _draw(group.cpu(), random)
            confidence += log_p
            found = (found << k) | drawn
        tokens = torch.where(masked, found.to(device), tokens)
        left = math.floor(int(unknown.sum()) * cosine_masked((step + 1) / steps) + 1e-9)
        noise = gumbel_table()[random(*tokens.shape) >> (32 - _NOISE_BITS)]
        heat = round(temperature * (1 - (step + 1) / steps) * 256)
        confidence = confidence * 256 + heat * noise
        confidence = confidence.masked_fill(~masked.cpu(), torch.iinfo(torch.int64).max)
        least = confidence.argsort(dim=1, stable=True)[:, :left].to(device)
        masked = torch.zeros_like(masked).scatter_(1, least, True) & masked
    return tokens


def _draw(logits: Tensor, random: _Random) -> tuple[Tensor, Tensor]:
    """One of 2^k by logits (B, N, 2^k) of whole numbers -> (B, N), and the logarithm of what it
    had of the probability."""
    weights = exponentials(logits.amax(-1, keepdim=True) - logits)
    ends = weights.cumsum(-1)
    total = ends[..., -1]
    at = (random(*total.shape) * total) >> 32
    drawn = (ends <= at[..., None]).sum(-1)
    return drawn, _log(weights.gather(-1, drawn[..., None])[..., 0]) - _log(total)
