"""Which picture of a GOP is predicted from which, and the order in which they are coded.

Normative: ``bitstream_spec.md``, section "Entropy model 1". A GOP is an intra picture and then
mini-GOPs: a picture some way ahead, and by bisection those between it and the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .binary import BitCoder, Counts, code_raw

MAX_FRAMES = 1024  # of a GOP
MAX_MINI_GOP = 16
MAX_LEVEL = 5
MAX_KEPT = 24  # pictures, beyond which no irregular one is taken: decoders hold them in memory
FIRST_LENGTH = 8  # of a mini-GOP that no other came before
INTRA, ANCHOR, BETWEEN = 0, 1, 2  # levels; those between go on with 3, 4, 5
_LENGTH_BITS = 4  # of a mini-GOP's length less 1
_DISPLAY_BITS = 10
_COUNT_BITS = 2
_LEVEL_BITS = 3


@dataclass(frozen=True)
class Picture:
    """One picture: display, its place in time from 0; refs, those of its references."""

    display: int
    refs: tuple[int, ...]  # none, one or two; two may be the same
    level: int  # 0 to MAX_LEVEL: how deep in the hierarchy

    @property
    def pair(self) -> tuple[int, int]:
        """Both references; one that is alone counts for both. Not of an intra picture."""
        first, second = (self.refs * 2)[:2]
        return first, second


def regular(lengths: Sequence[int], frames: int) -> list[Picture]:
    """Pictures in coding order of a GOP of mini-GOPs of these lengths, 1 to MAX_MINI_GOP each.

    Where they are too few to fill the frames the last length goes on; the last mini-GOP is cut.
    """
    pictures = [Picture(0, (), INTRA)]
    before = anchor = number = 0
    while anchor < frames - 1:
        length = min(lengths[min(number, len(lengths) - 1)], frames - 1 - anchor)
        pictures += mini_gop(before, anchor, length)
        before, anchor, number = anchor, anchor + length, number + 1
    return pictures


def mini_gop(before: int, anchor: int, length: int) -> list[Picture]:
    """The pictures after ``anchor``, in coding order; before: the anchor before that one, or it."""
    end = anchor + length
    return [Picture(end, (anchor, before), ANCHOR), *_between(anchor, end, BETWEEN)]


def _between(low: int, high: int, level: int) -> list[Picture]:
    middle = (low + high) // 2
    if middle == low:
        return []
    deeper = min(level + 1, MAX_LEVEL)
    return [
        Picture(middle, (low, high), level),
        *_between(low, middle, deeper),
        *_between(middle, high, deeper),
    ]


class StructureModel:
    """Codes the places of the pictures of one GOP, one after the other.

    kept: displays of the pictures that those to come may refer to: the last two anchors of regular
    mini-GOPs, and what has been coded of the present one and of those to come.
    """

    def __init__(self, frames: int) -> None:
        """frames: of the GOP, 1 to MAX_FRAMES; an encoder that does not know gives the most."""
        self._frames = frames
        self._before = self._anchor = 0
        self._length = FIRST_LENGTH
        self._waiting = [Picture(0, (), INTRA)]  # what the regular structure has next, last first
        self._done: set[int] = set()
        self._lengths = Counts(np.zeros((1, 1, 2), np.uint8))
        self._regular = Counts(np.zeros((1, 1, 2), np.uint8))
        self.kept: tuple[int, ...] = ()

    def code(self, coder: BitCoder, picture: Picture | None) -> Picture:
        """Code the next picture in coding order; a decoder gives None. Not more than ``frames``.

        An encoder's pictures shall have each place in time once, and references that are kept, and
        be the regular structure's where MAX_KEPT are kept. In place of what damaged data says
        beyond that, the regular structure's next picture stands.
        """
        while self._waiting and self._waiting[-1].display in self._done:
            self._waiting.pop()
        while not self._waiting:
            self._start(coder, picture)
        expected = self._waiting[-1]  # its references come before it, so they are kept
        wanted = picture or expected
        found = expected
        if _code_bit(coder, wanted != expected, self._regular):
            other = _code_picture(coder, wanted)
            new = other.display < self._frames and other.display not in self._done
            room = len(self.kept) < MAX_KEPT
            if new and room and set(self.kept).issuperset(other.refs):
                found = other
        self._done.add(found.display)
        self.kept = (*self.kept, found.display)
        return found

    def _start(self, coder: BitCoder, picture: Picture | None) -> None:
        """Begin the next mini-GOP."""
        left = self._frames - 1 - self._anchor
        wanted = self._length
        if picture is not None and picture.level == ANCHOR:
            wanted = min(max(picture.display - self._anchor, 1), MAX_MINI_GOP)
        if _code_bit(coder, wanted != self._length, self._lengths):
            self._length = code_number(coder, wanted - 1, _LENGTH_BITS) + 1
        length = min(self._length, max(left, 1))
        waiting = mini_gop(self._before, self._anchor, length)[::-1]
        self._waiting = [p for p in waiting if p.display not in self._done]
        self.kept = tuple(k for k in self.kept if k >= self._anchor or k == self._before)
        self._before, self._anchor = self._anchor, self._anchor + length


def _code_picture(coder: BitCoder, picture: Picture) -> Picture:
    display = code_number(coder, picture.display, _DISPLAY_BITS)
    count = min(code_number(coder, len(picture.refs), _COUNT_BITS), 2)
    refs = (*picture.refs, 0, 0)[:count]
    refs = tuple(code_number(coder, r, _DISPLAY_BITS) for r in refs)
    level = min(code_number(coder, picture.level, _LEVEL_BITS), MAX_LEVEL)
    return Picture(display, refs, level)


def _code_bit(coder: BitCoder, bit: bool, table: Counts) -> bool:
    return bool(table.code(coder, np.array([bit], np.int32), 0, np.zeros(1, np.int64))[0])


def code_number(coder: BitCoder, number: int, digits: int) -> int:
    """Raw, most significant bit first; 0 if it has no digits."""
    bits = (number >> np.arange(digits - 1, -1, -1)) & 1
    return int("0" + "".join(map(str, code_raw(coder, bits.astype(np.int32)))), 2)
