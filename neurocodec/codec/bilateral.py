"""The bilateral filter (Tomasi and Manduchi, ICCV 1998): means of neighbours, weighted by how near
they are and how alike.

The weight of two samples is one for both, so it is found once. OpenCV's filter, which looks up
weights one after the other, takes twice as long.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled_exactly
from ..vectors import LANES, falling


def bilateral(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """The filter of samples (H, W), uint8 or float32, to as many of the same. radius: of a round
    window, up to LANES. near, alike: standard deviations over distance, in samples, and over
    values."""
    if plane.device.type != "cpu":
        return bilateral_by_shifts(plane, radius, near, alike)
    h, w = plane.shape
    height, width = h + 2 * radius, -(-(w + 2 * radius) // LANES) * LANES
    flat = np.zeros(height * width + 2 * LANES, np.float32)
    margins = (radius, radius), (radius, width - w - radius)
    flat[LANES:-LANES] = np.pad(plane.numpy(), margins, "edge").ravel()
    rows, columns, distance = _neighbours(radius)
    far = (distance * np.float32(0.5 / near**2)).astype(np.float32)
    out = np.empty((h, w), np.float32)
    _filter(flat, rows, columns, far, np.float32(0.5 / alike**2), radius, out)
    return torch.from_numpy(np.rint(out).astype(np.uint8) if plane.dtype == torch.uint8 else out)


@functools.cache
def _neighbours(radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of those in a round window that are in the same row or below, and squares of
    their distances."""
    reach = np.arange(-radius, radius + 1)
    square = np.add.outer(reach**2, reach**2)
    rows, columns = np.nonzero(square <= radius**2)
    rows, columns = rows - radius, columns - radius
    used = (rows > 0) | ((rows == 0) & (columns != 0))
    return rows[used], columns[used], (rows**2 + columns**2)[used]


@compiled_exactly
def _filter(
    flat: Any, rows: Any, columns: Any, far: Any, alike: Any, radius: Any, out: Any
) -> None:
    """flat: rows of samples with what is around them, between LANES others. Sums of weights, and of
    weighted samples, are kept of as many rows as a window reaches down. What is read or added
    beyond the ends of a row is of no row's samples."""
    h, w = out.shape
    height, kept = h + 2 * radius, radius + 1
    width = (len(flat) - 2 * LANES) // height
    second = kept * width + 2 * LANES
    sums = np.zeros(2 * second, np.float32)
    one = np.float32(1)
    for y in range(height):
        here, to = LANES + y * width, LANES + y % kept * width
        for k in range(len(far)):
            below = y + rows[k]
            if below == y:
                _of_one(flat, here, here + columns[k], alike, far[k], sums, to, to, second, width)
            elif below < height:
                there = LANES + below * width + columns[k]
                other = LANES + below % kept * width + columns[k]
                _of_both(flat, here, there, alike, far[k], sums, to, other, second, width)
        at = y - radius
        if at >= 0 and at < h:
            for i in range(w):
                of = to + radius + i
                out[at, i] = (sums[second + of] + flat[here + radius + i]) / (sums[of] + one)
        for i in range(to, to + width):
            sums[i] = 0
            sums[second + i] = 0


_of_one, _of_both = falling(False), falling(True)


def bilateral_by_shifts(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """As :func:`bilateral`, on any device."""
    h, w = plane.shape
    side = 2 * radius + 1
    x = plane.float()
    wide = F.pad(x[None, None], (radius,) * 4, mode="replicate")[0, 0]
    reach = torch.arange(-radius, radius + 1, device=plane.device).float().square()
    square = reach[:, None] + reach
    outside = square > radius * radius
    far = square.mul_(0.5 / near**2).masked_fill_(outside, math.inf)[..., None, None]
    total, weights = torch.zeros_like(x), torch.zeros_like(x)
    for row in range(side):  # of the window: all of it at once would take too much memory
        there = wide.as_strided((side, h, w), (1, wide.shape[1], 1), row * wide.shape[1])
        weight = (there - x).square_().mul_(-0.5 / alike**2).sub_(far[row]).exp_()
        weights += weight.sum(0)
        total += weight.mul_(there).sum(0)
    found = total / weights
    return found.round_().byte() if plane.dtype == torch.uint8 else found
