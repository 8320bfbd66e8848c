"""Motion fields coded by the generator: part of entropy model 3.

Cells are visited as in ``motion.py``, on ever finer lattices. Small networks see the 24 cells
around one on its lattice, as far as they are known, the motion that known fields suggest, and what
the references' cells there carry, and say in which context each decision is coded.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from .adaptive import Prior
from .binary import BitCoder, Bits, Counts, Ints, code_raw
from .field import BOTH, DIRECT, FIRST, MAX_MV, SECOND, Field, scaled
from .integer import (
    BUCKETS,
    ONE,
    Activations,
    Layer,
    distinct,
    limited,
    log_activation,
    signed_log,
)
from .motion import PREFIX, Pass, guess_of, packed
from .motion_features import (
    MODE_FEATURES,
    PLACE,
    VECTOR_FEATURES,
    Known,
    PictureState,
    mode_features,
    surroundings,
    vector_features,
)

COUNT_UNIT = 16  # what one bit adds to a count
COUNT_LIMIT = 16383
MODE_LOGITS = 3  # direct, both, second
CANDIDATES = 6  # the guess, what the other vector suggests, the four nearest neighbours
ACROSS = 6  # features of the horizontal difference, for the vertical one
# Logits of a difference: 0?, negative?; by sign more bits of the prefix, then the first bit behind
# the prefix, then by sign and that bit the second one
_MORE, _FIRST_BIT = 2, 2 + 2 * PREFIX
_SECOND_BIT = _FIRST_BIT + 2 * PREFIX
DIFFERENCE_LOGITS = _SECOND_BIT + 4 * PREFIX


def motion_layers(width: int) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of each layer; width: of those between."""
    return {
        "motion.modes.0": (width, MODE_FEATURES),
        "motion.modes.1": (width, width),
        "motion.modes.out": (MODE_LOGITS, width),
        "motion.candidates.0": (width, VECTOR_FEATURES),
        "motion.candidates.1": (width, width),
        "motion.candidates.out": (CANDIDATES, width),
        "motion.difference.0": (width, VECTOR_FEATURES),
        "motion.difference.1": (width, width),
        "motion.difference.x": (DIFFERENCE_LOGITS, width),
        "motion.difference.2": (width, width + ACROSS),
        "motion.difference.y": (DIFFERENCE_LOGITS, width),
    }


# (blocks, contexts, 2) of each table of counts. Blocks: of modes, whether the two references lie on
# different sides of the picture; of the others, twice that plus the number of the reference
MOTION_TABLES = {
    "motion_modes": (2, MODE_LOGITS * BUCKETS, 2),
    "motion_candidates": (4, CANDIDATES * BUCKETS, 2),
    "motion_x": (4, DIFFERENCE_LOGITS * BUCKETS, 2),
    "motion_y": (4, DIFFERENCE_LOGITS * BUCKETS, 2),
}


# last layer of each sort of decisions, and its table; vertical differences have their own
LAST_LAYERS = {
    "modes": ("motion.modes.out", "motion_modes"),
    "candidates": ("motion.candidates.out", "motion_candidates"),
    "difference": ("motion.difference.x", "motion_x"),
}
MORE_BITS = slice(_MORE, _FIRST_BIT)  # those of the prefix


class Logits:
    """Contexts (N, outputs) that a network gives for the decisions of N cells."""

    def __init__(self, table: str, block: int, contexts: Ints) -> None:
        self.table, self.block, self.contexts = table, block, contexts


class MotionGenerator:
    """State of the entropy model of motion within one GOP: counts."""

    def __init__(self, layers: dict[str, Layer], prior: Prior) -> None:
        self._layers = layers
        self.tables = {name: Counts(prior[name], COUNT_LIMIT, COUNT_UNIT) for name in MOTION_TABLES}

    def code_field(
        self, coder: BitCoder, known: Known, field: Field | None, grid: tuple[int, int]
    ) -> Field:
        """Code the motion of a picture of (h, w) cells. A decoder gives no field; it gets one."""
        h, w = grid
        p = PictureState(known, field, grid)
        for part, around in surroundings(h, w):
            place = [ONE * (part.lattice == i) for i in range(3)] + [ONE * part.diagonal]
            row = np.concatenate([np.array(place, np.int8), p.features])
            shared = np.broadcast_to(row, (len(part.cells), PLACE))
            if p.two:
                self._code_modes(coder, p, part, around, shared)
            self._code_vectors(coder, p, part, around, shared)
            p.learn(part.cells)
        return Field(
            p.mode.reshape(h, w).astype(np.uint8), p.mv.reshape(2, h, w, 2).astype(np.int16)
        )

    # -- networks -------------------------------------------------------------------------------

    def hidden(self, name: str, x: Activations) -> Activations:
        """The two layers that the networks of a kind of decisions begin with."""
        return self.apply(f"{name}.1", self.apply(f"{name}.0", x))

    def apply(self, layer: str, x: Activations) -> Activations:
        return self._layers[layer].relu(x)

    def logits(self, layer: str, table: str, block: int, x: Activations) -> Logits:
        return Logits(table, block, self._layers[layer].contexts(x))

    def _logits_of(self, sort: str, table: str, block: int, x: Activations) -> Logits:
        """Of all rows, those that are alike looked at once."""
        first, which = distinct(x)
        inner = self.hidden(f"motion.{sort}", x[first])
        found = self.logits(f"motion.{sort}.out", table, block, inner)
        found.contexts = found.contexts[which]
        return found

    def _code(
        self, coder: BitCoder, logits: Logits, rows: Ints, columns: Ints | int,
        bits: NDArray[np.bool_],
    ) -> Bits:  # fmt: skip
        """Code bits of some rows, each in the context of one of its logits."""
        if len(rows) == 0:
            return bits.astype(np.int32)
        if isinstance(columns, int):
            columns = np.full(len(rows), columns)
        context = _contexts(logits.contexts, rows, columns)
        return self.tables[logits.table].code(coder, bits.astype(np.int32), logits.block, context)

    # -- modes ----------------------------------------------------------------------------------

    def _code_modes(
        self, coder: BitCoder, p: PictureState, part: Pass, around: Ints, shared: Activations
    ) -> None:
        x = mode_features(p, part, around, shared)
        logits = self._logits_of("modes", "motion_modes", p.sides, x)
        cells = part.cells
        mode = p.mode[cells]
        rows = np.arange(len(cells))
        out = np.full(len(cells), FIRST)
        if p.suggested is not None:
            direct = self._code(coder, logits, rows, 0, mode == DIRECT)
            out[direct != 0] = DIRECT
            rows = np.flatnonzero(direct == 0)
        both = self._code(coder, logits, rows, 1, mode[rows] == BOTH)
        out[rows[both != 0]] = BOTH
        rows = rows[both == 0]
        second = self._code(coder, logits, rows, 2, mode[rows] == SECOND)
        out[rows[second != 0]] = SECOND
        p.mode[cells] = out
        at = cells[out == DIRECT]
        p.mv[:, at] = p.toward[:, at]

    # -- vectors --------------------------------------------------------------------------------

    def _code_vectors(
        self, coder: BitCoder, p: PictureState, part: Pass, around: Ints, shared: Activations
    ) -> None:
        guessed = np.zeros((p.n, 2), np.int64)  # over the first reference
        for r in range(len(p.distances)):
            mode = p.mode[part.cells]
            rows = np.flatnonzero((mode == r) | (mode == BOTH))
            if len(rows) == 0:
                continue
            cells, near = part.cells[rows], part.neighbours[rows]
            valid = p.uses[r].take(near)
            beside = p.known_mv[r].take(near, 0)
            guess = guess_of(beside, valid)
            mirrored = np.zeros(len(rows), np.bool_)
            mirror = np.zeros_like(guess)
            off = np.zeros_like(guess)
            if r == 1:
                mirrored = mode[rows] == BOTH
                one, two = p.distances
                own = p.mv[0, cells]
                mirror = scaled(own, two, one) * mirrored[:, None]
                off = scaled(own - guessed[cells], two, one) * mirrored[:, None]
                alone = mirrored & ~valid.any(1)
                guess[alone] = mirror[alone]
            else:
                guessed[cells] = guess
            x = vector_features(
                p, r, around[rows], shared[rows], cells, guess, mirror, mirrored, off
            )
            p.mv[r, cells] = self._code_values(
                coder, p, r, x, p.mv[r, cells], guess, mirror, mirrored, beside, valid
            )

    def _code_values(
        self, coder: BitCoder, p: PictureState, r: int, x: Activations, value: Ints, guess: Ints,
        mirror: Ints, mirrored: NDArray[np.bool_], near: Ints, valid: NDArray[np.bool_],
    ) -> Ints:  # fmt: skip
        """Vectors (N, 2): equal to a candidate, or by the difference from the first one."""
        block = 2 * p.sides + r
        logits = self._logits_of("candidates", "motion_candidates", block, x)
        candidates = np.concatenate([guess[:, None], mirror[:, None], near], 1)
        there = np.concatenate([np.ones((len(guess), 1), np.bool_), mirrored[:, None], valid], 1)
        keys, wanted = packed(candidates), packed(value)
        fresh = _fresh(keys, there)
        choice = np.full(len(guess), CANDIDATES)
        for i in range(CANDIDATES):
            rows = np.flatnonzero(fresh[:, i] & (choice == CANDIDATES))
            hit = self._code(coder, logits, rows, i, wanted[rows] == keys[rows, i])
            choice[rows[hit != 0]] = i
        left = np.flatnonzero(choice == CANDIDATES)
        choice[left] = 0
        out = candidates[np.arange(len(guess)), choice]
        if len(left):
            found = self._code_differences(coder, block, x[left], (value - guess)[left])
            out[left] = limited(guess[left] + found, -MAX_MV, MAX_MV)
        return out

    def _code_differences(self, coder: BitCoder, block: int, x: Activations, value: Ints) -> Ints:
        """Differences (N, 2): all x, then all y."""
        inner = self.hidden("motion.difference", x)
        logits = self.logits("motion.difference.x", "motion_x", block, inner)
        across = self._code_components(coder, logits, value[:, 0])
        size = np.abs(across)
        facts = [ONE * np.sign(across), ONE * (size == 0), signed_log(across)]
        facts += [log_activation(size), ONE * (size == 1), ONE * (size == 2)]
        inner = np.concatenate([inner, np.stack(facts, 1).astype(np.int8)], 1)
        inner = self.apply("motion.difference.2", inner)
        logits = self.logits("motion.difference.y", "motion_y", block, inner)
        return np.stack([across, self._code_components(coder, logits, value[:, 1])], 1)

    def _code_components(self, coder: BitCoder, logits: Logits, value: Ints) -> Ints:
        """Numbers (N,): 0 or not, sign, then Exp-Golomb code of the magnitude less 1, as 1 more."""
        rows = np.arange(len(value))
        some = np.flatnonzero(self._code(coder, logits, rows, 0, value != 0))
        negative = self._code(coder, logits, some, 1, value[some] < 0).astype(np.int64)
        number = np.abs(value[some])
        digits = np.frexp(np.maximum(number, 1).astype(np.float64))[1] - 1  # behind the first one
        length = np.zeros_like(number)
        going = np.arange(len(some))
        for i in range(PREFIX):
            column = _MORE + negative[going] * PREFIX + i
            more = self._code(coder, logits, some[going], column, digits[going] > i)
            going = going[more != 0]
            length[going] += 1
            if len(going) == 0:
                break
        size = np.ones_like(number)
        first = np.zeros_like(number)
        for i in range(int(length.max(initial=0))):
            going = np.flatnonzero(length > i)
            bits = ((number[going] >> np.maximum(length[going] - 1 - i, 0)) & 1) != 0
            column = negative[going] * PREFIX + length[going] - 1
            if i == 0:
                found = self._code(coder, logits, some[going], _FIRST_BIT + column, bits)
                first[going] = found
            elif i == 1:
                column += _SECOND_BIT + 2 * PREFIX * first[going]
                found = self._code(coder, logits, some[going], column, bits)
            else:
                found = code_raw(coder, bits.astype(np.int32))
            size[going] = 2 * size[going] + found
        out = np.zeros_like(value)
        out[some] = size * (1 - 2 * negative)
        return out


@compiled_exactly
def _contexts(contexts: Ints, rows: Ints, columns: Ints) -> Ints:
    """Contexts in a table for decisions (N,), each of a logit of a row."""
    out = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        out[i] = columns[i] * BUCKETS + contexts[rows[i], columns[i]]
    return out


@compiled_exactly
def _fresh(keys: Ints, there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which candidates (N, n) are there and no earlier one."""
    out = there.copy()
    for row in range(len(keys)):
        for i in range(keys.shape[1]):
            for j in range(i):
                if there[row, j] and keys[row, j] == keys[row, i]:
                    out[row, i] = False
    return out
