"""Adaptive binary arithmetic coding of whole arrays, in integers.

Probabilities come from counts: a context that has seen n0 zeros and n1 ones gives a one the
probability (2 n1 + 1) / (2 (n0 + n1) + 2), rounded down to a multiple of 2^-16 and kept inside
[2^-16, 1 - 2^-16]. All bits of one call use the counts as they were before it, then all are
counted: the order within a call does not matter, and the arithmetic is the same on every machine.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

COUNT_LIMIT = 1023  # a context whose counts add up to more has both halved, rounding up
HALF = 32768.0
_FEW = 6  # bits of a call

_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)

Ints = NDArray[np.int64]
Bits = NDArray[np.int32]


class Counts:
    """Counts of zeros and ones, (blocks, contexts, 2) integers; a call uses one block."""

    def __init__(self, prior: NDArray[np.integer], limit: int = COUNT_LIMIT, unit: int = 1) -> None:
        """unit: what one bit adds to a count."""
        # float64 divides ten times as fast, and the quotients of integers as small as these are
        # never rounded up to a whole number: floor gives what a division of integers does
        self.counts = prior.astype(np.float64)
        self.limit, self.unit = limit, float(unit)

    def code(self, coder: BitCoder, bits: Bits, block: int, contexts: Ints) -> Bits:
        """Code bits (N,) in contexts (N,) of a block, then count them. Returns the bits."""
        if len(contexts) <= _FEW:
            return self._code_few(coder, bits, block, contexts) if len(contexts) else bits
        counts, zero = self.counts[block].reshape(-1), 2 * contexts
        ones = counts.take(zero + 1)
        total = counts.take(zero)
        total += ones
        p = (ones * 131072.0 + 65536.0) / (total * 2.0 + 2.0)
        bits = coder.code(bits, np.minimum(np.maximum(np.floor(p), 1.0), 65535.0))
        np.add.at(counts, zero + bits, self.unit)
        # none of the others is above the limit: first counts are not
        while len(zero := zero[counts.take(zero) + counts.take(zero + 1) > self.limit]):
            seen = np.unique(zero)[:, None] + [0, 1]
            counts[seen] = np.floor((counts[seen] + 1) / 2)
        return bits

    def _code_few(self, coder: BitCoder, bits: Bits, block: int, contexts: Ints) -> Bits:
        """The same one by one: of a few bits, arrays take longer."""
        counts = self.counts[block].reshape(-1)
        get, places, p = counts.item, contexts.tolist(), []
        for at in places:
            zeros, ones = get(2 * at), get(2 * at + 1)
            part = (ones * 131072.0 + 65536.0) // ((zeros + ones) * 2.0 + 2.0)
            p.append(min(max(part, 1.0), 65535.0))
        bits = coder.code(bits, np.array(p))
        for at, bit in zip(places, bits.tolist(), strict=True):
            counts[2 * at + bit] += self.unit
        for at in places:
            zeros, ones = get(2 * at), get(2 * at + 1)
            while zeros + ones > self.limit:
                zeros, ones = (zeros + 1) // 2, (ones + 1) // 2
                counts[2 * at], counts[2 * at + 1] = zeros, ones
        return bits


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
        self.ideal_bits -= float(np.log2(np.where(bits != 0, p, 1 - p)).sum())
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
