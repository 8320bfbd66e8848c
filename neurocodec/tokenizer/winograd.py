"""Convolutions by 3x3 with a quarter of the multiplications, in float32 on a CPU: tiles of 4x4
outputs by Winograd's F(4x4, 3x3) (Lavin and Gray, Fast algorithms for convolutional neural
networks, CVPR 2016).

Pictures are (H, W, C), with zeros around. A tile of outputs comes from 6x6 inputs: these and the
kernel are transformed, multiplied place by place, each place of many tiles in one product of
matrices, and transformed back. Errors are about 1e-5 of the largest outputs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled
from ..vectors import LANES, combined, panels, product
from .buffer import Buffer

Floats = NDArray[np.float32]
_SIDE = 4  # of a tile of outputs
_PLACES = 36  # of 6x6 inputs
_AT_ONCE = 150_000  # transformed inputs and outputs, about: they stay in a processor's own cache
_LINES = 12  # as long as a row of tiles with a pixel on each side, that transforms need
_forward = combined(
    (
        (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
    )
)  # fmt: skip
_backward = combined(
    ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
)
_OF_LINE = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OF_KERNEL = np.kron(_OF_LINE, _OF_LINE).astype(np.float32)  # (36, 9)


class Kernel:
    """Of a convolution, transformed."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: (outputs, inputs, 3, 3), bias: (outputs,)."""
        self.outputs, inputs = weight.shape[:2]
        more, self.missing = -self.outputs % LANES, -inputs % LANES  # channels that are 0
        weight = F.pad(weight.float(), (0, 0, 0, 0, 0, self.missing, 0, more))
        taps = weight.permute(2, 3, 1, 0).reshape(9, -1).numpy()
        places = (_OF_KERNEL @ taps).reshape(_PLACES, inputs + self.missing, -1)
        # (36, inputs, outputs), each as ``product`` takes it
        self.places: Floats = panels(places)
        self.bias: Floats = F.pad(bias.float(), (0, more)).numpy()


class Winograd:
    """Convolutions, one at a time in each thread that calls."""

    def __init__(self, threads: int = 1) -> None:
        """threads: that share the work of one."""
        self._buffer = Buffer()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __call__(
        self, x: Tensor, kernel: Kernel, *, silu: bool = False, added: Tensor | None = None
    ) -> Tensor:
        """(H, W, inputs) -> (H, W, outputs), both contiguous. silu: of the outputs; or added: to
        them."""
        if kernel.missing:
            x = F.pad(x, (0, kernel.missing))
        (h, w, inputs), outputs = x.shape, kernel.places.shape[2]
        whole = outputs == kernel.outputs
        rows, tiles = -(-h // _SIDE), -(-w // _SIDE)
        parts = -(-tiles * _PLACES * (inputs + outputs) // _AT_ONCE)
        step = -(-tiles // parts)
        size = _PLACES * step * (inputs + outputs)
        size += _LINES * (_SIDE * step + 2) * max(inputs, outputs)
        out = torch.empty(h, w, outputs)
        fused = added if whole else None
        more = out if fused is None else fused

        def work(first: int) -> None:
            memory = self._buffer((size,), torch.float32, torch.device("cpu")).numpy()
            _convolve(
                x.numpy(), kernel.places, kernel.bias, first, self._threads, step, memory, silu,
                fused is not None, more.numpy(), out.numpy(),
            )  # fmt: skip

        if self._pool is None or rows < self._threads:
            for first in range(self._threads):
                work(first)
        else:
            list(self._pool.map(work, range(self._threads)))
        if not whole:
            out = out[..., : kernel.outputs].contiguous()
            out = out if added is None else out.add_(added)
        return out


def activated(x: Tensor) -> Tensor:
    """SiLU of contiguous float32."""
    out = torch.empty_like(x)
    _activate(x.view(-1).numpy(), out.view(-1).numpy())
    return out


@compiled
def _convolve(
    x: Floats, places: Floats, bias: Floats, first: int, every: int, step: int, memory: Floats,
    silu: bool, add: bool, added: Floats, out: Floats,
) -> None:  # fmt: skip
    """Rows of tiles: the first and each ``every``-th behind it, ``step`` tiles at once."""
    (h, w, inputs), outputs = x.shape, out.shape[2]
    tiles = -(-w // _SIDE)
    room = _PLACES * step * inputs
    products = memory[room : room + _PLACES * step * outputs]
    lines = memory[room + len(products) :]
    for row in range(first, -(-h // _SIDE), every):
        for begin in range(0, tiles, step):
            count = min(step, tiles - begin)
            seen = memory[: _PLACES * count * inputs].reshape(_PLACES, count, inputs)
            found = products[: _PLACES * count * outputs].reshape(_PLACES, count, outputs)
            _transform(x, row, begin, count, lines, seen.ravel())
            for k in range(_PLACES):
                product(seen[k], places[k], found[k])
            _transform_back(found.ravel(), row, begin, count, lines, bias, silu, add, added, out)


@compiled
def _transform(x: Floats, row: int, begin: int, count: int, lines: Floats, to: Floats) -> None:
    """``count`` tiles of a row, from tile ``begin`` on -> (36, count, C): down, then across."""
    h, w, c = x.shape
    size, flat, y, before = (_SIDE * count + 2) * c, x.ravel(), _SIDE * row - 1, _SIDE * begin - 1
    left, right = max(before, 0), min(before + _SIDE * count + 2, w)
    n, at, ends = (right - left) * c, (left - before) * c, lines[6 * size :]
    for k in range(6):
        lines[k * size : k * size + at] = 0
        lines[k * size + at + n : (k + 1) * size] = 0
    if y >= 0 and y + 6 <= h:
        _forward(flat, (y * w + left) * c, w * c, lines, at, size, n)
    else:
        ends[: 6 * n] = 0
        for k in range(max(0, -y), min(6, h - y)):
            place = ((y + k) * w + left) * c
            ends[k * n : (k + 1) * n] = flat[place : place + n]
        _forward(lines, 6 * size, n, lines, at, size, n)
    for k in range(6):
        for j in range(count):
            at = k * size + _SIDE * j * c
            _forward(lines, at, c, to, (6 * k * count + j) * c, count * c, c)


@compiled
def _transform_back(
    products: Floats, row: int, begin: int, count: int, lines: Floats, bias: Floats, silu: bool,
    add: bool, added: Floats, out: Floats,
) -> None:  # fmt: skip
    """(36, count, C) -> these tiles of the picture: down, then across."""
    h, w, c = out.shape
    n, y = count * c, _SIDE * row
    line, biases = lines[24 * n : 28 * n], lines[28 * n : 32 * n]
    for j in range(_SIDE * count):
        biases[j * c : (j + 1) * c] = bias
    for k in range(6):
        _backward(products, k * n, 6 * n, lines, k * n, 6 * n, n)
    first, last = _SIDE * begin * c, min(_SIDE * (begin + count), w) * c
    for k in range(min(_SIDE, h - y)):
        for j in range(count):
            _backward(lines, 6 * k * n + j * c, n, line, _SIDE * j * c, c, c)
        of, to = added[y + k].ravel()[first:last], out[y + k].ravel()[first:last]
        _finish(line, biases, silu, add, of, to)


@compiled
def _finish(line: Floats, bias: Floats, silu: bool, add: bool, added: Floats, out: Floats) -> None:
    """A row of outputs; the line of sums may be longer."""
    if silu:
        for i in range(len(out)):
            out[i] = _silu(line[i] + bias[i])
    elif add:
        for i in range(len(out)):
            out[i] = line[i] + bias[i] + added[i]
    else:
        for i in range(len(out)):
            out[i] = line[i] + bias[i]


@compiled
def _activate(x: Floats, out: Floats) -> None:
    for i in range(len(x)):
        out[i] = _silu(x[i])


@compiled
def _silu(x: np.float32) -> np.float32:
    """x sigmoid(x), by a quotient of polynomials for tanh(x / 2) (that of Eigen's ptanh): to 1e-6
    of x."""
    half = x * np.float32(0.5)
    y = min(max(half, np.float32(-7.9)), np.float32(7.9))
    z = y * y
    p = z * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
    p = p * z + np.float32(-8.60467152213735e-11)
    p = p * z + np.float32(5.12229709037114e-08)
    p = p * z + np.float32(1.48572235717979e-05)
    p = p * z + np.float32(6.37261928875436e-04)
    p = p * z + np.float32(4.89352455891786e-03)
    q = z * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
    q = q * z + np.float32(2.26843463243900e-03)
    q = q * z + np.float32(4.89352518554385e-03)
    return half + half * (y * p / q)
