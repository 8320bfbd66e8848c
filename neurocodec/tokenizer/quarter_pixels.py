"""Motion compensation of ``motion.py`` as it is fastest on a CPU.

Samples are int16, ``UNIT`` to a level of 8 bits. Of a plane (H, W) there are those at every quarter
pixel, (16, H + 2 margin, W + 2 margin), phases y first. Vectors are int, (..., 2), x then y, in
quarter pixels.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled
from .motion import (
    CHROMA_TAPS,
    FIRST,
    LUMA_TAPS,
    MARGIN,
    SECOND,
    Reference,
    overlapped_window,
)

UNIT = 8
Samples = NDArray[np.int16]
Floats = NDArray[np.float32]
_BLOCK = 8  # of luma, a cell's


class QuarterPixels:
    """Pictures that others are predicted from, interpolated where that is asked for. Several
    threads may ask at once."""

    def __init__(self, planes: Tensor) -> None:
        """planes: (B, 6, H/2, W/2) in 0..1."""
        self._planes = planes
        self._luma: list[Samples] | None = None
        self._chroma: tuple[list[Samples], list[Samples]] | None = None
        self._lock = threading.Lock()

    @property
    def luma(self) -> list[Samples]:
        """Of each picture."""
        with self._lock:
            if self._luma is None:
                self._luma = _interpolated(self._planes[:, :4], 2, LUMA_TAPS, MARGIN)
            return self._luma

    @property
    def chroma(self) -> tuple[list[Samples], list[Samples]]:
        """U and V of each picture."""
        with self._lock:
            if self._chroma is None:
                taps = F.pad(CHROMA_TAPS, (2, 2))
                u, v = (
                    _interpolated(self._planes[:, k : k + 1], 1, taps, MARGIN // 2) for k in (4, 5)
                )
                self._chroma = u, v
            return self._chroma

    @functools.cached_property
    def on_device(self) -> Reference:
        """For devices that are no CPU."""
        return Reference(self._planes, torch.float16)


def predicted(
    references: tuple[QuarterPixels, QuarterPixels],
    mode: NDArray[np.integer[Any]],
    fields: NDArray[np.integer[Any]],
) -> tuple[Tensor, Tensor]:
    """What ``motion.predict`` gives of one picture, to 1/16 of a level: two predictions, planes
    (1, 6, H/2, W/2). mode: (h, w), fields: (2, h, w, 2)."""
    h, w = mode.shape
    first, second = references
    planes = np.empty((2, h * _BLOCK // 2, w * _BLOCK // 2, 6), np.float32)
    modes, vectors = mode.astype(np.uint8), np.ascontiguousarray(fields, np.int32)
    _blend(
        first.luma[0], second.luma[0], modes, vectors, MARGIN,
        *_windows(h, w, _BLOCK), planes, 0,
    )  # fmt: skip
    vectors = (vectors + 1) >> 1  # eighths of a chroma pixel to quarters
    for k in (0, 1):
        _blend(
            first.chroma[k][0], second.chroma[k][0], modes, vectors, MARGIN // 2,
            *_windows(h, w, _BLOCK // 2), planes, 4 + k,
        )  # fmt: skip
    one, two = (x.permute(2, 0, 1)[None] for x in torch.from_numpy(planes))
    return one, two


@functools.lru_cache(8)
def _windows(h: int, w: int, side: int) -> tuple[Floats, Floats]:
    """The window, and what its sums are multiplied by at each pixel to come to 0..1."""
    window, norm = overlapped_window(h, w, side)
    return window.numpy(), (norm / (255 * UNIT)).numpy()


def _interpolated(phases: Tensor, side: int, taps: Tensor, margin: int) -> list[Samples]:
    """Samples at quarter pixels of each plane, given by its phases (B, side^2, h, w) in 0..1. taps:
    (4, 8)."""
    given, by = phases.float().cpu().numpy(), (taps * (255 * UNIT)).numpy()
    return [interpolated(_wide(x, side, margin), by) for x in given]


@compiled
def _wide(phases: Floats, side: int, margin: int) -> Floats:
    """Samples of a plane from its phases (side^2, h, w), with a margin and a filter's reach, 3 and
    4, of its edge around."""
    _, h, w = phases.shape
    out = np.empty((side * h + 2 * margin + 7, side * w + 2 * margin + 7), np.float32)
    before, last = margin + 3, side * w - 1
    for y in range(len(out)):
        of = min(max(y - before, 0), side * h - 1)
        to, row = out[y], (of % side) * side
        for phase in range(side):
            given = phases[row + phase, of // side]
            for x in range(w):
                to[before + side * x + phase] = given[x]
        for x in range(before):
            to[x] = to[before]
        for x in range(before + last + 1, len(to)):
            to[x] = to[before + last]
    return out


@compiled
def interpolated(source: Floats, taps: Floats) -> Samples:
    """Samples at quarter pixels of a plane that has been continued by its margin and a filter's
    reach, 3 and 4, on each side. taps: (4, 8), of which the second gives 255 UNIT for 1."""
    height, width = source.shape[0] - 7, source.shape[1] - 7
    out = np.empty((16, height, width), np.int16)
    columns = np.empty((height + 7, width), np.float32)
    half = np.float32(4096.5)  # makes all of them positive before they are cut to integers
    t, s = taps, taps / taps[0, 3]
    for x in range(4):
        for i in range(height + 7):
            row, to = source[i], columns[i]
            for j in range(width):
                to[j] = (
                    t[x, 0] * row[j] + t[x, 1] * row[j + 1] + t[x, 2] * row[j + 2]
                    + t[x, 3] * row[j + 3] + t[x, 4] * row[j + 4] + t[x, 5] * row[j + 5]
                    + t[x, 6] * row[j + 6] + t[x, 7] * row[j + 7]
                )  # fmt: skip
        for y in range(4):
            for i in range(height):
                rows, into = columns[i : i + 8], out[4 * y + x, i]
                for j in range(width):
                    value = (
                        s[y, 0] * rows[0, j] + s[y, 1] * rows[1, j] + s[y, 2] * rows[2, j]
                        + s[y, 3] * rows[3, j] + s[y, 4] * rows[4, j] + s[y, 5] * rows[5, j]
                        + s[y, 6] * rows[6, j] + s[y, 7] * rows[7, j]
                    )  # fmt: skip
                    into[j] = np.int16(np.int32(value + half) - 4096)
    return out


@compiled
def place(
    samples: Samples, y: int, x: int, vx: int, vy: int, size: int, margin: int
) -> tuple[int, int, int]:
    """Phase, row and column of what a vector sees of a reference from (y, x) of a picture on."""
    _, height, width = samples.shape
    top = min(max(y + margin + (vy >> 2), 0), height - size)
    left = min(max(x + margin + (vx >> 2), 0), width - size)
    return (vy & 3) * 4 + (vx & 3), top, left


@compiled
def _add_window(
    sums: Floats, y: int, x: int, samples: Samples, phase: int, top: int, left: int, window: Floats
) -> None:
    """Unsigned places need not be looked at for whether they count from the end."""
    for r in range(len(window)):
        of, to, by = samples[phase, top + r], sums[y + r], window[r]
        for c in range(len(window)):
            u = np.uint64(c)
            to[np.uint64(x) + u] += by[u] * np.float32(of[np.uint64(left) + u])


@compiled
def _blend(
    first: Samples, second: Samples, mode: NDArray[np.uint8], vectors: NDArray[np.int32],
    margin: int, window: Floats, norm: Floats, planes: Floats, plane: int,
) -> None:  # fmt: skip
    """Two predictions of a plane, by overlapping windows, into planes (2, H/2, W/2, 6): luma into
    the first four."""
    h, w = mode.shape
    n = len(window) // 2  # the side of a cell
    sums = np.zeros((2, (h + 1) * n, (w + 1) * n), np.float32)
    for i in range(h):
        for j in range(w):
            for k in range(2):
                of_first = mode[i, j] == FIRST or (k == 0 and mode[i, j] != SECOND)
                vx, vy = vectors[0 if of_first else 1, i, j]
                samples = first if of_first else second
                phase, top, left = place(
                    samples, i * n - n // 2, j * n - n // 2, vx, vy, 2 * n, margin
                )
                _add_window(sums[k], n * i, n * j, samples, phase, top, left, window)
    phases = 2 if plane == 0 else 1  # of luma that become one sample of a plane, each way
    for k in range(2):
        for y in range(h * n):
            row, scale, to = sums[k, y + n // 2], norm[y], planes[k, y // phases]
            for phase in range(phases):
                channel = plane + 2 * (y % phases) + phase
                for x in range(w * n // phases):
                    at = np.uint64(x * phases + phase)
                    to[np.uint64(x), channel] = row[at + np.uint64(n // 2)] * scale[at]
