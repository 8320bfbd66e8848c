"""What the networks for motion see: features of cells whose motion is coded by the generator.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .adaptive import Before
from .binary import Ints
from .field import BOTH, Field
from .integer import MAX_ACTIVATION, ONE, Activations, limited, log_activation, signed_log
from .motion import Pass, passes
from .structure import MAX_LEVEL

MODES = 4
AROUND = tuple((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0))
NEAREST = [i for i, (dy, dx) in enumerate(AROUND) if max(abs(dy), abs(dx)) == 1]
PLACE = 4 + 1 + MAX_LEVEL + 1 + 1 + 2 + 1  # features of the pass and the picture
MODE_FEATURES = PLACE + MODES * len(AROUND) + MODES + 2 + 2 * 2 * len(NEAREST) + 2 * 2
VECTOR_FEATURES = PLACE + 2 + 4 * len(AROUND) + 3 * len(NEAREST) + 3 + 6 + 4 + 2
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
        mode = self.mode[cells]
        both = mode >= BOTH  # or DIRECT
        self.known_mode[cells] = _IS_MODE[mode]
        self.known_mv[:, cells] = self.mv[:, cells]
        for r in (0, 1):
            self.uses[r, cells] = both | (mode == r)

    def pointed(self, r: int, cells: Ints, mv: Ints) -> Activations:
        """What reference r carries where vectors (N, 2) of cells (N,) point: (N, 2)."""
        (h, w), shift = self.grid, (mv + 16) >> 5
        y = limited(cells // w + shift[:, 1], 0, h - 1)
        x = limited(cells % w + shift[:, 0], 0, w - 1)
        return self.carried[r][y * w + x]


def still(mv: Ints) -> NDArray[np.bool_]:
    """Which vectors (..., 2) are zero."""
    return (mv[..., 0] | mv[..., 1]) == 0  # type: ignore[no-any-return]


def roughness(mv: NDArray[np.integer]) -> Ints:
    """(h, w, 2) -> (h, w): differences from the four neighbours, summed; the edge goes on."""
    wide = np.pad(mv.astype(np.int64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    centre = wide[1:-1, 1:-1]
    sides = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
    return np.add.reduce([np.abs(centre - side).sum(-1) for side in sides])


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


def mode_features(p: PictureState, part: Pass, around: Ints, shared: Ints) -> Activations:
    """What tells the modes of a pass's cells: (N, MODE_FEATURES). shared: (N, PLACE), as below."""
    cells, near = part.cells, around[:, NEAREST]
    modes = p.known_mode.take(around, 0)
    found = [shared, modes.reshape(len(cells), -1), p.source[cells]]
    for r in (0, 1):
        found.append(p.rough[r, cells, None])
    for r in (0, 1):
        valid = p.uses[r].take(near)
        off = np.abs(p.known_mv[r].take(near, 0) - p.toward[r].take(near, 0))
        found += [_ONE * valid, log_activation(off[..., 0] + off[..., 1]) * valid]
    for r in (0, 1):
        found.append(p.pointed(r, cells, p.toward[r, cells]))
    return np.concatenate(found, 1)


def vector_features(
    p: PictureState, r: int, around: Ints, shared: Ints, cells: Ints, guess: Ints,
    mirror: Ints, mirrored: NDArray[np.bool_], off: Ints,
) -> Activations:  # fmt: skip
    """What tells the vectors over reference r of cells (N,): (N, VECTOR_FEATURES).

    around: (N, 24), see :func:`surroundings`. shared: (N, PLACE), of the pass and the picture.
    guess, mirror: (N, 2), what the neighbours and, where ``mirrored``, the other vector suggest.
    off: (N, 2), by how much the other vector was off its guess, as far as it tells this one.
    """
    n = len(cells)
    valid = p.uses[r].take(around)
    away = np.where(valid[..., None], p.known_mv[r].take(around, 0) - guess[:, None], 0)
    same = valid & still(away)
    both = (p.mode[cells] == BOTH)[:, None]
    found = [shared, np.full((n, 1), ONE * r, np.int8), _ONE * both, _ONE * valid, _ONE * same]
    found.append(signed_log(away).reshape(n, -1))
    near = around[:, NEAREST]
    known = valid[:, NEAREST, None] & (p.suggested is not None)
    surprise = np.where(known, p.known_mv[r].take(near, 0) - p.toward[r].take(near, 0), 0)
    found += [
        signed_log(surprise).reshape(n, -1),
        _ONE * (known[..., 0] & still(surprise)),
    ]
    found += [signed_log(guess), _ONE * still(guess)[:, None]]
    has = mirrored[:, None]
    found += [_ONE * has, signed_log(mirror - guess) * has]
    found += [_ONE * (has & still(mirror - guess)[:, None]), signed_log(off)]
    toward = p.toward[r, cells] - guess
    there = np.full((n, 1), p.suggested is not None)
    found += [signed_log(toward) * there]
    found += [_ONE * (there & still(toward)[:, None]), p.rough[r, cells, None]]
    found.append(p.pointed(r, cells, guess))
    return np.concatenate(found, 1)
