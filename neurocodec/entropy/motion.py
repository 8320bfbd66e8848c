"""Motion fields, coded coarse to fine: part of entropy model 1.

Normative: ``bitstream_spec.md``, section "Entropy model 1". The cells of a picture are visited on
ever finer lattices, each cell after neighbours on all its sides. A vector is said to equal one of
its candidates, or by its difference from the first. One traversal serves encoder and decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from .adaptive import Prior
from .binary import BitCoder, Counts, Ints, code_raw
from .field import BOTH, DIRECT, MAX_MV, SECOND, Field, scaled

COARSEST = 32  # pitch of the lattice that the traversal starts with
# Neighbours (dy, dx) in lattice steps of cells at (odd, odd), (even, odd), (odd, even) steps; the
# first two are those of the same 2x2 cells, as far as there are two
DIAGONAL = ((-1, -1), (1, 1), (-1, 1), (1, -1))
RIGHT = ((0, -1), (1, 0), (-1, 0), (0, 1))
BELOW = ((-1, 0), (0, 1), (0, -1), (1, 0))
SPREAD_BOUNDS = np.array([1, 3, 7, 17, 33])  # of a sum of absolute differences
PREFIX = 11  # bits of the prefix of a difference, at most
_UNKNOWN = 3  # mode of a cell that is not known yet, or outside of the grid
_SPREAD = 6  # classes
_LATTICES = 3  # classes of lattices: pitch 1, 2, more
_PATTERNS = 81  # three states of each of four neighbours
_DIGITS = np.array([27, 9, 3, 1])

# (blocks, contexts, 2) of each table of counts. Blocks: of modes, whether the two references lie on
# different sides of the picture; of the others, twice that plus the number of the reference
TABLES = {
    "direct": (2, _LATTICES * 3 * 3 * 3, 2),
    "both": (2, _LATTICES * 4 * 4 * 3, 2),
    "second": (2, _LATTICES * 4 * 4, 2),
    "same": (4, _LATTICES * 2 * _PATTERNS * 3, 2),
    "other": (4, 2 * _PATTERNS, 2),
    "prefix": (4, 2 * _SPREAD * PREFIX, 2),
    "suffix": (4, 2 * PREFIX, 2),
    "negative": (4, 2 * 3, 2),
}


MOTION_PREFIX = "motion_"  # of these tables in a prior that has others, too


def motion_part(prior: Prior) -> Prior:
    """The tables of this model in a prior that has others, too."""
    return {name: prior[MOTION_PREFIX + name] for name in TABLES}


def empty_motion_prior() -> Prior:
    return {name: np.zeros(size, np.uint8) for name, size in TABLES.items()}


@dataclass(frozen=True)
class Pass:
    """Cells that are coded together: places in flat arrays with one more for outside."""

    lattice: int  # class of it, 0 the finest
    diagonal: bool
    cells: Ints  # (N,)
    neighbours: Ints  # (N, 4)
    pitch: int


@lru_cache(maxsize=8)
def passes(h: int, w: int) -> list[Pass]:
    out = [_lattice(h, w, [((0, 0), ())], COARSEST, COARSEST)]
    step = COARSEST // 2
    while step:
        out.append(_lattice(h, w, [((step, step), DIAGONAL)], step, 2 * step))
        out.append(_lattice(h, w, [((0, step), RIGHT), ((step, 0), BELOW)], step, 2 * step))
        step //= 2
    return [p for p in out if len(p.cells)]


def _lattice(
    h: int,
    w: int,
    parts: list[tuple[tuple[int, int], tuple[tuple[int, int], ...]]],
    step: int,
    every: int,
) -> Pass:
    """parts: where a lattice of pitch ``every`` starts, and its cells' neighbours in steps."""
    cells, neighbours = [], []
    for (top, left), around in parts:
        y, x = (a.ravel() for a in np.mgrid[top:h:every, left:w:every])
        cells.append(y * w + x)
        near = np.full((len(y), 4), h * w)
        for i, (dy, dx) in enumerate(around):
            ny, nx = y + dy * step, x + dx * step
            inside = (ny >= 0) & (ny < h) & (nx >= 0) & (nx < w)
            near[inside, i] = (ny * w + nx)[inside]
        neighbours.append(near)
    lattice = min(step.bit_length() - 1, _LATTICES - 1)
    alone = len(parts) == 1
    return Pass(lattice, alone, np.concatenate(cells), np.concatenate(neighbours), step)


class MotionModel:
    """State of the model within one GOP: counts."""

    def __init__(self, prior: Prior) -> None:
        self.tables = {name: Counts(prior[name]) for name in TABLES}

    def code_field(
        self,
        coder: BitCoder,
        distances: tuple[int, ...],
        field: Field | None,
        grid: tuple[int, int],
        direct: NDArray[np.int16] | None = None,
    ) -> Field:
        """Code the motion of a picture of (h, w) cells of 8x8 luma samples.

        distances: of one or two references from the picture, in pictures, negative for earlier
        ones, not 0. Of two that are equal only the first is used, as if it were one: then all modes
        shall be FIRST. direct: (2, h, w, 2), vectors of DIRECT cells; without it, or with one
        reference, there are none. A decoder gives no field; it gets one.
        """
        h, w = grid
        n = h * w
        mode = np.zeros(n, np.int64)
        mv = np.zeros((2, n + 1, 2), np.int64)  # the last place is outside of the grid
        if field is not None:
            mode[:] = field.mode.ravel()
            mv[:, :n] = field.mv.reshape(2, n, 2)
        known = np.full(n + 1, _UNKNOWN)
        distances = tuple(dict.fromkeys(distances))
        sides = int(distances[0] * distances[-1] < 0)
        known_direct = np.full(n + 1, 2)  # 2: not known
        is_direct = mode == DIRECT
        if direct is not None and len(distances) == 2:
            suggested = direct.reshape(2, n, 2).astype(np.int64)
        else:
            suggested, is_direct = None, np.zeros(n, np.bool_)
        for part in passes(h, w):
            cells = part.cells
            if suggested is not None:
                is_direct[cells] = self._code_direct(
                    coder, sides, part, is_direct[cells], known_direct
                )
                known_direct[cells] = is_direct[cells]
                followed = cells[is_direct[cells]]
                mode[followed] = BOTH
                mv[:, followed] = suggested[:, followed]
            own = np.flatnonzero(~is_direct[cells])
            if len(distances) == 2:
                near = part.neighbours[own]
                mode[cells[own]] = self._code_modes(
                    coder, sides, part.lattice, mode[cells[own]], known[near]
                )
            for r in range(len(distances)):
                at = own[(mode[cells[own]] == r) | (mode[cells[own]] == BOTH)]
                near = part.neighbours[at]
                places = cells[at]
                mirror = None
                if r == 1:
                    mirror = scaled(mv[0, places], distances[1], distances[0])
                mv[r, places] = self._code_vectors(
                    coder,
                    2 * sides + r,
                    2 * part.lattice + part.diagonal,
                    mv[r, places],
                    mv[r, near],
                    (known[near] == r) | (known[near] == BOTH),
                    mirror,
                    mode[places] == BOTH,
                )
            known[cells] = mode[cells]
        mode[is_direct] = DIRECT
        return Field(
            mode.reshape(h, w).astype(np.uint8), mv[:, :n].reshape(2, h, w, 2).astype(np.int16)
        )

    def _code_direct(
        self, coder: BitCoder, block: int, part: Pass, direct: NDArray[np.bool_], known: Ints
    ) -> NDArray[np.bool_]:
        """Whether the cells of a pass are DIRECT, (N,), each given its neighbours."""
        near = known[part.neighbours]
        context = (part.lattice * 3 + near[:, 0]) * 3 + near[:, 1]
        others = (near[:, 2:] == 1).sum(1)
        bits = self.tables["direct"].code(
            coder, direct.astype(np.int32), block, context * 3 + others
        )
        return bits != 0

    def _code_modes(
        self, coder: BitCoder, block: int, lattice: int, mode: Ints, near: Ints
    ) -> Ints:
        """Modes (N,) of cells, each given those of its neighbours (N, 4)."""
        context = (lattice * 4 + near[:, 0]) * 4 + near[:, 1]
        others = (near[:, 2:] == BOTH).sum(1)
        both = self.tables["both"].code(
            coder, (mode == BOTH).astype(np.int32), block, context * 3 + others
        )
        single = np.flatnonzero(both == 0)
        out = np.full(len(mode), BOTH)
        out[single] = self.tables["second"].code(
            coder, (mode[single] == SECOND).astype(np.int32), block, context[single]
        )
        return out

    def _code_vectors(
        self,
        coder: BitCoder,
        block: int,
        where: int,
        value: Ints,
        near: Ints,
        valid: NDArray[np.bool_],
        mirror: Ints | None,
        mirrored: NDArray[np.bool_],
    ) -> Ints:
        """Vectors (N, 2), given those of four neighbours: near (N, 4, 2), where valid (N, 4).

        mirror: (N, 2), what the vectors over the first reference suggest, where mirrored (N,).
        """
        if len(value) == 0:
            return value
        guess = guess_of(near, valid)
        if mirror is not None:
            alone = mirrored & ~valid.any(1)
            guess[alone] = mirror[alone]
        alike = (near == guess[:, None]).all(2)
        pattern = (valid * (1 + alike)) @ _DIGITS
        context = (where * _PATTERNS + pattern) * 3
        agrees = None
        if mirror is not None:
            agrees = (mirror == guess).all(1)
            context += np.where(mirrored, 1 + agrees, 0)
        out = guess.copy()
        same = (value == guess).all(1).astype(np.int32)
        left = np.flatnonzero(self.tables["same"].code(coder, same, block, context) == 0)
        if mirror is not None and agrees is not None:
            asked = mirrored & ~agrees
            left = self._code_candidate(coder, block, pattern, value, mirror, left, asked, out)
        differs = valid & ~alike
        asked = differs.any(1)
        second = near[np.arange(len(near)), differs.argmax(1)]
        if mirror is not None:
            asked &= ~(mirrored & (second == mirror).all(1))
        left = self._code_candidate(
            coder, block, _PATTERNS + pattern, value, second, left, asked, out
        )
        base = guess[left]
        towards = np.where(valid[left][..., None], near[left] - base[:, None], 0)
        found = self._code_differences(coder, block, value[left] - base, towards)
        out[left] = np.clip(base + found, -MAX_MV, MAX_MV)
        return out

    def _code_candidate(
        self,
        coder: BitCoder,
        block: int,
        context: Ints,
        value: Ints,
        candidate: Ints,
        left: Ints,
        asked: NDArray[np.bool_],
        out: Ints,
    ) -> Ints:
        """Set ``out`` where the candidate is asked for and fits. Returns those left after it."""
        some = left[asked[left]]
        is_it = (value[some] == candidate[some]).all(1).astype(np.int32)
        taken = some[self.tables["other"].code(coder, is_it, block, context[some]) != 0]
        out[taken] = candidate[taken]
        return np.setdiff1d(left, taken, assume_unique=True)

    def _code_differences(self, coder: BitCoder, block: int, value: Ints, towards: Ints) -> Ints:
        """Differences (N, 2), given those that the neighbours would have, (N, 4, 2).

        All x, then all y: Exp-Golomb code of the magnitudes, then the signs.
        """
        n = len(value)
        if n == 0:
            return value
        component = np.arange(2) * np.ones((n, 1), np.int64)
        spread = np.searchsorted(SPREAD_BOUNDS, np.abs(towards).sum((1, 2)), "right")
        context = (component * _SPREAD + spread[:, None]).T.ravel()
        side = (component * 3 + 1 + np.sign(towards.sum(1))).T.ravel()
        component = component.T.ravel()
        flat = value.T.ravel()
        number = np.abs(flat) + 1
        digits = np.frexp(number.astype(np.float64))[1] - 1  # behind the first one
        length = np.zeros_like(flat)
        going = np.arange(2 * n)
        for i in range(PREFIX):
            more = (digits[going] > i).astype(np.int32)
            more = self.tables["prefix"].code(coder, more, block, context[going] * PREFIX + i)
            going = going[more != 0]
            length[going] += 1
            if len(going) == 0:
                break
        out = np.ones_like(flat)
        for i in range(int(length.max())):
            going = np.flatnonzero(length > i)
            bits = ((number[going] >> (length[going] - 1 - i)) & 1).astype(np.int32)
            if i == 0:
                at = component[going] * PREFIX + length[going] - 1
                bits = self.tables["suffix"].code(coder, bits, block, at)
            else:
                bits = code_raw(coder, bits)
            out[going] = 2 * out[going] + bits
        out -= 1
        some = np.flatnonzero(out)
        negative = self.tables["negative"].code(
            coder, (flat[some] < 0).astype(np.int32), block, side[some]
        )
        out[some[negative != 0]] *= -1
        return out.reshape(2, n).T


def packed(mv: Ints) -> Ints:
    """Vectors (..., 2) -> one number each (...)."""
    return mv[..., 0] * 4096 + mv[..., 1]


@compiled_exactly
def guess_of(near: Ints, valid: NDArray[np.bool_]) -> Ints:
    """The commonest of the valid vectors (N, 4, 2), the median of three or more that all differ."""
    n, count, _ = near.shape
    out = np.zeros((n, 2), np.int64)
    ordered = np.empty(count, np.int64)
    for row in range(n):
        best, most, there = 0, 0, 0
        for i in range(count):
            votes = 0
            for j in range(count):
                same = near[row, i, 0] == near[row, j, 0] and near[row, i, 1] == near[row, j, 1]
                votes += valid[row, i] and valid[row, j] and same
            there += valid[row, i]
            if votes > most:
                best, most = i, votes
        for axis in range(2):
            if most > 1 or 0 < there < 3:
                out[row, axis] = near[row, best, axis]
            elif there >= 3:
                k = 0
                for i in range(count):
                    if valid[row, i]:
                        at = k
                        while at > 0 and ordered[at - 1] > near[row, i, axis]:
                            ordered[at] = ordered[at - 1]
                            at -= 1
                        ordered[at] = near[row, i, axis]
                        k += 1
                out[row, axis] = (ordered[(k - 1) // 2] + ordered[k // 2]) >> 1
    return out
