""".nc file -> ordinary media file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ..bitstream.payloads import AudioPacket
from ..bitstream.reader import Reader
from ..errors import FormatError, OutputError, UsageError
from ..files import check_output, replacing
from ..media.frame import Frame, MediaInfo
from ..media.writer import STDOUT, MediaWriter, check_target, is_picture, write_picture
from ..threads import ahead
from .decoder import Decoder, gops_between, media_info, origin_of

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class DecodeStats:
    """What a decompression came to. damage: one line for each thing that was wrong."""

    width: int
    height: int
    frames: int
    frozen_frames: int  # of lost GOPs: the last frame before, repeated
    damage: tuple[str, ...]
    elapsed: float  # seconds
    fps: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def decompress(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    model: str | None = None,
    lossless: bool = False,
    audio: bool = True,
    start: float = 0.0,
    duration: float | None = None,
    strict: bool = False,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DecodeStats:
    """Decode a .nc file into an ordinary media file.

    dst: its suffix chooses container and encoder: .mp4, .mov, .mkv (visually lossless H.264, or VP9
    where a side is odd), .webm (VP9), .y4m, .png and .jpg (the first frame), or "-" for y4m on
    standard output. lossless: FFV1 in .mkv. start, duration: seconds of the clip.
    strict: refuse a damaged file; otherwise lost GOPs are shown as the frame before them.

    Raises UsageError, InputError, FormatError, ModelError, OutputError.
    """
    target = os.fspath(dst)
    check_target(target, lossless)
    if start < 0 or (duration is not None and duration <= 0):
        raise UsageError("start must be 0 or more, duration more than 0")
    if target != STDOUT:
        check_output(target, overwrite)
    began = time.monotonic()
    with ExitStack() as stack:
        reader = stack.enter_context(Reader(src))
        if strict and reader.damage:
            raise FormatError(f"{src}: {reader.damage[0]}")
        if threads is not None:
            torch.set_num_threads(threads)
        decoder = Decoder(reader, model, device)
        info = media_info(reader)
        suffix = ".y4m" if target == STDOUT else Path(target).suffix.lower()
        if not audio:
            info = replace(info, tracks=())
        file = (
            sys.stdout.buffer
            if target == STDOUT
            else stack.enter_context(replacing(target, overwrite))
        )
        items = ahead(_within(decoder, start, duration), 8)
        try:
            if is_picture(target):
                count = _write_picture(items, file, suffix, info)
            else:
                count = _write_video(
                    items, MediaWriter(file, suffix, info, lossless), reader, progress
                )
        except BrokenPipeError:
            raise OutputError("standard output was closed by its reader") from None
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror}") from None
        finally:
            items.close()
        if count == 0:
            raise FormatError(f"{src}: no frame in it could be decoded")
        if strict and reader.damage:
            raise FormatError(f"{src}: {reader.damage[0]}")
    elapsed = time.monotonic() - began
    return DecodeStats(
        info.width, info.height, count, decoder.frozen_frames, tuple(reader.damage),
        elapsed, count / elapsed,
    )  # fmt: skip


def _within(
    decoder: Decoder, start: float, duration: float | None
) -> Iterator[Frame | AudioPacket]:
    """The part of a clip between two times; a part that does not begin at 0 is moved there."""
    header = decoder.reader.header
    gops = gops_between(decoder.reader, start, duration)
    if not start and duration is None:
        yield from decoder.frames(gops)
        return
    begin = origin_of(decoder.reader) * header.time_base + Fraction(start)
    end = None if duration is None else begin + Fraction(duration)
    shift = begin if start else Fraction(0)
    for item in decoder.frames(gops):
        base = header.time_base
        if isinstance(item, AudioPacket):
            base = header.tracks[item.track].time_base
        at = item.pts * base
        if at >= begin and (end is None or at < end):
            yield replace(item, pts=item.pts - round(shift / base))


def _write_video(
    items: Iterator[Frame | AudioPacket],
    writer: MediaWriter,
    reader: Reader,
    progress: Progress | None,
) -> int:
    count = 0
    try:
        for item in items:
            if isinstance(item, AudioPacket):
                writer.audio(item)
                continue
            writer.write(item)
            count += 1
            if progress:
                progress(count, reader.frames)
        writer.close()
    except BaseException:
        writer.abort()
        raise
    return count


def _write_picture(
    items: Iterator[Frame | AudioPacket], path: Path, suffix: str, info: MediaInfo
) -> int:
    for item in items:
        if isinstance(item, Frame):
            write_picture(path, suffix, item, info)
            return 1
    return 0
