"""Levels such that they tell their hidden signs (``entropy/signs.py``), at the least cost."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled

# Squared error, in steps^2, that a bit is worth: less than where depths are chosen, so that the
# dead zone stays what it is
_BIT = 0.06
_NEVER = 1e30


@compiled
def hide(
    levels: NDArray[np.int64], values: NDArray[np.float32], depth: NDArray[np.int64],
    shrink: NDArray[np.float32], bits: tuple[float, float, float], every: int, largest: int,
) -> None:  # fmt: skip
    """Change levels (N, D), in place, of cells with depths (N,) in channels.

    values: (N, D), what was quantized, in steps. shrink: (D,), of magnitudes. bits: estimated, of
    a level that is 0, of one that is not, and more for each doubling. largest: magnitude.

    Each level may be one more or less; a path of least squared error and bits through all channels
    (Viterbi) is found over 2 ``every`` states: levels since the last hidden sign, and whether the
    sum of their magnitudes is odd.
    """
    n, d = values.shape
    count = 2 * every
    cost, after = np.empty(count), np.empty(count)
    size, origin = np.empty((d, count), np.int64), np.empty((d, count), np.int64)
    for row in range(n):
        if depth[row] == 0:
            continue
        cost[:] = _NEVER
        cost[0] = 0
        for i in range(depth[row]):
            value, odd = abs(values[row, i]), np.int64(values[row, i] < 0)
            middle = abs(levels[row, i])
            after[:] = _NEVER
            for m in range(max(0, middle - 1), min(middle + 1, largest) + 1):
                if m == 0:
                    more = value**2 + _BIT * bits[0]
                else:
                    error = value - (m - shrink[i])
                    more = error**2 + _BIT * (bits[1] + bits[2] * math.log2(m))
                for state in range(count):
                    to, total = state, cost[state] + more
                    if m != 0:
                        to = (state + 2) ^ (m & 1)
                        if to >= count:  # its sign is hidden
                            if (to & 1) != odd:
                                continue
                            to, total = 0, total - _BIT
                    if total < after[to]:
                        after[to], size[i, to], origin[i, to] = total, m, state
            cost[:] = after
        state = int(np.argmin(cost))
        for i in range(depth[row] - 1, -1, -1):
            m = size[i, state]
            levels[row, i] = -m if values[row, i] < 0 else m
            state = origin[i, state]
