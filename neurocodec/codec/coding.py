"""Media file -> .nc file, once torch is loaded: see ``compress.py``."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import torch

from .. import __version__, models
from ..bitstream.limits import MAX_DURATION, MAX_PIXELS, MAX_SIDE
from ..bitstream.payloads import STEP_ONE, AudioPacket, Header, VideoGop
from ..bitstream.resume import Begun, begin
from ..bitstream.writer import Writer
from ..device import choose_device, free_memory_of
from ..entropy.generator import DEFAULT_STEPS
from ..errors import InputError, UsageError
from ..files import writing
from ..media.audio import sound_bytes
from ..media.frame import MediaInfo
from ..media.reader import MediaReader
from ..threads import ahead, share_of
from ..tokenizer.config import TEMPORAL_STRIDE, step_of_quality
from .choice import DEFAULT_QUALITY, Choice
from .compress import Progress, Stats
from .control import Events, GopTrier, Items, NewGop, controlled
from .decoder import decode_gop
from .effort import DEFAULT_TUNE, EFFORTS, GRAIN, TUNES, Effort
from .entropy_process import EntropyProcess
from .entropy_process import Setting as EntropySetting
from .frames import GopEnd
from .jobs import Jobs, Setting, tokenize
from .plan import entropy_pays, gop_of, jobs_of
from .rate import Control, PsnrControl, SizeControl, step_for_rate
from .tokens import EntropyModel, PictureTokens

logger = logging.getLogger(__name__)

MAX_WAITING = 1 << 20  # bytes of sound kept back for the end of a GOP
FILE_OVERHEAD = 150  # bytes of a file that are neither header, pictures nor sound
UNDER_TARGET = 0.985  # of a target size that is aimed at: a file should rather be smaller
File = str | os.PathLike[str]


def code(
    reader: MediaReader, src: File, dst: File, choice: Choice, progress: Progress | None
) -> Stats:
    """Compress what is read, as :func:`compress` says."""
    began = time.monotonic()
    bundle, where = models.find(choice.model, choice.tune), choose_device(choice.device)
    model_of_tokens = bundle.entropy(bundle.entropy_number(choice.entropy))
    if choice.steps is not None and model_of_tokens.generator is None:
        raise UsageError("steps are of a generator's schedule, and none is used")
    if choice.tune is not None and not bundle.is_motion:
        raise UsageError(f"tune {choice.tune}: model {bundle.name} cannot be tuned")
    masking, how = TUNES[choice.tune or bundle.tune or DEFAULT_TUNE], EFFORTS[choice.effort]
    if choice.tune == GRAIN:
        how = replace(how, reach=0, smooth=0)
    if choice.threads is not None:
        torch.set_num_threads(choice.threads)
    info = reader.info
    gop = gop_of(choice, info)
    header = _header(info, bundle, model_of_tokens.number, gop, choice.quality, reader.is_picture)
    logger.info(
        "%s: %dx%d, %.4g frames per second, %d audio tracks; model %s on %s",
        src, info.width, info.height, float(info.frame_rate), len(info.tracks), bundle.name,
        where,
    )  # fmt: skip
    frames_expected = reader.expected_frames
    control = _control(src, header, frames_expected, choice)
    jobs = jobs_of(choice, info, frames_expected, free_memory_of(where))
    key = _key(
        src, header.to_bytes(), how, masking, choice.steps, choice.audio, choice.start,
        choice.duration, str(where),
    )  # fmt: skip
    with ExitStack() as stack:
        file = stack.enter_context(writing(dst, choice.overwrite, key, choice.resume))
        begun = begin(file, header) if choice.resume else None
        if begun is None:
            begun = Begun(Writer(file))
            begun.writer.header(header)
        elif begun.gops:
            logger.info("%s: going on after %d frames", dst, begun.frames)
        writer = begun.writer
        coding = EntropySetting(bundle, header, choice.steps or DEFAULT_STEPS, masking)
        new_gop: NewGop = functools.partial(coding.encoder, model_of_tokens)
        items: Callable[[Events], Items]
        stop: Callable[[], None] | None = None
        if jobs > 1:
            threads = choice.threads or share_of(jobs)
            setting = Setting(bundle, header, coding.steps, masking, choice.device, threads, how)
            pool = stack.enter_context(Jobs(jobs, setting))
            stop = pool.stop
            items = functools.partial(
                pool.encode, setting=setting, step=step_of_quality(choice.quality)
            )
        else:
            items = _tokenizing(
                bundle, header, how, masking, where, control, model_of_tokens,
                coding.steps, new_gop, begun.frames,
            )  # fmt: skip
            if control is None and entropy_pays(info.width, info.height, frames_expected):
                beside = EntropyProcess(coding, frames_expected)
                new_gop = stack.enter_context(beside).gop
        frames, gops, ticks = _write_gops(
            begun, file, reader, new_gop, items, stop, header, progress
        )
        writer.finish()
    elapsed = time.monotonic() - began
    return Stats(
        info.width, info.height, frames, gops, float(ticks * info.time_base),
        writer.bytes_written, writer.video_bytes, writer.audio_bytes,
        8 * writer.bytes_written / (frames * info.width * info.height),
        bundle.name, choice.quality, elapsed, frames / elapsed,
    )  # fmt: skip


def _header(
    info: MediaInfo, bundle: models.Bundle, entropy_model: int, gop: int, quality: int,
    picture: bool,
) -> Header:  # fmt: skip
    if info.width > MAX_SIDE or info.height > MAX_SIDE or info.width * info.height > MAX_PIXELS:
        raise InputError(f"frames of {info.width}x{info.height} are larger than the format allows")
    metadata = {"encoder": f"neurocodec {__version__}"}
    if picture:
        metadata["kind"] = "picture"
    return Header(
        bundle.hash, bundle.name, info.width, info.height, info.sample_aspect, info.frame_rate,
        info.time_base, info.colour, gop, quality, info.tracks,
        metadata, entropy_model,
    )  # fmt: skip


def _key(src: File, header: bytes, *settings: object) -> str:
    """Names what is written: the same source, unchanged, with the same settings."""
    status = Path(src).stat()
    source = (os.path.realpath(src), status.st_size, status.st_mtime_ns)
    return hashlib.sha256(repr((source, header, settings)).encode()).hexdigest()[:16]


def _control(src: File, header: Header, frames: int | None, choice: Choice) -> Control | None:
    """frames: of the clip. Raises InputError."""
    if choice.psnr is not None:
        return PsnrControl(choice.psnr, step_of_quality(DEFAULT_QUALITY))
    if choice.target_size is not None:
        if not frames:
            raise InputError(
                f"{src}: its length is not known, as a target size needs; give a bitrate"
            )
        sound = sound_bytes(src, choice.audio, choice.start, choice.duration)
        for_pictures = choice.target_size - sound - len(header.to_bytes()) - FILE_OVERHEAD
        if for_pictures <= 0:
            raise InputError(
                f"{src}: the sound alone takes {sound} bytes, of {choice.target_size} for all"
            )
        bytes_per_second = UNDER_TARGET * for_pictures * float(header.frame_rate / frames)
    elif choice.bitrate is not None:
        bytes_per_second = choice.bitrate * 125
    else:
        return None
    pixels = header.width * header.height * float(header.frame_rate)
    return SizeControl(bytes_per_second, step_for_rate(8 * bytes_per_second / pixels))


def _tokenizing(
    bundle: models.Bundle, header: Header, effort: Effort, masking: int, device: torch.device,
    control: Control | None, entropy: EntropyModel, steps: int, new_gop: NewGop, skip: int,
) -> Callable[[Events], Items]:  # fmt: skip
    """Frames and sound to tokens, GopEnds and sound, with the networks of a bundle. skip: frames
    that are coded already."""
    networks = bundle.tokenizer().to(device)

    make = functools.partial(
        tokenize, bundle, networks, header, effort, masking, device, skip, entropy, steps
    )
    if control is None:
        step = round(step_of_quality(header.quality) * STEP_ONE) / STEP_ONE
        return lambda events: make(events, step, True)
    decode = None
    if isinstance(control, PsnrControl):
        decode = functools.partial(decode_gop, bundle, entropy, networks, device, header)
    trier = GopTrier(
        lambda events, step: make(events, step, False),
        new_gop,
        decode,
    )
    return lambda events: controlled(
        events, trier, control, header.gop_frames, header.frame_rate, bundle.is_motion
    )


def _write_gops(
    begun: Begun,
    file: BinaryIO,
    reader: MediaReader,
    new_gop: NewGop,
    tokenizing: Callable[[Events], Items],
    stop: Callable[[], None] | None,
    header: Header,
    progress: Progress | None,
) -> tuple[int, int, int]:
    """Returns how many frames and GOPs were written, and the duration in the clip's time base.
    stop: makes ``tokenizing`` end early."""
    step = round(step_of_quality(header.quality) * STEP_ONE)
    gop = new_gop(step)
    packets: list[AudioPacket] = []
    waiting = 0  # bytes of packets
    writer, done, gops, tokenized = begun.writer, begun.frames, begun.gops, 0
    first, last = begun.first, begun.last
    events = ahead(_without_sound(iter(reader), begun.packets), 4)
    items = ahead(tokenizing(events), 4, stop)
    try:
        for item in items:
            if isinstance(item, AudioPacket):
                packets.append(item)
                waiting += len(item.data)
                if waiting > MAX_WAITING:  # a still picture may have hours of sound
                    writer.audio(packets)
                    packets, waiting = [], 0
            elif isinstance(item, GopEnd):
                writer.audio(packets)
                packets, waiting = [], 0
                frames = len(item.pts)
                data = gop.finish() if item.data is None else item.data
                duration = _regular(item.pts, reader)
                video = VideoGop(frames, item.pts[0], duration, item.step or step, data)
                writer.gop(video, item.pts)
                file.flush()  # whoever reads along, or goes on after a crash, has whole GOPs
                gop = new_gop(step)
                first = item.pts[0] if first is None else first
                last = item.pts[-1]
                done, gops, tokenized = done + frames, gops + 1, 0
                if progress:
                    progress(done, reader.expected_frames)
            else:
                gop.add(item)
                tokenized += (
                    1 if isinstance(item, PictureTokens) or not tokenized else TEMPORAL_STRIDE
                )
                if progress:
                    progress(done + min(tokenized, header.gop_frames), reader.expected_frames)
        writer.audio(packets)
    finally:
        items.close()
        events.close()
    return done, gops, last - (first or 0) + reader.frame_duration


def _without_sound(events: Events, packets: int) -> Events:
    """Leave out the first so many packets of sound."""
    for event in events:
        if packets and isinstance(event, AudioPacket):
            packets -= 1
            continue
        yield event


def _regular(pts: list[int], reader: MediaReader) -> int:
    """Distance between the frames of a GOP, as the first two have it."""
    distance = pts[1] - pts[0] if len(pts) > 1 else reader.frame_duration
    return min(distance, MAX_DURATION)  # what exceeds it has a timestamps section
