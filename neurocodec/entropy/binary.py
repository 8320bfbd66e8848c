"""Adaptive binary arithmetic coding of whole arrays, in integers.

Probabilities come from counts: a context that has seen n0 zeros and n1 ones gives a one the
probability (2 n1 + 1) / (2 (n0 + n1) + 2), rounded down to a multiple of 2^-16 and kept inside
[2^-16, 1 - 2^-16]. All bits of one call use the counts as they were before it, then all are
counted: the order within a call does not matter, and the arithmetic is the same on every machine.
"""

from __future__ import annotations

import math

import constriction
import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly

COUNT_LIMIT = 1023  # a context whose counts add up to more has both halved, rounding up
HALF = 32768.0

_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)

Ints = NDArray[np.int64]
Bits = NDArray[np.int32]


class Counts:
    """Counts of zeros and ones, (blocks, contexts, 2) int64; a call uses one block."""

    def __init__(self, prior: NDArray[np.integer], limit: int = COUNT_LIMIT, unit: int = 1) -> None:
        """unit: what one bit adds to a count."""
        self.counts = np.array(prior, np.int64, order="C")
        self.limit, self.unit = limit, unit

    def code(self, coder: BitCoder, bits: Bits, block: int, contexts: Ints) -> Bits:
        """Code bits (N,) in contexts (N,) of a block, then count them. Returns the bits."""
        if len(contexts):
            counts, contexts = self.counts[block], np.ascontiguousarray(contexts)
            bits = coder.code(bits, _probabilities(counts, contexts))
            _count(counts, contexts, bits, self.unit, self.limit)
        return bits


@compiled_exactly
def _probabilities(counts: Ints, contexts: Ints) -> NDArray[np.float64]:
    """Of a one in contexts (N,) of (contexts, 2) counts, in units of 2^-16."""
    out = np.empty(len(contexts), np.float64)
    for i in range(len(contexts)):
        zeros, ones = counts[contexts[i], 0], counts[contexts[i], 1]
        part = (ones * 131072 + 65536) // ((zeros + ones) * 2 + 2)
        out[i] = min(max(part, 1), 65535)
    return out


@compiled_exactly
def _count(counts: Ints, contexts: Ints, bits: Bits, unit: int, limit: int) -> None:
    for i in range(len(contexts)):
        counts[contexts[i], bits[i]] += unit
    for i in range(len(contexts)):  # those that were not touched stay, above the limit or not
        at = contexts[i]
        while counts[at, 0] + counts[at, 1] > limit:
            counts[at, 0], counts[at, 1] = (counts[at, 0] + 1) // 2, (counts[at, 1] + 1) // 2


@compiled_exactly
def _information(bits: Bits, p: NDArray[np.float64]) -> float:
    """Bits (N,) of 0 and 1, whose probabilities of a one are p, in bits."""
    total, product = 0.0, 1.0
    for i in range(len(bits)):
        product *= p[i] if bits[i] else 1 - p[i]
        if product < 1e-290:  # a factor is 2^-16 or more
            total, product = total - math.log2(product), 1.0
    return total - math.log2(product)


class BitEncoder:
    """Writes bits. ``code`` returns what it was given, so that one traversal serves both ways."""

    decoding = False

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self.ideal_bits = 0.0  # cross-entropy of what was written

    def code(self, bits: Bits, probabilities: NDArray[np.float64]) -> Bits:
        """bits: (N,) of 0 and 1; probabilities of a one, (N,), whole numbers of 2^-16."""
        p = probabilities / 65536  # dyadic: exact in float64
        self._coder.encode(bits, _BERNOULLI, p)
        self.ideal_bits += _information(bits, p)
        return bits

    def finish(self) -> bytes:
        return self._coder.get_compressed().astype("<u4").tobytes()  # type: ignore[no-any-return]


class BitDecoder:
    """Reads what a :class:`BitEncoder` wrote. Damaged data gives wrong bits, never an error.

    Where the bytes are such as no encoder writes, the bits of that call and all later ones are 0.
    """

    decoding = True

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._lost = False

    def code(self, bits: Bits, probabilities: NDArray[np.float64]) -> Bits:
        """Returns decoded bits (N,); what is given as ``bits`` is ignored."""
        if not self._lost:
            try:
                return self._coder.decode(_BERNOULLI, probabilities / 65536)  # type: ignore[no-any-return]
            except AssertionError:  # constriction's word for invalid data
                self._lost = True
        return np.zeros(len(probabilities), np.int32)


BitCoder = BitEncoder | BitDecoder


def code_raw(coder: BitCoder, bits: Bits) -> Bits:
    """Bits that cost one bit each."""
    return coder.code(bits, np.full(len(bits), HALF)) if len(bits) else bits
