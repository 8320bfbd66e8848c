"""Media file -> .nc file."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .. import __version__, models
from ..bitstream.limits import MAX_DURATION, MAX_GOP_FRAMES, MAX_PIXELS, MAX_SIDE
from ..bitstream.payloads import STEP_ONE, AudioPacket, Header, VideoGop
from ..bitstream.resume import Begun, begin
from ..bitstream.writer import Writer
from ..device import choose_device, free_memory_of
from ..entropy.generator import DEFAULT_STEPS
from ..entropy.schedule import MAX_STEPS
from ..errors import InputError, UsageError
from ..files import STDOUT, check_output, same_file, writing
from ..media.audio import parse_audio, sound_bytes
from ..media.cut import check_cut
from ..media.frame import MediaInfo
from ..media.reader import MediaReader
from ..threads import ahead, share_of
from ..tokenizer.config import TEMPORAL_STRIDE, step_of_quality
from .child import dismiss
from .control import Events, GopTrier, Items, NewGop, controlled
from .decoder import decode_gop
from .effort import EFFORTS, Effort
from .entropy_process import EntropyProcess
from .entropy_process import Setting as EntropySetting
from .frames import GopEnd
from .jobs import Jobs, Setting, tokenize
from .picture_encoder import DEFAULT_TUNE, GRAIN, TUNES
from .plan import CODING, default_gop, entropy_pays, jobs_that_pay
from .rate import Control, PsnrControl, SizeControl, step_for_rate
from .tokens import EntropyModel, PictureTokens

logger = logging.getLogger(__name__)

DEFAULT_QUALITY = 50
MAX_WAITING = 1 << 20  # bytes of sound kept back for the end of a GOP
FILE_OVERHEAD = 150  # bytes of a file that are neither header, pictures nor sound
UNDER_TARGET = 0.985  # of a target size that is aimed at: a file should rather be smaller
Progress = Callable[[int, "int | None"], None]  # frames done, frames expected


@dataclass(frozen=True)
class Stats:
    """What a compression came to. bits_per_pixel is of the whole file, sound included."""

    width: int
    height: int
    frames: int
    gops: int
    duration: float  # seconds
    bytes: int
    video_bytes: int
    audio_bytes: int
    bits_per_pixel: float
    model: str
    quality: int
    elapsed: float  # seconds
    fps: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _header(
    info: MediaInfo, bundle: models.Bundle, entropy_model: int, gop: int | None, quality: int,
    picture: bool,
) -> Header:  # fmt: skip
    if info.width > MAX_SIDE or info.height > MAX_SIDE or info.width * info.height > MAX_PIXELS:
        raise InputError(f"frames of {info.width}x{info.height} are larger than the format allows")
    metadata = {"encoder": f"neurocodec {__version__}"}
    if picture:
        metadata["kind"] = "picture"
    return Header(
        bundle.hash, bundle.name, info.width, info.height, info.sample_aspect, info.frame_rate,
        info.time_base, info.colour, gop or default_gop(info.frame_rate), quality, info.tracks,
        metadata, entropy_model,
    )  # fmt: skip


def compress(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    quality: int = DEFAULT_QUALITY,
    bitrate: float | None = None,
    target_size: int | None = None,
    psnr: float | None = None,
    model: str | None = None,
    gop: int | None = None,
    effort: str = "medium",
    tune: str | None = None,
    entropy: str | None = None,
    steps: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    jobs: int | None = 1,
    audio: str = "copy",
    start: float = 0.0,
    duration: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Stats:
    """Compress a video or picture into a .nc file.

    src: any file ffmpeg reads. dst: path of the .nc file, or "-" for standard output.
    quality: 0..100, larger is better. Instead of it: bitrate, kilobits per second of the pictures;
    target_size, bytes of the whole file; or psnr, dB of (6 Y + U + V) / 8. model: a bundle's name
    or path. gop: most frames between random access points, 1..1024, best one more than a multiple
    of eight; about four seconds if None. effort: fast, medium or slow, how hard to look for motion;
    slow also tries the lengths of mini-GOPs.
    tune: psnr, balanced (the default, unless the model is made for another) or ms-ssim, how much
    more error restless regions may hide than still ones; or grain, as balanced, but noise is kept
    where it could be averaged away; of models with motion. For ms-ssim there is a model of its own,
    which is taken where none is given.
    entropy: what codes the tokens, "generator" or "adaptive"; by default the model's generator, if
    it has one. steps: of the generator's schedule, 1..16, by default 4: more are slower
    and up to 8 a little smaller.
    device: auto, cpu or cuda.
    threads: of torch. jobs: GOPs coded at once, each by a process of its own, with all its frames
    in memory; not with a bitrate, target size or PSNR. The file is the same. None: as many as pay,
    where neither threads are given nor resume.
    audio: copy, none, opus or opus:KBPS. start, duration: seconds.
    resume: go on where the same compression stopped before, from whole GOPs, with the same bytes as
    if it had not; and leave what is done where this one stops. Not with jobs.
    progress: called with frames done and expected.

    Raises UsageError, InputError, OutputError, ModelError.
    """
    if not 0 <= quality <= 100:
        raise UsageError(f"quality {quality}: give 0 to 100")
    if gop is not None and not 1 <= gop <= MAX_GOP_FRAMES:
        raise UsageError(f"GOP of {gop} frames: give 1 to {MAX_GOP_FRAMES}")
    check_aims(bitrate, target_size, psnr)
    aimed = (bitrate, target_size, psnr) != (None, None, None)
    several = jobs is not None and jobs > 1
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} jobs: give 1 or more")
    if several and aimed:
        raise UsageError("several jobs: what a GOP may take depends on the one before; give -q")
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"{steps} steps: give 1 to {MAX_STEPS}")
    if effort not in EFFORTS:
        raise UsageError(f"effort {effort!r}: give {', '.join(EFFORTS)}")
    if tune is not None and tune not in TUNES:
        raise UsageError(f"tune {tune!r}: give {', '.join(TUNES)}")
    if resume and several:
        raise UsageError("resume: not with several jobs")
    check_cut(start, duration)
    parse_audio(audio)
    if resume and (os.fspath(dst) == STDOUT or aimed):
        raise UsageError("resume: not with standard output, a bitrate, a target size or a PSNR")
    began = time.monotonic()
    if same_file(src, dst):
        raise UsageError(f"{src}: input and output are the same file")
    if os.fspath(dst) != STDOUT:
        check_output(dst, overwrite)
    bundle, where = models.find(model, tune), choose_device(device)
    model_of_tokens = bundle.entropy(bundle.entropy_number(entropy))
    if steps is not None and model_of_tokens.generator is None:
        raise UsageError("steps are of a generator's schedule, and none is used")
    if tune is not None and not bundle.is_motion:
        raise UsageError(f"tune {tune}: model {bundle.name} cannot be tuned")
    masking, how = TUNES[tune or bundle.tune or DEFAULT_TUNE], EFFORTS[effort]
    if tune == GRAIN:
        how = replace(how, reach=0, smooth=0)
    if threads is not None:
        torch.set_num_threads(threads)
    with MediaReader(src, audio, start, duration) as reader:
        info = reader.info
        header = _header(info, bundle, model_of_tokens.number, gop, quality, reader.is_picture)
        logger.info(
            "%s: %dx%d, %.4g frames per second, %d audio tracks; model %s on %s",
            src, info.width, info.height, float(info.frame_rate), len(info.tracks), bundle.name,
            where,
        )  # fmt: skip
        sound = sound_bytes(src, audio, start, duration) if target_size is not None else 0
        frames_expected = reader.expected_frames
        seconds = float(frames_expected / info.frame_rate) if frames_expected else None
        control = _control(src, header, seconds, sound, bitrate, target_size, psnr)
        if jobs is None:
            size = (info.width, info.height)
            alone = aimed or resume or threads is not None
            jobs = (
                1
                if alone
                else jobs_that_pay(
                    frames_expected, header.gop_frames, size, gpu_memory=free_memory_of(where)
                )
            )
        key = _key(src, header.to_bytes(), how, masking, steps, audio, start, duration, str(where))
        with ExitStack() as stack:
            file = stack.enter_context(writing(dst, overwrite, key, resume))
            begun = begin(file, header) if resume else None
            if begun is None:
                begun = Begun(Writer(file))
                begun.writer.header(header)
            elif begun.gops:
                logger.info("%s: going on after %d frames", dst, begun.frames)
            writer = begun.writer
            coding = EntropySetting(bundle, header, steps or DEFAULT_STEPS, masking)
            new_gop: NewGop = functools.partial(coding.encoder, model_of_tokens)
            items: Callable[[Events], Items]
            stop: Callable[[], None] | None = None
            if jobs > 1:
                setting = Setting(
                    bundle, header, coding.steps, masking, device, threads or share_of(jobs), how
                )
                pool = stack.enter_context(Jobs(jobs, setting))
                dismiss()
                stop = pool.stop
                items = functools.partial(
                    pool.encode, setting=setting, step=step_of_quality(quality)
                )
            else:
                dismiss(CODING)
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
        bundle.name, quality, elapsed, frames / elapsed,
    )  # fmt: skip


def _key(src: str | os.PathLike[str], header: bytes, *settings: object) -> str:
    """Names what is written: the same source, unchanged, with the same settings."""
    status = Path(src).stat()
    source = (os.path.realpath(src), status.st_size, status.st_mtime_ns)
    return hashlib.sha256(repr((source, header, settings)).encode()).hexdigest()[:16]


def check_aims(bitrate: float | None, target_size: int | None, psnr: float | None) -> None:
    """Raises UsageError."""
    if sum(aim is not None for aim in (bitrate, target_size, psnr)) > 1:
        raise UsageError("give one of bitrate, target size and PSNR")
    if bitrate is not None and not 0 < bitrate < 1e9:
        raise UsageError(f"bitrate {bitrate:g}: give kilobits per second, more than 0")
    if target_size is not None and target_size < 1:
        raise UsageError(f"target size {target_size}: give bytes, more than 0")
    if psnr is not None and not 10 <= psnr <= 60:
        raise UsageError(f"PSNR {psnr:g}: give 10 to 60 dB")


def _control(
    src: str | os.PathLike[str], header: Header, seconds: float | None, sound: int,
    bitrate: float | None,
    target_size: int | None, psnr: float | None,
) -> Control | None:  # fmt: skip
    """seconds, sound: length of the clip, and bytes of its sound. Raises InputError."""
    if psnr is not None:
        return PsnrControl(psnr, step_of_quality(DEFAULT_QUALITY))
    if target_size is not None:
        if not seconds:
            raise InputError(
                f"{src}: its length is not known, as a target size needs; give a bitrate"
            )
        for_pictures = target_size - sound - len(header.to_bytes()) - FILE_OVERHEAD
        if for_pictures <= 0:
            raise InputError(
                f"{src}: the sound alone takes {sound} bytes, of {target_size} for all"
            )
        bytes_per_second = UNDER_TARGET * for_pictures / seconds
    elif bitrate is not None:
        bytes_per_second = bitrate * 125
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
    events = ahead(_without_sound(iter(reader), begun.packets), 16)
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
