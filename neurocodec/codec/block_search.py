"""The loops of the motion search, over one picture and one reference.

Samples of luma, and those of a reference at quarter pixels, are as in
``tokenizer/quarter_pixels.py``. A picture to be predicted is (H, W), continued to whole blocks of
the largest size. Fields are int32, (h, w, 2), x then y, in quarter pixels; errors are squared, in
samples' units.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from ..tokenizer.motion import MARGIN, MAX_VECTOR
from ..tokenizer.quarter_pixels import Floats, Samples, place

Vectors = NDArray[np.int32]
Flat = NDArray[np.int16]


@compiled
def cell_error(target: Flat, at: int, width: int, samples: Flat, of: int, stride: int) -> float:
    """Squared error of 8x8 samples, from places of flat arrays on, whose rows are so long. Of
    int32, which it cannot exceed, and unsigned places, which need not be looked at for whether they
    count from the end, it is twice as fast."""
    total = np.int32(0)
    for r in range(8):
        a, b = np.uint64(at + r * width), np.uint64(of + r * stride)
        for c in range(8):
            d = np.int16(target[a + np.uint64(c)] - samples[b + np.uint64(c)])
            total = np.int32(total + np.int32(np.int32(d) * np.int32(d)))
    return float(total)


@compiled
def block_error(
    target: Flat, at: int, width: int, samples: Flat, of: int, stride: int, size: int
) -> float:
    """The same of a large block, by some of its rows."""
    every = min(4, size // 8)
    whole = 0.0
    for r in range(0, size, every):
        total = np.int32(0)
        a, b = np.uint64(at + r * width), np.uint64(of + r * stride)
        for c in range(size):
            d = np.int16(target[a + np.uint64(c)] - samples[b + np.uint64(c)])
            total = np.int32(total + np.int32(np.int32(d) * np.int32(d)))
        whole += total
    return whole * every


@compiled
def worth(error: float, knee: float) -> float:
    """Squared error -> what it will cost, distortion and bits of a residual: above the knee a
    doubling of the error costs no more distortion, but some bits."""
    return error if error < knee else knee * (1 + math.log(error / knee))


@compiled
def _beside(field: Vectors, i: int, j: int) -> tuple[Any, Any]:
    """The vectors of the four neighbours, and of each 1 if it is there, and 0 if not."""
    h, w, _ = field.shape
    up, left, right, down = max(i - 1, 0), max(j - 1, 0), min(j + 1, w - 1), min(i + 1, h - 1)
    vectors = (
        int(field[up, j, 0]), int(field[up, j, 1]), int(field[i, left, 0]), int(field[i, left, 1]),
        int(field[i, right, 0]), int(field[i, right, 1]), int(field[down, j, 0]),
        int(field[down, j, 1]),
    )  # fmt: skip
    there = np.float32(i > 0), np.float32(j > 0), np.float32(j + 1 < w), np.float32(i + 1 < h)
    return vectors, there


@compiled
def _vector_bits(beside: tuple[Any, Any], x: int, y: int, table: Floats) -> float:
    """Bits of a vector by its neighbours. table: by the sum of the components' differences."""
    of, there = beside
    return (
        there[0] * table[np.uint64(abs(of[0] - x) + abs(of[1] - y))]
        + there[1] * table[np.uint64(abs(of[2] - x) + abs(of[3] - y))]
        + there[2] * table[np.uint64(abs(of[4] - x) + abs(of[5] - y))]
        + there[3] * table[np.uint64(abs(of[6] - x) + abs(of[7] - y))]
    )


@compiled
def search_blocks(
    samples: Samples, target: Samples, size: int, field: Vectors, given: Vectors,
    weight: Floats, share: float, moves: NDArray[np.int64], rounds: int, penalty: float,
    coded_bits: float, table: Floats,
) -> Floats:  # fmt: skip
    """Improve the field (h, w, 2) of blocks of one size; their errors (h, w).

    given: candidates (n, h, w, 2). weight: of errors (h, w), times ``share``. moves: of the
    refinement. rounds: how often blocks look at their neighbours once all have been searched.
    penalty: error that a bit of a cell must save.
    """
    h, w, _ = field.shape
    wanted, width, stride = target.reshape(-1), target.shape[1], samples.shape[2]
    flat = samples.reshape(-1)
    errors = np.empty((h, w), np.float32)
    knee = coded_bits * penalty * (size // 8) ** 2
    bit = penalty * (size // 8)
    for turn in range(1 + rounds):
        moved = 4 + len(given)  # number of the first move; before it, neighbours and the given
        count = 4 if turn else moved + 8 * len(moves)
        for step in range(h * w):
            at = h * w - 1 - step if turn % 2 else step
            i, j = at // w, at % w
            scale, beside = weight[i, j] * share, _beside(field, i, j)
            cost, error = np.inf, 0.0
            own_x, own_y, middle_x, middle_y = int(field[i, j, 0]), int(field[i, j, 1]), 0, 0
            for k in range(-1, count):
                if k < 0:
                    x, y = own_x, own_y
                elif k < 4:
                    v, u = i + (0, -1, 1, 0)[k], j + (-1, 0, 0, 1)[k]
                    if v < 0 or v == h or u < 0 or u == w:
                        continue
                    x, y = int(field[v, u, 0]), int(field[v, u, 1])
                elif k < moved:
                    x, y = int(given[k - 4, i, j, 0]), int(given[k - 4, i, j, 1])
                else:
                    move, to = moves[(k - moved) // 8], (k - moved) % 8
                    if to == 0:
                        middle_x, middle_y = own_x, own_y
                    to += to > 3
                    x, y = middle_x + move * (to % 3 - 1), middle_y + move * (to // 3 - 1)
                x = min(max(x, -MAX_VECTOR), MAX_VECTOR)
                y = min(max(y, -MAX_VECTOR), MAX_VECTOR)
                if k >= 0 and x == own_x and y == own_y:
                    continue
                rate = bit * _vector_bits(beside, x, y, table)
                if rate >= cost:
                    continue
                if k < 0 and turn:
                    found = float(errors[i, j])
                else:
                    phase, top, left = place(samples, size * i, size * j, x, y, size, MARGIN)
                    of = (phase * samples.shape[1] + top) * stride + left
                    to = size * (i * width + j)
                    if size == 8:
                        found = cell_error(wanted, to, width, flat, of, stride)
                    else:
                        found = block_error(wanted, to, width, flat, of, stride, size)
                now = worth(found * scale, knee) + rate
                if now < cost:
                    cost, error, own_x, own_y = now, found, x, y
            errors[i, j] = error
            field[i, j, 0], field[i, j, 1] = own_x, own_y
    return errors


@compiled
def picture_of(samples: Samples, field: Vectors) -> Samples:
    """What a field of cells sees of a reference, not overlapped."""
    h, w, _ = field.shape
    out = np.empty((8 * h, 8 * w), np.int16)
    for i in range(h):
        for j in range(w):
            phase, top, left = place(
                samples, 8 * i, 8 * j, field[i, j, 0], field[i, j, 1], 8, MARGIN
            )
            for r in range(8):
                to, of = out[8 * i + r, 8 * j : 8 * j + 8], samples[phase, top + r, left : left + 8]
                for c in range(8):
                    to[c] = of[c]
    return out


@compiled
def field_bits(field: Vectors, table: Floats) -> Floats:
    """Of each vector (h, w), by its neighbours."""
    h, w, _ = field.shape
    out = np.empty((h, w), np.float32)
    for i in range(h):
        for j in range(w):
            beside = _beside(field, i, j)
            out[i, j] = _vector_bits(beside, int(field[i, j, 0]), int(field[i, j, 1]), table)
    return out


@compiled
def mean_errors(target: Samples, first: Samples, second: Samples) -> Floats:
    """Squared error in cells (h, w) of the mean of two pictures."""
    h, w = first.shape[0] // 8, first.shape[1] // 8
    out = np.zeros((h, w), np.float32)
    for i in range(h):
        for j in range(w):
            total = np.float32(0)
            for r in range(8 * i, 8 * i + 8):
                x = slice(8 * j, 8 * j + 8)
                t, a, b = target[r, x], first[r, x], second[r, x]
                for c in range(8):
                    d = np.float32(t[c]) - np.float32(0.5) * (np.float32(a[c]) + np.float32(b[c]))
                    total += d * d
            out[i, j] = total
    return out


@compiled
def costs(
    errors: Floats, weight: Floats, bits: Floats, penalty: float, coded_bits: float
) -> Floats:
    """What cells cost by errors (n, h, w), whose weight is (h, w), and bits (n, h, w)."""
    n, h, w = errors.shape
    out = np.empty((n, h, w), np.float32)
    for k in range(n):
        for i in range(h):
            for j in range(w):
                error = float(errors[k, i, j]) * weight[i, j]
                out[k, i, j] = worth(error, coded_bits * penalty) + penalty * bits[k, i, j]
    return out


@compiled
def smooth_labels(cost: Floats, edge: float) -> NDArray[np.uint8]:
    """Labels (h, w) of low cost (labels, h, w) + edge for each two neighbours that differ.

    Iterated conditional modes (Besag, J. R. Stat. Soc. B 48(3), 1986) of large blocks first, whose
    labels then start those of smaller ones.
    """
    labels, h, w = cost.shape
    out = np.zeros((h, w), np.uint8)
    for size in (8, 4, 2, 1):
        rows, columns = -(-h // size), -(-w // size)
        pooled = np.zeros((labels, rows, columns), np.float32)
        for k in range(labels):
            for i in range(rows * size):
                for j in range(columns * size):
                    pooled[k, i // size, j // size] += cost[k, min(i, h - 1), min(j, w - 1)]
        now = np.zeros((rows, columns), np.uint8)
        for i in range(rows):
            for j in range(columns):
                now[i, j] = out[i // 2, j // 2]
        for turn in range(4):
            for i in range(rows):
                for j in range(columns):
                    least, label = np.inf, 0
                    for k in range(labels):
                        differ = 0
                        if turn or size < 8:
                            differ += i > 0 and now[i - 1, j] != k
                            differ += j > 0 and now[i, j - 1] != k
                            differ += i + 1 < rows and now[i + 1, j] != k
                            differ += j + 1 < columns and now[i, j + 1] != k
                        c = pooled[k, i, j] + edge * size * differ
                        if c < least:
                            least, label = c, k
                    now[i, j] = label
        out = now
    return out
