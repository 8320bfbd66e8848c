"""The networks of the ``motion`` tokenizer as they run fastest, without gradients.

The same sums as in ``motion_model.py``: channels are last, and those of the four or sixteen pixels
that become one are in an order in which they are copied in whole runs; kernels are rearranged for
it once. Convolutions are in bf16 where that is fast, everything else in float32.

Planes are (H/2, W/2, 6) here, cells (h w, D), and steps and conditions (h, w, ...) of cells, or
(1, 1, ...) where they are the same everywhere.
"""

from __future__ import annotations

import math
import threading

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..compiled import compiled
from ..device import has_fast_bf16
from .config import KINDS
from .motion_model import PictureCodec, ResBlock

_PLANES = 6
_CONDITION = 1 + KINDS
Kernel = tuple[Tensor, Tensor]  # weight and bias


class Buffer:
    """Memory for what convolutions read, one at a time in each thread: grown to the largest, and
    never given back, for fresh memory of this size costs more than the copying into it."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self, size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Contiguous, of this size, and holding anything. What it gave before is overwritten."""
        count = math.prod(size)
        memory: Tensor | None = getattr(self._of_thread, "memory", None)
        if memory is None or memory.numel() < count:
            memory = self._of_thread.memory = torch.empty(count, dtype=dtype, device=device)
        return memory[:count].view(size)


class FastPictureCodec:
    """Context, encoder and decoder of one set of kinds, for one picture at a time."""

    def __init__(self, codec: PictureCodec, device: torch.device, buffer: Buffer) -> None:
        """buffer: several sets of kinds may share it."""
        self._dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
        self._device, c = device, codec.config.context
        self._c, self._d = c, codec.config.latent_dim
        planes, features, cells = (_runs(n, k) for n, k in ((6, 2), (c, 2), (6, 4)))
        condition = torch.arange(_CONDITION)
        context, decoder = codec.context, codec.decoder
        self._stem = self._kernel(context.stem, _joined(planes, planes, condition))
        self._blocks = [self._block(block) for block in context.blocks]
        self._predicted = self._kernel(context.out, None, planes)
        self._analysis = codec.encoder.analysis.to(device)[:, cells].contiguous()
        synthesis = (decoder.synthesis + decoder.correction).to(device)
        self._synthesis = synthesis[cells].contiguous()
        self._cells = self._kernel(
            decoder.stem, _joined(torch.arange(self._d), features, condition)
        )
        self._cell_blocks = [self._block(block) for block in decoder.blocks]
        self._up = self._kernel(decoder.up, None, features)
        self._refine = [
            self._kernel(decoder.refine1, _joined(torch.arange(2 * c), planes, planes, condition)),
            self._kernel(decoder.refine2),
        ]
        self._out = self._kernel(decoder.out, None, planes)
        self._memory = buffer

    def _kernel(
        self, conv: nn.Module, inputs: Tensor | None = None, outputs: Tensor | None = None
    ) -> Kernel:
        assert isinstance(conv, nn.Conv2d)
        weight, bias = conv.weight.detach(), conv.bias
        assert bias is not None
        if inputs is not None:
            weight = weight[:, inputs]
        if outputs is not None:
            weight, bias = weight[outputs], bias[outputs]
        weight = weight.to(self._device, self._dtype, memory_format=torch.channels_last)
        return weight, bias.detach().to(self._device, self._dtype)

    def _block(self, block: nn.Module) -> tuple[Kernel, Kernel]:
        assert isinstance(block, ResBlock)
        return self._kernel(block.conv1), self._kernel(block.conv2)

    def _buffer(self, *size: int) -> Tensor:
        return self._memory(size, self._dtype, self._device)

    def context(self, first: Tensor, second: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Two predictions and the condition -> a better prediction, and features (H/4, W/4, C)."""
        mean = (first + second) / 2
        h, w = mean.shape[0] // 2, mean.shape[1] // 2
        x = self._buffer(h, w, 2 * 4 * _PLANES + _CONDITION)
        _gather_runs(x, 0, mean - 0.5, 2)
        _gather_runs(x, 4 * _PLANES, (first - second) * 2, 2)
        x[..., -_CONDITION:] = _wide(condition, 2)
        x = _conv(x, self._stem)
        for block in self._blocks:
            x = _residual(x, block)
        return mean + _spread_runs(_conv(F.silu(x), self._predicted), 2).float(), x

    def encode(self, planes: Tensor, prediction: Tensor) -> Tensor:
        """Latent: cells of the difference."""
        h, w, _ = planes.shape
        difference = planes.new_empty(h // 4, w // 4, 16 * _PLANES)
        _gather_runs(difference, 0, planes - prediction, 4)
        return F.linear(difference.flatten(0, 1), self._analysis)

    def decode(
        self, q: Tensor, cells: Tensor, prediction: Tensor, context: Tensor, condition: Tensor,
        steps: Tensor,
    ) -> Tensor:  # fmt: skip
        """Quantized latent (N, D) of the cells (N,) that have one, numbers in raster order,
        prediction and what ``context`` gave -> planes."""
        h, w, c = context.shape
        rows, columns = h // 2, w // 2
        own = steps.reshape(-1, 1)
        own = own[cells] if len(own) > 1 else own
        told = F.linear(q, self._synthesis)
        linear = _placed(told, cells, rows * columns).view(rows, columns, -1)
        x = self._buffer(rows, columns, self._d + 4 * c + _CONDITION)
        x[..., : self._d] = 0
        x.flatten(0, 1)[:, : self._d].index_copy_(0, cells, _asinh(q / own).to(self._dtype))
        _gather_runs(x, self._d, context, 2)
        x[..., -_CONDITION:] = condition
        x = _conv(x, self._cells)
        for block in self._cell_blocks:
            x = _residual(x, block)
        up = _conv(F.silu(x), self._up)
        planes = prediction + _spread_runs(linear, 4)
        x = self._buffer(h, w, 2 * c + 2 * 4 * _PLANES + _CONDITION)
        x[..., :c].copy_(_spread_runs(up, 2))
        x[..., c : 2 * c] = context
        _gather_runs(x, 2 * c, planes - 0.5, 2)
        shown = _placed(_asinh(told / own).to(self._dtype), cells, rows * columns)
        _gather_runs(x, 2 * c + 4 * _PLANES, _spread_runs(shown.view(rows, columns, -1), 4), 2)
        x[..., -_CONDITION:] = _wide(condition, 2)
        for kernel in self._refine:
            x = F.silu(_conv(x, kernel), inplace=True)
        return planes.add_(_spread_runs(_conv(x, self._out), 2) * _wide(steps, 4))


def _placed(rows: Tensor, cells: Tensor, count: int) -> Tensor:
    """(N, C) of some cells -> (count, C) of all, the others 0."""
    return rows.new_zeros(count, rows.shape[1]).index_copy_(0, cells, rows)


def _runs(channels: int, factor: int) -> Tensor:
    """Order of the channels of ``pixel_unshuffle``: pixel by pixel, not plane by plane."""
    return torch.arange(channels * factor**2).view(channels, -1).t().flatten()


def _joined(*parts: Tensor) -> Tensor:
    """Orders of groups of channels that lie one behind the other."""
    out, begin = [], 0
    for part in parts:
        out.append(part + begin)
        begin += len(part)
    return torch.cat(out)


def _gather_runs(to: Tensor, begin: int, x: Tensor, factor: int) -> None:
    """(H, W, C) into (H/factor, W/factor, ...) from channel ``begin`` on, in the order of runs."""
    if to.device.type == "cpu" and to.dtype == torch.float32:
        _gather(to.numpy(), begin, x.contiguous().numpy(), factor)
        return
    h, w, c = to.shape[0], to.shape[1], x.shape[2]
    whole = x.to(to.dtype).contiguous().view(h, factor, w, factor, c).transpose(1, 2)
    to[..., begin : begin + factor**2 * c].unflatten(2, (factor, factor, c)).copy_(whole)


@compiled
def _gather(to: NDArray[np.float32], begin: int, x: NDArray[np.float32], factor: int) -> None:
    """As :func:`_gather_runs`, which torch copies four times as slowly."""
    h, w, _ = to.shape
    run = factor * x.shape[2]
    for i in range(h):
        for row in range(factor):
            of = x[i * factor + row].ravel()
            for j in range(w):
                out = to[i, j]
                first, at = np.uint64(begin + row * run), np.uint64(j * run)
                for k in range(run):
                    out[first + np.uint64(k)] = of[at + np.uint64(k)]


def _spread_runs(x: Tensor, factor: int) -> Tensor:
    """The inverse: (h, w, factor^2 C) -> (h factor, w factor, C)."""
    h, w, _ = x.shape
    return x.view(h, w, factor, factor, -1).transpose(1, 2).reshape(h * factor, w * factor, -1)


def _wide(cells: Tensor, n: int) -> Tensor:
    """Each of (h, w, C) n x n times; one for all stays one."""
    if cells.shape[:2] == (1, 1):
        return cells
    h, w, c = cells.shape
    return cells[:, None, :, None].expand(h, n, w, n, c).reshape(h * n, w * n, c)


def _conv(x: Tensor, kernel: Kernel) -> Tensor:
    """(H, W, C) -> (H, W, C'), both contiguous."""
    weight, bias = kernel
    out = F.conv2d(x.permute(2, 0, 1)[None], weight, bias, padding=weight.shape[2] // 2)
    return out[0].permute(1, 2, 0).contiguous()


def _residual(x: Tensor, block: tuple[Kernel, Kernel]) -> Tensor:
    return _conv(F.silu(_conv(F.silu(x), block[0]), inplace=True), block[1]).add_(x)


def _asinh(x: Tensor) -> Tensor:
    """As torch.asinh, ten times faster on a CPU."""
    a = x.abs()
    square = a * a
    return (a + square / (1 + (square + 1).sqrt_())).log1p_().copysign_(x)
