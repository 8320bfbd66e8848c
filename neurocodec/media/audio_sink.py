"""Sound out: a track's packets into an output container, encoded anew where they do not fit."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer

from ..bitstream.payloads import AudioPacket, AudioTrack
from ..errors import InputError, OutputError
from .audio import OPUS_RATE, Resampler
from .source import reason

logger = logging.getLogger(__name__)


class AudioSink:
    """Writes one track. Raises InputError for a track that cannot be read, OutputError."""

    def __init__(self, container: OutputContainer, track: AudioTrack, fallback: str) -> None:
        """fallback: encoder for a container that does not take the codec."""
        self._container, self._track = container, track
        self._source = _open_description(track)
        template = self._source.streams.audio[0]
        self._decoder = template.codec_context
        self._encoder: av.AudioStream | None = None
        self._last_pts: int | None = None
        # Matroska has no times before 0. It writes the delay of a codec that states one; of others
        # (AAC from MP4) the packets before 0, which are not to be heard, are left out.
        self._from_zero = container.format.name in ("matroska", "webm") and not self._decoder.delay
        if _fits(container.format.name, track):
            self._stream = container.add_stream_from_template(template)
        else:
            self._stream = self._encoder = self._encode_anew(fallback)
        if track.language:
            self._stream.metadata["language"] = track.language

    def _encode_anew(self, encoder: str) -> av.AudioStream:
        layout = "stereo" if self._track.channels > 1 else "mono"
        codec = self._track.codec
        logger.warning("%s audio does not fit this container; encoded anew, %s", codec, layout)
        rates = av.Codec(encoder, "w").audio_rates or []
        rate = self._track.sample_rate if self._track.sample_rate in rates else OPUS_RATE
        stream = cast(av.AudioStream, self._container.add_stream(encoder, rate=rate))
        stream.codec_context.layout = layout
        self._resampler = Resampler(stream.codec_context.format.name, layout, rate)
        return stream

    def write(self, item: AudioPacket) -> None:
        packet = av.Packet(item.data)
        packet.pts = packet.dts = item.pts
        packet.duration, packet.time_base = item.duration, self._track.time_base
        if self._encoder is not None:
            self._transcode(packet)
        elif not self._from_zero or item.pts + item.duration > 0:
            packet.stream = self._stream
            self._mux([packet], self._track.sample_rate)

    def _transcode(self, packet: av.Packet[Any] | None) -> None:
        assert self._encoder is not None
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            return  # a damaged packet
        for frame in frames:
            if frame.pts is None and packet is not None:
                frame.pts, frame.time_base = packet.pts, packet.time_base
            audible = _from_zero(frame)
            if audible is not None:
                self._encode(self._resampler.convert(audible))

    def _encode(self, frames: Iterator[av.AudioFrame]) -> None:
        assert self._encoder is not None
        for frame in frames:
            self._mux(self._encoder.encode(frame), self._encoder.rate)

    def _mux(self, packets: list[av.Packet[Any]], rate: int) -> None:
        """MP4 refuses times that do not rise, as those of a coarse clock or a damaged source: they
        are moved by the smallest step of its clock, one sample."""
        for packet in packets:
            samples = packet.time_base * rate
            pts = round((packet.pts or 0) * samples)
            if self._last_pts is not None:
                pts = max(pts, self._last_pts + 1)
            self._last_pts = packet.pts = packet.dts = pts
            packet.duration = round((packet.duration or 0) * samples)
            packet.time_base = Fraction(1, rate)
            try:
                self._container.mux(packet)
            except av.FFmpegError as error:
                raise OutputError(f"writing sound failed ({reason(error)})") from None

    def close(self) -> None:
        if self._encoder is not None:
            self._transcode(None)
            self._encode(self._resampler.flush())
            self._mux(self._encoder.encode(None), self._encoder.rate)
        self._source.close()


def _open_description(track: AudioTrack) -> InputContainer:
    try:
        source = av.open(io.BytesIO(track.description), "r", format="matroska")
        if source.streams.audio and source.streams.audio[0].codec_context:
            return source
    except (av.FFmpegError, ValueError):
        pass
    raise InputError("the parameters of an audio track cannot be read")


def _fits(container: str, track: AudioTrack) -> bool:
    """Whether a container takes a track: only writing a packet of it tells for certain."""
    with _open_description(track) as source:
        trial = av.open(io.BytesIO(), "w", format=container)
        try:
            target = trial.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.size:
                    packet.stream = target
                    trial.mux(packet)
            trial.close()
        except (av.FFmpegError, ValueError):
            return False
    return True


def _from_zero(frame: av.AudioFrame) -> av.AudioFrame | None:
    """The part of a frame that is not before time 0, which is not to be heard."""
    if frame.pts is None or frame.pts >= 0 or frame.time_base is None:
        return frame
    early = round(-frame.pts * frame.time_base * frame.sample_rate)
    if early >= frame.samples:
        return None
    values = frame.to_ndarray()
    skip = early if frame.format.is_planar else early * len(frame.layout.channels)
    rest = av.AudioFrame.from_ndarray(values[:, skip:].copy(), frame.format.name, frame.layout.name)
    rest.sample_rate, rest.pts, rest.time_base = frame.sample_rate, 0, frame.time_base
    return rest
