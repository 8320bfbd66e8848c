"""Any file that ffmpeg reads -> upright 8-bit 4:2:0 frames and audio packets, in file order."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer
from av.stream import Disposition

from ..bitstream.payloads import AudioPacket
from ..errors import InputError
from .audio import AudioSource, open_tracks
from .convert import Converter
from .cut import exact_seconds
from .frame import Frame, MediaInfo
from .source import open_source, reason

logger = logging.getLogger(__name__)

_ANY_START = 0x200  # libav's AVFMT_TS_DISCONT
_BACK = Fraction(1, 10)  # seconds by which a clock may go back without having started anew
_SKEW = 10  # seconds by which a file's sound may lie behind its pictures


class MediaReader:
    """Opens a file and, when iterated, yields :class:`Frame` and ``AudioPacket`` in file order.

    To be iterated once. ``info`` describes the pictures, ``start`` and ``duration`` are seconds
    from the first frame. Conversions of the pictures are logged, each once. Raises InputError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        audio: str = "copy",
        start: float = 0.0,
        duration: float | None = None,
    ) -> None:
        self.path = Path(path)
        self._start = exact_seconds(start)
        self._duration = None if duration is None else exact_seconds(duration)
        self._noticed: set[str] = set()
        self._container = open_source(self.path)
        try:
            self._begin(audio)
        except av.FFmpegError as error:
            self.close()
            raise InputError(f"{path}: not a video that can be read ({reason(error)})") from None
        except BaseException:
            self.close()
            raise

    def _begin(self, audio: str) -> None:
        self._stream = self._choose_stream()
        self._stream.thread_type = "AUTO"
        name = self._container.format.name
        self.is_picture = name == "image2" or name.endswith("_pipe")
        self._time_base = self._stream.time_base or Fraction(1, 90000)
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        rate = min(max(rate.limit_denominator(1 << 20), Fraction(1, 1 << 20)), Fraction(1 << 20))
        self._nominal = max(1, round(1 / (rate * self._time_base)))
        self._tracks: list[AudioSource] = []
        if audio != "none" and self._container.streams.audio:
            self._tracks = open_tracks(self.path, audio)

        self._first_pts: int | None = None  # of the file, before any cut
        self._last_pts: int | None = None
        self._first_dts: int | None = None  # of the first packet
        self._delay: int | None = None  # of the decoder, where its timestamps are all we have
        self._any_start = bool(self._container.format.flags & _ANY_START)
        self._jump = Fraction(0)  # seconds by which the file's clock was set back so far
        self._expected_dts: dict[int, Fraction] = {}  # stream -> seconds
        self._damaged = False  # since the last good frame
        self._origin = self._clock_start()  # seconds; what becomes 0
        self._convert = Converter(self.path, self._notice)
        self._events = self._demux()
        self._ahead: list[Frame | AudioPacket] = []
        # The first frame tells what all are like. It is read apart where it can be: decoders are
        # frames behind, and a video of few frames may have hours of sound before the first is out.
        with open_source(self.path) as trial:
            frame = self._first_frame(trial)
            if frame is None:
                raise InputError(f"{self.path}: no frames could be read")
            if not self._start:
                self.info = self._describe(self._convert(frame, 0), rate)
                return
            self._seek(trial, frame)
        for event in self._events:
            self._ahead.append(event)
            if isinstance(event, Frame):
                self.info = self._describe(event, rate)
                return
        raise InputError(f"{self.path}: no frames at {float(self._start):g} s or later")

    def _choose_stream(self) -> av.VideoStream:
        """The largest video stream; a cover is none."""
        videos = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not videos:
            raise InputError(f"{self.path}: no video stream in it")
        # libav gives streams of a codec that it does not know no context
        known = [stream for stream in videos if stream.codec_context is not None]
        if not known:
            raise InputError(f"{self.path}: no decoder for its video stream")
        return max(known, key=lambda s: s.codec_context.width * s.codec_context.height)

    def _clock_start(self) -> Fraction:
        """Where the clock of a format that counts from anywhere, as broadcasts do, begins."""
        if not self._any_start:
            return Fraction(0)
        indices = {self._stream.index, *(track.index for track in self._tracks)}
        streams = [self._container.streams[index] for index in sorted(indices)]
        starts = [
            stream.start_time * stream.time_base
            for stream in streams
            if stream.start_time is not None and stream.time_base
        ]
        return min(starts, default=Fraction(0))

    def _describe(self, upright: Frame, rate: Fraction) -> MediaInfo:
        height, width = upright.y.shape
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        aspect = aspect.limit_denominator(1 << 16) if 0.01 < aspect < 100 else Fraction(1)
        if self._convert.turned:
            aspect = 1 / aspect
        return MediaInfo(
            width, height, aspect, rate, self._time_base, self._convert.colour,
            tuple(track.description for track in self._tracks),
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
        frame = self._nominal * self._time_base
        seconds = self._stream.frames * frame
        if not seconds and self._container.duration:
            seconds = Fraction(self._container.duration, 1_000_000)
        if not seconds:
            return None
        seconds -= self._start
        if self._duration is not None:
            seconds = min(seconds, self._duration)
        return max(1, round(seconds / frame))

    def __iter__(self) -> Iterator[Frame | AudioPacket]:
        try:
            yield from self._ahead
            self._ahead = []
            yield from self._events
        except av.FFmpegError as error:
            raise InputError(f"{self.path}: reading failed ({reason(error)})") from None

    # -- inside ---------------------------------------------------------------------------------

    def _notice(self, text: str) -> None:
        if text not in self._noticed:
            self._noticed.add(text)
            logger.warning("%s: %s", self.path, text)

    def _first_frame(self, container: InputContainer) -> av.VideoFrame | None:
        """The next that can be decoded."""
        for packet in container.demux(container.streams[self._stream.index]):
            if _is_dropped(packet):
                continue
            try:
                for frame in packet.decode():
                    return cast(av.VideoFrame, frame)
            except av.FFmpegError:
                continue
        return None

    def _seek(self, trial: InputContainer, first: av.VideoFrame) -> None:
        """Go to a place from which the frame at ``start`` can be decoded.

        Tried on another container: what comes after a seek depends on the format, and only
        decoding tells.
        """
        if first.pts is None:
            return  # nothing to seek by: frames are counted from the beginning
        self._first_pts = first.pts
        for margin in (0, 2, 10):
            target = first.pts + int((self._start - margin) / self._time_base)
            if target <= first.pts:
                return
            try:
                trial.seek(target, stream=trial.streams[self._stream.index])
            except av.FFmpegError:
                continue
            found = self._first_frame(trial)
            wanted = first.pts + self._start / self._time_base
            if found is not None and found.pts is not None and found.pts <= wanted:
                self._container.seek(target, stream=self._stream)
                return

    def _demux(self) -> Iterator[Frame | AudioPacket]:
        tracks = {track.index: track for track in self._tracks}
        wanted = [self._stream, *(self._container.streams[index] for index in tracks)]
        waiting: list[AudioPacket] = []  # sound of the cut, before its first frame is known
        begun = not self._start
        done = False
        for packet in self._container.demux(wanted):
            self._straighten(packet)
            if done and self._is_past(packet):
                break
            if packet.stream_index != self._stream.index:
                sound = tracks[packet.stream_index].convert(packet)
                if begun:
                    yield from self._place(sound)
                else:
                    waiting += (item for item in sound if self._at(item) >= self._cut()[0])
                continue
            if done:
                continue
            for frame in self._decode(packet):
                pts = self._timestamp(frame)
                if self._first_pts is None:
                    self._first_pts = pts
                begin, end = self._cut()
                if pts * self._time_base < begin:
                    continue
                if end is not None and pts * self._time_base >= end:
                    done = True
                    break
                if not begun:
                    begun = True
                    self._origin = pts * self._time_base
                    yield from self._place(waiting)
                    waiting.clear()
                yield self._convert(frame, pts - round(self._origin / self._time_base))
            if done and not tracks:
                break
        if self._last_pts is None:
            raise InputError(f"{self.path}: no frames could be read")
        if begun:
            for track in self._tracks:
                yield from self._place(track.flush())

    def _straighten(self, packet: av.Packet[Any]) -> None:
        """Take the jumps out of a clock that may start anew, as where recordings were joined."""
        base = packet.time_base
        if not self._any_start or packet.dts is None or not base:
            return
        dts = packet.dts * base + self._jump
        expected = self._expected_dts.get(packet.stream_index, dts)
        latest = max(self._expected_dts.values(), default=dts)  # one stream alone may pause
        if dts < expected - _BACK or dts > latest + _SKEW:
            self._jump += expected - dts
            dts = expected
        self._expected_dts[packet.stream_index] = dts + (packet.duration or 0) * base
        shift = round(self._jump / base)
        packet.dts += shift
        if packet.pts is not None:
            packet.pts += shift

    def _cut(self) -> tuple[Fraction, Fraction | None]:
        """Begin and end, in seconds of the file's clock."""
        first = (self._first_pts or 0) * self._time_base
        begin = first + self._start
        return begin, None if self._duration is None else begin + self._duration

    def _is_past(self, packet: av.Packet[Any]) -> bool:
        """Whether no sound of the cut can follow this packet."""
        at = packet.dts if packet.dts is not None else packet.pts
        end = self._cut()[1]
        return at is not None and end is not None and at * packet.time_base > end + _SKEW

    def _at(self, item: AudioPacket) -> Fraction:
        return item.pts * self._tracks[item.track].description.time_base

    def _place(self, packets: Iterable[AudioPacket]) -> Iterator[AudioPacket]:
        """Drop packets outside the cut and count time from its beginning."""
        end = self._cut()[1]
        for item in packets:
            at = self._at(item)
            if (not self._start or at >= self._origin) and (end is None or at < end):
                base = self._tracks[item.track].description.time_base
                yield replace(item, pts=item.pts - round(self._origin / base))

    def _decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        if self._first_dts is None:
            self._first_dts = packet.dts
        if _is_dropped(packet):
            return []
        try:
            frames = self._stream.decode(packet if packet.size else None)
        except av.FFmpegError:
            self._damaged = True
            return []
        # not told before a good frame: a file without one is refused, and that says enough
        if frames and self._damaged:
            self._notice("damaged frames in it were skipped")
        return frames

    def _timestamp(self, frame: av.VideoFrame) -> int:
        """pts of a frame; where the file has none, from the dts or the frame rate."""
        pts = frame.pts
        if self._delay is None:
            self._delay = 0
            if pts is None and frame.dts is not None and self._first_dts is not None:
                self._delay = frame.dts - self._first_dts
        if pts is None:
            pts = frame.dts
        last = self._last_pts
        follows = 0 if last is None else last + self._nominal
        if pts is None:
            pts = follows
            if last is None and not self.is_picture:
                self._notice("no timestamps in it; frames are spaced evenly")
        else:
            pts -= self._delay
            if last is not None and pts <= last:
                self._notice("timestamps are out of order; filled in")
                pts = follows
        self._last_pts = pts
        return pts


def _is_dropped(packet: av.Packet[Any]) -> bool:
    """Some formats have an empty packet where a frame was dropped; without a time it is the end."""
    return not packet.size and packet.dts is not None
