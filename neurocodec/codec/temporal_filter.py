"""Noise taken out of the frames that many others are predicted from.

What comes and goes from frame to frame cannot be predicted: coded in the picture at the end of a
mini-GOP it costs there, and again in all that are predicted from it, which do not have it. So that
frame is averaged with its neighbours in time, moved to where it is by optical flow, as far as they
agree. Motion-compensated temporal filtering after Enhorn, Sjoberg and Wennersten, "A temporal
pre-filter for video coding based on bilateral filtering" (ICIP 2020), as VTM and VVenC have it. A
decoder knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..media.frame import Frame
from .effort import REACH
from .lookahead import LONG, mini_gop_length, moved, optical_flow, thumbnail

_STRENGTH = 0.8  # weight of a frame next to the filtered one, which has 1
_FADE = (0.85, 0.57, 0.41, 0.33, 0.3, 0.27, 0.25, 0.23)  # by distance in time
assert len(_FADE) == REACH
# Grey levels by which samples may differ to be taken for the same thing: the first, times a power
# of the quantizer step in grey levels
_SIGMA, _POWER = 2.14, 0.75
# Squared error of a block, relative to that of the above, up to which it agrees, and twice which is
# too much; and its weight if less than the one and the other
_ERROR, _AGREES, _MAY = 0.12, 1.2, 0.8
_BLOCK = 8  # luma pixels

Plane = NDArray[np.uint8]
Samples = NDArray[np.float32]
Given = tuple[Frame, "int | None"]


def filtered(frame: Frame, others: dict[int, Frame], step: float) -> Frame:
    """A frame and what its neighbours, by distance in time from -REACH to REACH, have in common.

    step: of the quantizer, of the range 0..1, that the GOP will have.
    """
    sigma2 = (_SIGMA * (255 * step) ** _POWER) ** 2
    by_difference = np.exp(-np.square(np.arange(256)) / (2 * sigma2)).astype(np.float32)
    total = [plane.astype(np.float32) for plane in frame.planes]
    weights = [np.ones_like(plane) for plane in total]
    for distance, other in others.items():
        flow = optical_flow(frame.y, other.y, fine=True)
        halved: Samples = cv2.resize(flow, frame.u.shape[::-1], interpolation=cv2.INTER_AREA) / 2  # type: ignore[assignment]
        table = by_difference * (_STRENGTH * _FADE[abs(distance) - 1])
        for i, along in enumerate((flow, halved, halved)):
            there = moved(other.planes[i], along, cv2.INTER_CUBIC)
            weight = _weight(frame.planes[i], there, table, _ERROR * sigma2)
            weights[i] += weight
            cv2.accumulateProduct(there.astype(np.float32), weight, total[i])
    y, u, v = (
        np.clip(np.rint(t / w), 0, 255).astype(np.uint8)
        for t, w in zip(total, weights, strict=True)
    )
    return replace(frame, y=y, u=u, v=v)


def _weight(plane: Plane, there: Plane, by_difference: Samples, error: float) -> Samples:
    """Of samples: by their difference, and by the squared error around them."""
    difference = cv2.absdiff(plane, there)
    around = cv2.sqrBoxFilter(difference, cv2.CV_32F, (_BLOCK, _BLOCK))
    of_block = np.where(around < error, _AGREES, np.where(around < 2 * error, _MAY, 0))
    weight: Samples = cv2.LUT(difference, by_difference)  # type: ignore[assignment]
    return weight * of_block.astype(np.float32)


class TemporalFilter:
    """Frames of one GOP as they come, to the same frames, with those filtered that many others are
    predicted from: the first of all and every LONG, but where each frame is predicted from the one
    before it. Each comes when the frames it needs are there, with the length of the mini-GOPs that
    end with it, where that had to be found."""

    def __init__(self, step: float, reach: int = REACH) -> None:
        """step: as of ``filtered``. reach: frames before and behind, 0 to REACH; 0: none."""
        self._step, self._reach = step, reach
        self._frames: dict[int, Frame] = {}  # by place in the GOP
        self._next = self._count = 0  # to give, that came
        self._lengths = {0: LONG}  # of mini-GOPs, by where they end

    def add(self, frame: Frame) -> Iterator[Given]:
        self._frames[self._count] = frame
        self._count += 1
        while self._next + self._ahead() < self._count:
            yield self._give()

    def flush(self) -> Iterator[Given]:
        while self._next < self._count:
            yield self._give()

    def _ahead(self) -> int:
        """Frames behind the next one to give that it needs."""
        if self._next % LONG or not self._reach:
            return 0
        return self._reach if self._next else max(self._reach, LONG)  # see _leads

    def _give(self) -> Given:
        at = self._next
        self._next += 1
        frame = self._frames[at]
        if at % LONG == 0 and self._reach and self._leads(at):
            others = {k - at: f for k, f in self._frames.items() if 0 < abs(k - at) <= self._reach}
            frame = filtered(frame, others, self._step)
        oldest = -(-self._next // LONG) * LONG - LONG
        self._frames = {k: f for k, f in self._frames.items() if k >= oldest}
        return frame, self._lengths.get(at) if at else None

    def _leads(self, at: int) -> bool:
        """Whether mini-GOPs of more than a frame end here, or begin with the first frame."""
        end = max(at, LONG)
        if end not in self._lengths:
            places = range(end - LONG, end + 1)
            small = [thumbnail(self._frames[k].y) for k in places if k in self._frames]
            if len(small) == 1:
                return False
            before = self._lengths[end - LONG]
            self._lengths = {end: mini_gop_length(small[0], small[1:], self._step, before)}
        return self._lengths[end] > 1
