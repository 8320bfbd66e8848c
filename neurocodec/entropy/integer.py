"""Layers of a network in integers, the same on every machine.

Activations are int8 in units of 1/16, weights integers of at most 63, sums int32; a sum becomes an
activation by a multiplication and a shift. Products are of float32 matrices: every partial sum is
an integer below 2^24, which float32 holds exactly, in whatever order it is added. A process that
has torch may have its product of int8 instead, see :func:`use_torch`.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator".
"""

from __future__ import annotations

import contextlib
import functools
import platform
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from ..vectors import LANES, panels, product
from .binary import Ints

ONE = 16  # an activation of 1.0
MAX_ACTIVATION = 127
MAX_WEIGHT = 63
MAX_INPUTS = 2048  # of a layer: MAX_ACTIVATION * MAX_WEIGHT * MAX_INPUTS < 2^24
MAX_MULTIPLIER = (1 << 31) - 1
MAX_BIAS = (1 << 30) - 1
SHIFT = 20
ROWS = 1024  # at once: of more, copies of other types would not fit into caches
LOGIT_ONE = 4  # a logit of 1.0
BUCKETS = 64  # of logits

Activations = NDArray[np.int8]
T = TypeVar("T", bound=np.generic)
_FEW = 24  # rows that numpy has multiplied sooner than torch
_torch: Any = None  # the module, once it is used


def use_torch() -> bool:
    """Load torch, and have it multiply from here on: int8, with VNNI or AMX five to eight times as
    fast as float32.

    Not where its product of int8 gives anything else, nor where it is slower, as on processors
    without those: there by forty times. Returns whether.
    """
    global _torch
    if _torch is not None:
        return True
    if platform.machine() not in ("x86_64", "AMD64") or not _has_vnni():
        return False
    import torch

    product = getattr(torch, "_int_mm", None)
    if product is None:
        return False
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (2 * _FEW, MAX_INPUTS)).astype(np.int8)
    weight = rng.choice([-MAX_WEIGHT, MAX_WEIGHT], (MAX_INPUTS, _FEW)).astype(np.int8)
    x[0], x[1], weight[:, 0], weight[:, 1] = -128, 127, MAX_WEIGHT, -MAX_WEIGHT  # the largest sums
    try:
        found = product(torch.from_numpy(x), torch.from_numpy(weight)).numpy()
    except RuntimeError:
        return False
    if not np.array_equal(found, x.astype(np.int64) @ weight.astype(np.int64)):
        return False
    ours, theirs = weight.astype(np.float32), torch.from_numpy(weight)
    if _seconds(lambda: product(torch.from_numpy(x), theirs)) > _seconds(
        lambda: x.astype(np.float32) @ ours
    ):
        return False
    _torch = torch
    return True


def _has_vnni() -> bool:
    """Or AMX; where the system does not say, it may have."""
    with contextlib.suppress(OSError):
        known = Path("/proc/cpuinfo").read_text()
        return "vnni" in known or "amx_int8" in known
    return True


def _seconds(run: Callable[[], object]) -> float:
    """The shortest that it takes in a few goes."""
    return min(timeit.repeat(run, number=1, repeat=5))


@dataclass(frozen=True)
class Layer:
    """weight: (inputs, outputs) float32, integers; bias, multiplier: (outputs,) int64."""

    weight: NDArray[np.float32]
    bias: Ints
    multiplier: Ints

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any, Any]:
        """Weights in int8; what a sum is multiplied by, and what is added then."""
        scale, offset = self._scale, self._offset * self._scale + 0.5
        return tuple(map(_torch.from_numpy, (self.weight.astype(np.int8), scale, offset)))  # type: ignore[return-value]

    @functools.cached_property
    def _columns(self) -> NDArray[np.float32]:
        """The weight, with columns of 0 behind it, as ``product`` takes it."""
        return panels(np.pad(self.weight, ((0, 0), (0, -self.weight.shape[1] % LANES))))

    @functools.cached_property
    def _is_small(self) -> bool:
        """Whether float64 holds a product, and that of the bias, each by itself."""
        largest = max(1 << 24, int(np.abs(self.bias).max(initial=0)))
        return int(self.multiplier.max(initial=0)) * largest < 1 << 51

    @functools.cached_property
    def _offset(self) -> NDArray[np.float64]:
        return self.bias.astype(np.float64)

    @functools.cached_property
    def _scale(self) -> NDArray[np.float64]:
        return self.multiplier / (1 << SHIFT)

    def _by_torch(self, x: Activations) -> Any:
        """The outputs (N, outputs) before they are rounded down, a tensor of float64; None where
        torch is not used, or not for these."""
        if _torch is None or not self._is_small or len(x) < _FEW:
            return None
        weight, scale, offset = self._tensors
        return _torch.addcmul(offset, _torch._int_mm(_torch.from_numpy(x), weight).double(), scale)

    def __call__(self, x: Activations) -> Ints:
        """(N, inputs) -> (N, outputs), not limited."""
        if len(x) > ROWS:
            return np.concatenate([self(part) for part in parts(x)])
        if (exact := self._by_torch(x)) is not None:
            return exact.floor_().long().numpy()  # type: ignore[no-any-return]
        return _scaled(np.ascontiguousarray(x), self._columns, self.bias, self.multiplier)

    def contexts(self, x: Activations) -> Ints:
        """The outputs, logits in units of 1 / LOGIT_ONE, as 0..BUCKETS - 1."""
        return bucket(self(x))

    def relu(self, x: Activations) -> Activations:
        """The outputs, limited to 0 .. MAX_ACTIVATION."""
        if len(x) > ROWS:
            return np.concatenate([self.relu(part) for part in parts(x)])
        if (exact := self._by_torch(x)) is not None:
            return exact.clamp_(0, MAX_ACTIVATION).to(_torch.int8).numpy()  # type: ignore[no-any-return]
        return _positive(np.ascontiguousarray(x), self._columns, self._offset, self._scale)

    def rows(self, first: int, last: int) -> Layer:
        """The layer of some of the outputs."""
        part = slice(first, last)
        return Layer(
            np.ascontiguousarray(self.weight[:, part]), self.bias[part], self.multiplier[part]
        )


@compiled_exactly
def _sums(x: Activations, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, inputs) times (inputs, outputs), whole numbers."""
    given = x.ravel()
    wide = np.empty(len(given), np.float32)
    for i in range(len(given)):
        wide[i] = given[i]
    total = np.empty((len(x), weight.shape[1]), np.float32)
    product(wide.reshape(x.shape), weight, total)
    return total


@compiled_exactly
def _scaled(x: Activations, weight: NDArray[np.float32], bias: Ints, multiplier: Ints) -> Ints:
    """The outputs (N, outputs)."""
    n, count, total = len(x), len(bias), _sums(x, weight)
    out = np.empty((n, count), np.int64)
    half = 1 << (SHIFT - 1)
    for i in range(n):
        for j in range(count):
            out[i, j] = ((np.int64(total[i, j]) + bias[j]) * multiplier[j] + half) >> SHIFT
    return out


@compiled_exactly
def _positive(
    x: Activations, weight: NDArray[np.float32], offset: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> Activations:  # fmt: skip
    """The same, limited to 0 .. MAX_ACTIVATION, in float64, which processors multiply faster than
    integers of 64 bits. Exact where a product is below 2^53; larger ones are limited anyway. What
    is not negative is rounded down by becoming an integer."""
    n, count, total = len(x), len(offset), _sums(x, weight)
    out = np.empty((n, count), np.int8)
    for i in range(n):
        for j in range(count):
            value = (np.float64(total[i, j]) + offset[j]) * scale[j] + 0.5
            value = value if value > 0 else 0.0
            out[i, j] = np.int8(np.int32(value if value < MAX_ACTIVATION else MAX_ACTIVATION))
    return out


def layer(weight: NDArray[np.int8], bias: NDArray[np.int32], scale: NDArray[np.int32]) -> Layer:
    """A layer from its arrays in a bundle, weight (outputs, inputs). Raises ValueError: a value
    that could make a sum inexact."""
    if weight.shape[1] > MAX_INPUTS or (np.abs(weight.astype(np.int64)) > MAX_WEIGHT).any():
        raise ValueError("weights are too large")
    if (np.abs(bias.astype(np.int64)) > MAX_BIAS).any() or (scale < 0).any():
        raise ValueError("a bias or multiplier is out of range")
    return Layer(
        np.ascontiguousarray(weight.T.astype(np.float32)),
        bias.astype(np.int64),
        scale.astype(np.int64),
    )


def parts(x: NDArray[T]) -> list[NDArray[T]]:
    """Rows of x, not too many at once."""
    return [x[i : i + ROWS] for i in range(0, len(x), ROWS)]


def limited(x: Ints, low: int, high: int | Ints) -> Ints:
    """As ``np.clip``, which takes many times as long for few numbers."""
    return np.minimum(np.maximum(x, low), high)


def added(x: Activations, more: Activations | Ints) -> Activations:
    """x + more, (N, C), limited on both sides."""
    return _added(x.ravel(), more.ravel()).reshape(x.shape)


@compiled_exactly
def _added(x: Activations, more: Activations | Ints) -> Activations:
    out = np.empty(len(x), np.int8)
    for i in range(len(x)):
        total = min(max(np.int64(more[i]), -2 * MAX_ACTIVATION), 2 * MAX_ACTIVATION) + x[i]
        out[i] = min(max(total, -MAX_ACTIVATION), MAX_ACTIVATION)
    return out


def bucket(logits: Ints) -> Ints:
    """Logits in units of 1 / LOGIT_ONE -> 0..BUCKETS - 1."""
    return _buckets(logits.ravel()).reshape(logits.shape)


@compiled_exactly
def _buckets(logits: Ints) -> Ints:
    out, half = np.empty_like(logits), BUCKETS // 2
    for i in range(len(logits)):
        out[i] = min(max(logits[i], -half), half - 1) + half
    return out


def log2_sixteenths(x: Ints) -> Ints:
    """16 log2(x) of integers x >= 1, linear between powers of two, rounded down."""
    x = x.astype(np.int64, copy=False)
    exponent = np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1
    return 16 * exponent + (((x << 4) >> exponent) & 15)


LOGS = np.minimum(log2_sixteenths(np.arange(1, 257)), MAX_ACTIVATION).astype(np.int8)
_SIGNED_LOGS = np.concatenate([-LOGS[:0:-1], LOGS])  # from -255 on


def log_activation(x: NDArray[np.integer]) -> Activations:
    """log2(1 + x) of integers x >= 0, as an activation: largest from 244 on."""
    return LOGS.take(x, mode="clip")


def signed_log(x: Ints) -> Activations:
    """The same of the magnitudes of integers, with their signs."""
    return _SIGNED_LOGS.take(x + len(LOGS) - 1, mode="clip")


_HASH = np.random.default_rng(1).integers(1, 1 << 31, MAX_INPUTS, np.int32)  # of bytes of a row
_SPREAD = -7046029254386353131  # 2^64 over the golden ratio, as a number with a sign


def distinct(rows: NDArray[np.int8]) -> tuple[Ints, Ints]:
    """The numbers of the first row of each sort in (N, C), C up to MAX_INPUTS, and of every row
    which of those it is like: what is wanted of all need be computed for those alone."""
    return _distinct(np.ascontiguousarray(rows), _HASH)


@compiled_exactly
def _distinct(rows: NDArray[np.int8], weights: NDArray[np.int32]) -> tuple[Ints, Ints]:
    n, count = rows.shape
    size = 16
    while size < 2 * n:
        size *= 2
    places = np.full(size, -1, np.int64)
    first, which, found = np.empty(n, np.int64), np.empty(n, np.int64), 0
    for i in range(n):
        row, total = rows[i], np.int32(0)
        for j in range(count):
            total = np.int32(total + np.int32(weights[j] * np.int32(row[j])))
        at = ((total * _SPREAD) >> 32) & (size - 1)
        while places[at] >= 0:
            other, differ = rows[first[places[at]]], 0
            for j in range(count):
                differ |= row[j] ^ other[j]
            if not differ:
                break
            at = (at + 1) & (size - 1)
        if places[at] < 0:
            places[at], first[found] = found, i
            found += 1
        which[i] = places[at]
    return first[:found].copy(), which


@compiled_exactly
def windows(field: NDArray[np.int8], cells: Ints, reach: int) -> NDArray[np.int8]:
    """Surroundings of cells (N,), numbers in raster order: (N, (2 reach + 1)^2 C), rows first.

    field: (h + 2 reach, w + 2 reach, C), with a margin.
    """
    _, w, c = field.shape
    side = 2 * reach + 1
    out = np.empty((len(cells), side * side * c), np.int8)
    for i in range(len(cells)):
        y, x = cells[i] // (w - 2 * reach), cells[i] % (w - 2 * reach)
        for row in range(side):
            of = field[y + row].ravel()
            first, to = x * c, row * side * c
            for k in range(side * c):
                out[i, np.uint64(to) + np.uint64(k)] = of[np.uint64(first) + np.uint64(k)]
    return out
