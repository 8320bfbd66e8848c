"""Motion fields coded by the generator: part of entropy model 3.

Cells are visited as in ``motion.py``, on ever finer lattices. Small networks see the 24 cells
around one on its lattice, as far as they are known, the motion that known fields suggest, and what
the references' cells there carry, and say in which context each decision is coded.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .adaptive import Prior
from .binary import BitCoder, Counts, Ints
from .field import DIRECT, MAX_MV, Field
from .integer import BUCKETS, ONE, Activations, Layer, distinct, limited
from .motion import Pass
from .motion_decisions import (
    CANDIDATES,
    DIFFERENCE_LOGITS,
    MODE_LOGITS,
    MOST_BITS,
    Asked,
    ask_candidates,
    ask_modes,
    ask_numbers,
    guesses,
)
from .motion_features import (
    ACROSS,
    MODE_FEATURES,
    VECTOR_FEATURES,
    Known,
    PictureState,
    mode_features,
    surroundings,
    vector_features,
    with_across,
)

COUNT_UNIT = 16  # what one bit adds to a count
COUNT_LIMIT = 16383


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


class Logits:
    """Decisions of N cells: the contexts (N, outputs) that a network gives for them in a block of a
    table, and which of them were made, (N, outputs), -1 where there is none."""

    def __init__(self, table: str, block: int, contexts: Ints) -> None:
        self.table, self.block, self.contexts = table, block, contexts
        self.decisions = np.full(contexts.shape, -1, np.int8)


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
            lattice = [ONE * (part.lattice == i) for i in range(3)] + [ONE * part.diagonal]
            place = np.concatenate([np.array(lattice, np.int8), p.features])
            if p.two:
                self._code_modes(coder, p, part, around, place)
            self._code_vectors(coder, p, part, around, place)
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
        return Logits(table, block, found.contexts[which])

    def _asked(self, coder: BitCoder, logits: Logits) -> Asked:
        stream = coder.stream(MOST_BITS * len(logits.contexts))
        return stream, self.tables[logits.table].of(logits.block), logits.contexts, logits.decisions

    # -- modes and vectors ----------------------------------------------------------------------

    def _code_modes(
        self, coder: BitCoder, p: PictureState, part: Pass, around: Ints, place: Activations
    ) -> None:
        x = mode_features(p, part, around, place)
        logits = self._logits_of("modes", "motion_modes", p.sides, x)
        asked, cells = self._asked(coder, logits), part.cells
        found = ask_modes(asked, p.mode[cells], p.suggested is not None)
        p.mode[cells] = found
        at = cells[found == DIRECT]
        p.mv[:, at] = p.toward[:, at]

    def _code_vectors(
        self, coder: BitCoder, p: PictureState, part: Pass, around: Ints, place: Activations
    ) -> None:
        for r in range(len(p.distances)):
            rows, candidates, there, off = guesses(
                r, (p.distances[0], p.distances[-1]), part.cells, part.neighbours, p.mode,
                p.uses[r], p.known_mv[r], p.mv[0], p.guessed,
            )  # fmt: skip
            if len(rows):
                x = vector_features(p, r, part, around, place, rows, candidates, there, off)
                cells = part.cells[rows]
                block = 2 * p.sides + r
                p.mv[r, cells] = self._code_values(
                    coder, block, x, p.mv[r, cells], candidates, there
                )

    def _code_values(
        self, coder: BitCoder, block: int, x: Activations, value: Ints, candidates: Ints,
        there: NDArray[np.bool_],
    ) -> Ints:  # fmt: skip
        """Vectors (N, 2): equal to a candidate, or by the difference from the first one."""
        logits = self._logits_of("candidates", "motion_candidates", block, x)
        choice = ask_candidates(self._asked(coder, logits), candidates, there, value)
        left = np.flatnonzero(choice == CANDIDATES)
        choice[left] = 0
        out = candidates[np.arange(len(choice)), choice]
        if len(left):
            guess = candidates[left, 0]
            found = self._code_differences(coder, block, x[left], value[left] - guess)
            out[left] = limited(guess + found, -MAX_MV, MAX_MV)
        return out

    def _code_differences(self, coder: BitCoder, block: int, x: Activations, value: Ints) -> Ints:
        """Differences (N, 2): all x, then all y."""
        inner = self.hidden("motion.difference", x)
        logits = self.logits("motion.difference.x", "motion_x", block, inner)
        across = ask_numbers(self._asked(coder, logits), np.ascontiguousarray(value[:, 0]))
        inner = self.apply("motion.difference.2", with_across(inner, across))
        logits = self.logits("motion.difference.y", "motion_y", block, inner)
        down = ask_numbers(self._asked(coder, logits), np.ascontiguousarray(value[:, 1]))
        return np.stack([across, down], 1)
