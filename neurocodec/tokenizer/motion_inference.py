"""The networks of the ``motion`` tokenizer as they run fastest, without gradients.

The same sums as in ``motion_model.py``: channels are last, and those of the four or sixteen pixels
that become one are in an order in which they are copied in whole runs; kernels are rearranged for
it once. Convolutions are in bf16 where that is fast, everything else in float32, and those by 3x3
then by Winograd's algorithm on a CPU.

Planes are (H/2, W/2, 6) here, cells (h w, D), and steps and conditions (h, w, ...) of cells, or
(1, 1, ...) where they are the same everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..compiled import compiled, compiled_exactly
from ..device import has_fast_bf16
from ..vectors import LANES
from . import winograd
from .buffer import Buffer
from .config import COARSE, COARSEST, KINDS
from .motion_model import PictureCodec, ResBlock, cell_steps, masked_steps
from .winograd import Winograd, activated

_PLANES = 6
_CELL = 4  # samples of planes along a cell
_CONDITION = 1 + KINDS
# Features of a picture above which the last layers, of most channels, see it in bands of so many
# rows, for memory; and how far those layers reach, to whole tiles of Winograd's algorithm
_LARGE, _BAND, _REACH = 65536, 56, 4
Floats = NDArray[np.float32]
Kernel = winograd.Kernel | tuple[Tensor, Tensor]  # weight and bias


class Convolutions:
    """Of pictures (H, W, C), contiguous, as they are fastest on a device."""

    def __init__(self, device: torch.device, threads: int = 1) -> None:
        """threads: of each, where they are ours."""
        self.device = device
        self.dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
        self._buffer = Buffer()
        ours = device.type == "cpu" and self.dtype == torch.float32
        self._winograd = Winograd(threads) if ours else None

    def buffer(self, h: int, w: int, channels: int) -> Tensor:
        """What a convolution of so many inputs reads, to be filled: its memory is used again. There
        are channels behind them, to be 0, for vectors of processors."""
        return self._buffer((h, w, _padded(channels)), self.dtype, self.device)

    def kernel(
        self, conv: nn.Module, inputs: Tensor | None = None, outputs: Tensor | None = None
    ) -> Kernel:
        """Of a layer, with its channels in another order. inputs: given where they come from a
        ``buffer``."""
        assert isinstance(conv, nn.Conv2d)
        weight, bias = conv.weight.detach(), conv.bias
        assert bias is not None
        bias = bias.detach()
        if inputs is not None:
            weight = weight[:, inputs]
            weight = F.pad(weight, (0, 0, 0, 0, 0, _padded(len(inputs)) - len(inputs)))
        if outputs is not None:
            weight, bias = weight[outputs], bias[outputs]
        if self._winograd is not None and weight.shape[2] == 3:
            return winograd.Kernel(weight, bias)
        weight = weight.to(self.device, self.dtype, memory_format=torch.channels_last)
        return weight, bias.to(self.device, self.dtype)

    def __call__(
        self, x: Tensor, kernel: Kernel, silu: bool = False, added: Tensor | None = None
    ) -> Tensor:
        """(H, W, C'), contiguous. silu: of the outputs; or added: to them."""
        if isinstance(kernel, winograd.Kernel):
            assert self._winograd is not None
            return self._winograd(x, kernel, silu=silu, added=added)
        weight, bias = kernel
        out = F.conv2d(x.permute(2, 0, 1)[None], weight, bias, padding=weight.shape[2] // 2)
        out = out[0].permute(1, 2, 0).contiguous()
        if silu:
            return F.silu(out, inplace=True)
        return out if added is None else out.add_(added)

    def silu(self, x: Tensor) -> Tensor:
        return F.silu(x) if self._winograd is None else activated(x)


def steps_of_cells(
    step: Tensor, kind: int, predictions: tuple[Tensor, Tensor], masking: float
) -> Tensor:
    """As ``motion_model.cell_steps``, of one picture: planes (1, 6, H/2, W/2)."""
    first, second = (p[0].permute(1, 2, 0) for p in predictions)
    if not masking or kind in (COARSEST, COARSE) or not _ours(first, second):
        return cell_steps(step, kind, predictions, masking)
    variance = _variance(first.contiguous().numpy(), second.contiguous().numpy())
    return masked_steps(step, torch.from_numpy(variance)[None, None], masking)


@compiled
def _variance(first: Floats, second: Floats) -> Floats:
    """Of the mean prediction's luma, (h, w): planes (H/2, W/2, 6)."""
    out = np.empty((first.shape[0] // _CELL, first.shape[1] // _CELL), np.float32)
    count = np.float32(4 * _CELL**2)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total, squares = np.float32(0), np.float32(0)
            for y in range(i * _CELL, (i + 1) * _CELL):
                for x in range(j * _CELL, (j + 1) * _CELL):
                    for k in range(4):
                        sample = (first[y, x, k] + second[y, x, k]) * np.float32(0.5)
                        total, squares = total + sample, squares + sample * sample
            mean = total / count
            out[i, j] = max(squares / count - mean * mean, np.float32(0))
    return out


def rounded(planes: Tensor) -> Tensor:
    """Planes (H/2, W/2, 6), which are lost, in 0..1 and multiples of 1/255: (1, 6, H/2, W/2)."""
    if _ours(planes):
        return torch.from_numpy(_round(planes.numpy()))[None]
    out = planes.clamp_(0, 1).mul_(255).round_().div_(255)
    return out.permute(2, 0, 1).contiguous()[None]


@compiled_exactly
def _round(planes: Floats) -> Floats:
    h, w, count = planes.shape
    out = np.empty((count, h, w), np.float32)
    for y in range(h):
        for x in range(w):
            for k in range(count):
                value = min(max(planes[y, x, k], np.float32(0)), np.float32(1)) * np.float32(255)
                out[k, y, x] = np.float32(np.int32(value + np.float32(0.5))) / np.float32(255)
    return out


def _padded(channels: int) -> int:
    return -(-channels // LANES) * LANES


class FastPictureCodec:
    """Context, encoder and decoder of one set of kinds, for one picture at a time."""

    def __init__(self, codec: PictureCodec, convolutions: Convolutions) -> None:
        """convolutions: several sets of kinds may share them."""
        self._conv, device, c = convolutions, convolutions.device, codec.config.context
        self._c, self._d = c, codec.config.latent_dim
        planes, features, cells = (_runs(n, k) for n, k in ((6, 2), (c, 2), (6, 4)))
        condition = torch.arange(_CONDITION)
        context, decoder = codec.context, codec.decoder
        self._stem = convolutions.kernel(context.stem, _joined(planes, planes, condition))
        self._blocks = [self._block(block) for block in context.blocks]
        self._predicted = convolutions.kernel(context.out, None, planes)
        self._analysis = codec.encoder.analysis.to(device)[:, cells].contiguous()
        synthesis = (decoder.synthesis + decoder.correction).to(device)
        self._synthesis = synthesis[cells].contiguous()
        self._cells = convolutions.kernel(
            decoder.stem, _joined(torch.arange(self._d), features, condition)
        )
        self._cell_blocks = [self._block(block) for block in decoder.blocks]
        self._up = convolutions.kernel(decoder.up, None, features)
        self._refine = [
            convolutions.kernel(
                decoder.refine1, _joined(torch.arange(2 * c), planes, planes, condition)
            ),
            convolutions.kernel(decoder.refine2),
        ]
        self._out = convolutions.kernel(decoder.out, None, planes)

    def _block(self, block: nn.Module) -> tuple[Kernel, Kernel]:
        assert isinstance(block, ResBlock)
        return self._conv.kernel(block.conv1), self._conv.kernel(block.conv2)

    def context(self, first: Tensor, second: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Two predictions and the condition -> a better prediction, and features (H/4, W/4, C)."""
        first, second = first.contiguous(), second.contiguous()
        mean = first.lerp(second, 0.5)
        h, w = mean.shape[0] // 2, mean.shape[1] // 2
        conv, begin = self._conv, 2 * 4 * _PLANES
        x = conv.buffer(h, w, begin + _CONDITION)
        _gather_runs(x, 0, mean, 2, -0.5)
        _gather_runs(x, 4 * _PLANES, first - second, 2, 0, 2)
        _widen(x, begin, condition, 2)
        x = conv(x, self._stem)
        for block in self._blocks:
            x = self._residual(x, block)
        return _spread_runs(mean, 0, conv(conv.silu(x), self._predicted), 2, add=True), x

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
        conv, begin = self._conv, self._d + 4 * c
        x = conv.buffer(rows, columns, begin + _CONDITION)
        x[..., : self._d] = 0
        x.flatten(0, 1)[:, : self._d].index_copy_(0, cells, _asinh(q / own).to(x.dtype))
        _gather_runs(x, self._d, context, 2)
        _widen(x, begin, condition, 1)
        x = conv(x, self._cells)
        for block in self._cell_blocks:
            x = self._residual(x, block)
        up = conv(conv.silu(x), self._up)
        planes = _placed(prediction.clone(memory_format=torch.contiguous_format), cells, told)
        shown = _placed(torch.zeros_like(planes), cells, _asinh(told / own))
        band = h if h * w <= _LARGE else _BAND
        out = planes if band >= h else planes.clone()  # which bands behind look at
        for first in range(0, h, band):
            last = min(first + band, h)
            top, bottom = max(first - _REACH, 0), min(last + _REACH, h)
            seen, pixels = slice(top // 2, bottom // 2), slice(2 * top, 2 * bottom)
            x = self._refined(
                up[seen], context[top:bottom], planes[pixels], shown[pixels], _rows(condition, seen)
            )
            of_band = _rows(steps, slice(first // 2, last // 2))
            _spread_runs(
                out[2 * first : 2 * last], 0, x[first - top : last - top], 2, of_band, add=True
            )
        return out

    def _refined(
        self, up: Tensor, context: Tensor, planes: Tensor, shown: Tensor, condition: Tensor
    ) -> Tensor:
        """What is added, in steps, to planes (2 h, 2 w, 6), of which those of cells are ``shown``:
        runs (h, w, ...)."""
        h, w, c = context.shape
        begin = 2 * c + 2 * 4 * _PLANES
        x = self._conv.buffer(h, w, begin + _CONDITION)
        _spread_runs(x, 0, up, 2)
        x[..., c : 2 * c] = context
        _gather_runs(x, 2 * c, planes, 2, -0.5)
        _gather_runs(x, 2 * c + 4 * _PLANES, shown, 2)
        _widen(x, begin, condition, 2)
        for kernel in self._refine:
            x = self._conv(x, kernel, silu=True)
        return self._conv(x, self._out)

    def _residual(self, x: Tensor, block: tuple[Kernel, Kernel]) -> Tensor:
        conv = self._conv
        return conv(conv(conv.silu(x), block[0], silu=True), block[1], added=x)


def _rows(cells: Tensor, rows: slice) -> Tensor:
    """Some rows of (h, w, C); one for all stays one."""
    return cells if cells.shape[:2] == (1, 1) else cells[rows]


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


def _ours(*tensors: Tensor) -> bool:
    """Whether these are what compiled loops take, which copy runs in a quarter of torch's time."""
    return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)


def _gather_runs(
    to: Tensor, begin: int, x: Tensor, factor: int, offset: float = 0, scale: float = 1
) -> None:
    """(x + offset) scale, (H, W, C), into (H/factor, W/factor, ...) from channel ``begin`` on, in
    the order of runs."""
    if _ours(to):
        numbers = np.float32(offset), np.float32(scale)
        _gather(to.numpy(), begin, x.contiguous().numpy(), factor, *numbers)
        return
    h, w, c = to.shape[0], to.shape[1], x.shape[2]
    x = (x + offset) * scale
    whole = x.to(to.dtype).contiguous().view(h, factor, w, factor, c).transpose(1, 2)
    to[..., begin : begin + factor**2 * c].unflatten(2, (factor, factor, c)).copy_(whole)


@compiled
def _gather(
    to: Floats, begin: int, x: Floats, factor: int, offset: np.float32, scale: np.float32
) -> None:
    h, w, _ = to.shape
    run = factor * x.shape[2]
    for i in range(h):
        for row in range(factor):
            of = x[i * factor + row].ravel()
            for j in range(w):
                out = to[i, j]
                first, at = np.uint64(begin + row * run), np.uint64(j * run)
                for k in range(run):
                    out[first + np.uint64(k)] = (of[at + np.uint64(k)] + offset) * scale


def _spread_runs(
    to: Tensor, begin: int, x: Tensor, factor: int, steps: Tensor | None = None, add: bool = False
) -> Tensor:
    """The inverse: (h, w, factor^2 C) into (h factor, w factor, ...) from channel ``begin`` on, or
    added to what is there. steps: of cells, what x is multiplied by. Returns ``to``."""
    h, w, c = x.shape[0], x.shape[1], x.shape[2] // factor**2
    if steps is None:
        steps = torch.ones(1, 1, 1, device=to.device)
    if _ours(to, x):
        _spread(to.numpy(), begin, x.numpy(), factor, steps[..., 0].numpy(), add)
        return to
    whole = x.view(h, w, factor, factor, c).transpose(1, 2).reshape(h * factor, w * factor, c)
    part = to[..., begin : begin + c]
    if add:
        part.add_(whole * _wide(steps, h * factor // len(steps)))
    else:
        part.copy_(whole * _wide(steps, h * factor // len(steps)))
    return to


@compiled
def _spread(to: Floats, begin: int, x: Floats, factor: int, steps: Floats, add: bool) -> None:
    h, w, c = x.shape[0], x.shape[1], x.shape[2] // factor**2
    down, across = h // len(steps), w // steps.shape[1]
    whole = to.shape[2] == c  # pixels of a run lie one behind the other
    runs, run = (1, factor * c) if whole else (factor, c)
    for i in range(h):
        for row in range(factor):
            out = to[i * factor + row].ravel()
            for j in range(w):
                step, of = steps[i // down, j // across], x[i, j]
                for column in range(runs):
                    at = np.uint64((row * runs + column) * run)
                    first = np.uint64((j * factor + column) * to.shape[2] + begin)
                    if add:
                        for k in range(run):
                            out[first + np.uint64(k)] += step * of[at + np.uint64(k)]
                    else:
                        for k in range(run):
                            out[first + np.uint64(k)] = step * of[at + np.uint64(k)]


def _placed(to: Tensor, cells: Tensor, rows: Tensor) -> Tensor:
    """Rows (N, 16 C) of some cells, in the order of runs, added to those of ``to`` (H, W, C), which
    is returned."""
    if _ours(to):
        _place(to.numpy(), cells.numpy(), rows.numpy())
        return to
    h, w, _ = to.shape
    whole = to.new_zeros(h * w // _CELL**2, rows.shape[1]).index_copy_(0, cells, rows)
    return _spread_runs(to, 0, whole.view(h // _CELL, w // _CELL, -1), _CELL, add=True)


@compiled
def _place(to: Floats, cells: NDArray[np.int64], rows: Floats) -> None:
    columns, run = to.shape[1] // _CELL, _CELL * to.shape[2]
    for n in range(len(cells)):
        y, x = cells[n] // columns * _CELL, np.uint64(cells[n] % columns * run)
        for row in range(_CELL):
            out, at = to[y + row].ravel(), np.uint64(row * run)
            for k in range(run):
                out[x + np.uint64(k)] += rows[n, at + np.uint64(k)]


def _widen(to: Tensor, begin: int, cells: Tensor, n: int) -> None:
    """Each of (h, w, C) n x n times into (h n, w n, ...) from channel ``begin`` on, and zeros into
    the channels behind."""
    if _ours(to):
        _repeat(to.numpy(), begin, cells.numpy(), n)
        return
    end = begin + cells.shape[2]
    to[..., begin:end], to[..., end:] = _wide(cells, n), 0


@compiled
def _repeat(to: Floats, begin: int, cells: Floats, n: int) -> None:
    one, c = cells.shape[0] == 1 and cells.shape[1] == 1, cells.shape[2]
    for y in range(to.shape[0]):
        for x in range(to.shape[1]):
            of, out = cells[0, 0] if one else cells[y // n, x // n], to[y, x, begin:]
            for k in range(len(out)):
                out[k] = of[k] if k < c else 0.0


def _wide(cells: Tensor, n: int) -> Tensor:
    """Each of (h, w, C) n x n times; one for all stays one."""
    if cells.shape[:2] == (1, 1):
        return cells
    h, w, c = cells.shape
    return cells[:, None, :, None].expand(h, n, w, n, c).reshape(h * n, w * n, c)


def _asinh(x: Tensor) -> Tensor:
    """As torch.asinh, ten times faster on a CPU."""
    a = x.abs()
    square = a * a
    return (a + square / (1 + (square + 1).sqrt_())).log1p_().copysign_(x)
