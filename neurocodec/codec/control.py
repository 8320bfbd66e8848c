"""GOPs coded as often as it takes to meet what rate control asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Protocol

import numpy as np

from ..bitstream.payloads import STEP_ONE, AudioPacket, VideoGop
from ..media.frame import Frame, Planes
from .compare import frame_psnr
from .frames import GopEnd, gop_starts
from .rate import Control, GopResult
from .tokens import Tokens

_GOP_OVERHEAD = 24 + 18 + 23  # bytes: head and fields of its section, entry of the index
Events = Iterator[Frame | AudioPacket]
Items = Iterator[Tokens | GopEnd | AudioPacket]
Tokenize = Callable[[Events, float], Items]  # with the step


class GopCoding(Protocol):
    """A GopEncoder, or one in another process."""

    def add(self, tokens: Tokens) -> None: ...

    def finish(self) -> bytes: ...


NewGop = Callable[[int], GopCoding]  # with the step, in units of 1 / STEP_ONE
Decode = Callable[[VideoGop], Iterator[Planes]]


class GopTrier:
    """Codes GOPs as a whole, at any step."""

    def __init__(self, tokenize: Tokenize, new_gop: NewGop, decode: Decode | None) -> None:
        """tokenize: must not begin GOPs of its own. decode: for PSNR, where that is asked."""
        self._tokenize, self._new_gop, self._decode = tokenize, new_gop, decode

    def code(self, frames: list[Frame], step: int) -> tuple[bytes, GopResult]:
        """step: in units of 1 / STEP_ONE."""
        gop = self._new_gop(step)
        for item in self._tokenize(iter(frames), step / STEP_ONE):
            if not isinstance(item, GopEnd | AudioPacket):
                gop.add(item)
        data = gop.finish()
        size = len(data) + _GOP_OVERHEAD
        return data, GopResult(len(frames), size, self._psnr(frames, step, data))

    def _psnr(self, frames: list[Frame], step: int, data: bytes) -> float:
        if self._decode is None:
            return 0.0
        decoded = self._decode(VideoGop(len(frames), 0, 1, step, data))
        rows = [
            frame_psnr(frame, Frame(*planes, frame.pts))
            for frame, planes in zip(frames, decoded, strict=False)
        ]
        y, u, v = np.mean(rows, 0)
        return float((6 * y + u + v) / 8)


def controlled(
    events: Events, trier: GopTrier, control: Control, gop_frames: int, rate: Fraction, cuts: bool
) -> Iterator[GopEnd | AudioPacket]:
    """Coded GOPs, and the audio packets as they come. rate: frames per second; cuts: begin a GOP at
    every scene cut."""

    def finish(frames: list[Frame]) -> GopEnd:
        step: float | None = control.first(float(len(frames) / rate))
        tries = []
        while step is not None:
            units = max(1, round(step * STEP_ONE))
            data, result = trier.code(frames, units)
            tries.append((result, units, data))
            step = control.again(result)
        result, units, data = min(tries, key=lambda t: control.miss(t[0]))
        control.settle(result)
        return GopEnd([frame.pts for frame in frames], units, data)

    for item in whole_gops(events, gop_frames, cuts):
        yield item if isinstance(item, AudioPacket) else finish(item)


def whole_gops(events: Events, gop_frames: int, cuts: bool) -> Iterator[list[Frame] | AudioPacket]:
    """The frames of each GOP, and the audio packets as they come."""
    frames: list[Frame] = []
    for item in gop_starts(events, gop_frames, cuts):
        if isinstance(item, AudioPacket):
            yield item
            continue
        frame, begins = item
        if frames and begins:
            yield frames
            frames = []
        frames.append(frame)
    if frames:
        yield frames
