""".nc file -> ordinary media file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..bitstream.payloads import AudioPacket
from ..bitstream.reader import Reader
from ..errors import FormatError, InputError, OutputError, UsageError
from ..files import STDOUT, binary_stdout, check_output, replacing
from ..media.cut import check_cut
from ..media.frame import Frame
from ..media.writer import FrameSink, check_target, is_picture, open_writer
from ..media.y4m import Y4MWriter
from ..threads import ahead, share_of
from .child import dismiss, start_early
from .conceal import CONCEALERS, Concealer
from .plan import decompressing, jobs_that_pay

logger = logging.getLogger(__name__)

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class DecodeStats:
    """What a decompression came to. damage: one line for each thing that was wrong."""

    width: int
    height: int
    frames: int
    frozen_frames: int  # of lost GOPs: concealed, by default by the last frame before
    concealed: tuple[tuple[int, int], ...]  # the first and last of each run of those, from 0 on
    damage: tuple[str, ...]
    elapsed: float  # seconds, without loading
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
    max_pixels: int | None = None,
    max_frames: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    jobs: int | None = 1,
    conceal: str | Concealer = "freeze",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DecodeStats:
    """Decode a .nc file into an ordinary media file.

    dst: its suffix chooses container and encoder: .mp4, .mov, .mkv (visually lossless H.264, or VP9
    where a side is odd), .webm (VP9), .y4m, .png and .jpg (the first frame), or "-" for y4m on
    standard output. lossless: FFV1 in .mkv. start, duration: seconds of the clip.
    strict: refuse a damaged file; otherwise frames of lost GOPs are made by ``conceal``: "freeze"
    (the frame before them), "grey", or a function, see ``codec/conceal.py``.
    jobs: GOPs decoded at once, each by a process of its own, with all its frames in memory. None:
    as many as pay, to a file, where no threads are given.
    max_pixels, max_frames: refuse a file with frames of more luma samples, or more frames. A small
    file may be large when it is decoded: what is from strangers should be given limits.

    Raises UsageError, InputError, FormatError, ModelError, OutputError.
    """
    target = os.fspath(dst)
    check_target(target, lossless)
    check_cut(start, duration)
    if target != STDOUT:
        check_output(target, overwrite)
    if isinstance(conceal, str):
        if conceal not in CONCEALERS:
            raise UsageError(f"conceal {conceal!r}: give one of {', '.join(CONCEALERS)}")
        conceal = CONCEALERS[conceal]
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} jobs: give 1 or more")
    with ExitStack() as stack:
        reader = stack.enter_context(Reader(src))
        if strict and reader.damage:
            raise FormatError(f"{src}: {reader.damage[0]}")
        _check_size(reader, max_pixels, max_frames)
        stack.callback(dismiss)
        for command in decompressing(reader, jobs):
            start_early(command)
        from .kernels import made_ready

        with made_ready():
            import torch  # which takes seconds, while they load what they need

            from ..device import free_memory_of
            from .decoder import Decoder, media_info
            from .jobs import Jobs, Setting

        began = time.monotonic()
        if threads is not None:
            torch.set_num_threads(threads)
        decoder = Decoder(reader, model, device, conceal)
        stop: Callable[[], None] | None = None
        expected = 1 if is_picture(target) else _frames_of_part(reader, start, duration)
        if jobs is None:
            header = reader.header
            # a player waits for the first frame, not for a GOP
            alone = target == STDOUT or threads is not None
            jobs = 1 if alone else jobs_that_pay(
                expected, header.gop_frames, (header.width, header.height),
                share=2, gpu_memory=free_memory_of(decoder.device),
            )  # fmt: skip
        if jobs > 1:
            setting = Setting(
                decoder.bundle, reader.header, device=device, threads=threads or share_of(jobs)
            )
            pool = stack.enter_context(Jobs(jobs, setting))
            dismiss()
            decoder.decode_gops, stop = pool.decode, pool.stop
        info = media_info(reader)
        if not audio:
            info = replace(info, tracks=())
        logger.info(
            "%s: %dx%d, %d frames, %d audio tracks; model %s",
            src, info.width, info.height, reader.frames, len(info.tracks), decoder.bundle.name,
        )  # fmt: skip
        items = ahead(decoder.part(start, duration), 8, stop)
        stack.callback(items.close)
        try:
            if target == STDOUT:
                writer: FrameSink = Y4MWriter(binary_stdout(), info)
            else:
                path = stack.enter_context(replacing(target, overwrite))
                with _naming(target):
                    writer = open_writer(path, Path(target).suffix.lower(), info, lossless)
            with _naming(target):
                count, concealed = _write(items, writer, progress, expected, max_frames)
        except BrokenPipeError:
            raise OutputError(f"{target}: closed by its reader") from None
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror or error}") from None
        if count == 0 and start and not reader.damage:
            raise InputError(f"{src}: has no frame at {start:g} s or later")
        if count == 0:
            raise FormatError(f"{src}: no frame in it could be decoded")
        if strict and reader.damage:
            raise FormatError(f"{src}: {reader.damage[0]}")
        if is_picture(target) and reader.frames > 1 and not start:
            logger.warning("%s: the first of %d frames was written", target, reader.frames)
    elapsed = time.monotonic() - began
    return DecodeStats(
        info.width, info.height, count, sum(last - first + 1 for first, last in concealed),
        tuple(concealed), tuple(reader.damage), elapsed, count / elapsed,
    )  # fmt: skip


@contextmanager
def _naming(target: str) -> Iterator[None]:
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{target}: {error}") from None


def _write(
    items: Iterator[Frame | AudioPacket],
    writer: FrameSink,
    progress: Progress | None,
    expected: int,
    max_frames: int | None,
) -> tuple[int, list[tuple[int, int]]]:
    """Returns how many frames were written, and the first and last of each run of concealed ones.
    Raises FormatError beyond max_frames."""
    count = 0
    concealed: list[tuple[int, int]] = []
    try:
        for item in items:
            if isinstance(item, AudioPacket):
                writer.audio(item)
                continue
            if count == max_frames:  # whatever the index said
                raise FormatError(f"there are more than {max_frames} frames in it")
            writer.write(item)
            if item.concealed:
                goes_on = bool(concealed) and concealed[-1][1] == count - 1
                first = concealed.pop()[0] if goes_on else count
                concealed.append((first, count))
            count += 1
            if progress:
                progress(count, expected)
            if writer.full:
                break
        if count:
            writer.close()
    finally:
        writer.release()
    return count, concealed


def _check_size(reader: Reader, max_pixels: int | None, max_frames: int | None) -> None:
    width, height = reader.header.width, reader.header.height
    if max_pixels is not None and width * height > max_pixels:
        raise FormatError(
            f"{reader.path}: its frames of {width}x{height} are larger than the {max_pixels} pixels"
            " that were allowed"
        )
    if max_frames is not None and reader.frames > max_frames:
        raise FormatError(
            f"{reader.path}: its {reader.frames} frames are more than the {max_frames} allowed"
        )


def _frames_of_part(reader: Reader, start: float, duration: float | None) -> int:
    """About how many there are, by the nominal frame rate."""
    frames = reader.frames - start * reader.header.frame_rate
    if duration is not None:
        frames = min(frames, duration * reader.header.frame_rate)
    return max(1, round(frames))
