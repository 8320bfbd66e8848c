"""The masked transformer in exact arithmetic: the same logits on every machine.

All numbers are multiples of powers of two in float64: sums and products of such numbers are exact
below 2^53 units, so that it does not matter in which order a matrix product adds. What is left is
done by operations that IEEE 754 rounds correctly (division, square root) and by tables, each
followed by rounding to the grid. The tables' entries lie far enough from ties that every library of
mathematical functions gives the same ones.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .transformer import Transformer

ACTIVATION = 2.0**12  # units in one, of activations
WEIGHT = 2.0**14
LOGIT = 256  # of logits, of scores of attention, and of what the table of exponentials is asked
_SHARE = 2.0**16  # of attention weights
_LARGEST = 256.0  # activation; products of K numbers stay below 2^53 units for K up to 2048
_GELU_STEP, _GELU_END = 1024, 8
_EXP_END = 12  # below exp(-12) of the largest, nothing
EXP_ONE = 1 << 16


@cache
def exp_table() -> Tensor:
    """Entry i: exp(-i / LOGIT), EXP_ONE standing for 1; int64."""
    return torch.tensor([round(math.exp(-i / LOGIT) * EXP_ONE) for i in range(_EXP_END * LOGIT)])


@cache
def gelu_table() -> Tensor:
    """GELU from -8 to 8 in steps of 1 / 1024, in units of activations; float64."""
    x = [i / _GELU_STEP for i in range(-_GELU_END * _GELU_STEP, _GELU_END * _GELU_STEP + 1)]
    return torch.tensor([round(v * (1 + math.erf(v / math.sqrt(2))) / 2 * ACTIVATION) for v in x],
                        dtype=torch.float64) / ACTIVATION  # fmt: skip


def exponentials(below: Tensor) -> Tensor:
    """Of -below / LOGIT; below: whole numbers from 0 on -> int64 in units of 1 / EXP_ONE."""
    table = exp_table().to(below.device)
    at = below.long()
    return torch.where(at < len(table), table[at.clamp(max=len(table) - 1)], 0)


def _round(x: Tensor, units: float = ACTIVATION) -> Tensor:
    return (x * units).round() / units


def _over(x: Tensor, by: float) -> Tensor:
    """x / by, rounded once: on a GPU torch multiplies by the inverse where ``by`` is no tensor."""
    return x / torch.full((), by, dtype=x.dtype, device=x.device)


def _activation(x: Tensor) -> Tensor:
    return _round(x).clamp(-_LARGEST, _LARGEST)


def _gelu(x: Tensor) -> Tensor:
    at = (x.clamp(-_GELU_END, _GELU_END) * _GELU_STEP).round().long() + _GELU_END * _GELU_STEP
    return torch.where(x > _GELU_END, x, gelu_table().to(x.device)[at])


class _Linear:
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = _round(weight.detach().double(), WEIGHT).T
        self._bias = _round(bias.detach().double())

    def __call__(self, x: Tensor) -> Tensor:
        return _activation(x @ self._weight + self._bias)


class _Norm:
    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight = _round(norm.weight.detach().double())
        self._bias = _round(norm.bias.detach().double())
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        centred = _round(x - _over(x.sum(-1, keepdim=True), x.shape[-1]))
        variance = _over(centred.square().sum(-1, keepdim=True), x.shape[-1])
        normal = _round(centred / (variance + self._eps).sqrt())
        return _activation(normal * self._weight + self._bias)


class _Block:
    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        attention = layer.self_attn
        self._heads = attention.num_heads
        self._norms = _Norm(layer.norm1), _Norm(layer.norm2)
        self._project = _Linear(attention.in_proj_weight, attention.in_proj_bias)
        self._out = _Linear(attention.out_proj.weight, attention.out_proj.bias)
        self._wide = _Linear(layer.linear1.weight, layer.linear1.bias)
        self._narrow = _Linear(layer.linear2.weight, layer.linear2.bias)

    def __call__(self, x: Tensor) -> Tensor:
        x = _activation(x + self._attend(self._norms[0](x)))
        return _activation(x + self._narrow(_gelu(self._wide(self._norms[1](x)))))

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self._project(x).view(batch, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts  # (B, heads, N, d)
        scores = _over(q @ k.transpose(-1, -2), math.sqrt(q.shape[-1]))
        scores = (scores * LOGIT).round()
        shares = exponentials(scores.amax(-1, keepdim=True) - scores).double()
        shares = _round(shares / shares.sum(-1, keepdim=True), _SHARE)
        return self._out(_activation(shares @ v).transpose(1, 2).reshape(batch, length, width))


class ExactTransformer:
    """A trained :class:`Transformer`, whose weights are rounded to the grid."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.config = model, model.config
        self._words = [_round(e.weight.detach().double()) for e in model.words]  # type: ignore[operator]
        self._places = _round(model.places.detach().double())
        self._classes = _round(model.classes.weight.detach().double())
        self._tasks = _round(model.tasks.weight.detach().double())
        self._blocks = [_Block(layer) for layer in model.blocks.layers]  # type: ignore[arg-type]
        self._norm = _Norm(model.blocks.norm)  # type: ignore[arg-type]
        self._heads = [_Linear(head.weight, head.bias) for head in model.heads]  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(self, tokens: Tensor, masked: Tensor, label: Tensor, task: Tensor) -> list[Tensor]:
        """As of :class:`Transformer`; logits (B, N, 2^k) are whole numbers, LOGIT to one."""
        x = self._places.expand(len(tokens), -1, -1)
        parts = self.model.split(tokens)
        for k, words, part in zip(self.config.factors, self._words, parts, strict=True):
            x = x + F.embedding(part.masked_fill(masked, 2**k), words)
        conditions = torch.stack([self._classes[label], self._tasks[task]], 1)
        x = _activation(torch.cat([conditions, x], 1))
        for block in self._blocks:
            x = block(x)
        x = self._norm(x)[:, 2:]
        return [(head(x) * LOGIT).round() for head in self._heads]
