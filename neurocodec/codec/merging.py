"""The last step of the search for motion: blocks that may as well move as their neighbours do.

Blocks are searched each on its own, but a picture is predicted by windows of twice a cell's side
that overlap (``tokenizer/motion.py``), and what modes and vectors cost depends on which their
neighbours have at last. So blocks of several cells, then cells, are offered the motion of their
neighbours once more, and blocks that of their own corners, with the error of the picture as it will
be predicted, all other cells given (iterated as in Orchard and Sullivan, IEEE Trans. Image
Processing 3(5), 1994). A block at once can go where none of its cells would alone.

Samples, fields and errors are those of ``block_search.py``. What is left of a picture to predict,
and what windows reach, has half a cell more on each side: (H + 8, W + 8).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled
from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.motion import DIRECT, FIRST, MARGIN, SECOND, overlapped_window
from ..tokenizer.patch import luma
from ..tokenizer.quarter_pixels import Floats, QuarterPixels, Samples, place
from .block_search import Vectors, worth
from .search import CODED_BITS, SCALE, Motion, edge_bits, levels

# Bits for each two neighbours of different modes, and vectors, and for the size of the difference
_MODE_BITS, _EDGE_BITS, _EDGE_BITS_PER_OCTAVE = 4.0, 2.0, 0.3
_CELL = SPATIAL_STRIDE
_HALF = _CELL // 2
_SIDE = 2 * _CELL  # of a window
_OUTSIDE = 255  # mode of what is outside of the picture
Modes = NDArray[np.uint8]


def merge(
    motion: Motion,
    planes: Tensor,
    references: tuple[QuarterPixels, QuarterPixels],
    penalty: float,
    direct: Tensor | None = None,
    weight: Tensor | None = None,
    sides: tuple[int, ...] = (1,),
) -> Motion:
    """Motion of a picture with blocks merged. Arguments are those of ``search``; sides: of the
    blocks, in cells, that are asked in turn."""
    target, (h, w) = luma(planes), motion.mode.shape[1:]
    modes, fields = [], []
    pairs = zip(*(r.luma for r in references), strict=True)
    for k, (first, second) in enumerate(pairs):
        picture = _Merging(
            motion.mode[k], motion.fields[k], levels(target[k]), (first, second), penalty,
            None if direct is None else direct[k], None if weight is None else weight[k],
        )  # fmt: skip
        for turn, side in enumerate(sides):
            # whole blocks alone: counted from the top left, then from the bottom right
            picture.ask(side, *((h % side, w % side) if turn % 2 else (0, 0)))
        modes.append(picture.mode)
        fields.append(picture.fields.transpose(2, 0, 1, 3))
    device = motion.mode.device
    mode, field = (torch.from_numpy(np.stack(x)).long().to(device) for x in (modes, fields))
    return Motion(mode, field)


class _Merging:
    """A picture while blocks merge. mode: (h, w), fields: (h, w, 2, 2), by reference, then x, y."""

    def __init__(
        self, mode: Tensor, fields: Tensor, target: Samples, samples: tuple[Samples, Samples],
        penalty: float, direct: Tensor | None, weight: Tensor | None,
    ) -> None:  # fmt: skip
        """direct: fields (2, h, w, 2). Others as of ``search``."""
        h, w = mode.shape
        self.mode, self.fields = mode.byte().cpu().numpy(), _by_cell(fields)
        self._samples, self._penalty = samples, penalty * SCALE
        self._direct = np.zeros((0, w, 2, 2), np.int32) if direct is None else _by_cell(direct)
        ones = np.ones((h, w), np.float32)
        self._weight = ones if weight is None else weight.float().cpu().numpy()
        window, norm = overlapped_window(h, w, _CELL)
        self._window = window.numpy(), np.pad(norm.numpy(), _HALF)
        self.left = np.pad(target.astype(np.float32), _HALF)
        self._windows = _predicted(self.mode, self.fields, *samples, *self._window, self.left)
        self.errors = errors_of(self.left)

    def ask(self, side: int, row: int, column: int) -> None:
        """Offer blocks, from the one at a cell on, what their neighbours have."""
        _ask(
            self.mode, self.fields, *self._samples, self._direct, self._weight, *self._window,
            self._windows, self.left, self.errors, side, row, column, self._penalty, CODED_BITS,
            _MODE_BITS, edge_bits(_EDGE_BITS, _EDGE_BITS_PER_OCTAVE),
        )  # fmt: skip


def _by_cell(fields: Tensor) -> Vectors:
    """(2, h, w, 2) -> (h, w, 2, 2), a copy."""
    return fields.movedim(0, 2).int().contiguous().cpu().numpy().copy()


@compiled
def _look(
    first: Samples, second: Samples, i: int, j: int, mode: int, vectors: Vectors, out: Floats
) -> None:
    """The window (side, side) that a cell has with a mode and vectors (2, 2)."""
    y, x = i * _CELL - _HALF, j * _CELL - _HALF
    phase, top, left = place(first, y, x, int(vectors[0, 0]), int(vectors[0, 1]), _SIDE, MARGIN)
    other, under, right = place(second, y, x, int(vectors[1, 0]), int(vectors[1, 1]), _SIDE, MARGIN)
    one = np.float32(0.0 if mode == SECOND else 1.0 if mode == FIRST else 0.5)
    two = np.float32(1) - one
    for r in range(_SIDE):
        a, b = first[phase, top + r], second[other, under + r]
        for c in range(_SIDE):
            left_of, right_of = np.uint64(left) + np.uint64(c), np.uint64(right) + np.uint64(c)
            out[r, c] = one * np.float32(a[left_of]) + two * np.float32(b[right_of])


@compiled
def _predicted(
    mode: Modes, fields: Vectors, first: Samples, second: Samples, window: Floats, norm: Floats,
    left: Floats,
) -> Floats:  # fmt: skip
    """The windows of all cells (h, w, side, side), which are taken away from what is left."""
    h, w = mode.shape
    out = np.empty((h, w, _SIDE, _SIDE), np.float32)
    for i in range(h):
        for j in range(w):
            by = out[i, j]
            _look(first, second, i, j, mode[i, j], fields[i, j], by)
            for r in range(_SIDE):
                to, scale = left[_CELL * i + r], norm[_CELL * i + r]
                for c in range(_SIDE):
                    x = np.uint64(_CELL * j) + np.uint64(c)
                    to[x] -= scale[x] * window[r, c] * by[r, c]
    return out


@compiled
def errors_of(left: Floats) -> Floats:
    """Squared error of cells, (h, w)."""
    h, w = left.shape[0] // _CELL - 1, left.shape[1] // _CELL - 1
    out = np.zeros((h, w), np.float32)
    for y in range(h * _CELL):
        for x in range(w * _CELL):
            out[y // _CELL, x // _CELL] += left[y + _HALF, x + _HALF] ** 2
    return out


@compiled
def _of_cells(left: Floats, out: Floats) -> None:
    """Of what is left of a block's windows (8 n + 8, 8 n + 8) the squared error in each of n cells
    by n and those around, so far as windows reach: (n + 2, n + 2)."""
    for y in range(len(out)):
        for x in range(len(out)):
            out[y, x] = 0
    for part in range(left.shape[1] // _HALF):
        x = (part + 1) // 2
        for r in range(len(left)):
            row, total = left[r], np.float32(0)
            for c in range(_HALF):
                d = row[np.uint64(_HALF * part) + np.uint64(c)]
                total += d * d
            out[(r + _HALF) // _CELL, x] += total


@compiled
def _rate(mode: Modes, fields: Vectors, mode_bits: float, table: Floats) -> float:
    """Bits of the edges of a block, by modes (n + 2, n + 2) and vectors (n + 2, n + 2, 2, 2) in it
    and around; those inside of it count for either side half."""
    n = len(mode) - 2
    bits = 0.0
    for y in range(1, n + 1):
        for x in range(1, n + 1):
            for k in range(4):
                v, u = y + (-1, 0, 0, 1)[k], x + (0, -1, 1, 0)[k]
                own, other = mode[y, x], mode[v, u]
                if other == _OUTSIDE:
                    continue
                edge = mode_bits if own != other else 0.0
                for r in range(2):
                    unused = SECOND if r == 0 else FIRST
                    if own != unused and own != DIRECT and other != unused:
                        a, b = fields[y, x, r], fields[v, u, r]
                        edge += table[abs(a[0] - b[0]) + abs(a[1] - b[1])]
                bits += edge / 2 if 0 < v <= n and 0 < u <= n else edge
    return bits


@compiled
def _same(mode: Modes, fields: Vectors, y: int, x: int, v: int, u: int) -> bool:
    """Whether two cells have the same motion. Direct motion is the same whatever its vectors."""
    if mode[y, x] != mode[v, u]:
        return False
    a, b = fields[y, x], fields[v, u]
    equal = a[0, 0] == b[0, 0] and a[0, 1] == b[0, 1] and a[1, 0] == b[1, 0] and a[1, 1] == b[1, 1]
    return equal or mode[y, x] == DIRECT


@compiled
def _offers(mode: Modes, fields: Vectors, out: NDArray[np.int64]) -> int:
    """Of a block's cells and those around (n + 2, n + 2) the places (k, 2) of those whose motion
    the block is offered: of four around it, and of its corners. Returns how many."""
    n = len(mode) - 2
    count = 0
    for k in range(8 if n > 1 else 4):
        y, x = (0, 1, n, n + 1, 1, 1, n, n)[k], (1, 0, n + 1, n, 1, n, 1, n)[k]
        if mode[y, x] == _OUTSIDE:
            continue
        wanted = False
        for v in range(1, n + 1):
            for u in range(1, n + 1):
                wanted |= not _same(mode, fields, v, u, y, x)
        for m in range(count):
            wanted &= not _same(mode, fields, out[m, 0], out[m, 1], y, x)
        if wanted:
            out[count, 0], out[count, 1] = y, x
            count += 1
    return count


@compiled
def _worth(errors: Floats, covered: Floats, weight: Floats, knee: float) -> float:
    """Of a block's cells and those around, (n + 2, n + 2): what is not covered by its windows, and
    what is. Outside of the picture weights are 0."""
    total = 0.0
    for y in range(len(errors)):
        for x in range(len(errors)):
            total += worth((errors[y, x] + covered[y, x]) * weight[y, x], knee)
    return total


@compiled
def _ask(
    mode: Modes, fields: Vectors, first: Samples, second: Samples, direct: Vectors,
    weight: Floats, window: Floats, norm: Floats, windows: Floats, left: Floats, errors: Floats,
    side: int, row: int, column: int, penalty: float, coded_bits: float, mode_bits: float,
    table: Floats,
) -> None:  # fmt: skip
    """Offer blocks, from the one at a cell on, what their neighbours have, one after the other.

    fields: (h, w, 2, 2). direct: the same, or none of them. windows, left and errors are kept up
    to date.
    """
    h, w = mode.shape
    knee = coded_bits * penalty
    n, reach = side + 2, _CELL * (side + 1)
    offers = np.empty((8, 2), np.int64)
    # of a block and the cells around it, as they are and as they would be
    modes, vectors = np.empty((2, n, n), np.uint8), np.empty((2, n, n, 2, 2), np.int32)
    rest, covered, nothing, worths = np.zeros((4, n, n), np.float32)
    trial = np.empty((2, reach, reach), np.float32)
    found = np.empty((2, side, side, _SIDE, _SIDE), np.float32)
    for i in range(row, h - side + 1, side):
        for j in range(column, w - side + 1, side):
            for y in range(n):
                for x in range(n):
                    v, u = i + y - 1, j + x - 1
                    inside = 0 <= v < h and 0 <= u < w
                    modes[0, y, x] = mode[v, u] if inside else _OUTSIDE
                    worths[y, x] = weight[v, u] if inside else 0
                    rest[y, x] = errors[v, u] if inside else 0
                    for r in range(4):
                        vectors[0, y, x, r // 2, r % 2] = (
                            fields[v, u, r // 2, r % 2] if inside else 0
                        )
            count = _offers(modes[0], vectors[0], offers)
            if not count:
                continue
            for y in range(n):
                for x in range(n):
                    modes[1, y, x] = modes[0, y, x]
                    for r in range(4):
                        vectors[1, y, x, r // 2, r % 2] = vectors[0, y, x, r // 2, r % 2]
            there = left[_CELL * i : _CELL * i + reach, _CELL * j : _CELL * j + reach]
            _of_cells(there, covered)
            for y in range(n):
                for x in range(n):
                    rest[y, x] = max(rest[y, x] - covered[y, x], np.float32(0))
            cost = _worth(rest, covered, worths, knee)
            cost += penalty * _rate(modes[0], vectors[0], mode_bits, table)
            # without any error in the block's windows
            least = _worth(rest, nothing, worths, knee)
            best, now = -1, 0
            for k in range(count):
                own = modes[0, offers[k, 0], offers[k, 1]]
                motion = vectors[0, offers[k, 0], offers[k, 1]]
                _set(modes[1], vectors[1], direct, i, j, own, motion)
                rate = penalty * _rate(modes[1], vectors[1], mode_bits, table)
                if rate + least >= cost:
                    continue
                for y in range(reach):
                    for x in range(reach):
                        trial[now, y, x] = there[y, x]
                for y in range(side):
                    for x in range(side):
                        by = found[now, y, x]
                        _look(first, second, i + y, j + x, own, vectors[1, y + 1, x + 1], by)
                        before, at = windows[i + y, j + x], np.uint64(_CELL * x)
                        for r in range(_SIDE):
                            to, scale = trial[now, _CELL * y + r], norm[_CELL * (i + y) + r]
                            for c in range(_SIDE):
                                part = (
                                    window[r, c] * scale[np.uint64(_CELL * (j + x)) + np.uint64(c)]
                                )
                                to[at + np.uint64(c)] += part * (before[r, c] - by[r, c])
                _of_cells(trial[now], covered)
                total = _worth(rest, covered, worths, knee) + rate
                if total < cost:
                    cost, best, now = total, k, 1 - now
            if best < 0:
                continue
            own = modes[0, offers[best, 0], offers[best, 1]]
            motion = vectors[0, offers[best, 0], offers[best, 1]]
            _set(modes[1], vectors[1], direct, i, j, own, motion)
            now = 1 - now
            for y in range(reach):
                for x in range(reach):
                    there[y, x] = trial[now, y, x]
            _of_cells(there, covered)
            for y in range(n):
                for x in range(n):
                    v, u = i + y - 1, j + x - 1
                    if 0 <= v < h and 0 <= u < w:
                        errors[v, u] = rest[y, x] + covered[y, x]
            for y in range(side):
                for x in range(side):
                    mode[i + y, j + x] = own
                    for r in range(4):
                        fields[i + y, j + x, r // 2, r % 2] = vectors[
                            1, y + 1, x + 1, r // 2, r % 2
                        ]
                    for r in range(_SIDE):
                        for c in range(_SIDE):
                            windows[i + y, j + x, r, c] = found[now, y, x, r, c]


@compiled
def _set(
    modes: Modes, vectors: Vectors, direct: Vectors, i: int, j: int, own: int, motion: Vectors
) -> None:
    """Give all cells of a block, and not those around it, one motion. (i, j): where it is."""
    n = len(modes) - 2
    for y in range(1, n + 1):
        for x in range(1, n + 1):
            modes[y, x] = own
            for r in range(4):
                value = motion[r // 2, r % 2]
                if own == DIRECT and len(direct):
                    value = direct[i + y - 1, j + x - 1, r // 2, r % 2]
                vectors[y, x, r // 2, r % 2] = value
