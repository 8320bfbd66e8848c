"""Training clips, decoded once into memory.

Every clip is a tensor of planes (6, T, H/2, W/2) uint8, see ``neurocodec/tokenizer/patch.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError
from ..threads import ahead
from ..tokenizer.patch import planes_from_yuv
from .listing import Entry, list_media

VALIDATION_CROP = 256  # pixels, at most
FOOTAGE_CLIPS = 32  # of one's own videos, that are held in memory
DECODE_ERRORS = (av.FFmpegError, OSError, ValueError, IndexError)


@dataclass
class Sources:
    """What a data folder holds. skipped counts files that could not be used."""

    videos: list[Tensor]  # (6, T, H/2, W/2) uint8
    names: list[str]  # of the videos' files
    photos: list[Tensor]  # (3, H, W) uint8, RGB
    skipped: int

    def hold_out(self, every: int) -> Sources:
        """Take every n-th video out, at least one where there are two."""
        taken = [i for i in range(len(self.videos)) if i % every == every // 2] or [0]
        if len(self.videos) < 2:
            taken = []
        held = Sources([self.videos[i] for i in taken], [self.names[i] for i in taken], [], 0)
        for i in reversed(taken):
            del self.videos[i], self.names[i]
        return held


def read_video(
    file: str | Path | IO[bytes],
    frames: int,
    short_side: int,
    skip: int = 0,
    halve: bool = True,
    start: float = 0.0,
) -> Tensor:
    """Up to ``frames`` frames, at most half the source's size and ``short_side`` high or wide, or
    as large as they are where they are not to be halved.

    Sources are compressed already: reduced, they look like camera pictures again. Width and height
    are cut to multiples of 16. start: where to begin, at the key frame before that part (0..1) of
    what can begin a clip of this length. Raises ValueError if nothing is left.
    """
    out: list[tuple[np.ndarray, ...]] = []
    with av.open(str(file) if isinstance(file, Path) else file, "r") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if start and container.duration and stream.average_rate:
            needed = frames / float(stream.average_rate) * av.time_base
            container.seek(max(0, int(start * (container.duration - needed))))
        for i, frame in enumerate(container.decode(video=0)):
            if i < skip:
                continue
            if len(out) == frames:
                break
            scale = min(0.5, short_side / min(frame.width, frame.height))
            if not halve or min(frame.width, frame.height) < 2 * 144:
                scale = 1.0  # too small to halve
            w, h = (max(16, int(side * scale) // 16 * 16) for side in (frame.width, frame.height))
            a = frame.reformat(w, h, "yuv420p", interpolation="AREA").to_ndarray()
            n = h // 4
            out.append((a[:h], a[h : h + n].reshape(h // 2, -1), a[h + n :].reshape(h // 2, -1)))
    if not out:
        raise ValueError("no frames")
    y, u, v = (np.stack(plane) for plane in zip(*out, strict=True))
    return planes_from_yuv(y, u, v)


def read_photo(file: str | IO[bytes], short_side: int) -> Tensor:
    """(3, H, W) uint8 RGB, reduced to at most ``short_side``."""
    with av.open(file, "r") as container:
        frame = next(container.decode(video=0))
        scale = min(1.0, short_side / min(frame.width, frame.height))
        w, h = int(frame.width * scale), int(frame.height * scale)
        array = frame.reformat(w, h, "rgb24", interpolation="AREA").to_ndarray()
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def load_sources(
    data: Path,
    frames: int,
    crop: int,
    short_side: int = 288,
    threads: int = 2,
    halve: bool = True,
) -> Sources:
    """Decode all of a folder, list or shard. Raises DataError if nothing usable is there."""
    sources = load_entries(list_media(data), frames, crop, short_side, threads, halve)
    if not sources.videos and not sources.photos:
        raise DataError(f"{data}: no video of {frames} frames or photograph of {crop} pixels")
    return sources


def load_entries(
    entries: list[Entry],
    frames: int,
    crop: int,
    short_side: int = 288,
    threads: int = 2,
    halve: bool = True,
) -> Sources:
    """Decode them all."""

    def decode(entry: Entry) -> Tensor | None:
        """None for a file that cannot be used."""
        try:
            if not entry.is_video:
                photo = read_photo(entry.open(), 2 * short_side)
                return photo if min(photo.shape[1:]) >= crop else None
            clip = read_video(entry.open(), 2 * frames + 8, short_side, 2, halve)
        except DECODE_ERRORS:
            return None
        fits = clip.shape[1] >= frames and min(clip.shape[2:]) * 2 >= crop
        return clip if fits else None

    with ThreadPoolExecutor(threads) as pool:
        decoded = list(zip(entries, pool.map(decode, entries), strict=True))
    videos = [(e.name, x) for e, x in decoded if e.is_video and x is not None]
    photos = [x for e, x in decoded if not e.is_video and x is not None]
    skipped = sum(x is None for _, x in decoded)
    return Sources([x for _, x in videos], [name for name, _ in videos], photos, skipped)


def load_footage(data: Path, frames: int, crop: int) -> Sources:
    """Clips of one's own videos, to adapt to them: as large as they will be coded, from the first
    videos in the order of names, and of few of them from several places each. Raises DataError."""
    entries = [entry for entry in list_media(data) if entry.is_video][:FOOTAGE_CLIPS]
    places = max(1, FOOTAGE_CLIPS // max(1, len(entries)))
    found = Sources([], [], [], 0)
    for entry in entries:
        for i in range(places):
            try:
                length = 2 * frames + 8
                clip = read_video(entry.open(), length, 0, 0 if i else 2, False, i / places)
            except DECODE_ERRORS:
                found.skipped += 1
                continue
            if clip.shape[1] >= frames and min(clip.shape[2:]) * 2 >= crop:
                found.videos.append(clip)
                found.names.append(entry.name)
    if not found.videos:
        raise DataError(f"{data}: no video of {frames} frames and {crop} pixels")
    return found


def validation_clips(sources: Sources, frames: int) -> dict[str, Tensor]:
    """Centre crops (6, T, h, w) uint8 of a folder's videos."""
    clips = {}
    for i, video in enumerate(sources.videos):
        h, w = (min(side, VALIDATION_CROP // 2) for side in video.shape[2:])
        y, x = (video.shape[2] - h) // 2, (video.shape[3] - w) // 2
        clips[sources.names[i]] = video[:, :frames, y : y + h, x : x + w]
    return clips


# BT.601 full range, as JPEG; the tokenizer takes whatever YCbCr it is given
_RGB_TO_YUV = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def camera_motion(photo: Tensor, frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """A synthetic camera moves over a photograph. (3, H, W) -> planes (6, T, crop/2, crop/2)."""
    side = min(int(2 * crop), *photo.shape[1:])
    top = int(rng.integers(photo.shape[1] - side + 1))
    left = int(rng.integers(photo.shape[2] - side + 1))
    source = photo[None, :, top : top + side, left : left + side].float() / 255
    speed = rng.normal(size=2) * rng.choice([0.0, 0.3, 1.0, 3.0])  # pixels a frame
    turn, zoom = rng.normal(0, 0.004), rng.normal(0, 0.006)
    angle, scale = rng.uniform(-0.2, 0.2), rng.uniform(0.7, 1.1)
    thetas = []
    for t in range(frames):
        a, s = angle + turn * t, scale * math.exp(zoom * t) * crop / side
        c, d = math.cos(a) * s, math.sin(a) * s
        x, y = 2 * speed * t / side
        thetas.append([[c, -d, x], [d, c, y]])
    grid = F.affine_grid(torch.tensor(thetas, dtype=torch.float32), [frames, 3, crop, crop], False)
    rgb = F.grid_sample(
        source.expand(frames, -1, -1, -1), grid, "bicubic", "reflection", align_corners=False
    )
    yuv = torch.einsum("kc,tchw->tkhw", _RGB_TO_YUV, rgb.clamp(0, 1))
    y = F.pixel_unshuffle(yuv[:, :1], 2)
    uv = F.avg_pool2d(yuv[:, 1:], 2) + 0.5
    return torch.cat([y, uv], 1).transpose(0, 1)


def mirror(planes: Tensor) -> Tensor:
    """Left-right mirror image of planes (6, ...): the four luma phases change places too."""
    return planes[[1, 0, 3, 2, 4, 5]].flip(-1)


class Batches:
    """Endless training batches (B, 6, T, crop/2, crop/2) float32 in 0..1, the same for a seed.

    A thread prepares the next ones. A clip depends on the seed, its batch's number and its place in
    it alone, so that a resumed run continues with the batches it would have seen, and several
    processes can each make a part of a batch.
    """

    def __init__(
        self, sources: Sources, batch: int, frames: int, crop: int, seed: int = 0,
        photo_odds: float = 0.25,
    ) -> None:  # fmt: skip
        self.sources, self.size, self.frames, self.crop = sources, batch, frames, crop
        self.seed, self.photo_odds = seed, photo_odds

    def clip(self, rng: np.random.Generator) -> Tensor:
        s = self.sources
        if s.photos and (not s.videos or rng.random() < self.photo_odds):
            photo = s.photos[rng.integers(len(s.photos))]
            return camera_motion(photo, self.frames, self.crop, rng)
        return random_clip(s.videos[rng.integers(len(s.videos))], self.frames, self.crop, rng)

    def clips(self, index: int, places: range) -> Tensor:
        """Those at some places of a batch."""
        seeds = ((self.seed, index % (1 << 63), k) for k in places)
        return torch.stack([self.clip(np.random.default_rng(seed)) for seed in seeds])

    def batch(self, index: int, part: slice = slice(None)) -> Tensor:
        return self.clips(index, range(self.size)[part])

    def iterate(self, start: int, part: slice = slice(None)) -> Iterator[Tensor]:
        """Parts of batches start, start + 1, ... prepared one or two ahead by a thread."""
        yield from ahead((self.batch(i, part) for i in itertools.count(start)), 2)


def random_clip(video: Tensor, frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """A crop of a video (6, T, H/2, W/2) uint8, some mirrored, some at double speed: (6, frames,
    crop/2, crop/2) float32 in 0..1."""
    half = crop // 2
    step = 2 if rng.random() < 0.2 and video.shape[1] >= 2 * frames else 1
    t = int(rng.integers(video.shape[1] - step * (frames - 1)))
    y = int(rng.integers(video.shape[2] - half + 1))
    x = int(rng.integers(video.shape[3] - half + 1))
    clip = video[:, t : t + step * (frames - 1) + 1 : step, y : y + half, x : x + half]
    if rng.random() < 0.5:
        clip = mirror(clip)
    return clip.float() / 255
