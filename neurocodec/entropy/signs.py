"""Signs of levels, some of them hidden: what the magnitudes beside them tell is not coded.

Sign data hiding, as in HEVC (Clare, Henry and Jung, JCTVC-G271, 2011): of every so many levels of a
cell that are not 0 the last one is negative if the sum of their magnitudes is odd. An encoder sees
to that (``tokenizer/hidden_signs.py``), which costs less than a bit.

Normative: ``bitstream_spec.md``, section 10.6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from .binary import BitCoder, Counts, Ints

HIDDEN_EVERY = 5  # of so many levels that are not 0 the last one's sign is hidden
Signs = NDArray[np.int8]  # -1 or 1; 0 where they are not known


def code_signs(
    coder: BitCoder, table: Counts, block: int, level: Ints, size: Ints, contexts: Ints,
    hidden: Signs | None = None,
) -> Signs:  # fmt: skip
    """Signs (N, K) of levels whose magnitudes are ``size``, or any number but 0 if they are not
    known yet; what that of a 0 is does not matter. hidden: those that are not coded."""
    known = np.zeros(size.shape, np.int8) if hidden is None else hidden
    assert coder.decoding or (known * level >= 0).all(), "levels do not tell their hidden signs"
    told = np.nonzero((size != 0) & (known == 0))
    bits = (level[told] < 0).astype(np.int32)
    negative = table.code(coder, bits, block, contexts[told])
    signs = known.copy()
    signs[told] = 1 - 2 * negative
    return signs


@compiled_exactly
def hidden_signs(
    levels: NDArray[np.int16], cells: Ints, stage: int, size: Ints, every: int
) -> Signs:
    """Those of one stage that are hidden, (N, K), and 0 elsewhere.

    levels: (cells, S, K), of which those of the stages before are known; cells: (N,), which of
    them; size: (N, K), magnitudes of this stage.
    """
    n, k = size.shape
    out = np.zeros((n, k), np.int8)
    for i in range(n):
        count, total = 0, 0
        for s in range(stage):
            for j in range(k):
                level = levels[cells[i], s, j]
                if level != 0:
                    count, total = count + 1, total + abs(level)
                    if count == every:
                        count, total = 0, 0
        for j in range(k):
            if size[i, j] != 0:
                count, total = count + 1, total + size[i, j]
                if count == every:
                    out[i, j] = 1 - 2 * (total & 1)
                    count, total = 0, 0
    return out
