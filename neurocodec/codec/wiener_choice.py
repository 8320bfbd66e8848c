"""Wiener filters that bring a decoded picture nearest to its source: an encoder's side of
``wiener.py``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled
from ..entropy.wiener import (
    CHROMA_TAPS,
    CLASSES,
    LUMA_TAPS,
    MAX_TAP,
    REGION,
    TAP_ONE,
    TAPS,
    LumaFilter,
    Wiener,
)
from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.patch import CHROMA_WEIGHT
from .wiener import (
    ACTIVE,
    DOWN,
    MARGIN,
    RIGHT,
    SIDE,
    TURNED,
    Plane,
    Samples,
    filter_chroma,
    filter_luma,
    numbers_of,
    phases,
    planes_like,
    sort_blocks,
    table_of,
    with_margin,
)

_SHARE = 0.6  # of what new taps cost: pictures after it have them, too
_FLAG_BITS, _USE_BITS = 0.8, 1.0
# Estimated bits of a tap, by its magnitude, and of the filter of a class, by their number
_TAP_BITS = np.array([1.5 + 1.6 * math.log2(1 + n) for n in range(MAX_TAP + 1)])
_WHICH_BITS = 0.8
_ROWS = 256  # of samples that taps are fitted to at once, for memory


def choose_wiener(
    planes: Tensor, source: Tensor, last: Wiener | None, may_be_new: bool, penalty: float,
    weight: Tensor | None = None,
) -> tuple[Wiener, Tensor]:  # fmt: skip
    """The filters that bring a decoded picture nearest to its source, and what they make of it.

    planes, source: (1, 6, H/2, W/2) in 0..1. last: of pictures before of its group. may_be_new:
    whether it may have other taps. penalty: squared error that a bit must save. weight: of the
    error of cells (1, h, w), 1 if None.
    """
    penalty *= 255**2
    last = last or Wiener()
    y, *chroma = numbers_of(planes)
    target, *targets = numbers_of(source)
    h, w = (side // SPATIAL_STRIDE for side in y.shape)
    weights = np.ones((h, w), np.float32) if weight is None else weight[0].cpu().numpy()
    of_luma, y = _choose_luma(y, target, last.luma, may_be_new, penalty, weights)
    beside = phases(y)
    found = [
        _choose_chroma(x, beside, wanted, taps, may_be_new, penalty / CHROMA_WEIGHT, weights)
        for x, wanted, taps in zip(chroma, targets, last.chroma, strict=True)
    ]
    by = Wiener(of_luma, (found[0][0], found[1][0]))
    return by, planes_like(planes, y, found[0][1], found[1][1]) if by.changes else planes


def _choose_chroma(
    x: Samples, beside: Plane, target: Samples, last: NDArray[np.int64] | None, may_be_new: bool,
    penalty: float, weights: NDArray[np.float32],
) -> tuple[NDArray[np.int64] | None, Samples]:  # fmt: skip
    """Taps, None if none pay, and what they make of a plane."""
    plane, side = with_margin(x), SPATIAL_STRIDE // 2
    each = weights.repeat(side, 0).repeat(side, 1)
    tries = [] if last is None else [(last, 0.0)]
    if may_be_new:
        count = len(CHROMA_TAPS) + len(LUMA_TAPS)
        squares, products = np.zeros((count, count)), np.zeros(count)
        for first in range(0, len(x), _ROWS):
            band, wide = slice(first, first + _ROWS), slice(first, first + _ROWS + 2 * MARGIN)
            roots = np.sqrt(each[band]).ravel()
            seen = _seen_by_chroma(plane[wide], beside[:, :, wide]) * roots[:, None]
            errors = (target[band].astype(np.float32) - x[band]).ravel() * roots
            squares += seen.T @ seen
            products += seen.T @ errors
        taps = _solved(squares, products)
        tries.append((taps, _SHARE * float(_TAP_BITS[np.abs(taps)].sum())))
    best: NDArray[np.int64] | None = None
    of_best, least = x, float((each * (target.astype(np.float32) - x) ** 2).sum())
    for taps, bits in tries:
        found = filter_chroma(plane, beside, taps)
        cost = float((each * (target.astype(np.float32) - found) ** 2).sum())
        cost += penalty * (bits + _USE_BITS)
        if cost < least:
            best, of_best, least = taps, found, cost
    return best, of_best


def _seen_by_chroma(plane: Plane, beside: Plane) -> NDArray[np.float32]:
    """What taps see of each sample: (H W, taps)."""
    h, w = plane.shape[0] - 2 * MARGIN, plane.shape[1] - 2 * MARGIN

    def at(of: Plane, down: int, right: int) -> Plane:
        return of[MARGIN + down : MARGIN + down + h, MARGIN + right : MARGIN + right + w]

    parts = [at(plane, y, x) + at(plane, -y, -x) - 2 * at(plane, 0, 0) for y, x in CHROMA_TAPS]
    parts += [
        at(beside[y & 1, x & 1], y >> 1, x >> 1) - at(beside[0, 0], 0, 0) for y, x in LUMA_TAPS
    ]
    return np.stack(parts, 2).reshape(h * w, -1).astype(np.float32)


def _choose_luma(
    y: Samples, target: Samples, last: LumaFilter | None, may_be_new: bool, penalty: float,
    weights: NDArray[np.float32],
) -> tuple[LumaFilter | None, Samples]:  # fmt: skip
    """The filter, None if none pays, and what it makes of the plane."""
    plane = with_margin(y)
    classes, turns = sort_blocks(plane, ACTIVE)
    before = _errors(y, target, weights)
    everywhere = np.ones(before.shape, np.bool_)
    best: LumaFilter | None = None
    of_best, least = y, float(before.sum())

    def tried(which: NDArray[np.int64], taps: NDArray[np.int64], bits: float) -> None:
        nonlocal best, of_best, least
        found = filter_luma(plane, classes, turns, table_of(which, taps), everywhere)
        after = _errors(found, target, weights)
        use = after < before
        bits += _USE_BITS + _FLAG_BITS * _entropy(use)
        cost = float(np.where(use, after, before).sum()) + penalty * bits
        if cost < least and use.any():
            best, least = LumaFilter(which, taps, use), cost
            side = REGION * SPATIAL_STRIDE
            of_best = np.where(
                use.repeat(side, 0).repeat(side, 1)[: len(y), : y.shape[1]], found, y
            )

    if last is not None:
        tried(last.which, last.taps, 0.0)
    if may_be_new:
        squares = np.zeros((CLASSES, len(TAPS), len(TAPS)))
        products = np.zeros((CLASSES, len(TAPS)))
        for first in range(0, len(y), _ROWS):
            band, blocks, cells = (
                slice(first // side, (first + _ROWS) // side) for side in (1, SIDE, SPATIAL_STRIDE)
            )
            rows, errors, begins = _gathered(
                plane[first : first + _ROWS + 2 * MARGIN], target[band], classes[blocks],
                turns[blocks], weights[cells], TURNED,
            )  # fmt: skip
            for k in range(CLASSES):
                part = slice(begins[k], begins[k + 1])
                squares[k] += rows[part].T @ rows[part]
                products[k] += rows[part].T @ errors[part]
        which, taps, bits = _merged(squares, products, _SHARE * penalty)
        tried(which, taps, _SHARE * bits)
    return best, of_best


def _entropy(use: NDArray[np.bool_]) -> float:
    """Bits of flags, without their neighbours."""
    p = min(max(float(use.mean()), 0.01), 0.99)
    return -use.size * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


@compiled
def _errors(
    x: NDArray[np.uint8], target: NDArray[np.uint8], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Squared error in each region."""
    h, w = weights.shape
    out = np.zeros((-(-h // REGION), -(-w // REGION)))
    for y in range(h * SPATIAL_STRIDE):
        for column in range(w):
            total = np.int32(0)
            for i in range(SPATIAL_STRIDE):
                at = column * SPATIAL_STRIDE + i
                difference = np.int32(x[y, at]) - np.int32(target[y, at])
                total += difference * difference
            row = y // SPATIAL_STRIDE
            out[row // REGION, column // REGION] += total * weights[row, column]
    return out


@compiled
def _gathered(
    plane: Plane, target: NDArray[np.uint8], classes: NDArray[np.int64], turns: NDArray[np.int64],
    weights: NDArray[np.float32], turned: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:  # fmt: skip
    """What taps see of each sample (H W, len(TAPS)), and the error (H W,) that is to become 0, both
    times the root of the weight; class after class, and where each begins."""
    rows, columns = classes.shape
    begins = np.zeros(CLASSES + 1, np.int64)
    for row in range(rows):
        for column in range(columns):
            begins[classes[row, column] + 1] += SIDE * SIDE
    begins = np.cumsum(begins)
    at = begins.copy()
    seen = np.empty((rows * columns * SIDE * SIDE, len(TAPS)), np.float32)
    errors = np.empty(len(seen), np.float32)
    flat, across = plane.ravel(), plane.shape[1]
    far = np.empty(turned.shape, np.int64)  # from a sample to those that its taps see
    for turn in range(len(turned)):
        for k in range(len(TAPS)):
            far[turn, k] = DOWN[turned[turn, k]] * across + RIGHT[turned[turn, k]]
    for row in range(rows):
        for column in range(columns):
            kind, places = classes[row, column], far[turns[row, column]]
            root = np.float32(math.sqrt(weights[row // 2, column // 2]))
            for i in range(SIDE):
                y, x = SIDE * row + i, SIDE * column
                here = (y + MARGIN) * across + x + MARGIN
                for j in range(SIDE):
                    middle = np.int32(flat[np.uint64(here + j)])
                    out = seen[at[kind]]
                    for k in range(len(TAPS)):
                        one = np.int32(flat[np.uint64(here + j + places[k])])
                        other = np.int32(flat[np.uint64(here + j - places[k])])
                        out[k] = root * np.float32(one + other - 2 * middle)
                    errors[at[kind]] = root * np.float32(np.int32(target[y, x + j]) - middle)
                    at[kind] += 1
    return seen, errors, begins


@compiled
def _solved(
    square: NDArray[np.float64], product: NDArray[np.float64]
) -> NDArray[np.int64]:  # fmt: skip
    """Taps of least squared error, about: rounded, and with as much of a ridge as makes them small
    enough. By Cholesky's decomposition."""
    n = len(product)
    ridge, most = 50.0, np.inf
    for i in range(n):
        ridge += 1e-4 * square[i, i] / n
    lower, x = np.zeros((n, n)), np.empty(n)
    while most > MAX_TAP + 0.4:
        for i in range(n):
            for j in range(i + 1):
                total = square[i, j] + (ridge if i == j else 0.0)
                for k in range(j):
                    total -= lower[i, k] * lower[j, k]
                lower[i, j] = math.sqrt(total) if i == j else total / lower[j, j]
        for i in range(n):
            x[i] = product[i]
            for k in range(i):
                x[i] -= lower[i, k] * x[k]
            x[i] /= lower[i, i]
        for i in range(n - 1, -1, -1):
            for k in range(i + 1, n):
                x[i] -= lower[k, i] * x[k]
            x[i] /= lower[i, i]
        most = TAP_ONE * np.abs(x).max()
        ridge *= 4
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = round(x[i] * TAP_ONE)
    return out


@compiled
def _cost(
    square: NDArray[np.float64], product: NDArray[np.float64], taps: NDArray[np.int64],
    penalty: float, tap_bits: NDArray[np.float64],
) -> float:  # fmt: skip
    """Squared error that a filter adds, and its bits."""
    total = 0.0
    for i in range(len(taps)):
        own = taps[i] / TAP_ONE
        inner = 0.0
        for j in range(len(taps)):
            inner += square[i, j] * (taps[j] / TAP_ONE)
        total += own * (inner - 2 * product[i]) + penalty * tap_bits[abs(taps[i])]
    return total


def _merged(
    squares: NDArray[np.float64], products: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Filters for the classes: which each class has, taps, and their bits."""
    own, taps = _merge(squares.copy(), products.copy(), penalty, _TAP_BITS)
    numbers, which = np.unique(own, return_inverse=True)
    kept = taps[numbers]
    bits = _TAP_BITS[np.abs(kept)].sum() + len(own) * _WHICH_BITS * math.log2(len(numbers))
    return which, kept, float(bits)


@compiled
def _merge(
    squares: NDArray[np.float64], products: NDArray[np.float64], penalty: float,
    tap_bits: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Of filters for the classes the two that lose least by it become one, until one is left. Of
    all that there were on the way, those that cost least: the number of each class's, and taps."""
    n, width = products.shape
    taps, best_taps = np.empty((n, width), np.int64), np.empty((n, width), np.int64)
    own, best_own = np.arange(n), np.arange(n)
    costs, loss, there = np.empty(n), np.empty((n, n)), np.ones(n, np.bool_)
    square, product = np.empty((width, width)), np.empty(width)
    for i in range(n):
        taps[i] = _solved(squares[i], products[i])
        costs[i] = _cost(squares[i], products[i], taps[i], penalty, tap_bits)
    least = np.inf
    changed = n  # the filter whose pairs are to be looked at; n: all
    for left in range(n, 0, -1):
        total = penalty * n * _WHICH_BITS * math.log2(left)
        for i in range(n):
            if there[i]:
                total += costs[i]
        if total < least:
            least = total
            for i in range(n):
                best_own[i] = own[i]
                for k in range(width):
                    best_taps[i, k] = taps[i, k]
        first, second, smallest = 0, 0, np.inf
        for i in range(n):
            for j in range(i):
                if not (there[i] and there[j]):
                    continue
                if changed in (n, i, j):
                    for k in range(width):
                        product[k] = products[i, k] + products[j, k]
                        for m in range(width):
                            square[k, m] = squares[i, k, m] + squares[j, k, m]
                    cost = _cost(square, product, _solved(square, product), penalty, tap_bits)
                    loss[i, j] = cost - costs[i] - costs[j]
                if loss[i, j] < smallest:
                    first, second, smallest = i, j, loss[i, j]
        if left == 1:
            break
        for k in range(width):
            products[second, k] += products[first, k]
            for m in range(width):
                squares[second, k, m] += squares[first, k, m]
        taps[second] = _solved(squares[second], products[second])
        costs[second] = _cost(squares[second], products[second], taps[second], penalty, tap_bits)
        there[first], changed = False, second
        for i in range(n):
            if own[i] == first:
                own[i] = second
    return best_own, best_taps
