"""Sound: the source's packets copied, or encoded as Opus.

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

import av
import numpy as np
from av.container import OutputContainer

from ..bitstream.limits import MAX_TRACKS
from ..bitstream.payloads import AudioPacket, AudioTrack
from ..errors import InputError, UsageError

logger = logging.getLogger(__name__)

OPUS_RATE = 48000
DEFAULT_OPUS_KBPS = 96


def parse_audio(choice: str) -> tuple[str, int]:
    """ "copy", "none", "opus" or "opus:KBPS" -> (mode, kbit/s). Raises UsageError."""
    if choice in ("copy", "none"):
        return choice, 0
    match = re.fullmatch(r"opus(?::(\d+))?", choice)
    kbps = int(match[1] or DEFAULT_OPUS_KBPS) if match else 0
    if not 6 <= kbps <= 510:
        raise UsageError(f"--audio {choice}: give copy, none, opus or opus:KBPS with KBPS 6 to 510")
    return "opus", kbps


class AudioSource:
    """One audio stream of the input, its packets copied."""

    def __init__(self, stream: av.AudioStream, number: int, description: AudioTrack) -> None:
        self.index, self.number, self.description = stream.index, number, description
        self._next = 0  # pts to give to a packet without one

    def convert(self, packet: av.Packet) -> Iterator[AudioPacket]:
        data = bytes(packet)
        if not data:
            return
        pts = packet.pts if packet.pts is not None else packet.dts
        pts = self._next if pts is None else pts
        self._next = pts + (packet.duration or 0)
        yield AudioPacket(self.number, pts, packet.duration or 0, data)

    def flush(self) -> Iterator[AudioPacket]:
        yield from ()


class OpusSource(AudioSource):
    """One audio stream of the input, encoded as Opus."""

    def __init__(self, stream: av.AudioStream, number: int, kbps: int) -> None:
        layout = "mono" if stream.channels == 1 else "stereo"
        self._resampler = av.AudioResampler("flt", layout, OPUS_RATE)
        self._encoder = _opus_encoder(layout, kbps)
        description = _describe_opus(layout, kbps, _language(stream))
        super().__init__(stream, number, description)

    def convert(self, packet: av.Packet) -> Iterator[AudioPacket]:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return
        for frame in frames:
            for resampled in self._resampler.resample(frame):
                yield from self._packets(self._encoder.encode(resampled))

    def flush(self) -> Iterator[AudioPacket]:
        for resampled in self._resampler.resample(None):
            yield from self._packets(self._encoder.encode(resampled))
        yield from self._packets(self._encoder.encode(None))

    def _packets(self, packets: list[av.Packet]) -> Iterator[AudioPacket]:
        for p in packets:
            base = p.time_base or Fraction(1, OPUS_RATE)
            scale = base / self.description.time_base
            yield AudioPacket(
                self.number, round(p.pts * scale), round((p.duration or 0) * scale), bytes(p)
            )


def open_tracks(path: str | os.PathLike[str], choice: str) -> list[AudioSource]:
    """The audio tracks of a file, for a choice as in :func:`parse_audio`.

    Reads the file once up to the first packet of each track. Tracks without packets, or beyond
    MAX_TRACKS, are left out; one whose parameters cannot be kept is encoded as Opus, with a notice.
    """
    mode, kbps = parse_audio(choice)
    tracks: list[AudioSource] = []
    with av.open(str(path)) as container:
        firsts: dict[int, av.Packet] = {}
        for packet in container.demux(audio=tuple(range(len(container.streams.audio)))):
            if packet.size and packet.stream.index not in firsts:
                firsts[packet.stream.index] = packet
                if len(firsts) == len(container.streams.audio):
                    break
        for stream in container.streams.audio[:MAX_TRACKS]:
            first = firsts.get(stream.index)
            if first is None or not stream.rate:
                logger.warning("%s: an audio track without sound was left out", path)
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


def _describe(stream: av.AudioStream, first: av.Packet) -> AudioTrack:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        target = container.add_stream_from_template(stream)
        packet = av.Packet(bytes(first))
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream = first.time_base, target
        container.mux(packet)
    data = buffer.getvalue()
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
    with av.open(buffer, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
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


class AudioSink:
    """Writes a track's packets to an output container; transcodes where that does not take them."""

    def __init__(self, container: OutputContainer, track: AudioTrack, fallback: str) -> None:
        """fallback: encoder for a container that does not take the codec. Raises InputError."""
        try:
            self._source = av.open(io.BytesIO(track.description), format="matroska")
            self._template = self._source.streams.audio[0]
        except (av.FFmpegError, IndexError):
            raise InputError("the parameters of an audio track cannot be read") from None
        self._container, self._track = container, track
        self._encoder: av.AudioStream | None = None
        try:
            self._stream = container.add_stream_from_template(self._template)
        except (av.FFmpegError, ValueError):
            logger.warning("%s audio does not fit this container; encoded anew", track.codec)
            self._encoder = container.add_stream(fallback, rate=_rate_for(fallback, track))
            self._encoder.codec_context.layout = "mono" if track.channels == 1 else "stereo"
            self._stream = self._encoder
            self._decoder = self._template.codec_context
        if track.language:
            self._stream.metadata["language"] = track.language

    def write(self, item: AudioPacket) -> None:
        packet = av.Packet(item.data)
        packet.pts = packet.dts = item.pts
        packet.duration, packet.time_base = item.duration, self._track.time_base
        if self._encoder is None:
            packet.stream = self._stream
            self._container.mux(packet)
            return
        try:
            frames = self._decoder.decode(packet)
        except av.error.InvalidDataError:
            return
        for frame in frames:
            if frame.pts is None:
                frame.pts, frame.time_base = item.pts, self._track.time_base
            self._container.mux(self._encoder.encode(frame))

    def close(self) -> None:
        if self._encoder is not None:
            self._container.mux(self._encoder.encode(None))
        self._source.close()


def _rate_for(encoder: str, track: AudioTrack) -> int:
    return OPUS_RATE if encoder == "libopus" else track.sample_rate
