"""The fixed order in which groups of masked cells are coded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..bitstream.limits import MAX_STEPS
from .binary import Ints

ORDER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
# of Bayer (IEEE Int. Conf. Communications, 1973): any first part of it lies evenly on the grid
assert ORDER.size == MAX_STEPS


@lru_cache(maxsize=32)
def steps_of(h: int, w: int, steps: int) -> Ints:
    """(h, w): the step, 0 to ``steps`` - 1, in which each cell is coded. steps: 1 to MAX_STEPS."""
    place = ORDER[np.arange(h)[:, None] % 4, np.arange(w) % 4]
    return (place * steps) // MAX_STEPS
