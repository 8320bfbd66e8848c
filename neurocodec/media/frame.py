"""A decoded picture: 8-bit 4:2:0 planes and a timestamp."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from ..bitstream.payloads import AudioTrack, Colour

Plane = NDArray[np.uint8]
Planes = tuple[Plane, Plane, Plane]  # y, u, v


@dataclass
class Frame:
    """y: (H, W), u and v: (ceil(H/2), ceil(W/2)), uint8. pts: in units of the clip's time base.
    concealed: it was lost, and this stands in its place."""

    y: Plane
    u: Plane
    v: Plane
    pts: int
    concealed: bool = False

    @property
    def planes(self) -> Planes:
        return self.y, self.u, self.v


@dataclass(frozen=True)
class MediaInfo:
    """What the pictures of a clip have in common. Width and height are as shown, upright."""

    width: int
    height: int
    sample_aspect: Fraction
    frame_rate: Fraction
    time_base: Fraction
    colour: Colour
    tracks: tuple[AudioTrack, ...] = ()


def to_video_frame(frame: Frame, info: MediaInfo) -> av.VideoFrame:
    """Frame -> PyAV's, with timestamp and colour description."""
    out = av.VideoFrame(info.width, info.height, "yuv420p")
    for target, source in zip(out.planes, frame.planes, strict=True):
        h, w = source.shape
        rows = np.zeros((target.buffer_size // target.line_size, target.line_size), np.uint8)
        rows[:h, :w] = source
        target.update(rows.tobytes())
    out.pts, out.time_base = frame.pts, info.time_base
    out.color_range = 2 if info.colour.full_range else 1
    out.colorspace = info.colour.matrix
    out.color_primaries, out.color_trc = info.colour.primaries, info.colour.transfer
    return out


def planes_of(frame: av.VideoFrame) -> list[Plane]:
    """The planes of a PyAV frame in an 8-bit planar format, as views into it."""
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(rows[: plane.height, : plane.width])
    return planes
