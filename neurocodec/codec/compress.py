"""Media file -> .nc file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from .. import __version__, models
from ..bitstream.limits import MAX_DURATION, MAX_GOP_FRAMES, MAX_PIXELS, MAX_SIDE
from ..bitstream.payloads import STEP_ONE, AudioPacket, Header, VideoGop
from ..bitstream.writer import Writer
from ..device import autocast, choose_device
from ..entropy.adaptive import ContextModel
from ..entropy.binary import BitEncoder
from ..errors import InputError, UsageError
from ..files import STDOUT, check_output, writing
from ..media.audio import parse_audio
from ..media.cut import check_cut
from ..media.frame import Frame, MediaInfo
from ..media.reader import MediaReader
from ..threads import ahead
from ..tokenizer.causal import Cache
from ..tokenizer.config import SPATIAL_STRIDE, TEMPORAL_STRIDE, step_of_quality
from ..tokenizer.model import Tokenizer
from ..tokenizer.patch import planes_from_yuv
from .tokens import LatentTokens, grid_of

logger = logging.getLogger(__name__)

DEFAULT_QUALITY = 50
DEFAULT_GOP = 65  # frames
MAX_WAITING = 1 << 20  # bytes of sound kept back for the end of a GOP
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


@dataclass(frozen=True)
class GopEnd:
    pts: list[int]


def pad_planes(frames: list[Frame]) -> torch.Tensor:
    """Frames -> planes (1, 6, T, h, w) in 0..1, padded to whole cells by repeating the edge."""
    height, width = frames[0].y.shape
    rows, columns = (n * SPATIAL_STRIDE for n in grid_of(width, height))
    stacks = []
    for i, half in enumerate((1, 2, 2)):
        stack = np.stack([frame.planes[i] for frame in frames])
        below, right = rows // half - stack.shape[1], columns // half - stack.shape[2]
        stacks.append(np.pad(stack, ((0, 0), (0, below), (0, right)), "edge"))
    return planes_from_yuv(*stacks)[None].float() / 255


class GopTokenizer:
    """Frames of one GOP, a group at a time, to tokens: the streamed form of the tokenizer."""

    def __init__(self, tokenizer: Tokenizer, step: float, device: torch.device) -> None:
        self._tokenizer, self._device = tokenizer, device
        self._step = torch.tensor([step], dtype=torch.float32, device=device)
        self._cache = Cache()
        self._previous: torch.Tensor | None = None

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> LatentTokens:
        """frames: one at the start of the GOP, then up to four (the last is repeated)."""
        started = self._previous is not None
        if started:
            frames = frames + frames[-1:] * (TEMPORAL_STRIDE - len(frames))
        planes = pad_planes(frames).to(self._device)
        with autocast(self._device):
            z = self._tokenizer.encoder(planes, self._step, self._cache, started)
            tokens, depth, self._previous = self._tokenizer.quantize(
                z[:, :, 0].float(), self._previous, self._step
            )
        return LatentTokens(tokens.to(torch.int16).cpu().numpy(), depth.cpu().numpy())


def tokenize(
    events: Iterable[Frame | AudioPacket],
    tokenizer: Tokenizer,
    step: float,
    gop_frames: int,
    device: torch.device,
) -> Iterator[LatentTokens | GopEnd | AudioPacket]:
    """Latent frames, a GopEnd after those of each GOP, and the audio packets as they come."""
    gop = GopTokenizer(tokenizer, step, device)
    group: list[Frame] = []
    pts: list[int] = []
    for event in events:
        if isinstance(event, AudioPacket):
            yield event
            continue
        group.append(event)
        pts.append(event.pts)
        if len(pts) == 1 or len(group) == TEMPORAL_STRIDE or len(pts) == gop_frames:
            yield gop(group)
            group = []
        if len(pts) == gop_frames:
            yield GopEnd(pts)
            gop, pts = GopTokenizer(tokenizer, step, device), []
    if group:
        yield gop(group)
    if pts:
        yield GopEnd(pts)


def _header(
    info: MediaInfo, bundle: models.Bundle, gop: int, quality: int, picture: bool
) -> Header:
    if info.width > MAX_SIDE or info.height > MAX_SIDE or info.width * info.height > MAX_PIXELS:
        raise InputError(f"frames of {info.width}x{info.height} are larger than the format allows")
    metadata = {"encoder": f"neurocodec {__version__}"}
    if picture:
        metadata["kind"] = "picture"
    return Header(
        bundle.hash, bundle.name, info.width, info.height, info.sample_aspect, info.frame_rate,
        info.time_base, info.colour, gop, quality, info.tracks, metadata,
    )  # fmt: skip


def compress(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    quality: int = DEFAULT_QUALITY,
    model: str | None = None,
    gop: int = DEFAULT_GOP,
    device: str = "auto",
    threads: int | None = None,
    audio: str = "copy",
    start: float = 0.0,
    duration: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Stats:
    """Compress a video or picture into a .nc file.

    src: any file ffmpeg reads. dst: path of the .nc file, or "-" for standard output.
    quality: 0..100, larger is better. model: a bundle's name or path. gop: frames between random
    access points, 1..1024; best is one more than a multiple of four. device: auto, cpu or cuda.
    threads: of torch. audio: copy, none, opus or opus:KBPS. start, duration: seconds.
    progress: called with frames done and expected.

    Raises UsageError, InputError, OutputError, ModelError.
    """
    if not 0 <= quality <= 100:
        raise UsageError(f"quality {quality}: give 0 to 100")
    if not 1 <= gop <= MAX_GOP_FRAMES:
        raise UsageError(f"GOP of {gop} frames: give 1 to {MAX_GOP_FRAMES}")
    check_cut(start, duration)
    parse_audio(audio)
    began = time.monotonic()
    if os.fspath(dst) != STDOUT:
        if os.path.exists(src) and os.path.exists(dst) and os.path.samefile(src, dst):
            raise UsageError(f"{src}: input and output are the same file")
        check_output(dst, overwrite)
    bundle, where = models.find(model), choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    with MediaReader(src, audio, start, duration) as reader:
        info = reader.info
        header = _header(info, bundle, gop, quality, reader.is_picture)
        logger.info(
            "%s: %dx%d, %.4g frames per second, %d audio tracks; model %s on %s",
            src, info.width, info.height, float(info.frame_rate), len(info.tracks), bundle.name,
            where,
        )  # fmt: skip
        with writing(dst, overwrite) as file:
            writer = Writer(file)
            writer.header(header)
            frames, gops, ticks = _write_gops(writer, reader, bundle, where, header, progress)
            writer.finish()
    elapsed = time.monotonic() - began
    return Stats(
        info.width, info.height, frames, gops, float(ticks * info.time_base),
        writer.bytes_written, writer.video_bytes, writer.audio_bytes,
        8 * writer.bytes_written / (frames * info.width * info.height),
        bundle.name, quality, elapsed, frames / elapsed,
    )  # fmt: skip


def _write_gops(
    writer: Writer,
    reader: MediaReader,
    bundle: models.Bundle,
    device: torch.device,
    header: Header,
    progress: Progress | None,
) -> tuple[int, int, int]:
    """Returns how many frames and GOPs were written, and the duration in the clip's time base."""
    step = round(step_of_quality(header.quality) * STEP_ONE)
    tokenizer = bundle.tokenizer().to(device)
    shape, prior = bundle.shape, bundle.prior()
    grid = grid_of(header.width, header.height)
    coder, context = BitEncoder(), ContextModel(shape, prior, grid)
    packets: list[AudioPacket] = []
    waiting = 0  # bytes of packets
    done = gops = tokenized = 0
    first: int | None = None
    last = 0
    events = ahead(iter(reader), 16)
    items = ahead(tokenize(events, tokenizer, step / STEP_ONE, header.gop_frames, device), 4)
    try:
        for item in items:
            if isinstance(item, AudioPacket):
                packets.append(item)
                waiting += len(item.data)
                if waiting > MAX_WAITING:  # a still picture may have hours of sound
                    writer.audio(packets)
                    packets, waiting = [], 0
            elif isinstance(item, LatentTokens):
                context.code_frame(coder, item.tokens, item.depth)
                tokenized = min(tokenized + TEMPORAL_STRIDE, header.gop_frames) if tokenized else 1
                if progress:
                    progress(done + tokenized, reader.expected_frames)
            else:
                writer.audio(packets)
                packets, waiting = [], 0
                data = coder.finish()
                frames = len(item.pts)
                video = VideoGop(frames, item.pts[0], _regular(item.pts, reader), step, data)
                writer.gop(video, item.pts)
                coder, context = BitEncoder(), ContextModel(shape, prior, grid)
                first = item.pts[0] if first is None else first
                last = item.pts[-1]
                done, gops, tokenized = done + frames, gops + 1, 0
                if progress:
                    progress(done, reader.expected_frames)
        writer.audio(packets)
    finally:
        items.close()
        events.close()
    return done, gops, last - (first or 0) + reader.frame_duration


def _regular(pts: list[int], reader: MediaReader) -> int:
    """Distance between the frames of a GOP, as the first two have it."""
    distance = pts[1] - pts[0] if len(pts) > 1 else reader.frame_duration
    return min(distance, MAX_DURATION)  # what exceeds it has a timestamps section
