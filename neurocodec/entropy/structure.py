"""Which picture of a GOP is predicted from which, and the order in which they are coded.

Normative: ``bitstream_spec.md``, section "Entropy model 1". A GOP is an intra picture and then
mini-GOPs: a picture some way ahead, and by bisection those between it and the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .binary import BitCoder, Counts, code_raw

MAX_FRAMES = 1024  # of a GOP
MAX_MINI_GOP = 16
MAX_LEVEL = 5
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


def regular(lengths: Sequence[int], frames: int) -> list[Picture]:
    """Pictures in coding order of a GOP of mini-GOPs of these lengths, 1 to MAX_MINI_GOP each.

    Where they are too few to fill the frames the last length goes on; the last mini-GOP is cut.
    """
    pictures = [Picture(0, (), INTRA)]
    before = anchor = number = 0
    while anchor < frames - 1:
        end = min(anchor + lengths[min(number, len(lengths) - 1)], frames - 1)
        pictures.append(Picture(end, (anchor, before), ANCHOR))
        pictures += _between(anchor, end, BETWEEN)
        before, anchor, number = anchor, end, number + 1
    return pictures


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


def code_structure(
    coder: BitCoder, pictures: Sequence[Picture] | None, frames: int
) -> list[Picture]:
    """Code the structure of a GOP of 1 to MAX_FRAMES frames; a decoder gives None for pictures.

    An encoder's pictures shall be in coding order, each place in time once, their references coded
    earlier. For a picture of damaged data that is not so, the next one of the regular structure
    stands.
    """
    lengths = _code_lengths(coder, None if pictures is None else _lengths(pictures), frames)
    waiting = regular(lengths, frames)[::-1]
    table = Counts(np.zeros((1, 1, 2), np.uint8))
    out: list[Picture] = []
    done: set[int] = set()
    for i in range(frames):
        while waiting[-1].display in done:
            waiting.pop()
        picture = waiting[-1]  # its references come before it, so they are done
        wanted = picture if pictures is None else pictures[i]
        if _code_bit(coder, wanted != picture, table):
            found = _code_picture(coder, wanted)
            new = found.display < frames and found.display not in done
            if new and done.issuperset(found.refs):
                picture = found
        out.append(picture)
        done.add(picture.display)
    return out


def _lengths(pictures: Sequence[Picture]) -> list[int]:
    """Of the mini-GOPs that come closest to the pictures: those between anchors."""
    anchors = [0, *sorted(p.display for p in pictures if p.level <= ANCHOR)]
    return [min(high - low, MAX_MINI_GOP) for low, high in pairwise(anchors) if high > low]


def _code_lengths(coder: BitCoder, lengths: Sequence[int] | None, frames: int) -> list[int]:
    """Lengths of mini-GOPs until they fill the frames."""
    table = Counts(np.zeros((1, 1, 2), np.uint8))
    out: list[int] = []
    anchor = 0
    while anchor < frames - 1:
        last = out[-1] if out else 8
        wanted = lengths[len(out)] if lengths and len(out) < len(lengths) else last
        if anchor + wanted >= frames - 1 <= anchor + last:
            wanted = last  # both are cut to the same
        if _code_bit(coder, wanted != last, table):
            last = _code_number(coder, wanted - 1, _LENGTH_BITS) + 1
        out.append(last)
        anchor += last
    return out


def _code_picture(coder: BitCoder, picture: Picture) -> Picture:
    display = _code_number(coder, picture.display, _DISPLAY_BITS)
    count = min(_code_number(coder, len(picture.refs), _COUNT_BITS), 2)
    refs = (*picture.refs, 0, 0)[:count]
    refs = tuple(_code_number(coder, r, _DISPLAY_BITS) for r in refs)
    level = min(_code_number(coder, picture.level, _LEVEL_BITS), MAX_LEVEL)
    return Picture(display, refs, level)


def _code_bit(coder: BitCoder, bit: bool, table: Counts) -> bool:
    return bool(table.code(coder, np.array([bit], np.int32), 0, np.zeros(1, np.int64))[0])


def _code_number(coder: BitCoder, number: int, digits: int) -> int:
    """Raw, most significant bit first."""
    bits = (number >> np.arange(digits - 1, -1, -1)) & 1
    return int("".join(map(str, code_raw(coder, bits.astype(np.int32)))), 2)
