"""YUV4MPEG2: uncompressed frames at a constant rate, to a file or a pipe."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import BinaryIO

from ..bitstream.payloads import AudioPacket
from .frame import Frame, MediaInfo

logger = logging.getLogger(__name__)


class Y4MWriter:
    """Writes frames only: the format has neither sound nor timestamps. Lets OSError through."""

    full = False

    def __init__(self, file: BinaryIO, info: MediaInfo) -> None:
        self._file, self._info = file, info
        self._first_pts = 0
        self._count = 0
        self._told = False
        rate, aspect = info.frame_rate, info.sample_aspect
        full = "FULL" if info.colour.full_range else "LIMITED"
        file.write(
            f"YUV4MPEG2 W{info.width} H{info.height} F{rate.numerator}:{rate.denominator} Ip "
            f"A{aspect.numerator}:{aspect.denominator} C420jpeg XYSCSS=420JPEG XCOLORRANGE={full}\n"
            .encode()
        )  # fmt: skip

    def write(self, frame: Frame) -> None:
        if not self._count:
            self._first_pts = frame.pts
        at = (frame.pts - self._first_pts) * self._info.time_base * self._info.frame_rate
        if abs(at - self._count) >= 1 and not self._told:  # in frames
            self._told = True
            rate = float(self._info.frame_rate)
            logger.warning(
                "y4m has no timestamps: frames are %g a second, not as in the clip", rate
            )
        self._count += 1
        self._file.write(b"FRAME\n")
        for plane in frame.planes:
            self._file.write(plane.tobytes())

    def audio(self, packet: AudioPacket) -> None:
        pass

    def close(self) -> None:
        self._file.flush()

    def release(self) -> None:
        if self._file is not getattr(sys.stdout, "buffer", None):
            with contextlib.suppress(OSError):
                self._file.close()
