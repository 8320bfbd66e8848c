"""Training windows for the ``motion`` tokenizer: nine frames, and the motion between them.

Motion search takes longer than a training step, so windows are made once, searched on the source
frames, and kept in one file that is mapped into memory.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..codec.effort import Effort
from ..codec.search import search
from ..entropy.field import Field, MotionMemory
from ..entropy.structure import Picture, regular
from ..errors import DataError, InputError
from ..threads import ahead
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.quarter_pixels import QuarterPixels
from .data import Sources, camera_motion, mirror

logger = logging.getLogger(__name__)

FRAMES = 9
SIDE = 160  # pixels
LENGTHS = (8, 4, 2, 1)  # of mini-GOPs
LENGTH_ODDS = (0.4, 0.25, 0.2, 0.15)
PHOTO_ODDS = 0.2
GROUP = 4  # windows searched at once: they share length and step
STEP_RANGE = (0.03, 0.6)  # of the quantizer
_EFFORT = Effort(coarse=(8, 3, 1), fine=(2, 1), rounds=1, both=(1,))


class Stored:
    """A dataclass of tensors that has a file."""

    what = ""  # it is, for messages

    def save(self, path: Path) -> None:
        part = path.with_name(path.name + ".part")
        torch.save(self.__dict__, part)
        os.replace(part, path)

    @classmethod
    def load(cls: type[S], path: Path) -> S:
        """Mapped into memory. Raises InputError."""
        try:
            return cls(**torch.load(path, mmap=True, weights_only=True))
        except (OSError, RuntimeError, TypeError, pickle.UnpicklingError):
            raise InputError(f"{path}: not a file of {cls.what}") from None


S = TypeVar("S", bound=Stored)


@dataclass
class Windows(Stored):
    """planes (N, 9, 6, S/2, S/2) uint8; length (N,) of their mini-GOPs, step (N,) they were
    searched for; in coding order mode (N, 8, h, w) uint8 and fields (N, 8, 2, h, w, 2) int16."""

    what = "training windows"
    planes: Tensor
    length: Tensor
    step: Tensor
    mode: Tensor
    fields: Tensor


def _window(sources: Sources, rng: np.random.Generator) -> Tensor:
    """(9, 6, S/2, S/2) uint8."""
    half = SIDE // 2
    if sources.photos and (not sources.videos or rng.random() < PHOTO_ODDS):
        photo = sources.photos[rng.integers(len(sources.photos))]
        planes = (camera_motion(photo, FRAMES, SIDE, rng) * 255).round().byte()
        return planes.transpose(0, 1)
    while True:
        video = sources.videos[rng.integers(len(sources.videos))]
        skip = 2 if rng.random() < 0.12 else 1
        last = video.shape[1] - 1 - skip * (FRAMES - 1)
        if last >= 0 and min(video.shape[2:]) >= half:
            break
    t = int(rng.integers(last + 1))
    y, x = (int(rng.integers((side - half) // 4 + 1)) * 4 for side in video.shape[2:])
    clip = video[:, t : t + skip * (FRAMES - 1) + 1 : skip, y : y + half, x : x + half]
    if rng.random() < 0.5:
        clip = mirror(clip)
    if rng.random() < 0.3:
        clip = clip.flip(1)
    return clip.transpose(0, 1)


def usable(sources: Sources, frames: int, side: int) -> Sources:
    """The videos that are large and long enough, and the photographs that are large enough. Raises
    DataError."""
    pairs = [
        (video, name)
        for video, name in zip(sources.videos, sources.names, strict=True)
        if video.shape[1] >= frames and min(video.shape[2:]) >= side // 2
    ]
    photos = [photo for photo in sources.photos if min(photo.shape[1:]) >= side]
    if not pairs and not photos:
        raise DataError(f"no video of {frames} frames and {side} pixels, and no photograph")
    videos, names = [v for v, _ in pairs], [n for _, n in pairs]
    return Sources(videos, names, photos, sources.skipped)


def search_window(x: Tensor, length: int, step: float) -> tuple[Tensor, Tensor]:
    """Motion between the source frames of windows x (B, 9, 6, H/2, W/2) in 0..1, which are divided
    into mini-GOPs of ``length``: mode (B, 8, h, w) uint8 and fields (B, 8, 2, h, w, 2) int16."""
    references = [QuarterPixels(x[:, t]) for t in range(FRAMES)]
    memories = [MotionMemory() for _ in x]
    modes: list[Tensor] = []
    fields: list[Tensor] = []
    for picture in regular([length], FRAMES)[1:]:
        a, b = picture.refs
        motion = search(
            x[:, picture.display], (references[a], references[b]),
            LAMBDA_PER_STEP2 * step**2, _suggested(memories, picture), _EFFORT,
        )  # fmt: skip
        modes.append(motion.mode.byte())
        fields.append(motion.fields.short())
        for k, memory in enumerate(memories):
            field = Field(modes[-1][k].numpy(), fields[-1][k].numpy())
            memory.remember(picture, field, range(FRAMES))
    return torch.stack(modes, 1), torch.stack(fields, 1)


def make_windows(sources: Sources, count: int, seed: int = 0) -> Windows:
    """``count`` windows, the same for a seed. Raises DataError where the sources are too small."""
    sources = usable(sources, FRAMES, SIDE)
    rng = np.random.default_rng(seed)
    parts: list[Windows] = []
    for i in range(-(-count // GROUP)):
        length = int(rng.choice(LENGTHS, p=LENGTH_ODDS))
        step = float(np.exp(rng.uniform(*np.log(STEP_RANGE))))
        planes = torch.stack([_window(sources, rng) for _ in range(GROUP)])
        mode, fields = search_window(planes.float() / 255, length, step)
        lengths, steps = torch.full((GROUP,), length), torch.full((GROUP,), step)
        parts.append(Windows(planes, lengths, steps, mode, fields))
        if i % 25 == 0:
            logger.info("%d of %d windows", i * GROUP, count)
    return Windows(
        *(torch.cat([getattr(p, k) for p in parts])[:count] for k in Windows.__dataclass_fields__)
    )


def _suggested(memories: list[MotionMemory], picture: Picture) -> Tensor | None:
    found = [memory.suggest(picture) for memory in memories]
    given = [mv for mv in found if mv is not None]
    return torch.from_numpy(np.stack(given)).long() if len(given) == len(found) else None


@dataclass
class WindowBatch:
    """Windows of one mini-GOP length: x (B, 9, 6, S/2, S/2) in 0..1; the rest as in Windows."""

    x: Tensor
    length: int
    step: Tensor
    mode: Tensor
    fields: Tensor


class WindowBatches:
    """Endless batches, the same for a seed; ``batch(i)`` depends on the seed and i alone."""

    def __init__(self, windows: Windows, size: int, seed: int = 0) -> None:
        self.windows, self.size, self.seed = windows, size, seed
        self._of_length = {
            n: np.flatnonzero(windows.length.numpy() == n)
            for n in LENGTHS
            if (windows.length == n).any()
        }

    def batch(self, index: int) -> WindowBatch:
        rng = np.random.default_rng((self.seed, index))
        w = self.windows
        length = int(w.length[rng.integers(len(w.length))])
        places = rng.choice(self._of_length[length], self.size)
        x = torch.stack([w.planes[i] for i in places]).float() / 255
        step = torch.stack([w.step[i] for i in places]).float()
        mode = torch.stack([w.mode[i] for i in places]).long()
        fields = torch.stack([w.fields[i] for i in places]).long()
        return WindowBatch(x, length, step, mode, fields)

    def iterate(self, start: int) -> Iterator[WindowBatch]:
        """Batches start, start + 1, ... prepared ahead by a thread."""
        yield from ahead(map(self.batch, itertools.count(start)), 2)
