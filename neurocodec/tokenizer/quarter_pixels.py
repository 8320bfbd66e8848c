"""Motion compensation of ``motion.py`` as it is fastest on a CPU.

Pictures are predicted from planes of samples in 0..1, which are continued on all sides and
interpolated where a vector points. For the search there are, too, samples at every quarter pixel of
luma (H, W): int16, ``UNIT`` to a level of 8 bits, (16, H + 2 margin, W + 2 margin), phases y first.
Vectors are int, (..., 2), x then y, in quarter pixels.
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
from .motion import CHROMA_TAPS, FIRST, LUMA_TAPS, MARGIN, SECOND, Reference, window_line

UNIT = 8
Samples = NDArray[np.int16]
Floats = NDArray[np.float32]
_BLOCK = 8  # of luma, a cell's


# By fraction of a sample in quarters, and of the samples from the third before on
_TAPS = (LUMA_TAPS.numpy(), F.pad(CHROMA_TAPS, (2, 2)).numpy())


class QuarterPixels:
    """Pictures that others are predicted from, continued and interpolated where that is asked for.
    Several threads may ask at once."""

    def __init__(self, planes: Tensor) -> None:
        """planes: (B, 6, H/2, W/2) in 0..1."""
        self._planes = planes
        self._luma: list[Samples] | None = None
        self._wide: list[Floats] | None = None
        self._lock = threading.Lock()

    @property
    def luma(self) -> list[Samples]:
        """Of each picture, at quarter pixels."""
        with self._lock:
            if self._luma is None:
                taps = _TAPS[0] * np.float32(255 * UNIT)
                given = self._planes[:, :4].float().cpu().numpy()
                self._luma = [interpolated(_wide(x, 2, MARGIN), taps) for x in given]
            return self._luma

    def drop_luma(self) -> None:
        """Make room: it can be interpolated again."""
        with self._lock:
            self._luma = None

    @property
    def wide(self) -> list[Floats]:
        """Y, U and V of the first picture, continued."""
        with self._lock:
            if self._wide is None:
                first = self._planes[0].float().cpu().numpy()
                u, v = (_wide(first[k : k + 1], 1, MARGIN // 2) for k in (4, 5))
                self._wide = [_wide(first[:4], 2, MARGIN), u, v]
            return self._wide

    @functools.cached_property
    def on_device(self) -> Reference:
        """For devices that are no CPU."""
        return Reference(self._planes, torch.float16)


def predicted(
    references: tuple[QuarterPixels, QuarterPixels],
    mode: NDArray[np.integer[Any]],
    fields: NDArray[np.integer[Any]],
) -> tuple[Tensor, Tensor]:
    """What ``motion.predict`` gives of one picture: two predictions, planes (1, 6, H/2, W/2). mode:
    (h, w), fields: (2, h, w, 2)."""
    h, w = mode.shape
    first, second = (reference.wide for reference in references)
    planes = np.empty((2, h * _BLOCK // 2, w * _BLOCK // 2, 6), np.float32)
    modes, of_luma = mode.astype(np.uint8), np.ascontiguousarray(fields, np.int32)
    of_chroma = (of_luma + 1) >> 1  # eighths of a chroma pixel to quarters
    for k, channel in enumerate((0, 4, 5)):
        part, vectors = (2, of_chroma) if k else (1, of_luma)  # of luma's side
        _blend(
            first[k], second[k], modes, vectors, MARGIN // part, _TAPS[part - 1],
            *_windows(h, w, _BLOCK // part), planes, channel,
        )  # fmt: skip
    one, two = (x.permute(2, 0, 1)[None] for x in torch.from_numpy(planes))
    return one, two


@functools.lru_cache(8)
def _windows(h: int, w: int, side: int) -> tuple[Floats, Floats, Floats]:
    """A line of the window, and one over the sums of such lines in each row and column."""
    line: Floats = window_line(side).numpy()
    scales: list[Floats] = []
    for cells in (h, w):
        total = np.zeros((cells + 1) * side, np.float32)
        for i in range(cells):
            total[i * side : (i + 2) * side] += line
        scales.append(np.float32(1) / total[side // 2 : side // 2 + cells * side])
    return line, scales[0], scales[1]


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
def _filtered(
    source: Floats, top: int, left: int, rows: int, columns: int, x: int, y: int, taps: Floats,
    between: Floats, out: Floats,
) -> None:  # fmt: skip
    """Samples of a block (rows, columns) at a fraction (x, y) of a sample, in quarters, from those
    of a plane from (top, left) on, of which the filter's reach is a part. Unsigned places need not
    be looked at for whether they count from the end."""
    skipped = 3 if y == 0 else 0
    of_row, of_column = taps[x], taps[y]
    for r in range(rows if y == 0 else rows + 7):
        row, to = source[top + skipped + r], out[r] if y == 0 else between[r]
        if x == 0:
            for c in range(columns):
                to[np.uint64(c)] = row[np.uint64(left) + np.uint64(c) + np.uint64(3)]
        else:
            a, b, d, e = of_row[0], of_row[1], of_row[2], of_row[3]
            f, g, h, k = of_row[4], of_row[5], of_row[6], of_row[7]
            for c in range(columns):
                u = np.uint64(left) + np.uint64(c)
                to[np.uint64(c)] = (
                    a * row[u] + b * row[u + np.uint64(1)] + d * row[u + np.uint64(2)]
                    + e * row[u + np.uint64(3)] + f * row[u + np.uint64(4)]
                    + g * row[u + np.uint64(5)] + h * row[u + np.uint64(6)]
                    + k * row[u + np.uint64(7)]
                )  # fmt: skip
    if y == 0:
        return
    a, b, d, e = of_column[0], of_column[1], of_column[2], of_column[3]
    f, g, h, k = of_column[4], of_column[5], of_column[6], of_column[7]
    for r in range(rows):
        to = out[r]
        for c in range(columns):
            u = np.uint64(c)
            to[u] = (
                a * between[r, u] + b * between[r + 1, u] + d * between[r + 2, u]
                + e * between[r + 3, u] + f * between[r + 4, u] + g * between[r + 5, u]
                + h * between[r + 6, u] + k * between[r + 7, u]
            )  # fmt: skip


@compiled
def _blend(
    first: Floats, second: Floats, mode: NDArray[np.uint8], vectors: NDArray[np.int32],
    margin: int, taps: Floats, line: Floats, of_rows: Floats, of_columns: Floats, planes: Floats,
    plane: int,
) -> None:  # fmt: skip
    """Two predictions of a plane, by overlapping windows, into planes (2, H/2, W/2, 6): luma into
    the first four.

    Cells beside each other that move alike are taken together. Inside of them windows add up to one
    from left to right. What has one reference is the same in both predictions."""
    h, w = mode.shape
    n = len(line) // 2  # the side of a cell
    height, width = first.shape[0] - 7, first.shape[1] - 7
    sums = np.zeros((2, (h + 1) * n, (w + 1) * n), np.float32)
    between = np.empty((2 * n + 7, (w + 1) * n), np.float32)
    block, across = between[7:].copy(), np.ones((w + 1) * n, np.float32)
    for i in range(h):
        for k in range(2):
            end = 0
            while end < w:
                j, own = end, mode[i, end]
                end += 1
                alone = own in (FIRST, SECOND)
                if alone and k == 1:
                    continue
                of = 1 if own == SECOND or (k == 1 and own != FIRST) else 0
                vx, vy = vectors[of, i, j, 0], vectors[of, i, j, 1]
                left = j * n - n // 2 + margin + (vx >> 2)
                top = min(max(i * n - n // 2 + margin + (vy >> 2), 0), height - 2 * n)
                while end < w and left >= 0 and left + (end - j + 2) * n <= width:
                    other = mode[i, end]
                    like = other == own or not (alone or other in (FIRST, SECOND))
                    if not like or vectors[of, i, end, 0] != vx or vectors[of, i, end, 1] != vy:
                        break
                    end += 1
                columns = (end - j + 1) * n
                left = min(max(left, 0), width - columns)
                source = first if of == 0 else second
                _filtered(
                    source, top, left, 2 * n, columns, vx & 3, vy & 3, taps, between, block
                )  # fmt: skip
                for c in range(n):
                    across[c], across[columns - n + c] = line[c], line[n + c]
                for p in range(k, 2 if alone else k + 1):
                    for r in range(2 * n):
                        to, given, down = sums[p, n * i + r], block[r], line[r]
                        for c in range(columns):
                            u = np.uint64(c)
                            to[np.uint64(n * j) + u] += down * across[u] * given[u]
                for c in range(n):
                    across[c], across[columns - n + c] = 1, 1
    phases = 2 if plane == 0 else 1  # of luma that become one sample of a plane, each way
    for k in range(2):
        for y in range(h * n):
            row, scale, to = sums[k, y + n // 2], of_rows[y], planes[k, y // phases]
            for phase in range(phases):
                channel = plane + 2 * (y % phases) + phase
                for x in range(w * n // phases):
                    at = np.uint64(x * phases + phase)
                    value = row[at + np.uint64(n // 2)] * scale * of_columns[at]
                    to[np.uint64(x), channel] = value
