"""Wiener filters: what is left of an error that like ground has in common.

Blocks of 4x4 samples of luma are sorted by how much there is in them and in which direction, and
each sort has a filter of 7x7 samples, symmetric about the sample, turned with the block. U and V
have one filter each, that sees the plane itself and how luma differs around the sample. The encoder
finds the filters that bring a picture nearest to its source, and tells them where that pays.

Normative: ``bitstream_spec.md``, section 11.6. In integers, on the CPU.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled_exactly
from ..entropy.wiener import (
    CHROMA_TAPS,
    CLASSES,
    LUMA_TAPS,
    REGION,
    TAP_ONE,
    TAPS,
    Wiener,
)
from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.samples import planes_from, samples_of

SIDE = 4  # of the blocks that are sorted
MARGIN = 3
ACTIVE = np.array([101, 288, 720, 1728])  # bounds of what there is in a block
Samples = NDArray[np.uint8]
Plane = NDArray[np.int16]  # of samples, with MARGIN more on each side


def _turned() -> NDArray[np.int64]:
    """Where the taps of a filter are (4, len(TAPS)) for blocks as they are, and turned."""
    number = {at: i for i, (y, x) in enumerate(TAPS) for at in ((y, x), (-y, -x))}
    turns = [
        TAPS,
        [(x, y) for y, x in TAPS],
        [(-y, x) for y, x in TAPS],
        [(x, -y) for y, x in TAPS],
    ]
    return np.array([[number[at] for at in turn] for turn in turns])


TURNED = _turned()
DOWN, RIGHT = zip(*TAPS, strict=True)


def corrected(planes: Tensor, by: Wiener) -> Tensor:
    """Planes (1, 6, H/2, W/2) in 0..1, multiples of 1/255, filtered: luma, then chroma by it."""
    if not by.changes:
        return planes
    y, *chroma = numbers_of(planes)
    if by.luma is not None:
        plane = with_margin(y)
        table = table_of(by.luma.which, by.luma.taps)
        y = filter_luma(plane, *sort_blocks(plane, ACTIVE), table, by.luma.regions)
    beside = phases(y)
    chroma = [
        x if taps is None else filter_chroma(with_margin(x), beside, taps)
        for x, taps in zip(chroma, by.chroma, strict=True)
    ]
    return planes_like(planes, y, *chroma)


def numbers_of(planes: Tensor) -> list[Samples]:
    """Y (H, W), U and V (H/2, W/2)."""
    return [x.cpu().numpy() for x in samples_of(planes)]


def planes_like(planes: Tensor, *samples: Samples) -> Tensor:
    """The inverse of :func:`numbers_of`, on the device of some planes."""
    return planes_from(*(torch.from_numpy(x).to(planes.device) for x in samples))


def with_margin(x: Samples) -> Plane:
    return np.pad(x.astype(np.int16), MARGIN, mode="edge")


def phases(y: Samples) -> Plane:
    """The samples of luma that lie about those of chroma in the same way: (2, 2, H/2 + 2 margins,
    W/2 + 2 margins), by whether they are further down, and to the right."""
    wide = np.pad(y.astype(np.int16), 2 * MARGIN, mode="edge")
    return np.stack([[wide[i::2, j::2] for j in (0, 1)] for i in (0, 1)])


def table_of(which: NDArray[np.int64], taps: NDArray[np.int64]) -> NDArray[np.int32]:
    """Taps of each class and turn: (CLASSES, 4, len(TAPS))."""
    out = np.zeros((CLASSES, len(TURNED), len(TAPS)), np.int32)
    for turn, places in enumerate(TURNED):
        out[:, turn, places] = taps[which]
    return out


@compiled_exactly
def sort_blocks(
    plane: Plane, active: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Class and turn of each block."""
    rows, columns = (plane.shape[0] - 2 * MARGIN) // SIDE, (plane.shape[1] - 2 * MARGIN) // SIDE
    w = columns * SIDE
    sums = np.zeros((4, rows + 2, columns + 2), np.int64)  # of blocks, and of those around
    found = np.empty((4, w), np.int32)
    for row in range(rows):
        found[:] = 0
        for i in range(SIDE):
            y = MARGIN + SIDE * row + i
            over, here, under = plane[y - 1], plane[y], plane[y + 1]
            for x in range(w):
                at = np.uint64(x + MARGIN)
                left, right = at - np.uint64(1), at + np.uint64(1)
                twice = 2 * np.int32(here[at])
                found[0, x] += abs(twice - over[at] - under[at])
                found[1, x] += abs(twice - here[left] - here[right])
                found[2, x] += abs(twice - over[left] - under[right])
                found[3, x] += abs(twice - over[right] - under[left])
        for k in range(4):
            for column in range(columns):
                for i in range(SIDE):
                    sums[k, row + 1, column + 1] += found[k, SIDE * column + i]
    for k in range(4):
        for column in range(columns + 2):
            sums[k, 0, column], sums[k, -1, column] = sums[k, 1, column], sums[k, -2, column]
        for row in range(rows + 2):
            sums[k, row, 0], sums[k, row, -1] = sums[k, row, 1], sums[k, row, -2]
    classes, turns = np.empty((rows, columns), np.int64), np.empty((rows, columns), np.int64)
    around = np.empty(4, np.int64)
    for row in range(rows):
        for column in range(columns):
            for k in range(4):
                around[k] = 0
                for i in range(3):
                    for j in range(3):
                        around[k] += sums[k, row + i, column + j]
            upright, level, falling, rising = around
            straight, slanted = max(upright, level), max(falling, rising)
            least, least_slanted = min(upright, level), min(falling, rising)
            is_slanted = slanted * least > straight * least_slanted
            most = slanted if is_slanted else straight
            least = least_slanted if is_slanted else least
            kind = 0
            if 2 * most > 9 * least:
                kind = 2
            elif most > 2 * least:
                kind = 1
            if kind and is_slanted:
                kind += 2
            much = 0
            for bound in active:
                much += upright + level >= bound
            classes[row, column] = 5 * kind + much
            turn = 0 if level < upright else 1
            turns[row, column] = turn if falling < rising else 2 + turn
    return classes, turns


@compiled_exactly
def filter_luma(
    plane: Plane, classes: NDArray[np.int64], turns: NDArray[np.int64],
    table: NDArray[np.int32], regions: NDArray[np.bool_],
) -> NDArray[np.uint8]:  # fmt: skip
    rows, columns = classes.shape
    w, many = columns * SIDE, REGION * SPATIAL_STRIDE // SIDE
    out = np.empty((rows * SIDE, w), np.uint8)
    taps, total = np.empty((len(TAPS), w), np.int32), np.empty(w, np.int32)
    for row in range(rows):
        for column in range(columns):
            use = regions[row // many, column // many]
            own = table[classes[row, column], turns[row, column]]
            for k in range(len(TAPS)):
                for i in range(SIDE):
                    taps[k, SIDE * column + i] = own[k] if use else 0
        for i in range(SIDE):
            y = MARGIN + SIDE * row + i
            here = plane[y]
            total[:] = TAP_ONE // 2
            for k in range(len(TAPS)):
                one, other, tap = plane[y + DOWN[k]], plane[y - DOWN[k]], taps[k]
                first, second = MARGIN + RIGHT[k], MARGIN - RIGHT[k]
                for x in range(w):
                    at, twin = np.uint64(first) + np.uint64(x), np.uint64(second) + np.uint64(x)
                    middle = 2 * np.int32(here[np.uint64(x) + np.uint64(MARGIN)])
                    total[x] += tap[x] * (np.int32(one[at]) + np.int32(other[twin]) - middle)
            for x in range(w):
                value = np.int32(here[np.uint64(x) + np.uint64(MARGIN)]) + (total[x] >> 7)
                out[SIDE * row + i, x] = min(max(value, 0), 255)
    return out


@compiled_exactly
def filter_chroma(plane: Plane, beside: Plane, taps: NDArray[np.int64]) -> Samples:
    """beside: see :func:`phases`."""
    h, w = plane.shape[0] - 2 * MARGIN, plane.shape[1] - 2 * MARGIN
    out, total = np.empty((h, w), np.uint8), np.empty(w, np.int32)
    margin = np.uint64(MARGIN)
    for y in range(h):
        here, middle = plane[y + MARGIN], beside[0, 0, y + MARGIN]
        total[:] = TAP_ONE // 2
        for k in range(len(CHROMA_TAPS)):
            tap, right = np.int32(taps[k]), CHROMA_TAPS[k][1]
            one, other = (
                plane[y + MARGIN + CHROMA_TAPS[k][0]],
                plane[y + MARGIN - CHROMA_TAPS[k][0]],
            )
            first, second = np.uint64(MARGIN + right), np.uint64(MARGIN - right)
            for x in range(w):
                at = np.uint64(x)
                around = np.int32(one[at + first]) + np.int32(other[at + second])
                total[x] += tap * (around - 2 * np.int32(here[at + margin]))
        for k in range(len(LUMA_TAPS)):
            tap, (down, right) = np.int32(taps[len(CHROMA_TAPS) + k]), LUMA_TAPS[k]
            other = beside[down & 1, right & 1, y + MARGIN + (down >> 1)]
            first = np.uint64(MARGIN + (right >> 1))
            for x in range(w):
                at = np.uint64(x)
                total[x] += tap * (np.int32(other[at + first]) - np.int32(middle[at + margin]))
        for x in range(w):
            value = np.int32(here[np.uint64(x) + margin]) + (total[x] >> 7)
            out[y, x] = min(max(value, 0), 255)
    return out
