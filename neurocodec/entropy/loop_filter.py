"""What the loop filter does to a decoded picture: offsets of large blocks, and which parts it
smooths how strongly; coded last of a picture.

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
OFFSET_BLOCKS = (8, 4)  # cells on each side of a block that has an offset, by what is said of it
MAX_OFFSET = 15
_PLANES = 3
_KINDS = 2  # of pictures: intra, and those with references
_AROUND, _BEFORE = 4, 3
_LARGER = 4  # contexts of whether an offset is larger still

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class LoopFilter:
    """strengths: of Y, U and V, each below STRENGTHS. blocks: of 4x4 cells, (rows, columns): where
    luma is smoothed, nowhere if its strength is 0. Chroma is smoothed everywhere. wide: whether
    luma is smoothed at a quarter of its size, too, which it is not if its strength is 0. offsets:
    of Y, U and V, what is added to their blocks, (rows, columns) of one of OFFSET_BLOCKS; None of a
    plane without, as all planes of intra pictures are."""

    strengths: tuple[int, int, int]
    blocks: NDArray[np.bool_]
    wide: bool = False
    offsets: tuple[Offsets | None, Offsets | None, Offsets | None] = (None, None, None)

    @property
    def changes(self) -> bool:
        """Whether there is anything that it does."""
        return any(self.strengths) or any(offsets is not None for offsets in self.offsets)


def blocks_of(grid: tuple[int, int], side: int = BLOCK) -> tuple[int, int]:
    """Rows and columns of blocks, of so many cells on each side, of a picture of (h, w) cells."""
    h, w = grid
    return -(-h // side), -(-w // side)


def unfiltered(grid: tuple[int, int]) -> LoopFilter:
    """The filter of a picture of (h, w) cells that leaves it as it is."""
    return LoopFilter((0, 0, 0), np.zeros(blocks_of(grid), np.bool_))


class LoopFilterModel:
    """State of the model within one GOP: counts, and the filter of the picture coded before."""

    def __init__(self, grid: tuple[int, int]) -> None:
        self._grid, self._size = grid, blocks_of(grid)
        self._before = unfiltered(grid)
        longer = STRENGTHS * (STRENGTHS - 1)
        self._strengths = Counts(np.zeros((_KINDS * _PLANES, longer, 2), np.uint8))
        self._wide = Counts(np.zeros((_KINDS, _BEFORE, 2), np.uint8))
        self._blocks = Counts(np.zeros((_KINDS, _AROUND * _BEFORE, 2), np.uint8))
        choices = len(OFFSET_BLOCKS)
        self._known_sizes = [0] * _PLANES  # of offsets' blocks in the picture before
        self._sizes = Counts(np.zeros((_PLANES, (choices + 1) * choices, 2), np.uint8))
        self._some = Counts(np.zeros((_PLANES, choices * _AROUND, 2), np.uint8))
        self._negative = Counts(np.zeros((_PLANES, 3, 2), np.uint8))
        self._larger = Counts(np.zeros((_PLANES, _LARGER, 2), np.uint8))

    def code(self, coder: BitCoder, intra: bool, given: LoopFilter | None = None) -> LoopFilter:
        """Code the filter of the next picture in coding order; a decoder gives None."""
        kind, before = int(not intra), self._before
        found = []
        for plane in range(_PLANES):
            wanted = given.strengths[plane] if given else 0
            known = before.strengths[plane]
            block, most = kind * _PLANES + plane, STRENGTHS - 1
            found.append(code_unary(coder, self._strengths, block, known * most, wanted, most))
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
        offsets: list[Offsets | None] = [None] * _PLANES
        if intra:
            self._known_sizes = [0] * _PLANES
        else:
            given_offsets = given.offsets if given else offsets
            for plane in range(_PLANES):
                offsets[plane] = self._code_offsets(coder, plane, given_offsets[plane])
        y, u, v = offsets
        self._before = LoopFilter((found[0], found[1], found[2]), blocks, wide, (y, u, v))
        return self._before

    def _size_of(self, offsets: Offsets | None) -> int:
        """0 of none, 1 of the largest blocks."""
        if offsets is None:
            return 0
        return 1 + [blocks_of(self._grid, side) for side in OFFSET_BLOCKS].index(offsets.shape)

    def _code_offsets(self, coder: BitCoder, plane: int, given: Offsets | None) -> Offsets | None:
        choices, known = len(OFFSET_BLOCKS), self._known_sizes[plane]
        size = code_unary(coder, self._sizes, plane, known * choices, self._size_of(given), choices)
        self._known_sizes[plane] = size
        if not size:
            return None
        out = np.zeros(blocks_of(self._grid, OFFSET_BLOCKS[size - 1]), np.int64)
        above = np.zeros(out.shape[1] + 2, np.int64)
        for row in range(len(out)):
            value = given[row] if given is not None else out[row]
            near = (above != 0).astype(np.int64)
            around = near[:-2] + near[1:-1] + near[2:] + (size - 1) * _AROUND
            bits = self._some.code(coder, (value != 0).astype(np.int32), plane, around)
            some = np.flatnonzero(bits)
            towards = np.sign(above[some] + above[some + 1] + above[some + 2]) + 1
            bits = (value[some] < 0).astype(np.int32)
            negative = self._negative.code(coder, bits, plane, towards)
            length, going = np.ones(len(some), np.int64), np.arange(len(some))
            for i in range(1, MAX_OFFSET):
                bits = (np.abs(value[some[going]]) > i).astype(np.int32)
                contexts = np.full(len(going), min(i, _LARGER) - 1)
                going = going[self._larger.code(coder, bits, plane, contexts) != 0]
                length[going] += 1
                if len(going) == 0:
                    break
            out[row, some] = length * (1 - 2 * negative.astype(np.int64))
            above[1:-1] = out[row]
        return out


def code_unary(
    coder: BitCoder, counts: Counts, block: int, first: int, wanted: int, limit: int
) -> int:
    """A number: as many bits of 1, and a 0 behind them unless it is the limit, in contexts from the
    first one on."""
    for i in range(limit):
        bit = np.array([wanted > i], np.int32)
        if not counts.code(coder, bit, block, np.array([first + i]))[0]:
            return i
    return limit
