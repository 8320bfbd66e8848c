"""What an encoder learns of frames before it codes them: scene cuts, and how far motion reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..entropy.structure import ANCHOR, INTRA, Picture, regular

Thumbnail = NDArray[np.uint8]
_SHORT_SIDE = 90  # pixels of a thumbnail, about
DETAIL = 200  # the same of those that tell how long mini-GOPs are
LONG = 8  # frames of a mini-GOP, at most
# log of the size of a GOP in mini-GOPs of 1, 2 and 4, relative to LONG, at equal PSNR: a constant,
# what log(bits of LONG) gives, what log(bits / bits of LONG) gives, the bits being those that the
# lookahead estimates. Fitted to trial encodes of training clips; see docs/decisions.md, "how long
# mini-GOPs are, again"
_GAINS = {1: (-0.31, -0.15, 0.39), 2: (-0.23, -0.09, 0.48), 4: (-0.1, -0.03, 0.54)}
_NEXT_TO_NOTHING = 0.03  # bits a sample that are added to estimates before their logs are taken
_LEAST = 0.03  # of a gain, below which mini-GOPs stay long
_CODED = 800.0  # squared error of a picture that begins to cost, at a quantizer step of 1
_FINE = 4.0  # the same, of whatever step, where steps must not cost more than LONG ...
_NOT_MORE = 0.03  # ... by more than this, of the log
_FLOW_SIDE = 32  # pixels: OpenCV's DIS flow reads beyond pictures that are smaller
_CUT_FLOOR = 10.0  # grey levels: mean change below which nothing is a cut
_CUT_FACTOR = 3.0  # times the change of the frame before


def thumbnail(y: NDArray[np.uint8], short_side: int = _SHORT_SIDE) -> Thumbnail:
    """Luma (H, W) -> reduced by a whole factor."""
    factor = max(1, min(y.shape) // short_side)
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


def compensated_error(frame: Thumbnail, *references: Thumbnail) -> float:
    """Mean squared error of a frame predicted by motion; see ``_errors``."""
    moved = [_moved(frame, reference) for reference in references]
    return float(_errors(frame, references, moved).mean())


def mini_gop_length(anchor: Thumbnail, following: Sequence[Thumbnail], step: float) -> int:
    """Frames of each of the mini-GOPs as which the frames after the anchor, at most LONG, are best
    coded: 1, 2, 4 or LONG. Thumbnails are of DETAIL; step: of the quantizer.

    Pictures far apart let those between profit from both sides, where motion explains them; where
    much is new in each picture, steps from each to the next cost less than the far step.
    """
    look = _Look((anchor, *following))
    coded = _CODED * step
    if look.log_bits(1, _FINE) - look.log_bits(LONG, _FINE) > _NOT_MORE:
        return LONG
    long = look.log_bits(LONG, coded)
    sizes = {
        length: constant + slope * long + more * (look.log_bits(length, coded) - long)
        for length, (constant, slope, more) in _GAINS.items()
    }
    best = min(sizes, key=lambda length: sizes[length])
    return best if sizes[best] < -_LEAST else LONG


class _Look:
    """At some frames in a row: what coding them would take."""

    def __init__(self, frames: Sequence[Thumbnail]) -> None:
        self._frames = frames
        self._moved: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._found: dict[int, list[NDArray[np.float32]]] = {}  # errors, by length

    def log_bits(self, length: int, coded: float) -> float:
        """Log of the estimated bits a sample of all frames but the first in mini-GOPs of a length.
        coded: squared error that begins to cost."""
        if length not in self._found:
            pictures = [p for p in regular([length], len(self._frames)) if p.level != INTRA]
            self._found[length] = [self._error(p.display, _nearest(p)) for p in pictures]
        errors = self._found[length]
        bits = [float(np.log2(1 + error / coded).mean()) / 2 for error in errors]
        return math.log(sum(bits) / len(bits) + _NEXT_TO_NOTHING)

    def _error(self, display: int, references: tuple[int, ...]) -> NDArray[np.float32]:
        for reference in references:
            pair = display, reference
            if pair not in self._moved:
                self._moved[pair] = _moved(*(self._frames[i] for i in pair))
        moved = [self._moved[display, reference] for reference in references]
        return _errors(self._frames[display], [self._frames[r] for r in references], moved)


def _nearest(picture: Picture) -> tuple[int, ...]:
    """An anchor's other reference is too far away to change anything."""
    return picture.refs[:1] if picture.level == ANCHOR else picture.refs


def _errors(
    frame: Thumbnail, references: Sequence[Thumbnail], moved: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Squared error around each pixel of the best of predictions by optical flow, which ``moved``
    is, by none, and of two references by the mean of both."""
    predictions: list[NDArray[Any]] = [*moved]
    predictions += [reference.astype(np.float32) for reference in references]
    if len(references) == 2:
        predictions += [(predictions[i] + predictions[i + 1]) / 2 for i in (0, 2)]
    target = frame.astype(np.float32)
    errors = [cv2.blur(np.square(target - p), (8, 8)) for p in predictions]
    return np.asarray(np.min(errors, axis=0), np.float32)


def _moved(frame: Thumbnail, reference: Thumbnail) -> NDArray[np.float32]:
    """The reference, moved by optical flow to where the frame has it."""
    flow = optical_flow(frame, reference)
    h, w = frame.shape
    x = flow[..., 0] + np.arange(w, dtype=np.float32)
    y = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
    moved = cv2.remap(reference, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved.astype(np.float32)
