"""Frames and audio packets -> an ordinary media file, chosen by the target's suffix."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import OutputContainer

from ..bitstream.payloads import AudioPacket
from ..errors import OutputError, UsageError
from .audio import AudioSink
from .frame import Frame, MediaInfo, to_video_frame

# suffix -> (libav container, video encoder, its options, audio encoder where packets do not fit)
_X264 = ("libx264", {"crf": "12", "preset": "veryfast"}, "aac")
# two encoders that take odd widths and heights in 4:2:0, as H.264 does not
_VP9 = ("libvpx-vp9", {"crf": "14", "b": "0", "cpu-used": "5", "row-mt": "1"}, "libopus")
_VIDEO = {".mp4": ("mp4", *_X264), ".mov": ("mov", *_X264), ".mkv": ("matroska", *_X264)}
_VIDEO[".webm"] = ("webm", *_VP9)
_PICTURES = {
    ".png": ("png", "rgb24"),
    ".jpg": ("mjpeg", "yuvj420p"),
    ".jpeg": ("mjpeg", "yuvj420p"),
}
STDOUT = "-"


def check_target(target: str, lossless: bool) -> None:
    """Raises UsageError for a suffix, or a combination, that cannot be written."""
    suffix = Path(target).suffix.lower()
    if target != STDOUT and suffix not in {*_VIDEO, *_PICTURES, ".y4m"}:
        raise UsageError(
            f"{target}: write to .mp4, .mov, .mkv, .webm, .y4m, .png or .jpg, or - for y4m on stdout"
        )
    if lossless and suffix != ".mkv":
        raise UsageError("--lossless writes FFV1, which needs a .mkv target")


def is_picture(target: str) -> bool:
    return Path(target).suffix.lower() in _PICTURES


class MediaWriter:
    """Writes one clip. Close it for the file to be complete. Raises OutputError."""

    def __init__(
        self, file: str | os.PathLike[str] | BinaryIO, suffix: str, info: MediaInfo, lossless: bool
    ) -> None:
        """suffix: of the target, lower case; ".y4m" for stdout. file: a path or a binary stream."""
        self._info = info
        self._last_pts: int | None = None
        target = os.fspath(file) if isinstance(file, (str, os.PathLike)) else file
        container, encoder, options, fallback = _choose(suffix, info, lossless)
        try:
            self._container: OutputContainer = av.open(target, "w", format=container)
            self._video = self._container.add_stream(
                encoder, rate=info.frame_rate, options=dict(options)
            )
        except av.FFmpegError as error:
            raise OutputError(f"{target}: {error.strerror}") from None
        context = self._video.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
        context.sample_aspect_ratio = info.sample_aspect
        context.color_range = 2 if info.colour.full_range else 1
        context.colorspace = info.colour.matrix
        context.color_primaries = info.colour.primaries
        context.color_trc = info.colour.transfer
        context.time_base = info.time_base
        if suffix == ".y4m":  # has no timestamps, only a rate
            context.time_base = 1 / info.frame_rate
        self._counted = 0
        self._video.time_base = context.time_base
        self._regular = suffix == ".y4m"
        tracks = () if suffix == ".y4m" else info.tracks
        self._audio = [AudioSink(self._container, track, fallback) for track in tracks]

    def write(self, frame: Frame) -> None:
        out = to_video_frame(frame, self._info)
        if self._regular:
            out.pts, out.time_base = self._counted, 1 / self._info.frame_rate
        self._counted += 1
        self._mux(self._video.encode(out))

    def audio(self, packet: AudioPacket) -> None:
        if self._audio:
            try:
                self._audio[packet.track].write(packet)
            except av.FFmpegError as error:
                raise OutputError(f"writing sound failed ({error.strerror})") from None

    def _mux(self, packets: list[av.Packet]) -> None:
        try:
            self._container.mux(packets)
        except av.FFmpegError as error:
            raise OutputError(f"writing failed ({error.strerror})") from None

    def close(self) -> None:
        self._mux(self._video.encode(None))
        for track in self._audio:
            track.close()
        self._container.close()

    def abort(self) -> None:
        """Close without completing the file."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass


def _choose(suffix: str, info: MediaInfo, lossless: bool) -> tuple[str, str, dict[str, str], str]:
    if suffix == ".y4m":
        return "yuv4mpegpipe", "wrapped_avframe", {}, ""
    if lossless:
        return "matroska", "ffv1", {"level": "3", "slicecrc": "1"}, "libopus"
    container, encoder, options, fallback = _VIDEO[suffix]
    if encoder == "libx264" and (info.width % 2 or info.height % 2):
        return container, _VP9[0], _VP9[1], fallback
    return container, encoder, options, fallback


def write_picture(path: str | os.PathLike[str], suffix: str, frame: Frame, info: MediaInfo) -> None:
    """One frame as PNG or JPEG. Raises OutputError."""
    encoder, pixels = _PICTURES[suffix]
    picture = to_video_frame(frame, info)
    matrix = 5 if info.colour.matrix == 2 else info.colour.matrix
    picture.colorspace = matrix
    picture = picture.reformat(
        format=pixels,
        src_color_range=2 if info.colour.full_range else 1,
        dst_color_range=2,
        interpolation="BICUBIC",
    )
    picture.pts = 0
    context = av.VideoCodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = info.width, info.height, pixels
    context.time_base = Fraction(1, 25)
    if encoder == "mjpeg":
        context.options = {"qmin": "1", "qmax": "1"}
    try:
        packets = [*context.encode(picture), *context.encode(None)]
        Path(path).write_bytes(b"".join(bytes(p) for p in packets))
    except av.FFmpegError as error:
        raise OutputError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from None
