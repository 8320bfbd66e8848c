"""Decoded frames of any pixel format, size and orientation -> upright 8-bit 4:2:0 of one kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from ..bitstream.payloads import Colour
from .frame import Frame, Plane, planes_of

LIMITED, FULL = 1, 2  # libav's colour ranges
BT601 = 5  # and its matrix coefficients
_UNSPECIFIED = 2
_DIRECT = {"yuv420p", "yuvj420p"}
# of the two flags, without the first greys get a tint of one level, without the second RGB is 2 off
SCALER = 4 | 0x40000 | 0x2000  # libav's SWS_BICUBIC, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT


class Converter:
    """The first frame decides size, range and orientation; later ones are made to fit it.

    ``colour`` describes the frames given out, once there was one. Each kind of change to the
    picture is told to ``notice`` when it first happens.
    """

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self._path, self._notice = path, notice
        self._size: tuple[int, int] | None = None  # as coded, before turning
        self.turned = False  # whether width and height change places
        self.colour = Colour()

    def __call__(self, frame: av.VideoFrame, pts: int) -> Frame:
        size = frame.width, frame.height
        if self._size is None:
            self._size = size
            self.colour = _colour(frame)
            self._matrix = _display_matrix(self._path, frame)
            a, b, c, d = self._matrix
            self.turned = abs(a) + abs(d) < abs(b) + abs(c)
        full = _is_full(frame)
        if size != self._size:
            self._notice("the resolution changes; all frames are scaled to that of the first")
        elif frame.format.name not in _DIRECT:
            clear = any(component.is_alpha for component in frame.format.components)
            more = ", without its transparency" if clear else ""
            self._notice(f"{frame.format.name} is converted to 8-bit 4:2:0{more}")
        direct = frame.format.name in _DIRECT and full == self.colour.full_range
        if not direct or size != self._size:
            frame = self._reformat(frame, FULL if full else LIMITED)
        y, u, v = (self._upright(plane) for plane in planes_of(frame))
        return Frame(y, u, v, pts)

    def _reformat(self, frame: av.VideoFrame, color_range: int) -> av.VideoFrame:
        assert self._size is not None
        width, height = self._size
        target = FULL if self.colour.full_range else LIMITED
        if _is_grey(frame) and color_range == target:
            color_range = target = FULL  # libav takes grey for full range whatever it is said to be
        # Y'CbCr keeps its matrix, whichever it is: naming one twice keeps libav from refusing
        # those it cannot convert between
        return frame.reformat(
            width, height, "yuv420p",
            src_colorspace=None if _is_rgb(frame) else BT601, dst_colorspace=BT601,
            src_color_range=color_range, dst_color_range=target, interpolation=SCALER,
        )  # fmt: skip

    def _upright(self, plane: Plane) -> Plane:
        a, b, c, d = self._matrix
        if self.turned:  # x' = c y, y' = b x
            plane, flip_x, flip_y = plane.T, c < 0, b < 0
        else:  # x' = a x, y' = d y
            flip_x, flip_y = a < 0, d < 0
        return plane[:: -1 if flip_y else 1, :: -1 if flip_x else 1].copy()


# (a, b, c, d) of libav's display matrix for EXIF's orientations: x' = a x + c y, y' = b x + d y
_TURNS = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
_BY_ANGLE = (1, 8, 3, 6)  # orientation for 0, 90, 180, 270 degrees counter-clockwise


def _display_matrix(path: Path, frame: av.VideoFrame) -> tuple[int, int, int, int]:
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know EXIF's, and then gives none at all
        by_angle = _BY_ANGLE[frame.rotation // 90 % 4]
        return _TURNS.get(_exif_orientation(path), _TURNS[by_angle])
    if data is None:
        return _TURNS[1]
    values = np.frombuffer(memoryview(data), np.int32, 9).tolist()
    return values[0], values[1], values[3], values[4]


def _exif_orientation(path: Path) -> int:
    """Of a picture; 0 where it has none, or is none."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(0x0112, 0))
    except (OSError, ValueError, TypeError, SyntaxError):
        return 0


def _colour(frame: av.VideoFrame) -> Colour:
    matrix = BT601 if _is_rgb(frame) or _is_grey(frame) else _code(int(frame.colorspace))
    primaries, transfer = _code(int(frame.color_primaries)), _code(int(frame.color_trc))
    return Colour(primaries, transfer, matrix, _is_full(frame))


def _code(value: int) -> int:
    """A code point of H.273; reserved ones, libav's own and GBR (of a Y'CbCr frame) are unknown."""
    return value if value not in (0, 3) and 0 < value < 256 else _UNSPECIFIED


def _is_rgb(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name.startswith(("pal8", "xyz", "bayer"))


def _is_grey(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "mono", "ya"))


def _is_full(frame: av.VideoFrame) -> bool:
    if _is_rgb(frame):
        return True
    if _is_grey(frame):
        return int(frame.color_range) != LIMITED
    return int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
