"""Media files made on the spot, and what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from neurocodec.bitstream.payloads import AudioPacket
from neurocodec.media.frame import Frame, MediaInfo, planes_of
from neurocodec.media.reader import MediaReader
from neurocodec.media.writer import open_writer
from tests.conftest import moving_picture

CLICK = 0.5  # seconds after the beginning of a Sound


@dataclass
class Sound:
    """Silence with a click in it."""

    codec: str
    seconds: float = 1.0
    start: float = 0.0
    rate: int = 48000
    layout: str = "stereo"
    language: str = ""


@dataclass
class Seen:
    """What a media file holds, as libav sees it."""

    container: str
    times: list[Fraction]  # of the frames, seconds
    frames: list[av.VideoFrame]
    aspect: Fraction
    rate: Fraction
    colour: tuple[int, int, int, int]  # primaries, transfer, matrix, range
    codecs: list[str] = field(default_factory=list)  # of sound
    languages: list[str | None] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)  # seconds


def write_clip(
    path: Path,
    frames: int = 25,
    size: tuple[int, int] = (64, 48),
    rate: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sounds: Sequence[Sound] = (),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    start: float = 0.0,
    aspect: Fraction = Fraction(1),
    colour: tuple[int, int, int, int] = (2, 2, 2, 0),
    rotation: tuple[int, bool] = (0, False),  # degrees counter-clockwise, mirrored
    pictures: Sequence[av.VideoFrame] | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """A moving picture, or ``pictures``. colour: primaries, transfer, matrix, range."""
    base = time_base or Fraction(1, rate)
    with av.open(str(path), "w", format=container_format) as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate, options or {}))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        context.time_base = stream.time_base = base
        context.sample_aspect_ratio = aspect
        primaries, transfer, matrix, full = colour
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, full
        if rotation != (0, False):
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        targets = [(sound, add_sound(container, sound)) for sound in sounds]
        for i, picture in enumerate(pictures or as_pictures(frames, size)):
            if picture.format.name != pix_fmt:
                picture = picture.reformat(format=pix_fmt)
            picture.color_range, picture.colorspace = full, matrix
            picture.color_primaries, picture.color_trc = primaries, transfer
            picture.pts = (pts[i] if pts else i) + round(start / base)
            picture.time_base = base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        for sound, target in targets:
            container.mux(target.encode(samples(sound)))
            container.mux(target.encode(None))
    return path


def add_sound(container: Any, sound: Sound) -> av.AudioStream:
    options = {"strict": "experimental"} if sound.codec == "vorbis" else {}
    stream = cast(av.AudioStream, container.add_stream(sound.codec, sound.rate, options))
    stream.codec_context.layout = sound.layout
    if sound.language:
        stream.metadata["language"] = sound.language
    return stream


def samples(sound: Sound) -> av.AudioFrame:
    times = np.arange(round(sound.seconds * sound.rate)) / sound.rate
    wave = 0.8 * np.sin(2 * np.pi * 2000 * times) * (abs(times - CLICK) < 0.002)
    channels = len(av.AudioLayout(sound.layout).channels)
    frame = av.AudioFrame.from_ndarray(
        np.tile(wave.astype(np.float32), (channels, 1)), "fltp", sound.layout
    )
    frame.sample_rate, frame.time_base = sound.rate, Fraction(1, sound.rate)
    frame.pts = round(sound.start * sound.rate)
    return frame


def as_pictures(frames: int, size: tuple[int, int]) -> list[av.VideoFrame]:
    return [picture_of(frame.planes) for frame in moving_picture(frames, *size)]


def picture_of(
    planes: Sequence[NDArray[Any]], pix_fmt: str = "yuv420p", full: int = 0
) -> av.VideoFrame:
    """Planes of 8- or 16-bit samples, or interleaved ones of 8-bit RGB(A), as a frame of PyAV."""
    height, width = planes[0].shape[:2]
    picture = av.VideoFrame(width, height, pix_fmt)
    for target, source in zip(picture.planes, planes, strict=True):
        data = np.ascontiguousarray(source).view(np.uint8).reshape(len(source), -1)
        rows = np.zeros((target.buffer_size // target.line_size, target.line_size), np.uint8)
        rows[: len(data), : data.shape[1]] = data
        target.update(rows.tobytes())
    picture.color_range = full
    return picture


def read(
    path: Path | str, audio: str = "copy", start: float = 0.0, duration: float | None = None
) -> tuple[MediaInfo, list[Frame], list[AudioPacket]]:
    with MediaReader(path, audio, start, duration) as reader:
        events = list(reader)
        frames = [event for event in events if isinstance(event, Frame)]
        return reader.info, frames, [e for e in events if isinstance(e, AudioPacket)]


def copy(source: Path, target: Path, lossless: bool = False, **cut: Any) -> Path:
    """``source`` through reader and writer, as if the codec were without loss."""
    with MediaReader(source, **cut) as reader:
        writer = open_writer(target, target.suffix, reader.info, lossless)
        for event in reader:
            if isinstance(event, Frame):
                writer.write(event)
            else:
                writer.audio(event)
        writer.close()
        writer.release()
    return target


def look(path: Path) -> Seen:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        seen = Seen(
            container.format.name,
            [cast(int, frame.pts) * cast(Fraction, frame.time_base) for frame in frames],
            frames,
            stream.sample_aspect_ratio or Fraction(1),
            stream.average_rate or Fraction(0),
            (context.color_primaries, context.color_trc, context.colorspace, context.color_range),
        )
        for sound in container.streams.audio:
            seen.codecs.append(sound.codec_context.name)
            seen.languages.append(sound.language)
    seen.clicks = [click_of(path, number) for number in range(len(seen.codecs))]
    return seen


def click_of(path: Path, track: int = 0) -> float:
    """Time of the loudest sample."""
    loudest, at = 0.0, -1.0
    resampler = av.AudioResampler("flt", "mono", 48000)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=track):
            for part in resampler.resample(frame):
                values = abs(part.to_ndarray()[0])
                if values.max() > loudest:
                    loudest = values.max()
                    at = float(part.pts * part.time_base) + int(values.argmax()) / 48000
    return at


def same_planes(a: Frame, b: av.VideoFrame) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.planes, planes_of(b), strict=True))
