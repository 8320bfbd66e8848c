"""The Wiener filters of a decoded picture, as they are told: taps, and where luma is filtered.

Adaptive loop filter and its cross-component part, as in VVC (Karczewicz et al., IEEE TCSVT 2021).
Taps are told seldom: pictures take those that the last one of their group had, or bring new ones.

Normative: ``bitstream_spec.md``, section 10.8. Needs no torch; the filters themselves are
``codec/wiener.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .binary import BitCoder, Counts, Ints
from .loop_filter import blocks_of, code_unary
from .structure import ANCHOR, Picture, code_number

CLASSES = 25  # of blocks of 4x4 samples of luma
REGION = 8  # cells on each side of a region of luma that is filtered or not
# Places (down, right) of luma's taps, each of which has a twin on the other side of the sample
TAPS = (
    (0, 1), (0, 2), (0, 3), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -1), (2, 0), (2, 1),
    (3, 0),
)  # fmt: skip
# Of chroma: such in the plane itself, then of luma, relative to the sample at the same place
CHROMA_TAPS = ((0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0))
LUMA_TAPS = ((0, 1), (1, 0), (1, 1), (-1, 0), (-1, 1), (0, -1), (1, -1), (2, 0), (2, 1))
TAP_ONE = 128
MAX_TAP = 127
GROUPS = 3  # of pictures, that have taps of their own: intra, anchors, the others
NEWEST = 2  # level of the deepest pictures that may bring new taps
_DISTANCES = tuple(abs(y) + abs(x) - 1 for y, x in TAPS)  # contexts of a tap
_CHROMA_DISTANCES = tuple(2 + abs(y) + abs(x) for y, x in CHROMA_TAPS) + (5,) * len(LUMA_TAPS)
_SORTS = 6
_DIGITS = 7  # of a magnitude, at most
_COUNT_BITS = 5  # of the number of filters less 1
_AROUND, _BEFORE = 4, 3


@dataclass(frozen=True, eq=False)
class LumaFilter:
    """which: of each class the number of its filter, (CLASSES,). taps: (filters, len(TAPS)), in
    units of 1 / TAP_ONE. regions: (rows, columns), where luma is filtered."""

    which: Ints
    taps: Ints
    regions: NDArray[np.bool_]

    def has_taps_of(self, other: LumaFilter | None) -> bool:
        return (
            other is not None
            and np.array_equal(self.which, other.which)
            and np.array_equal(self.taps, other.taps)
        )


@dataclass(frozen=True, eq=False)
class Wiener:
    """chroma: taps of U and of V, (len(CHROMA_TAPS) + len(LUMA_TAPS),). None: not filtered."""

    luma: LumaFilter | None = None
    chroma: tuple[Ints | None, Ints | None] = (None, None)

    @property
    def changes(self) -> bool:
        """Whether there is anything that it does."""
        return self.luma is not None or any(taps is not None for taps in self.chroma)

    def or_else(self, last: Wiener) -> Wiener:
        """The filters of a picture, and of planes without those that there were last."""
        u, v = (b if a is None else a for a, b in zip(self.chroma, last.chroma, strict=True))
        return Wiener(last.luma if self.luma is None else self.luma, (u, v))


def group_of(picture: Picture) -> int:
    if not picture.refs:
        return 0
    return 1 if picture.level <= ANCHOR else 2


class WienerModel:
    """State of the model within one GOP: counts, and the last filters of each group."""

    def __init__(self, grid: tuple[int, int]) -> None:
        nothing = LumaFilter(
            np.zeros(CLASSES, np.int64), np.zeros((1, len(TAPS)), np.int64),
            np.zeros(blocks_of(grid, REGION), np.bool_),
        )  # fmt: skip
        flat = np.zeros(len(_CHROMA_DISTANCES), np.int64)
        self._last = [nothing] * GROUPS
        self._chroma = [[flat, flat] for _ in range(GROUPS)]
        # of each plane whether the last picture had a filter, _BEFORE - 1 if there is none
        self._before = np.full((GROUPS, 3), _BEFORE - 1)
        self._used = Counts(np.zeros((3 * GROUPS, _BEFORE, 2), np.uint8))
        self._new = Counts(np.zeros((3 * GROUPS, 1, 2), np.uint8))
        self._regions = Counts(np.zeros((GROUPS, _AROUND * _BEFORE, 2), np.uint8))
        self._alike = Counts(np.zeros((1, 1, 2), np.uint8))
        self._digits = Counts(np.zeros((_SORTS, _DIGITS, 2), np.uint8))

    def code(self, coder: BitCoder, group: int, given: Wiener | None) -> Wiener:
        """Code the filters of the next picture in coding order; a decoder gives None."""
        given = given or Wiener()
        luma = self._code_luma(coder, group, given.luma)
        u, v = (self._code_chroma(coder, group, i, taps) for i, taps in enumerate(given.chroma))
        return Wiener(luma, (u, v))

    def _code_luma(
        self, coder: BitCoder, group: int, given: LumaFilter | None
    ) -> LumaFilter | None:
        before, last = self._before[group, 0], self._last[group]
        if not self._is_used(coder, group, 0, given is not None):
            return None
        which, taps = last.which, last.taps
        is_new = given is not None and not given.has_taps_of(last)
        if _code_bit(coder, self._new, 3 * group, 0, is_new):
            which, taps = self._code_taps(coder, given)
        regions = np.zeros_like(last.regions)
        known = last.regions if before == 1 else np.full(regions.shape, _BEFORE - 1)
        above = np.zeros(regions.shape[1] + 2, np.int64)
        for row in range(len(regions)):
            around = above[:-2] + above[1:-1] + above[2:]
            wanted = (regions if given is None else given.regions)[row].astype(np.int32)
            bits = self._regions.code(coder, wanted, group, around * _BEFORE + known[row])
            regions[row] = above[1:-1] = bits
        self._last[group] = LumaFilter(which, taps, regions)
        return self._last[group]

    def _code_chroma(
        self, coder: BitCoder, group: int, plane: int, given: Ints | None
    ) -> Ints | None:
        if not self._is_used(coder, group, 1 + plane, given is not None):
            return None
        last = self._chroma[group][plane]
        is_new = given is not None and not np.array_equal(given, last)
        if _code_bit(coder, self._new, 3 * group + 1 + plane, 0, is_new):
            wanted = last if given is None else given
            self._chroma[group][plane] = self._code_row(coder, _CHROMA_DISTANCES, wanted)
        return self._chroma[group][plane]

    def _is_used(self, coder: BitCoder, group: int, plane: int, wanted: bool) -> bool:
        before = int(self._before[group, plane])
        used = _code_bit(coder, self._used, 3 * group + plane, before, wanted)
        self._before[group, plane] = int(used)
        return used

    def _code_taps(self, coder: BitCoder, given: LumaFilter | None) -> tuple[Ints, Ints]:
        """New ones of luma, and which of them each class has."""
        count = len(given.taps) if given else 1
        count = min(code_number(coder, count - 1, _COUNT_BITS) + 1, CLASSES)
        which = np.zeros(CLASSES, np.int64)
        bits = (count - 1).bit_length()
        for i in range(CLASSES if count > 1 else 0):
            wanted, before = int(given.which[i]) if given else 0, int(which[i - 1]) if i else 0
            if _code_bit(coder, self._alike, 0, 0, wanted == before):
                which[i] = before
            else:
                which[i] = min(code_number(coder, wanted, bits), count - 1)
        taps = given.taps if given else np.zeros((count, len(TAPS)), np.int64)
        return which, np.stack([self._code_row(coder, _DISTANCES, row) for row in taps])

    def _code_row(self, coder: BitCoder, sorts: tuple[int, ...], wanted: Ints) -> Ints:
        """Taps of a filter, of which each has contexts of its sort."""
        out = np.zeros(len(sorts), np.int64)
        for i, sort in enumerate(sorts):
            size = abs(int(wanted[i]))
            digits = code_unary(coder, self._digits, sort, 0, size.bit_length(), _DIGITS)
            if digits:
                first = 1 << (digits - 1)
                out[i] = first + code_number(coder, size - first, digits - 1)
                out[i] *= 1 - 2 * code_number(coder, int(wanted[i] < 0), 1)
        return out


def _code_bit(coder: BitCoder, table: Counts, block: int, context: int, wanted: bool) -> bool:
    return bool(table.code(coder, np.array([wanted], np.int32), block, np.array([context]))[0])
