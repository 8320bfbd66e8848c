"""What an encoder learns of frames before it codes them: scene cuts, and how far motion reaches."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Thumbnail = NDArray[np.uint8]
_SHORT_SIDE = 90  # pixels of a thumbnail, about
_CUT_FLOOR = 10.0  # grey levels: mean change below which nothing is a cut
_CUT_FACTOR = 3.0  # times the change of the frame before


def thumbnail(y: NDArray[np.uint8]) -> Thumbnail:
    """Luma (H, W) -> reduced by a whole factor."""
    factor = max(1, min(y.shape) // _SHORT_SIDE)
    size = (max(16, y.shape[1] // factor), max(16, y.shape[0] // factor))
    return cv2.resize(y, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


class CutFinder:
    """Tells the frames that begin a new scene: what motion cannot explain, suddenly."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._change = 0.0

    def is_cut(self, frame: Thumbnail) -> bool:
        """Whether ``frame``, the next one, has little to do with the one before."""
        last, before = self._last, self._change
        self._last = frame
        if last is None:
            return False
        plain = float(cv2.absdiff(frame, last).mean())
        if plain < _CUT_FLOOR:
            self._change = plain
            return False
        self._change = np.sqrt(compensated_error(frame, last))
        return self._change > _CUT_FLOOR and self._change > _CUT_FACTOR * (before + 1)


def compensated_error(frame: Thumbnail, reference: Thumbnail) -> float:
    """Mean squared error of a frame predicted by optical flow, or by no motion where that is better."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = dis.calc(frame, reference, None)  # type: ignore[call-overload]
    h, w = frame.shape
    x = flow[..., 0] + np.arange(w, dtype=np.float32)
    y = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
    moved = cv2.remap(reference, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    target = frame.astype(np.float32)
    errors = [cv2.blur(np.square(target - p), (8, 8)) for p in (moved, reference)]
    return float(np.minimum(*errors).mean())


def mini_gop_lengths(anchor: Thumbnail, frames: list[Thumbnail], noise: float) -> list[int]:
    """How to divide the frames after an anchor into mini-GOPs; noise: squared error that costs nothing.

    A longer mini-GOP has fewer anchors, but they are farther apart. A picture predicted from both
    sides is taken to have half the error of one predicted from one side at that distance.
    """
    longest = len(frames)

    def bits(error: float) -> float:
        return float(np.log2(1 + error / noise))

    best, lengths = np.inf, [longest]
    length = longest
    known: dict[int, float] = {}
    for n in _halvings(longest):
        known[n] = compensated_error(frames[n - 1], anchor)
    while length >= 1:
        count = longest / length
        cost = count * bits(known[length])
        between, distance = count, length
        while distance > 1:
            distance = (distance + 1) // 2
            cost += between * bits(known[distance] / 2)
            between *= 2
        if cost < best:
            best = cost
            lengths = [length] * (longest // length) + [longest % length] * (longest % length > 0)
        if length == 1:
            break
        length = (length + 1) // 2
    return lengths


def _halvings(n: int) -> list[int]:
    out = [n]
    while out[-1] > 1:
        out.append((out[-1] + 1) // 2)
    return out
