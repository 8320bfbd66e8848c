"""Decisions about motion, coded in groups: the compiled loops of ``motion_generator.py``.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from .binary import BlockCounts, Ints, Stream, code_group, code_raw_group
from .field import BOTH, DIRECT, FIRST, SECOND, scaled_number
from .integer import BUCKETS
from .motion import PREFIX, guess_of

MODE_LOGITS = 3  # direct, both, second
_OF_LOGIT = (DIRECT, BOTH, SECOND)
CANDIDATES = 6  # the guess, what the other vector suggests, the four nearest neighbours
# Logits of a difference: 0?, negative?; by sign more bits of the prefix, then the first bit behind
# the prefix, then by sign and that bit the second one
_NONZERO, _NEGATIVE, _MORE, _FIRST_BIT = 0, 1, 2, 2 + 2 * PREFIX
_SECOND_BIT = _FIRST_BIT + 2 * PREFIX
DIFFERENCE_LOGITS = _SECOND_BIT + 4 * PREFIX
MORE_BITS = slice(_MORE, _FIRST_BIT)  # those of the prefix
MOST_BITS = 2 * (1 + PREFIX)  # of a number, and more than of a mode or a choice

# What decisions of N cells are coded with: a block of counts, contexts (N, logits) as buckets, and,
# to be filled, the decisions themselves, -1 where there is none
Asked = tuple[Stream, BlockCounts, Ints, NDArray[np.int8]]


@compiled_exactly
def _ask(asked: Asked, rows: Ints, columns: Ints, bits: NDArray[np.int32]) -> None:
    """A group of decisions (N,), in place, each in the context of one logit of a row."""
    stream, table, contexts, decisions = asked
    at = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        at[i] = columns[i] * BUCKETS + contexts[rows[i], columns[i]]
    code_group(stream, table, at, bits)
    for i in range(len(rows)):
        decisions[rows[i], columns[i]] = bits[i]


@compiled_exactly
def ask_modes(asked: Asked, mode: Ints, direct: bool) -> Ints:
    """Modes (N,), of which those DIRECT are told first if there may be any."""
    found, count = np.full(len(mode), FIRST), len(mode)
    rows, columns, bits = np.arange(count), np.zeros(count, np.int64), np.empty(count, np.int32)
    for logit in range(0 if direct else 1, MODE_LOGITS):
        for i in range(count):
            bits[i], columns[i] = mode[rows[i]] == _OF_LOGIT[logit], logit
        _ask(asked, rows[:count], columns[:count], bits[:count])
        left = 0
        for i in range(count):
            if bits[i]:
                found[rows[i]] = _OF_LOGIT[logit]
            else:
                rows[left] = rows[i]
                left += 1
        count = left
    return found


@compiled_exactly
def ask_candidates(asked: Asked, candidates: Ints, there: NDArray[np.bool_], value: Ints) -> Ints:
    """Which of its candidates (N, CANDIDATES, 2), where they are there and no earlier one is the
    same, each vector (N, 2) is; CANDIDATES for none."""
    n = len(value)
    choice = np.full(n, CANDIDATES)
    rows, columns, bits = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int32)
    for k in range(CANDIDATES):
        count = 0
        for i in range(n):
            if choice[i] != CANDIDATES or not there[i, k]:
                continue
            x, y = candidates[i, k, 0], candidates[i, k, 1]
            fresh = True
            for j in range(k):
                same = candidates[i, j, 0] == x and candidates[i, j, 1] == y
                fresh = fresh and not (there[i, j] and same)
            if fresh:
                rows[count], columns[count] = i, k
                bits[count] = value[i, 0] == x and value[i, 1] == y
                count += 1
        _ask(asked, rows[:count], columns[:count], bits[:count])
        for i in range(count):
            if bits[i]:
                choice[rows[i]] = k
    return choice


@compiled_exactly
def ask_numbers(asked: Asked, value: Ints) -> Ints:
    """Numbers (N,): 0 or not, sign, then Exp-Golomb code of the magnitude less 1, as 1 more."""
    n = len(value)
    rows, columns, bits = np.arange(n), np.zeros(n, np.int64), np.empty(n, np.int32)
    for i in range(n):
        bits[i] = value[i] != 0
    _ask(asked, rows, columns, bits)
    some = np.flatnonzero(bits)
    m = len(some)
    for i in range(m):
        bits[i], columns[i] = value[some[i]] < 0, _NEGATIVE
    _ask(asked, some, columns[:m], bits[:m])
    negative, number = np.empty(m, np.int64), np.empty(m, np.int64)
    for i in range(m):
        negative[i], number[i] = bits[i], abs(value[some[i]])
    length, going, count = np.zeros(m, np.int64), np.arange(m), m
    for digit in range(PREFIX):
        for j in range(count):
            i = going[j]
            rows[j], columns[j] = some[i], _MORE + negative[i] * PREFIX + digit
            bits[j] = number[i] >> (digit + 1) != 0
        _ask(asked, rows[:count], columns[:count], bits[:count])
        left = 0
        for j in range(count):
            if bits[j]:
                going[left] = going[j]
                length[going[j]] += 1
                left += 1
        count = left
        if count == 0:
            break
    size, first = np.ones(m, np.int64), np.zeros(m, np.int64)
    for digit in range(PREFIX):
        count = 0
        for i in range(m):
            if length[i] > digit:
                column = negative[i] * PREFIX + length[i] - 1
                rows[count], going[count] = some[i], i
                columns[count] = _FIRST_BIT + column
                if digit == 1:
                    columns[count] = _SECOND_BIT + 2 * PREFIX * first[i] + column
                bits[count] = (number[i] >> (length[i] - 1 - digit)) & 1
                count += 1
        if count == 0:
            break
        if digit < 2:
            _ask(asked, rows[:count], columns[:count], bits[:count])
        else:
            code_raw_group(asked[0], bits[:count])
        for j in range(count):
            i = going[j]
            if digit == 0:
                first[i] = bits[j]
            size[i] = 2 * size[i] + bits[j]
    out = np.zeros(n, np.int64)
    for i in range(m):
        out[some[i]] = size[i] * (1 - 2 * negative[i])
    return out


@compiled_exactly
def guesses(
    r: int, distances: tuple[int, int], cells: Ints, neighbours: Ints, mode: Ints,
    uses: NDArray[np.bool_], known_mv: Ints, first_mv: Ints, guessed: Ints,
) -> tuple[Ints, Ints, NDArray[np.bool_], Ints]:  # fmt: skip
    """What is known of the vectors over reference r of those cells of a pass that have one.

    neighbours: (N, 4) of cells (N,). mode, first_mv: of all cells, (n,) and (n, 2), the latter over
    the first reference; uses, known_mv: of those that are known, over this one. guessed: (n, 2),
    guesses over the first reference, filled by one call and read by the next. Returns which cells
    (M,) of the pass these are, by number in it; the guess, what the other vector suggests, and the
    neighbours' vectors, candidates (M, CANDIDATES, 2); whether they are there; and (M, 2), by how
    much the other vector was off its guess.
    """
    rows, m = np.empty(len(cells), np.int64), 0
    for i in range(len(cells)):
        if mode[cells[i]] == r or mode[cells[i]] == BOTH:
            rows[m] = i
            m += 1
    rows = rows[:m].copy()
    candidates = np.zeros((m, CANDIDATES, 2), np.int64)
    there = np.zeros((m, CANDIDATES), np.bool_)
    off = np.zeros((m, 2), np.int64)
    near, valid = np.empty((m, 4, 2), np.int64), np.empty((m, 4), np.bool_)
    for i in range(m):
        for j in range(4):
            at = neighbours[rows[i], j]
            near[i, j, 0], near[i, j, 1], valid[i, j] = known_mv[at, 0], known_mv[at, 1], uses[at]
    guess = guess_of(near, valid)
    for i in range(m):
        cell = cells[rows[i]]
        mirrored = r == 1 and mode[cell] == BOTH
        alone = mirrored
        for j in range(4):
            alone = alone and not valid[i, j]
            there[i, 2 + j] = valid[i, j]
            candidates[i, 2 + j, 0], candidates[i, 2 + j, 1] = near[i, j, 0], near[i, j, 1]
        there[i, 0], there[i, 1] = True, mirrored
        for axis in range(2):
            if mirrored:
                own = first_mv[cell, axis]
                candidates[i, 1, axis] = scaled_number(own, distances[1], distances[0])
                off[i, axis] = scaled_number(own - guessed[cell, axis], distances[1], distances[0])
            if alone:
                guess[i, axis] = candidates[i, 1, axis]
            candidates[i, 0, axis] = guess[i, axis]
            if r == 0:
                guessed[cell, axis] = guess[i, axis]
    return rows, candidates, there, off
