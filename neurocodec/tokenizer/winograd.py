"""Convolutions by 3x3 with a quarter of the multiplications, in float32 on a CPU: tiles of 4x4
outputs by Winograd's F(4x4, 3x3) (Lavin and Gray, Fast algorithms for convolutional neural
networks, CVPR 2016).

Pictures are (H, W, C), with zeros around. A tile of outputs comes from 6x6 inputs: these and the
kernel are transformed, multiplied place by place, each place of many tiles in one product of
matrices, and transformed back. Errors are about 1e-5 of the largest outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled
from .buffer import Buffer

Floats = NDArray[np.float32]
_SIDE = 4  # of a tile of outputs
_PLACES = 36  # of 6x6 inputs
_AT_ONCE = 1 << 18  # transformed inputs, about: they stay in a cache
_PARTS = 6  # of a picture at least, for threads
_LINES = 12  # as long as the tiles of a row, with a pixel on each side, that transforms need
_OF_KERNEL = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
) / 24  # fmt: skip


class Kernel:
    """Of a convolution, transformed."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: (outputs, inputs, 3, 3), bias: (outputs,)."""
        outputs, inputs = weight.shape[:2]
        g = _OF_KERNEL
        places = np.einsum("pa,oiab,qb->pqio", g, weight.double().numpy(), g, optimize=True)
        places = places.reshape(_PLACES, inputs, outputs)
        self.places: Floats = np.ascontiguousarray(places, np.float32)  # (36, inputs, outputs)
        self.bias: Floats = bias.float().numpy()


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
        h, w, inputs = x.shape
        outputs = len(kernel.bias)
        rows, tiles = -(-h // _SIDE), -(-w // _SIDE)
        step = max(1, min(_AT_ONCE // (_PLACES * tiles * inputs), rows // _PARTS))
        line = _LINES * (tiles * _SIDE + 2) * max(inputs, outputs)
        out = torch.empty(h, w, outputs)
        to, of, add = out.numpy(), x.numpy(), added is not None
        more = to if added is None else added.numpy()

        def work(begins: Iterable[int]) -> None:
            size = _PLACES * step * tiles
            memory = self._buffer(
                (size * (inputs + outputs) + line,), torch.float32, torch.device("cpu")
            ).numpy()
            lines, places = memory[:line], memory[line:]
            for begin in begins:
                count = min(step, rows - begin) * tiles
                seen = places[: _PLACES * count * inputs].reshape(_PLACES, count, inputs)
                found = places[-_PLACES * count * outputs :].reshape(_PLACES, count, outputs)
                _transform(of, begin, tiles, lines, seen)
                np.matmul(seen, kernel.places, out=found)
                _transform_back(found, begin, tiles, lines, kernel.bias, silu, add, more, to)

        begins = range(0, rows, step)
        if self._pool is None:
            work(begins)
        else:
            list(self._pool.map(work, (begins[i :: self._threads] for i in range(self._threads))))
        return out


def activated(x: Tensor) -> Tensor:
    """SiLU of contiguous float32."""
    out = torch.empty_like(x)
    _activate(x.view(-1).numpy(), out.view(-1).numpy())
    return out


@compiled
def _transform(x: Floats, begin: int, tiles: int, lines: Floats, out: Floats) -> None:
    """Tiles in rows from ``begin`` on -> (36, tiles of all rows, C): down, then across."""
    h, w, c = x.shape
    n, size, flat, to, count = w * c, (tiles * _SIDE + 2) * c, x.ravel(), out.ravel(), out.shape[1]
    ends = lines[6 * size :]
    lines[: 6 * size] = 0  # and remain so at both ends
    for row in range(count // tiles):
        y = (begin + row) * _SIDE - 1
        if y >= 0 and y + 6 <= h:
            _forward(flat, y * n, n, 0, lines, c, size, 0, 1, n)
        else:
            ends[: 6 * n] = 0
            for k in range(max(0, -y), min(6, h - y)):
                ends[k * n : (k + 1) * n] = flat[(y + k) * n : (y + k + 1) * n]
            _forward(ends, 0, n, 0, lines, c, size, 0, 1, n)
        for k in range(6):
            first = (6 * k * count + row * tiles) * c
            _forward(lines, k * size, c, _SIDE * c, to, first, count * c, c, tiles, c)


@compiled
def _forward(
    of: Floats, at: int, stride: int, jump: int, to: Floats, first: int, step: int, leap: int,
    times: int, n: int,
) -> None:  # fmt: skip
    """Six runs of n numbers, ``stride`` apart, transformed as inputs are, to six, ``step`` apart;
    ``times``, from ``jump`` to ``leap`` further on. Runs by themselves, and sizes that are known,
    are what it takes to become fast machine code."""
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for k in range(times):
        x, y = at + k * jump, first + k * leap
        a, b = of[x : x + n], of[x + stride : x + stride + n]
        x += 2 * stride
        c, d = of[x : x + n], of[x + stride : x + stride + n]
        x += 2 * stride
        e, f = of[x : x + n], of[x + stride : x + stride + n]
        p, q = to[y : y + n], to[y + step : y + step + n]
        y += 2 * step
        r, s = to[y : y + n], to[y + step : y + step + n]
        y += 2 * step
        t, u = to[y : y + n], to[y + step : y + step + n]
        for i in range(n):
            a0, b0, c0, d0, e0, f0 = a[i], b[i], c[i], d[i], e[i], f[i]
            p[i] = four * a0 - five * c0 + e0
            even, odd = e0 - four * c0, d0 - four * b0
            q[i] = even + odd
            r[i] = even - odd
            even, odd = e0 - c0, two * (d0 - b0)
            s[i] = even + odd
            t[i] = even - odd
            u[i] = four * b0 - five * d0 + f0


@compiled
def _transform_back(
    products: Floats, begin: int, tiles: int, lines: Floats, bias: Floats, silu: bool, add: bool,
    added: Floats, out: Floats,
) -> None:  # fmt: skip
    """(36, tiles of all rows, C) -> these rows of the picture: down, then across."""
    h, _, c = out.shape
    n, count, flat = tiles * c, products.shape[1], products.ravel()
    line, biases = lines[24 * n : 28 * n], lines[28 * n : 32 * n]
    for j in range(tiles * _SIDE):
        biases[j * c : (j + 1) * c] = bias
    for row in range(count // tiles):
        for k in range(6):
            first = (k * count + row * tiles) * c
            _backward(flat, first, 6 * count * c, 0, lines, k * n, 6 * n, 0, 1, n)
        y = (begin + row) * _SIDE
        for k in range(min(_SIDE, h - y)):
            _backward(lines, 6 * k * n, n, c, line, 0, c, _SIDE * c, tiles, c)
            _finish(line, biases, silu, add, added[y + k].ravel(), out[y + k].ravel())


@compiled
def _backward(
    of: Floats, at: int, stride: int, jump: int, to: Floats, first: int, step: int, leap: int,
    times: int, n: int,
) -> None:  # fmt: skip
    """As ``_forward``, from six products to four outputs."""
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for k in range(times):
        x, y = at + k * jump, first + k * leap
        a, b = of[x : x + n], of[x + stride : x + stride + n]
        x += 2 * stride
        c, d = of[x : x + n], of[x + stride : x + stride + n]
        x += 2 * stride
        e, f = of[x : x + n], of[x + stride : x + stride + n]
        p, q = to[y : y + n], to[y + step : y + step + n]
        y += 2 * step
        r, s = to[y : y + n], to[y + step : y + step + n]
        for i in range(n):
            even, odd = b[i] + c[i], b[i] - c[i]
            more, rest = d[i] + e[i], d[i] - e[i]
            p[i] = a[i] + even + more
            q[i] = odd + two * rest
            r[i] = even + four * more
            s[i] = odd + eight * rest + f[i]


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
