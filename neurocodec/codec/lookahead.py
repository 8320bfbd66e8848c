"""What an encoder learns of frames before it codes them: scene cuts, and how far motion reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..entropy.structure import ANCHOR, INTRA, Picture, regular

Thumbnail = NDArray[np.uint8]
_SHORT_SIDE = 90  # pixels of a thumbnail, about
LONG, SHORT = 8, 2  # frames of a mini-GOP; SHORT ones are chosen by trial encodes alone
# What steps from picture to picture, mini-GOPs of one frame each, may be estimated to need relative
# to one of LONG: more where there is much new in each picture, by bits a sample over one, unless
# the quantizer's step is coarser than _FINE; and more where they have been chosen before.
# docs/decisions.md, "how long mini-GOPs are"
_STEPS_PAY, _STEPS_PAY_MORE, _STEPS_STAY = 0.93, 0.06, 1.01
_FINE = 0.32
# Bits a sample below which frames differ by so little that LONG is best for sure, and that noise
# would decide whether to go step by step
_STILL, _QUIET = 0.3, 0.6
_CODED = 4.0  # squared error of a thumbnail that begins to cost
_FLOW_SIDE = 32  # pixels: OpenCV's DIS flow reads beyond pictures that are smaller
_CUT_FLOOR = 10.0  # grey levels: mean change below which nothing is a cut
_CUT_FACTOR = 3.0  # times the change of the frame before


def thumbnail(y: NDArray[np.uint8]) -> Thumbnail:
    """Luma (H, W) -> reduced by a whole factor."""
    factor = max(1, min(y.shape) // _SHORT_SIDE)
    size = (max(16, y.shape[1] // factor), max(16, y.shape[0] // factor))
    return cv2.resize(y, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def optical_flow(
    frame: NDArray[np.uint8], reference: NDArray[np.uint8], fine: bool = False,
    refined: bool = False,
) -> NDArray[np.float32]:  # fmt: skip
    """(H, W) twice -> (H, W, 2) in pixels: where the reference has what is here. DIS, by OpenCV.
    fine: at half resolution and not at a quarter, for twice as long. refined: by its
    variational refinement, for twice as long."""
    h, w = frame.shape
    pad = ((0, max(0, _FLOW_SIDE - h)), (0, max(0, _FLOW_SIDE - w)))
    frame, reference = (np.pad(x, pad, "edge") for x in (frame, reference))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    if not refined:
        dis.setVariationalRefinementIterations(0)
    if fine:
        dis.setFinestScale(1)
        dis.setGradientDescentIterations(12)
        dis.setPatchStride(5)  # of 8x8: in 30% less time than by 4, and as good
    return dis.calc(frame, reference, None)[:h, :w]  # type: ignore[call-overload]


def moved(
    plane: NDArray[np.uint8], flow: NDArray[np.float32], interpolation: int = cv2.INTER_LINEAR
) -> NDArray[np.uint8]:
    """The plane (H, W) where a flow (H, W, 2), in its pixels, says that it comes from."""
    h, w = plane.shape
    x = flow[..., 0] + np.arange(w, dtype=np.float32)
    y = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
    return cv2.remap(plane, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


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
    return float(_errors(frame, references).mean())


def mini_gop_length(
    anchor: Thumbnail, following: Sequence[Thumbnail], step: float, before: int = LONG
) -> int:
    """Frames of each of the mini-GOPs as which the frames after the anchor, at most LONG, are best
    coded: LONG (all of them) or 1. step: of the GOP's quantizer. before: frames of the mini-GOPs
    before them.

    Pictures far apart let those between profit from both sides, where motion explains them; where
    it does not, steps from each picture to the next cost less than the one far step.
    """
    frames = (anchor, *following)
    whole = _bits(frames, LONG)
    each = whole / len(following)
    if each <= _QUIET:
        return LONG
    pay = _STEPS_PAY + _STEPS_PAY_MORE * max(0, each - 1) * min(1, (_FINE / step) ** 3)
    if before == 1:
        pay = max(pay, _STEPS_STAY)
    return 1 if _bits(frames, 1) < pay * whole else LONG


def is_still(frames: Sequence[Thumbnail]) -> bool:
    """Whether frames differ by so little that mini-GOPs of LONG are best for sure."""
    return _bits(frames, LONG) < _STILL * (len(frames) - 1)


def _bits(frames: Sequence[Thumbnail], length: int) -> float:
    """Estimated bits a sample of all frames but the first, added, in mini-GOPs of this length."""
    total = 0.0
    for picture in regular([length], len(frames)):
        if picture.level != INTRA:
            error = _errors(frames[picture.display], [frames[r] for r in _nearest(picture)])
            total += float(np.log2(1 + error / _CODED).mean()) / 2
    return total


def _nearest(picture: Picture) -> tuple[int, ...]:
    """An anchor's other reference is too far away to change anything."""
    return picture.refs[:1] if picture.level == ANCHOR else picture.refs


def _errors(frame: Thumbnail, references: Sequence[Thumbnail]) -> NDArray[np.float32]:
    """Squared error around each pixel of the best of predictions by optical flow, by none, and of
    two references by the mean of both."""
    predictions: list[NDArray[Any]] = [
        moved(reference, optical_flow(frame, reference, refined=True)).astype(np.float32)
        for reference in references
    ]
    predictions += [reference.astype(np.float32) for reference in references]
    if len(references) == 2:
        predictions += [(predictions[i] + predictions[i + 1]) / 2 for i in (0, 2)]
    target = frame.astype(np.float32)
    errors = [cv2.blur(np.square(target - p), (8, 8)) for p in predictions]
    return np.asarray(np.min(errors, axis=0), np.float32)
