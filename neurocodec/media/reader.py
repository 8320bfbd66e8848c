"""Any file that ffmpeg reads -> upright 8-bit 4:2:0 frames and audio packets, in file order."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from ..bitstream.payloads import AudioPacket, Colour
from ..errors import InputError
from .audio import AudioSource, open_tracks
from .frame import Frame, MediaInfo, from_video_frame

logger = logging.getLogger(__name__)

_PICTURE_FORMATS = {"image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe"}
_DIRECT = {"yuv420p", "yuvj420p"}
_BT601, _FULL = 5, 2  # libav's colour space BT470BG, and JPEG range


class MediaReader:
    """Opens a file and, when iterated, yields :class:`Frame` and ``AudioPacket`` in file order.

    ``info`` describes the pictures, ``start`` and ``duration`` are seconds from the first frame.
    Conversions of the pictures are logged, each once. Raises InputError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        audio: str = "copy",
        start: float = 0.0,
        duration: float | None = None,
    ) -> None:
        self.path = Path(path)
        self._start, self._duration = start, duration
        self._noticed: set[str] = set()
        self._container = _open(self.path)
        try:
            self._begin(audio)
        except av.FFmpegError as error:
            self.close()
            raise InputError(f"{path}: not a video that can be read ({_reason(error)})") from None
        except BaseException:
            self.close()
            raise

    def _begin(self, audio: str) -> None:
        videos = [s for s in self._container.streams.video if not _is_cover(s)]
        if not videos:
            raise InputError(f"{self.path}: no video stream in it")
        self._stream = max(videos, key=lambda s: s.codec_context.width * s.codec_context.height)
        self._stream.thread_type = "AUTO"
        self.is_picture = self._container.format.name in _PICTURE_FORMATS
        self._time_base: Fraction = self._stream.time_base or Fraction(1, 90000)
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._nominal = max(1, round(1 / (rate * self._time_base)))
        self._last_pts: int | None = None
        self._first_pts: int | None = None  # of the file, before any cut
        self._origin = 0  # subtracted from every pts

        self._tracks: list[AudioSource] = []
        if audio != "none" and self._container.streams.audio:
            self._tracks = open_tracks(self.path, audio)
        if self._start > 0:
            self._seek()
        self._events = self._demux()
        self._ahead: list[Frame | AudioPacket] = []
        self._first_frame: av.VideoFrame | None = None
        for event in self._events:
            self._ahead.append(event)
            if isinstance(event, Frame):
                break
        if self._first_frame is None or not isinstance(self._ahead[-1], Frame):
            where = " there" if self._start else ""
            raise InputError(f"{self.path}: no frames could be read{where}")
        self.info = self._describe(self._first_frame, self._ahead[-1], rate)

    def _describe(self, frame: av.VideoFrame, upright: Frame, rate: Fraction) -> MediaInfo:
        height, width = upright.y.shape
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        if aspect <= 0:
            aspect = Fraction(1)
        if frame.rotation % 180:
            aspect = 1 / aspect
        colour = Colour(
            int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace), _is_full(frame)
        )
        if _is_rgb(frame):
            colour = Colour(2, 2, _BT601, True)
        return MediaInfo(
            width, height, aspect.limit_denominator(1 << 16), rate.limit_denominator(1 << 20),
            self._time_base, colour, tuple(track.description for track in self._tracks),
        )  # fmt: skip

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frame_duration(self) -> int:
        """Nominal time between frames, in units of the time base."""
        return self._nominal

    @property
    def expected_frames(self) -> int | None:
        """How many frames the file claims to have; it may lie."""
        if self.is_picture:
            return 1
        count = self._stream.frames
        if not count and self._container.duration:
            seconds = self._container.duration / 1_000_000
            count = round(seconds / (self._nominal * self._time_base))
        if self._duration is not None or self._start:
            seconds = count * self._nominal * self._time_base - Fraction(self._start)
            if self._duration is not None:
                seconds = min(seconds, Fraction(self._duration))
            count = round(seconds / (self._nominal * self._time_base))
        return count or None

    def __iter__(self) -> Iterator[Frame | AudioPacket]:
        try:
            yield from self._ahead
            self._ahead = []
            yield from self._events
        except av.FFmpegError as error:
            raise InputError(f"{self.path}: reading failed ({_reason(error)})") from None

    # -- inside ---------------------------------------------------------------------------------

    def _notice(self, text: str) -> None:
        if text not in self._noticed:
            self._noticed.add(text)
            logger.warning("%s: %s", self.path, text)

    def _seek(self) -> None:
        first = next(self._container.decode(self._stream), None)
        if first is None or first.pts is None:
            raise InputError(f"{self.path}: no frames could be read")
        self._first_pts = first.pts
        target = first.pts + int(Fraction(self._start) / self._time_base)
        self._container.seek(target, stream=self._stream)

    def _demux(self) -> Iterator[Frame | AudioPacket]:
        tracks = {track.index: track for track in self._tracks}
        wanted = [self._stream, *(self._container.streams[i] for i in tracks)]
        waiting: list[av.Packet] = []  # until the first frame tells where time begins
        begin: Fraction | None = None if self._start else Fraction(-(1 << 40))
        end: Fraction | None = None
        video_done = False
        for packet in self._container.demux(wanted):
            if packet.stream is not self._stream:
                if packet.dts is None and packet.pts is None:
                    continue
                if begin is None:
                    waiting.append(packet)
                    continue
                yield from self._audio(tracks[packet.stream.index].convert(packet), begin, end)
                if video_done and self._past(packet, end):
                    break
                continue
            if video_done:
                continue
            for frame in self._decode(packet):
                pts = self._pts(frame)
                if self._first_pts is None:
                    self._first_pts = pts
                offset = (pts - self._first_pts) * self._time_base
                if self._start and offset < Fraction(self._start) - self._time_base / 2:
                    continue
                if self._duration is not None and offset >= Fraction(self._start + self._duration):
                    end = (self._first_pts * self._time_base) + Fraction(
                        self._start + self._duration
                    )
                    video_done = True
                    break
                if begin is None:
                    begin = pts * self._time_base
                    self._origin = pts
                    for early in waiting:
                        yield from self._audio(
                            tracks[early.stream.index].convert(early), begin, end
                        )
                    waiting.clear()
                yield self._convert(frame, pts - self._origin)
            if video_done and not tracks:
                break
        if begin is not None:
            for track in self._tracks:
                yield from self._audio(track.flush(), begin, end)

    def _decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return packet.decode()  # type: ignore[return-value]
        except av.error.InvalidDataError:
            self._notice("damaged frames in it were skipped")
            return []

    def _past(self, packet: av.Packet, end: Fraction | None) -> bool:
        return end is not None and packet.pts is not None and packet.pts * packet.time_base > end

    def _audio(
        self, packets: Iterable[AudioPacket], begin: Fraction, end: Fraction | None
    ) -> Iterator[AudioPacket]:
        """Drop packets outside the cut and move the rest to the new origin."""
        for item in packets:
            base = self._tracks[item.track].description.time_base
            at = item.pts * base
            if at >= begin and (end is None or at < end):
                yield replace(item, pts=item.pts - round(self._origin * self._time_base / base))

    def _pts(self, frame: av.VideoFrame) -> int:
        pts = frame.pts
        if pts is None or (self._last_pts is not None and pts <= self._last_pts):
            if not self.is_picture:
                self._notice("timestamps are missing or out of order; filled in")
            pts = 0 if self._last_pts is None else self._last_pts + self._nominal
        self._last_pts = pts
        return pts

    def _convert(self, frame: av.VideoFrame, pts: int) -> Frame:
        if self._first_frame is None:
            self._first_frame = frame
        first = self._first_frame
        if (frame.width, frame.height) != (first.width, first.height):
            self._notice("the resolution changes; all frames are scaled to that of the first")
        elif frame.format.name not in _DIRECT and not _is_rgb(frame):
            self._notice(f"{frame.format.name} is converted to 8-bit 4:2:0")
        if frame.format.name not in _DIRECT or (frame.width, frame.height) != (
            first.width,
            first.height,
        ):
            rotation = frame.rotation
            if _is_rgb(frame):
                frame = frame.reformat(
                    first.width, first.height, "yuv420p",
                    dst_colorspace=_BT601, dst_color_range=_FULL, interpolation="BICUBIC",
                )  # fmt: skip
            else:
                color_range = _FULL if _is_full(frame) else 1
                frame = frame.reformat(
                    first.width, first.height, "yuv420p", interpolation="BICUBIC",
                    src_color_range=color_range, dst_color_range=color_range,
                )  # fmt: skip
            return from_video_frame(frame, pts, rotation)
        return from_video_frame(frame, pts, frame.rotation)


def _open(path: Path) -> InputContainer:
    if path.is_dir():
        raise InputError(f"{path}: is a directory")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        return av.open(str(path))
    except OSError as error:  # FFmpegError is one too
        if isinstance(error, av.FFmpegError):
            reason = f"not a video that can be read ({_reason(error)})"
            raise InputError(f"{path}: {reason}") from None
        raise InputError(f"{path}: {error.strerror}") from None
    except av.FFmpegError as error:
        raise InputError(f"{path}: not a video that can be read ({_reason(error)})") from None


def _reason(error: av.FFmpegError) -> str:
    return (error.strerror or "unknown").lower()


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_rgb(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name.startswith(("gray", "pal8", "mono", "ya"))


def _is_full(frame: av.VideoFrame) -> bool:
    return int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
