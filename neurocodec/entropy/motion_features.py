"""What the networks for motion see: features of cells whose motion is coded by the generator.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from .adaptive import Before
from .binary import Ints
from .field import BOTH, Field
from .integer import LOGS as _LOGS
from .integer import MAX_ACTIVATION, ONE, Activations, log_activation
from .motion import Pass, passes
from .structure import MAX_LEVEL

MODES = 4
AROUND = tuple((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0))
NEAREST = [i for i, (dy, dx) in enumerate(AROUND) if max(abs(dy), abs(dx)) == 1]
PLACE = 4 + 1 + MAX_LEVEL + 1 + 1 + 2 + 1  # features of the pass and the picture
MODE_FEATURES = PLACE + MODES * len(AROUND) + MODES + 2 + 2 * 2 * len(NEAREST) + 2 * 2
VECTOR_FEATURES = PLACE + 2 + 4 * len(AROUND) + 3 * len(NEAREST) + 3 + 6 + 4 + 2
ACROSS = 6  # features of the horizontal difference, for the vertical one
_OUTSIDE = 9  # mode of what is not known
_IS_MODE = ONE * np.eye(_OUTSIDE + 1, MODES, dtype=np.int8)  # features of a mode
_ONE = np.int8(ONE)


@dataclass(frozen=True)
class Known:
    """What is known of a picture before its motion.

    step: of its quantizer, as an activation. suggested: (2, h, w, 2) and modes of the field it is
    from (h, w), or None. carried: what the two references' cells carry.
    """

    distances: tuple[int, ...]  # two, which may be the same
    level: int
    step: int
    suggested: tuple[NDArray[np.int16], NDArray[np.uint8]] | None
    carried: tuple[Before, Before]


class PictureState:
    """A field while it is coded: flat arrays over the cells, and one more for outside."""

    def __init__(self, known: Known, field: Field | None, grid: tuple[int, int]) -> None:
        h, w = self.grid = grid
        n = self.n = h * w
        first, second = known.distances
        self.distances = known.distances[: 1 if first == second else 2]
        self.two = len(self.distances) == 2
        self.sides = int(first * second < 0)
        self.mode = np.zeros(n, np.int64)
        self.mv = np.zeros((2, n, 2), np.int64)
        if field is not None:
            self.mode[:] = field.mode.ravel()
            self.mv[:] = field.mv.reshape(2, n, 2)
        self.known_mode = _IS_MODE[np.full(n + 1, _OUTSIDE)]  # as features
        self.known_mv = np.zeros((2, n + 1, 2), np.int64)
        self.uses = np.zeros((2, n + 1), np.bool_)  # whether known cells have a vector over each
        self.guessed = np.zeros((n, 2), np.int64)  # vectors over the first reference, in a pass
        self.suggested = None if known.suggested is None or not self.two else known.suggested
        self.toward = np.zeros((2, n + 1, 2), np.int64)  # the suggested vectors
        self.source = np.zeros((n, MODES), np.int8)
        self.rough = np.zeros((2, n), np.int8)
        if self.suggested is not None:
            mv, mode = self.suggested
            self.toward[:, :n] = mv.reshape(2, n, 2)
            self.source = _IS_MODE[mode.ravel()]
            self.rough = np.stack([log_activation(roughness(v)).ravel() for v in mv])
        self.carried = [_carried(before) for before in known.carried]
        level = ONE * (np.arange(MAX_LEVEL + 1) == known.level)
        far = [min(ONE * abs(d), MAX_ACTIVATION) for d in known.distances]
        self.features = np.array(
            [ONE * self.sides, *level, known.step, *far, ONE * (self.suggested is not None)],
            np.int8,
        )

    def learn(self, cells: Ints) -> None:
        """Let what cells hold be known."""
        _learn(cells, self.mode, self.mv, self.known_mode, self.known_mv, self.uses)


@compiled_exactly
def _learn(
    cells: Ints, mode: Ints, mv: Ints, known_mode: Activations, known_mv: Ints,
    uses: NDArray[np.bool_],
) -> None:  # fmt: skip
    for cell in cells:
        for m in range(MODES):
            known_mode[cell, m] = ONE * (mode[cell] == m)
        for r in range(2):
            known_mv[r, cell, 0], known_mv[r, cell, 1] = mv[r, cell, 0], mv[r, cell, 1]
            uses[r, cell] = mode[cell] >= BOTH or mode[cell] == r  # or DIRECT


@compiled_exactly
def roughness(mv: NDArray[np.integer]) -> Ints:
    """(h, w, 2) -> (h, w): differences from the four neighbours, summed; the edge goes on."""
    h, w, _ = mv.shape
    out = np.empty((h, w), np.int64)
    for y in range(h):
        above, below = max(y - 1, 0), min(y + 1, h - 1)
        for x in range(w):
            left, right, total = max(x - 1, 0), min(x + 1, w - 1), 0
            for axis in range(2):
                v = np.int64(mv[y, x, axis])
                total += abs(v - mv[above, x, axis]) + abs(v - mv[below, x, axis])
                total += abs(v - mv[y, left, axis]) + abs(v - mv[y, right, axis])
            out[y, x] = total
    return out


def _carried(before: Before) -> Activations:
    """(h w, 2): of each cell of a reference, depth and sum of magnitudes."""
    # float32 adds much faster than integers of several sizes, and exactly below 2^24
    magnitude = before.magnitude.reshape(before.depth.size, -1).astype(np.float32)
    size = (magnitude @ np.ones(magnitude.shape[1], np.float32)).astype(np.int64)
    return np.stack([log_activation(before.depth.ravel()), log_activation(size)], 1)


@lru_cache(maxsize=8)
def surroundings(h: int, w: int) -> list[tuple[Pass, Ints]]:
    """The passes over a grid, with :func:`_around` of each."""
    return [(part, _around(part, h, w)) for part in passes(h, w)]


def _around(part: Pass, h: int, w: int) -> Ints:
    """(N, 24): cells around those of a pass, on a lattice of its pitch; h w for outside."""
    offsets = part.pitch * np.array(AROUND)
    y = part.cells[:, None] // w + offsets[:, 0]
    x = part.cells[:, None] % w + offsets[:, 1]
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    return np.where(inside, y * w + x, h * w)


def mode_features(p: PictureState, part: Pass, around: Ints, place: Activations) -> Activations:
    """What tells the modes of a pass's cells: (N, MODE_FEATURES). around: (N, 24), see
    :func:`surroundings`. place: (PLACE,), of the pass and the picture."""
    return _mode_features(
        place, part.cells, around, _NEAREST, p.known_mode, p.source, p.rough, p.uses, p.known_mv,
        p.toward, p.carried[0], p.carried[1], p.grid[0], p.grid[1],
    )  # fmt: skip


def vector_features(
    p: PictureState, r: int, part: Pass, around: Ints, place: Activations, rows: Ints,
    candidates: Ints, there: NDArray[np.bool_], off: Ints,
) -> Activations:  # fmt: skip
    """What tells the vectors over reference r of some cells (M,) of a pass: (M, VECTOR_FEATURES).

    rows, candidates, there, off: of them, see ``motion_decisions.guesses``.
    """
    return _vector_features(
        place, r, part.cells, rows, around, _NEAREST, p.mode, p.uses[r], p.known_mv[r], p.toward[r],
        p.rough[r], p.carried[r], p.suggested is not None, candidates, there, off, p.grid[0],
        p.grid[1],
    )  # fmt: skip


_NEAREST = np.array(NEAREST)


@compiled_exactly
def _log(x: int) -> int:
    """``log_activation`` of one number."""
    return _LOGS[min(x, 255)]


@compiled_exactly
def _signed(x: int) -> int:
    """``signed_log`` of one number."""
    return _LOGS[min(x, 255)] if x >= 0 else -_LOGS[min(-x, 255)]


@compiled_exactly
def _pointed(
    out: Activations, k: int, carried: Activations, cell: int, mv: Ints, h: int, w: int
) -> int:
    """Fill in what a reference carries where the vector of a cell points, from feature k on, and
    return the number of the next one."""
    y = min(max(cell // w + ((mv[1] + 16) >> 5), 0), h - 1)
    x = min(max(cell % w + ((mv[0] + 16) >> 5), 0), w - 1)
    out[k], out[k + 1] = carried[y * w + x, 0], carried[y * w + x, 1]
    return k + 2


@compiled_exactly
def _mode_features(
    place: Activations, cells: Ints, around: Ints, nearest: Ints, known_mode: Activations,
    source: Activations, rough: Activations, uses: NDArray[np.bool_], known_mv: Ints, toward: Ints,
    first: Activations, second: Activations, h: int, w: int,
) -> Activations:  # fmt: skip
    found = np.zeros((len(cells), MODE_FEATURES), np.int8)
    for i in range(len(cells)):
        cell, out, k = cells[i], found[i], PLACE
        for j in range(PLACE):
            out[j] = place[j]
        for j in range(around.shape[1]):
            for m in range(MODES):
                out[k + m] = known_mode[around[i, j], m]
            k += MODES
        for m in range(MODES):
            out[k + m] = source[cell, m]
        k += MODES
        out[k], out[k + 1] = rough[0, cell], rough[1, cell]
        k += 2
        count = len(nearest)
        for r in range(2):
            for j in range(count):
                near = around[i, nearest[j]]
                if uses[r, near]:
                    x = known_mv[r, near, 0] - toward[r, near, 0]
                    y = known_mv[r, near, 1] - toward[r, near, 1]
                    out[k + j], out[k + count + j] = ONE, _log(abs(x) + abs(y))
            k += 2 * count
        k = _pointed(out, k, first, cell, toward[0, cell], h, w)
        k = _pointed(out, k, second, cell, toward[1, cell], h, w)
    return found


@compiled_exactly
def _vector_features(
    place: Activations, r: int, cells: Ints, rows: Ints, around: Ints, nearest: Ints, mode: Ints,
    uses: NDArray[np.bool_], known_mv: Ints, toward: Ints, rough: Activations,
    carried: Activations, suggested: bool, candidates: Ints, there: NDArray[np.bool_], off: Ints,
    h: int, w: int,
) -> Activations:  # fmt: skip
    found = np.zeros((len(rows), VECTOR_FEATURES), np.int8)
    for i in range(len(rows)):
        row, guess, mirror, out, k = rows[i], candidates[i, 0], candidates[i, 1], found[i], PLACE
        cell = cells[row]
        for j in range(PLACE):
            out[j] = place[j]
        out[k], out[k + 1] = ONE * r, ONE * (mode[cell] == BOTH)
        k += 2
        count = around.shape[1]
        for j in range(count):
            at = around[row, j]
            if uses[at]:
                x, y = known_mv[at, 0] - guess[0], known_mv[at, 1] - guess[1]
                out[k + j] = ONE
                out[k + count + j] = ONE * (x == 0 and y == 0)
                out[k + 2 * (count + j)] = _signed(x)
                out[k + 2 * (count + j) + 1] = _signed(y)
        k += 4 * count
        count = len(nearest)
        for j in range(count):
            at = around[row, nearest[j]]
            if suggested and uses[at]:
                x, y = known_mv[at, 0] - toward[at, 0], known_mv[at, 1] - toward[at, 1]
                out[k + 2 * j], out[k + 2 * j + 1] = _signed(x), _signed(y)
                out[k + 2 * count + j] = ONE * (x == 0 and y == 0)
        k += 3 * count
        out[k], out[k + 1] = _signed(guess[0]), _signed(guess[1])
        out[k + 2] = ONE * (guess[0] == 0 and guess[1] == 0)
        k += 3
        if there[i, 1]:
            x, y = mirror[0] - guess[0], mirror[1] - guess[1]
            out[k], out[k + 1], out[k + 2] = ONE, _signed(x), _signed(y)
            out[k + 3] = ONE * (x == 0 and y == 0)
        out[k + 4], out[k + 5] = _signed(off[i, 0]), _signed(off[i, 1])
        k += 6
        if suggested:
            x, y = toward[cell, 0] - guess[0], toward[cell, 1] - guess[1]
            out[k], out[k + 1] = _signed(x), _signed(y)
            out[k + 2] = ONE * (x == 0 and y == 0)
        out[k + 3] = rough[cell]
        k = _pointed(out, k + 4, carried, cell, guess, h, w)
    return found


@compiled_exactly
def with_across(inner: Activations, across: Ints) -> Activations:
    """(N, width), and facts about horizontal differences (N,) behind them: (N, width + ACROSS)."""
    n, width = inner.shape
    out = np.empty((n, width + ACROSS), np.int8)
    for i in range(n):
        for j in range(width):
            out[i, j] = inner[i, j]
        size, sign = abs(across[i]), (across[i] > 0) - (across[i] < 0)
        out[i, width], out[i, width + 1] = ONE * sign, ONE * (size == 0)
        out[i, width + 2], out[i, width + 3] = _signed(across[i]), _log(size)
        out[i, width + 4], out[i, width + 5] = ONE * (size == 1), ONE * (size == 2)
    return out
