"""Adaptive binary arithmetic coding of whole arrays, in integers.

Probabilities come from counts: a context that has seen n0 zeros and n1 ones gives a one the
probability (2 n1 + 1) / (2 (n0 + n1) + 2), rounded down to a multiple of 2^-16 and kept inside
[2^-16, 1 - 2^-16]. All bits of one group use the counts as they were before it, then all are
counted: the order within a group does not matter, and the arithmetic is the same on every machine.

Compiled loops code bits one by one, through a ``Stream`` that a coder gives them: decoding is done
there (``bitstream_spec.md``, section 4), and what is encoded is kept until ``constriction`` writes
it.
"""

from __future__ import annotations

import math

import constriction
import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly

COUNT_LIMIT = 1023  # a context whose counts add up to more has both halved, rounding up
HALF = 32768

_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)

Ints = NDArray[np.int64]
Bits = NDArray[np.int32]
# Of a coder: places below, and words to be read, or one number for each bit to be written, twice
# its probability and the bit
Stream = tuple[NDArray[np.uint64], NDArray[np.uint32]]
_LOW, _RANGE, _POINT, _PLACE, _LOST, _DECODING = range(6)
_KEPT = 1 << 16  # bits, before they are written


class Counts:
    """Counts of zeros and ones, (blocks, contexts, 2) int64; a call uses one block."""

    def __init__(self, prior: NDArray[np.integer], limit: int = COUNT_LIMIT, unit: int = 1) -> None:
        """unit: what one bit adds to a count."""
        self.counts = np.array(prior, np.int64, order="C")
        self.limit, self.unit = limit, unit

    def code(self, coder: BitCoder, bits: NDArray[np.integer], block: int, contexts: Ints) -> Bits:
        """Code a group of bits (N,) in contexts (N,) of a block, then count them. Returns the
        bits."""
        found = bits.astype(np.int32)
        if len(contexts):
            stream, contexts = coder.stream(len(contexts)), np.ascontiguousarray(contexts)
            code_group(stream, self.of(block), contexts, found)
        return found

    def of(self, block: int) -> BlockCounts:
        """What compiled loops take."""
        return self.counts[block], self.unit, self.limit


BlockCounts = tuple[Ints, int, int]  # (contexts, 2), unit and limit


@compiled_exactly
def code_group(stream: Stream, table: BlockCounts, contexts: Ints, bits: Bits) -> None:
    """Code bits (N,), in place, in contexts (N,) of a block, then count them."""
    counts, unit, limit = table
    probabilities = np.empty(len(contexts), np.int64)
    for i in range(len(contexts)):
        zeros, ones = counts[contexts[i], 0], counts[contexts[i], 1]
        part = (ones * 131072 + 65536) // ((zeros + ones) * 2 + 2)
        probabilities[i] = min(max(part, 1), 65535)
    _code_given(stream, probabilities, bits)
    for i in range(len(contexts)):
        counts[contexts[i], bits[i]] += unit
    for i in range(len(contexts)):  # those that were not touched stay, above the limit or not
        at = contexts[i]
        while counts[at, 0] + counts[at, 1] > limit:
            counts[at, 0], counts[at, 1] = (counts[at, 0] + 1) // 2, (counts[at, 1] + 1) // 2


@compiled_exactly
def code_raw_group(stream: Stream, bits: Bits) -> None:
    """Code bits (N,), in place, that cost one bit each."""
    _code_given(stream, np.full(len(bits), HALF), bits)


@compiled_exactly
def _code_given(stream: Stream, probabilities: Ints, bits: Bits) -> None:
    """Code bits (N,), in place, whose probabilities of a one are these, in units of 2^-16."""
    for i in range(len(bits)):
        bits[i] = _code_bit(stream, probabilities[i], bits[i])
    if stream[0][_LOST]:
        bits[:] = 0


@compiled_exactly
def _code_bit(stream: Stream, k: int, bit: int) -> int:
    """One bit, with probability k / 65536 of a one."""
    state, words = stream
    if not state[_DECODING]:
        words[state[_PLACE]] = 2 * k + bit
        state[_PLACE] += np.uint64(1)
        return bit
    if state[_LOST]:
        return 0
    whole = np.uint64(1 << 24)
    part = state[_RANGE] >> np.uint64(24)
    zero = ((np.uint64(65536 - k) * (whole - np.uint64(2))) >> np.uint64(16)) + np.uint64(1)
    edge, at = part * zero, state[_POINT] - state[_LOW]
    if at >= part * whole:
        state[_LOST] = 1
        return 0
    found = at >= edge
    if found:
        state[_RANGE] = part * (whole - zero)
        state[_LOW] += edge
    else:
        state[_RANGE] = edge
    if not state[_RANGE] >> np.uint64(32):
        place = state[_PLACE]
        word = np.uint64(words[place]) if place < np.uint64(len(words)) else np.uint64(0)
        for i in (_RANGE, _LOW, _POINT):
            state[i] <<= np.uint64(32)
        state[_POINT] |= word
        state[_PLACE] = place + np.uint64(1)
    return int(found)


@compiled_exactly
def _information(numbers: NDArray[np.uint32]) -> float:
    """What a stream's bits (N,) are worth, in bits."""
    total, product = 0.0, 1.0
    for i in range(len(numbers)):
        p = (numbers[i] >> 1) / 65536
        product *= p if numbers[i] & 1 else 1 - p
        if product < 1e-290:  # a factor is 2^-16 or more
            total, product = total - math.log2(product), 1.0
    return total - math.log2(product)


class BitEncoder:
    """Writes bits. ``code`` returns what it was given, so that one traversal serves both ways."""

    decoding = False

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self._state = np.zeros(6, np.uint64)
        self._kept = np.empty(_KEPT, np.uint32)
        self._counted, self._bits = 0, 0.0

    def stream(self, count: int) -> Stream:
        """Takes as many more bits, at most."""
        if self._state[_PLACE] + count > len(self._kept):
            self._write()
            if count > len(self._kept):
                self._kept = np.empty(count, np.uint32)
        return self._state, self._kept

    @property
    def ideal_bits(self) -> float:
        """Cross-entropy of what was encoded."""
        self._count()
        return self._bits

    def _count(self) -> None:
        place = int(self._state[_PLACE])
        self._bits += _information(self._kept[self._counted : place])
        self._counted = place

    def _write(self) -> None:
        self._count()
        numbers = self._kept[: self._counted]
        # dyadic: exact in float64
        self._coder.encode((numbers & 1).astype(np.int32), _BERNOULLI, (numbers >> 1) / 65536)
        self._state[_PLACE] = self._counted = 0

    def code(self, bits: Bits, probabilities: NDArray[np.integer]) -> Bits:
        """A group of bits (N,) of 0 and 1; probabilities of a one, (N,), in units of 2^-16."""
        return _coded(self, bits, probabilities)

    def finish(self) -> bytes:
        self._write()
        return self._coder.get_compressed().astype("<u4").tobytes()  # type: ignore[no-any-return]


class BitDecoder:
    """Reads what a :class:`BitEncoder` wrote. Damaged data gives wrong bits, never an error.

    Where the bytes are such as no encoder writes, the bits of that group and all later ones are 0.
    """

    decoding = True

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.uint32)
        first, second = (int(word) for word in (*words[:2], 0, 0)[:2])
        point = (first << 32) + second
        self._stream = (np.array([0, (1 << 64) - 1, point, 2, 0, 1], np.uint64), words)

    def stream(self, count: int) -> Stream:
        return self._stream

    def code(self, bits: Bits, probabilities: NDArray[np.integer]) -> Bits:
        """Returns decoded bits (N,); what is given as ``bits`` is ignored."""
        return _coded(self, bits, probabilities)


BitCoder = BitEncoder | BitDecoder


def _coded(coder: BitCoder, bits: Bits, probabilities: NDArray[np.integer]) -> Bits:
    found = bits.astype(np.int32)
    _code_given(coder.stream(len(found)), probabilities.astype(np.int64), found)
    return found


def code_raw(coder: BitCoder, bits: Bits) -> Bits:
    """A group of bits that cost one bit each."""
    return coder.code(bits, np.full(len(bits), HALF))
