"""Which parts of a decoded picture the loop filter smooths, and how strongly; coded last of a
picture.

Normative: ``bitstream_spec.md``, section 10.7. Needs no torch; the filter itself is
``codec/loop_filter.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .binary import BitCoder, Counts

STRENGTHS = 4  # 0, which is none, to 3
BLOCK = 4  # cells on each side of a block
_PLANES = 3
_KINDS = 2  # of pictures: intra, and those with references
_AROUND, _BEFORE = 4, 3


@dataclass(frozen=True)
class LoopFilter:
    """strengths: of Y, U and V, each below STRENGTHS. blocks: of 4x4 cells, (rows, columns): where
    luma is smoothed, nowhere if its strength is 0. Chroma is smoothed everywhere. wide: whether
    luma is smoothed at a quarter of its size, too, which it is not if its strength is 0."""

    strengths: tuple[int, int, int]
    blocks: NDArray[np.bool_]
    wide: bool = False


def blocks_of(grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of blocks of a picture of (h, w) cells."""
    h, w = grid
    return -(-h // BLOCK), -(-w // BLOCK)


def unfiltered(grid: tuple[int, int]) -> LoopFilter:
    """The filter of a picture of (h, w) cells that leaves it as it is."""
    return LoopFilter((0, 0, 0), np.zeros(blocks_of(grid), np.bool_))


class LoopFilterModel:
    """State of the model within one GOP: counts, and the filter of the picture coded before."""

    def __init__(self, grid: tuple[int, int]) -> None:
        self._size = blocks_of(grid)
        self._before = unfiltered(grid)
        longer = STRENGTHS * (STRENGTHS - 1)
        self._strengths = Counts(np.zeros((_KINDS * _PLANES, longer, 2), np.uint8))
        self._wide = Counts(np.zeros((_KINDS, _BEFORE, 2), np.uint8))
        self._blocks = Counts(np.zeros((_KINDS, _AROUND * _BEFORE, 2), np.uint8))

    def code(self, coder: BitCoder, intra: bool, given: LoopFilter | None = None) -> LoopFilter:
        """Code the filter of the next picture in coding order; a decoder gives None."""
        kind, before = int(not intra), self._before
        found = []
        for plane in range(_PLANES):
            wanted = given.strengths[plane] if given else 0
            known = before.strengths[plane]
            found.append(self._code_strength(coder, kind * _PLANES + plane, known, wanted))
        blocks, wide = np.zeros(self._size, np.bool_), False
        if found[0]:
            # what the picture before had, where it had a choice
            known = int(before.wide) if before.strengths[0] else 2
            bit = np.array([given is not None and given.wide], np.int32)
            wide = bool(self._wide.code(coder, bit, kind, np.array([known]))[0])
            last = before.blocks if before.strengths[0] else np.full(self._size, 2)
            above = np.zeros(self._size[1] + 2, np.int64)
            for row in range(len(blocks)):
                around = above[:-2] + above[1:-1] + above[2:]
                wanted_row = given.blocks[row] if given else blocks[row]
                contexts = around * _BEFORE + last[row]
                bits = self._blocks.code(coder, wanted_row.astype(np.int32), kind, contexts)
                blocks[row] = bits
                above[1:-1] = bits
        self._before = LoopFilter((found[0], found[1], found[2]), blocks, wide)
        return self._before

    def _code_strength(self, coder: BitCoder, block: int, known: int, wanted: int) -> int:
        """Bits of 1, as many as the strength, and a 0 behind them unless there are three."""
        for i in range(STRENGTHS - 1):
            context = np.array([known * (STRENGTHS - 1) + i])
            bit = np.array([wanted > i], np.int32)
            if not self._strengths.code(coder, bit, block, context)[0]:
                return i
        return STRENGTHS - 1
