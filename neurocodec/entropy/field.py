"""Motion fields: what they hold, what they point at, and the motion they suggest for others.

Normative: ``bitstream_spec.md``, section "Entropy model 1".
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled_exactly
from .adaptive import Before
from .binary import Ints
from .structure import Picture

MAX_MV = 1023  # largest magnitude of a component, quarter luma samples
# Modes: which references a cell uses; DIRECT: both, with the vectors that known motion suggests
FIRST, SECOND, BOTH, DIRECT = 0, 1, 2, 3


@dataclass(frozen=True)
class Field:
    """Motion of one picture: mode (h, w) uint8; mv (2, h, w, 2) int16, by reference and (x, y).

    Vectors count quarter luma samples. The vector of a reference that a cell does not use is 0.
    """

    mode: NDArray[np.uint8]
    mv: NDArray[np.int16]


def scaled(mv: Ints, to: int, of: int) -> Ints:
    """What a motion of ``mv`` over ``of`` pictures is over ``to`` pictures, halves rounded up."""
    return _scaled(mv.ravel(), to, of).reshape(mv.shape)


@compiled_exactly
def _scaled(mv: Ints, to: int, of: int) -> Ints:
    out = np.empty(len(mv), np.int64)
    for i in range(len(mv)):
        out[i] = scaled_number(mv[i], to, of)
    return out


@compiled_exactly
def scaled_number(mv: int, to: int, of: int) -> int:
    """As :func:`scaled`, of one component."""
    if of < 0:
        to, of = -to, -of
    return min(max((2 * to * mv + of) // (2 * of), -MAX_MV), MAX_MV)


def align_cells(array: NDArray[Any], mv: NDArray[np.int16]) -> NDArray[Any]:
    """Of each cell, what ``array`` (h, w, ...) has where the cell's vector (h, w, 2) points.

    That is at (y + round(mv_y / 32), x + round(mv_x / 32)), halves rounded up, inside the grid.
    """
    h, w = array.shape[:2]
    shift = (mv.astype(np.int64) + 16) >> 5
    y = np.clip(np.arange(h)[:, None] + shift[..., 1], 0, h - 1)
    x = np.clip(np.arange(w) + shift[..., 0], 0, w - 1)
    return array[y, x]


def align_before(field: Field, references: Sequence[Before]) -> Before:
    """The cells that a field points at, of one or two references; where both are used, the larger.

    With one reference all modes of the field are FIRST.
    """
    first, second = references[0], references[-1]
    h, w = first.depth.shape
    depth, magnitude = np.empty_like(first.depth), np.empty_like(first.magnitude)
    mode, mv = field.mode.astype(np.int64), field.mv.astype(np.int64)
    of_first, of_second, found = (
        np.ascontiguousarray(x).reshape(h * w, -1)
        for x in (first.magnitude, second.magnitude, magnitude)
    )
    _align(mode, mv, first.depth, second.depth, of_first, of_second, depth, found)
    return Before(depth, magnitude)


@compiled_exactly
def _align(
    mode: Ints, mv: Ints, first: Ints, second: Ints, first_sizes: NDArray[np.int16],
    second_sizes: NDArray[np.int16], depth: Ints, sizes: NDArray[np.int16],
) -> None:  # fmt: skip
    h, w = first.shape
    for y in range(h):
        for x in range(w):
            to, begun = sizes[y * w + x], False
            for r in range(2):
                if mode[y, x] == 1 - r:  # FIRST or SECOND, the other one
                    continue
                i = min(max(y + ((mv[r, y, x, 1] + 16) >> 5), 0), h - 1)
                j = min(max(x + ((mv[r, y, x, 0] + 16) >> 5), 0), w - 1)
                found, of = (first if r == 0 else second)[i, j], first_sizes[i * w + j]
                if r == 1:
                    of = second_sizes[i * w + j]
                depth[y, x] = max(depth[y, x], found) if begun else found
                for k in range(len(to)):
                    to[k] = max(to[k], of[k]) if begun else of[k]
                begun = True


class MotionMemory:
    """Fields of pictures that are references, and the motion they suggest for other pictures.

    Things are taken to go on as they do: a vector divided by the time it spans is a velocity.
    """

    def __init__(self) -> None:
        self._fields: dict[int, tuple[tuple[int, ...], Field]] = {}  # by display, in coding order

    def cropped(self, rows: slice, columns: slice) -> MotionMemory:
        """A copy, with these cells alone."""
        out = MotionMemory()
        for display, (spans, field) in self._fields.items():
            part = Field(field.mode[rows, columns], field.mv[:, rows, columns])
            out._fields[display] = spans, part
        return out

    def source(self, picture: Picture) -> tuple[tuple[int, ...], Field] | None:
        """Of the references of a picture with two, that which was coded last of those that have
        motion: the distances of its own references, and its field. None where there is none."""
        if len(set(distances_of(picture))) < 2:
            return None
        for display in reversed(self._fields):
            if display in picture.refs:
                return self._fields[display]
        return None

    def suggest(self, picture: Picture) -> NDArray[np.int16] | None:
        """Vectors (2, h, w, 2) for DIRECT cells of a picture, from the field of its source."""
        found = self.source(picture)
        if found is None:
            return None
        spans, field = found
        mv = field.mv.astype(np.int64)
        second = (field.mode == SECOND)[..., None]
        return np.stack(
            [
                np.where(second, scaled(mv[1], d, spans[-1]), scaled(mv[0], d, spans[0]))
                for d in distances_of(picture)
            ]
        ).astype(np.int16)

    def remember(self, picture: Picture, field: Field, kept: Container[int]) -> None:
        """Keep the field of a coded picture, and of those before it the ones in ``kept``."""
        self._fields[picture.display] = distances_of(picture), field
        self._fields = {k: v for k, v in self._fields.items() if k in kept or k == picture.display}


def distances_of(picture: Picture) -> tuple[int, ...]:
    """Of a picture's references from it, in pictures; negative for earlier ones."""
    first, second = picture.pair
    return first - picture.display, second - picture.display
