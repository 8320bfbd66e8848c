"""One frame as PNG or JPEG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av

from ..bitstream.payloads import AudioPacket
from ..errors import OutputError
from .convert import BT601, FULL, LIMITED, SCALER
from .frame import Frame, MediaInfo, to_video_frame
from .source import reason

# suffix -> (encoder, pixel format, encoder options)
PICTURES = {
    ".png": ("png", "rgb24", {}),
    ".jpg": ("mjpeg", "yuvj420p", {"qmin": "1", "qmax": "1"}),
}
PICTURES[".jpeg"] = PICTURES[".jpg"]
_MATRICES = {1, 4, 5, 6, 7, 9}  # that libav can convert from


class PictureWriter:
    """Writes the first frame it is given. Raises OutputError.

    Pictures are full range, and JPEG is BT.601 by definition.
    """

    def __init__(self, path: Path, suffix: str, info: MediaInfo) -> None:
        self._path, self._suffix, self._info = path, suffix, info
        self.full = False

    def write(self, frame: Frame) -> None:
        if self.full:
            return
        self.full = True
        try:
            self._path.write_bytes(self._encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"writing the picture failed ({reason(error)})") from None

    def _encode(self, frame: Frame) -> bytes:
        info = self._info
        encoder, pixels, options = PICTURES[self._suffix]
        picture = to_video_frame(frame, info)
        picture.colorspace = info.colour.matrix if info.colour.matrix in _MATRICES else BT601
        picture = picture.reformat(
            format=pixels, dst_colorspace=BT601, interpolation=SCALER, dst_color_range=FULL,
            src_color_range=FULL if info.colour.full_range else LIMITED,
        )  # fmt: skip
        picture.pts = 0
        context = cast(av.VideoCodecContext, av.VideoCodecContext.create(encoder, "w"))
        context.width, context.height, context.pix_fmt = info.width, info.height, pixels
        context.sample_aspect_ratio = info.sample_aspect
        context.time_base = Fraction(1, 25)
        context.options = dict(options)
        return b"".join(bytes(p) for p in [*context.encode(picture), *context.encode(None)])

    def audio(self, packet: AudioPacket) -> None:
        pass

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass
