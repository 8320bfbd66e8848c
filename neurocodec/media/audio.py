"""Sound in: the source's packets copied, or encoded as Opus.

A track's parameters are kept as a small Matroska file that holds one packet of it: every codec's
set-up data in a form that ffmpeg reads, without a list of codecs of our own.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from ..bitstream.limits import MAX_DURATION, MAX_HEADER_BYTES, MAX_TRACKS
from ..bitstream.payloads import AudioPacket, AudioTrack
from ..errors import UsageError
from .source import open_source

logger = logging.getLogger(__name__)

OPUS_RATE = 48000
DEFAULT_OPUS_KBPS = 96
_MAX_DESCRIPTION = MAX_HEADER_BYTES // (MAX_TRACKS + 1)  # bytes, so that as many as may be fit
_MAX_SAMPLE = 1 << 16  # bytes of the packet in it; those of PCM may be longer, and are all alike
_PACKET_HEAD = 18  # bytes that a packet takes in a section besides its own
_BITEXACT = {"fflags": "+bitexact"}


def parse_audio(choice: str) -> tuple[str, int]:
    """ "copy", "none", "opus" or "opus:KBPS" -> (mode, kbit/s). Raises UsageError."""
    if choice in ("copy", "none"):
        return choice, 0
    match = re.fullmatch(r"opus(?::(\d+))?", choice)
    kbps = int(match[1] or DEFAULT_OPUS_KBPS) if match else 0
    if not 6 <= kbps <= 510:
        raise UsageError(f"--audio {choice}: give copy, none, opus or opus:KBPS with KBPS 6 to 510")
    return "opus", kbps


def sound_bytes(
    path: str | os.PathLike[str], choice: str, start: float, duration: float | None
) -> int:
    """About how many bytes the sound of a part of a file will take, headers of packets included.

    Reads all packets of the file. Raises InputError.
    """
    mode, kbps = parse_audio(choice)
    if mode == "none":
        return 0
    total, packets = 0, 0
    end = float("inf") if duration is None else start + duration
    with open_source(path) as container:
        tracks = container.streams.audio
        if not tracks:
            return 0
        first = min(float((t.start_time or 0) * (t.time_base or 0)) for t in tracks)
        last = first
        for packet in container.demux(*tracks):
            at = float((packet.pts or 0) * (packet.time_base or 0)) - first
            if start <= at < end and packet.size:
                total, packets, last = total + packet.size, packets + 1, max(last, at)
        if mode == "opus":
            seconds = max(0.0, last - start)
            packets = len(tracks) * round(50 * seconds)
            total = round(len(tracks) * seconds * kbps * 125)
    return total + _PACKET_HEAD * packets


class AudioSource:
    """One audio stream of the input, its packets copied."""

    def __init__(self, stream: av.AudioStream, number: int, description: AudioTrack) -> None:
        self.index, self.number, self.description = stream.index, number, description
        self._filter = _without_adts(stream)
        self._next = 0  # pts to give to a packet without one
        self._begun = False
        self._hidden: AudioPacket | None = None  # the last one that is not to be heard

    def convert(self, packet: av.Packet[Any]) -> Iterator[AudioPacket]:
        if not packet.size:
            return
        pts = packet.pts if packet.pts is not None else packet.dts
        pts = self._next if pts is None else pts
        duration = min(max(0, packet.duration or 0), MAX_DURATION)
        self._next = pts + duration
        hidden = packet.is_discard
        for filtered in self._filter.filter(packet) if self._filter else [packet]:
            item = AudioPacket(self.number, pts, duration, bytes(filtered))
            # What an edit list cuts away stays away, but for the packet before the first that is
            # heard: decoders need it to get going.
            if hidden:
                self._hidden = item
                continue
            if self._hidden is not None and not self._begun:
                yield self._hidden
            self._begun = True
            yield item

    def flush(self) -> Iterator[AudioPacket]:
        yield from ()


class Resampler:
    """Decoded sound to one format, layout and rate, also where a stream changes its own midway."""

    def __init__(self, sample_format: str, layout: str, rate: int) -> None:
        self._wanted = sample_format, layout, rate
        self._resampler: av.AudioResampler | None = None

    def convert(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        if self._resampler is None:
            self._resampler = av.AudioResampler(*self._wanted)
        try:
            yield from self._resampler.resample(frame)
        except ValueError:  # it differs from those before
            yield from self.flush()
            yield from self.convert(frame)

    def flush(self) -> Iterator[av.AudioFrame]:
        if self._resampler is not None:
            yield from self._resampler.resample(None)
        self._resampler = None


class OpusSource(AudioSource):
    """One audio stream of the input, encoded as Opus."""

    def __init__(self, stream: av.AudioStream, number: int, kbps: int) -> None:
        layout = "mono" if stream.channels == 1 else "stereo"
        self._encoder = _opus_encoder(layout, kbps)
        self._resampler = Resampler("flt", layout, OPUS_RATE)
        super().__init__(stream, number, _describe_opus(layout, kbps, _language(stream)))

    def convert(self, packet: av.Packet[Any]) -> Iterator[AudioPacket]:
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.FFmpegError:
            return  # a damaged packet
        for frame in frames:
            yield from self._encode(self._resampler.convert(frame))

    def flush(self) -> Iterator[AudioPacket]:
        yield from self._encode(self._resampler.flush())
        yield from self._packets(self._encoder.encode(None))

    def _encode(self, frames: Iterator[av.AudioFrame]) -> Iterator[AudioPacket]:
        for frame in frames:
            yield from self._packets(self._encoder.encode(frame))

    def _packets(self, packets: list[av.Packet[Any]]) -> Iterator[AudioPacket]:
        for p in packets:
            scale = (p.time_base or Fraction(1, OPUS_RATE)) / self.description.time_base
            pts, duration = round((p.pts or 0) * scale), round((p.duration or 0) * scale)
            yield AudioPacket(self.number, pts, duration, bytes(p))


def open_tracks(path: str | os.PathLike[str], choice: str) -> list[AudioSource]:
    """The audio tracks of a file, for a choice as in :func:`parse_audio`.

    Reads the file once up to the first packet of each track. Tracks without packets, or beyond
    MAX_TRACKS, are left out; one whose parameters cannot be kept is encoded as Opus, with a notice.
    """
    mode, kbps = parse_audio(choice)
    tracks: list[AudioSource] = []
    with open_source(path) as container:
        firsts: dict[int, av.Packet[Any]] = {}
        for packet in container.demux(audio=tuple(range(len(container.streams.audio)))):
            if packet.size and packet.stream_index not in firsts:
                firsts[packet.stream_index] = packet
                if len(firsts) == len(container.streams.audio):
                    break
        for stream in container.streams.audio[:MAX_TRACKS]:
            first = firsts.get(stream.index)
            # libav gives streams of a codec that it does not know no context
            if first is None or stream.codec_context is None or not stream.rate:
                why = "without sound" if first is None else "that cannot be decoded"
                logger.warning("%s: an audio track %s was left out", path, why)
                continue
            number = len(tracks)
            if mode == "copy":
                try:
                    tracks.append(AudioSource(stream, number, _describe(stream, first)))
                    continue
                except (av.FFmpegError, ValueError):
                    name = stream.codec_context.name
                    logger.warning("%s: %s audio cannot be copied; encoded as Opus", path, name)
            tracks.append(OpusSource(stream, number, kbps or DEFAULT_OPUS_KBPS))
    return tracks


def _language(stream: av.AudioStream) -> str:
    language = stream.language or ""
    return "" if language == "und" else language


def _without_adts(stream: av.AudioStream) -> BitStreamFilterContext | None:
    """For AAC whose packets carry their set-up, as in MPEG-TS; other containers keep it once."""
    if stream.codec_context.name != "aac" or stream.codec_context.extradata:
        return None
    return BitStreamFilterContext("aac_adtstoasc", stream)


def _describe(stream: av.AudioStream, first: av.Packet[Any]) -> AudioTrack:
    """Raises FFmpegError or ValueError for what Matroska cannot hold."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska", options=_BITEXACT) as container:
        target = container.add_stream_from_template(stream)
        packet = av.Packet(bytes(first)[:_MAX_SAMPLE])
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream = first.time_base, target
        container.mux(packet)
    data = buffer.getvalue()
    if len(data) > _MAX_DESCRIPTION:
        raise ValueError("the set-up data are too long")
    with av.open(io.BytesIO(data), format="matroska") as check:
        if check.streams.audio[0].codec_context.name != stream.codec_context.name:
            raise ValueError("the codec was not recognised")
    base = stream.time_base or Fraction(1, stream.rate)
    return AudioTrack(
        stream.codec_context.name, base, stream.rate, stream.channels, _language(stream), data
    )


def _opus_encoder(layout: str, kbps: int) -> av.AudioCodecContext:
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = OPUS_RATE, layout, "flt"
    encoder.bit_rate = kbps * 1000
    encoder.time_base = Fraction(1, OPUS_RATE)
    return encoder


def _describe_opus(layout: str, kbps: int, language: str) -> AudioTrack:
    """Parameters of an Opus track, from a moment of silence."""
    buffer = io.BytesIO()
    channels = 1 if layout == "mono" else 2
    with av.open(buffer, "w", format="matroska", options=_BITEXACT) as container:
        stream = container.add_stream("libopus", rate=OPUS_RATE)
        stream.codec_context.layout, stream.codec_context.format = layout, "flt"
        stream.codec_context.bit_rate = kbps * 1000
        silence = np.zeros((1, 960 * channels), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, "flt", layout)
        frame.sample_rate, frame.pts = OPUS_RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    base = Fraction(1, OPUS_RATE)
    return AudioTrack("opus", base, OPUS_RATE, channels, language, buffer.getvalue())
