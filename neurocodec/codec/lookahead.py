"""What an encoder learns of frames before it codes them: scene cuts, and how far motion reaches."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Thumbnail = NDArray[np.uint8]
_SHORT_SIDE = 90  # pixels of a thumbnail, about
LONG, SHORT = 8, 2  # frames of a mini-GOP
_FAST = 250.0  # squared error of a frame predicted from the one before it
_FLOW_SIDE = 32  # pixels: OpenCV's DIS flow reads beyond pictures that are smaller
_CUT_FLOOR = 10.0  # grey levels: mean change below which nothing is a cut
_CUT_FACTOR = 3.0  # times the change of the frame before


def thumbnail(y: NDArray[np.uint8]) -> Thumbnail:
    """Luma (H, W) -> reduced by a whole factor."""
    factor = max(1, min(y.shape) // _SHORT_SIDE)
    size = (max(16, y.shape[1] // factor), max(16, y.shape[0] // factor))
    return cv2.resize(y, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def optical_flow(frame: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) twice -> (H, W, 2) in pixels: where the reference has what is here. DIS, by OpenCV."""
    h, w = frame.shape
    pad = ((0, max(0, _FLOW_SIDE - h)), (0, max(0, _FLOW_SIDE - w)))
    frame, reference = (np.pad(x, pad, "edge") for x in (frame, reference))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return dis.calc(frame, reference, None)[:h, :w]  # type: ignore[call-overload]


class CutFinder:
    """Tells the frames that begin a new scene: what motion cannot explain, suddenly."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._change: float | None = None  # of the last frame, where it is known

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
        if before is None:  # the clip may move from the start
            return False
        return self._change > _CUT_FLOOR and self._change > _CUT_FACTOR * (before + 1)


def compensated_error(frame: Thumbnail, reference: Thumbnail) -> float:
    """Mean squared error of a frame predicted by optical flow, or by none where that is better."""
    flow = optical_flow(frame, reference)
    h, w = frame.shape
    x = flow[..., 0] + np.arange(w, dtype=np.float32)
    y = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
    moved = cv2.remap(reference, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    target = frame.astype(np.float32)
    errors = [cv2.blur(np.square(target - p), (8, 8)) for p in (moved, reference)]
    return float(np.minimum(*errors).mean())


def mini_gop_length(anchor: Thumbnail, following: Thumbnail) -> int:
    """Frames of the next mini-GOP: few where even the frame after the anchor is hard to predict."""
    return SHORT if compensated_error(following, anchor) > _FAST else LONG
