"""Frames and audio packets -> an ordinary media file, chosen by the target's suffix."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol, cast

import av
from av.container import OutputContainer

from ..bitstream.payloads import AudioPacket
from ..errors import OutputError, UsageError
from ..files import STDOUT
from . import matroska
from .audio_sink import AudioSink
from .convert import FULL, LIMITED
from .frame import Frame, MediaInfo, to_video_frame
from .picture import PICTURES, PictureWriter
from .source import reason
from .y4m import Y4MWriter

# suffix -> (libav container, video encoder, its options, audio encoder where packets do not fit)
_X264 = ("libx264", {"crf": "12", "preset": "veryfast"}, "aac")
_VP9 = ("libvpx-vp9", {"crf": "14", "b": "0", "cpu-used": "5", "row-mt": "1"}, "libopus")
_VIDEO = {".mp4": ("mp4", *_X264), ".mov": ("mov", *_X264), ".mkv": ("matroska", *_X264)}
_VIDEO[".webm"] = ("webm", *_VP9)


def check_target(target: str, lossless: bool) -> None:
    """Raises UsageError for a suffix, or a combination, that cannot be written."""
    suffix = Path(target).suffix.lower()
    if target != STDOUT and suffix not in {*_VIDEO, *PICTURES, ".y4m"}:
        raise UsageError(
            f"{target}: write to .mp4, .mov, .mkv, .webm, .y4m, .png, .jpg, or - for y4m on stdout"
        )
    if lossless and suffix != ".mkv":
        raise UsageError("--lossless writes FFV1, which needs a .mkv target")


def is_picture(target: str) -> bool:
    return Path(target).suffix.lower() in PICTURES


class FrameSink(Protocol):
    """What writes a clip. It is complete after ``close``, and to be released in any case."""

    full: bool  # whether it takes no more frames

    def write(self, frame: Frame) -> None: ...
    def audio(self, packet: AudioPacket) -> None: ...
    def close(self) -> None: ...
    def release(self) -> None: ...


def open_writer(path: Path, suffix: str, info: MediaInfo, lossless: bool) -> FrameSink:
    """suffix: of the target, lower case; ``path`` may have another. Raises OutputError."""
    if suffix in PICTURES:
        return PictureWriter(path, suffix, info)
    if suffix == ".y4m":
        return Y4MWriter(path.open("wb"), info)
    return MediaWriter(path, suffix, info, lossless)


class MediaWriter:
    """A container with video and sound. Raises OutputError, InputError for sound of no sense."""

    full = False

    def __init__(self, path: Path, suffix: str, info: MediaInfo, lossless: bool) -> None:
        self._path, self._info = path, info
        container, encoder, options, fallback = _choose(suffix, info, lossless)
        muxing = {}
        self._patch_aspect = container in ("matroska", "webm") and info.sample_aspect != 1
        if container in ("matroska", "webm"):
            # or pictures would begin later wherever sound begins before 0
            muxing = {"avoid_negative_ts": "disabled"}
        if self._patch_aspect:
            muxing.update(matroska.OPTIONS)
        try:
            self._container: OutputContainer = av.open(
                f"file:{self._path}", "w", format=container, container_options=muxing
            )
            stream = self._container.add_stream(encoder, info.frame_rate, dict(options))
        except av.FFmpegError as error:
            raise OutputError(f"writing failed ({reason(error)})") from None
        self._video = cast(av.VideoStream, stream)
        if self._patch_aspect:
            self._video.metadata["title"] = matroska.PLACEHOLDER
        context = self._video.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
        context.sample_aspect_ratio = info.sample_aspect
        context.color_range = FULL if info.colour.full_range else LIMITED
        context.colorspace = info.colour.matrix
        context.color_primaries = info.colour.primaries
        context.color_trc = info.colour.transfer
        context.time_base = self._video.time_base = info.time_base
        self._audio = [AudioSink(self._container, track, fallback) for track in info.tracks]

    def write(self, frame: Frame) -> None:
        out = to_video_frame(frame, self._info)
        try:
            self._container.mux(self._video.encode(out))
        except av.FFmpegError as error:
            raise OutputError(f"writing failed ({reason(error)})") from None

    def audio(self, packet: AudioPacket) -> None:
        if self._audio:
            self._audio[packet.track].write(packet)

    def close(self) -> None:
        try:
            self._container.mux(self._video.encode(None))
            for track in self._audio:
                track.close()
            self._container.close()
            if self._patch_aspect:
                info = self._info
                matroska.set_aspect(self._path, info.width, info.height, info.sample_aspect)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"writing failed ({reason(error)})") from None

    def release(self) -> None:
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()


def _choose(suffix: str, info: MediaInfo, lossless: bool) -> tuple[str, str, dict[str, str], str]:
    """-> (libav container, video encoder, its options, audio encoder)."""
    if lossless:
        # version 3 cuts frames into slices, of which very small ones are not wide or high enough
        small = min(info.width, info.height) < 16
        options = {"level": "1"} if small else {"level": "3", "slicecrc": "1"}
        return "matroska", "ffv1", options, "libopus"
    container, encoder, options, fallback = _VIDEO[suffix]
    if encoder == "libx264" and (info.width % 2 or info.height % 2):
        # H.264 takes no odd sizes in 4:2:0, and QuickTime no VP9: MP4 is what reads most like it
        return "mp4" if container == "mov" else container, _VP9[0], _VP9[1], fallback
    return container, encoder, options, fallback
