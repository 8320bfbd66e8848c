"""Tokens of training clips, made once and kept in one file.

Clips are coded as the codec codes them, each at one of many qualities; what the generator sees of
each latent frame is kept beside its tokens, and what the adaptive model takes for them.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import models
from ..bitstream.payloads import STEP_ONE
from ..codec.effort import DEFAULT_TUNE, EFFORTS, TUNES
from ..codec.frames import crop_planes
from ..codec.gop_stream import tokenize_pictures
from ..codec.tokens import (
    DEFAULT_SCALES,
    Generated,
    Grid,
    LatentCoder,
    LatentTokens,
    PictureCoder,
    PictureTokens,
    Tokens,
)
from ..device import autocast
from ..entropy.adaptive import TokenShape
from ..entropy.binary import BitCoder, BitEncoder, Ints
from ..entropy.generator import GeneratorModel
from ..entropy.integer import Activations
from ..entropy.motion_generator import MOTION_TABLES, Logits, MotionGenerator, motion_layers
from ..entropy.structure import MAX_FRAMES
from ..errors import DataError, InputError
from ..media.frame import Frame
from ..tokenizer.config import SPATIAL_STRIDE, step_of_quality
from .data import Sources, camera_motion, load_footage, load_sources

logger = logging.getLogger(__name__)
_NO_CACHE = (OSError, RuntimeError, TypeError, LookupError, AttributeError, pickle.UnpicklingError)
_CPU = torch.device("cpu")


def crops(
    data: Path, clips: int, frames: int, crop: int, footage: bool = False, seed: int = 0
) -> Iterator[Tensor]:
    """Crops (1, 6, T, crop/2, crop/2) in 0..1 of the videos of a folder, in turn. footage: it is
    one's own, see ``load_footage``. Raises DataError."""
    load: Any = load_footage if footage else _sources_with_videos
    yield from crops_of(load(data, frames, crop).videos, clips, frames, crop, seed)


def _sources_with_videos(data: Path, frames: int, crop: int) -> Sources:
    """Raises DataError where there are none."""
    sources = load_sources(data, frames, crop)
    if not sources.videos:
        raise DataError(f"{data}: no video of {frames} frames and {crop} pixels")
    return sources


def crops_of(
    videos: list[Tensor], clips: int, frames: int, crop: int, seed: int
) -> Iterator[Tensor]:
    """As :func:`crops`."""
    rng = np.random.default_rng(seed)
    half = crop // 2
    for i in range(clips):
        video = videos[i % len(videos)]
        lengths = (video.shape[1] - frames, *(side - half for side in video.shape[2:]))
        t, y, x = (int(rng.integers(length + 1)) for length in lengths)
        yield video[None, :, t : t + frames, y : y + half, x : x + half].float() / 255


def quality_of(clip: int) -> float:
    """The quality of the clip of this number: any few in a row cover the dial evenly."""
    return 100 * (clip * 0.618034 % 1)


def tokenized(
    tokenizer: Any, planes: Tensor, step: float, effort: str = "medium", tune: str | None = None
) -> Iterator[Tokens]:
    """Tokens of a clip (1, 6, T, H/2, W/2) of whole cells, as one GOP, tuned as by default if
    ``tune`` does not say how."""
    if tokenizer.config.family != "motion":
        with torch.inference_mode(), autocast(_CPU):
            steps = torch.tensor([step])
            z = tokenizer.encoder(planes, steps).float()
            previous = None
            for t in range(z.shape[2]):
                tokens, depth, previous = tokenizer.quantize(z[:, :, t], previous, steps)
                yield LatentTokens(tokens.to(torch.int16).numpy(), depth.numpy())
        return
    size = (planes.shape[4] * 2, planes.shape[3] * 2)
    frames = [Frame(*yuv, pts) for pts, yuv in enumerate(crop_planes(planes, size))]
    masking = TUNES[tune or DEFAULT_TUNE]
    for item in tokenize_pictures(
        frames, tokenizer, step, len(frames), _CPU, EFFORTS[effort], False, masking=masking
    ):
        if isinstance(item, PictureTokens):
            yield item


@dataclass
class LatentFrames:
    """Latent frames of one kind and size: what is seen of them (N, h, w, F) int8, tokens (N, h, w,
    D) int16, depth (N, h, w) uint8; clip and place in it (N,) int32; bits of the adaptive model
    (N,) float32; of kinds that have them also transforms (N, h, w) uint8."""

    kind: int
    seen: Tensor
    tokens: Tensor
    depth: Tensor
    clip: Tensor
    place: Tensor
    bits: Tensor
    transform: Tensor | None = None


@dataclass
class Decisions:
    """Decisions about motion of one sort: what is seen (N, F) int8, bits (N, outputs) int8 with -1
    for none, block of counts (N,) and clip (N,). Of differences also facts about the horizontal
    one, (N, ACROSS), and the bits of the vertical one."""

    seen: Tensor
    bits: Tensor
    block: Tensor
    clip: Tensor
    across: Tensor | None = None
    bits_y: Tensor | None = None


@dataclass
class TokenCache:
    frames: list[LatentFrames]
    motion: dict[str, Decisions]  # modes, candidates, difference
    motion_bits: list[float]  # of the adaptive model, of each clip
    clips: int
    model: str  # tokens_hash of the bundle
    videos: int = 0  # that the clips are from, in turn; 0: each clip is from another one

    def save(self, path: Path) -> None:
        part = path.with_name(path.name + ".part")
        frames = [f.__dict__ for f in self.frames]
        motion = {name: rows.__dict__ for name, rows in self.motion.items()}
        torch.save({**self.__dict__, "frames": frames, "motion": motion}, part)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> TokenCache:
        """Mapped into memory. Raises InputError."""
        try:
            state = torch.load(path, mmap=True, weights_only=True)
            state["frames"] = [LatentFrames(**f) for f in state["frames"]]
            state["motion"] = {name: Decisions(**rows) for name, rows in state["motion"].items()}
            return cls(**state)
        except _NO_CACHE:
            raise InputError(f"{path}: not a file of tokens") from None

    def of_clip(
        self, clip: int
    ) -> list[tuple[int, Activations, NDArray[np.int16], Ints, Ints | None, float]]:
        """Its latent frames in order: kind, seen (h w, F), tokens (h, w, D), depth and transform
        (h, w), bits."""
        found = []
        for f in self.frames:
            for i in np.flatnonzero(f.clip.numpy() == clip):
                seen = f.seen[i].numpy().reshape(-1, f.seen.shape[-1])
                depth = f.depth[i].numpy().astype(np.int64)
                which = None if f.transform is None else f.transform[i].numpy().astype(np.int64)
                item = (f.kind, seen, f.tokens[i].numpy(), depth, which, float(f.bits[i]))
                found.append((int(f.place[i]), item))
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]


class _TokenRecorder(GeneratorModel):
    """Keeps what a generator is asked to code."""

    def __init__(self, shape: TokenShape) -> None:
        self.shape = shape
        self.found: list[tuple[int, Grid, Activations, NDArray[np.int16], Ints, Ints | None]] = []

    def code(
        self, coder: BitCoder, grid: Grid, kind: int, seen: Activations,
        tokens: NDArray[np.int16] | None = None, depth: Ints | None = None,
        transform: Ints | None = None,
    ) -> tuple[NDArray[np.int16], Ints, Ints]:  # fmt: skip
        assert tokens is not None
        assert depth is not None
        self.found.append((kind, grid, seen, tokens, depth, transform))
        return tokens, depth, np.zeros_like(depth) if transform is None else transform


class _MotionRecorder(MotionGenerator):
    """Keeps what the networks for motion see, and what is coded."""

    def __init__(self) -> None:
        super().__init__(
            {}, {name: np.zeros(size, np.int64) for name, size in MOTION_TABLES.items()}
        )
        self.seen: list[tuple[str, Activations]] = []  # by layer
        self.recorded: list[tuple[str, Logits]] = []

    def apply(self, layer: str, x: Activations) -> Activations:
        if layer.endswith(".0"):
            self.seen.append((layer, x))
        elif layer == "motion.difference.2":
            self.seen.append((layer, x[:, 1:]))
        return np.zeros((len(x), 1), np.int8)

    def logits(self, layer: str, table: str, block: int, x: Activations) -> Logits:
        contexts = np.zeros((len(x), motion_layers(1)[layer][0]), np.int64)
        self.recorded.append((layer, Logits(table, block, contexts)))
        return self.recorded[-1][1]

    def _logits_of(self, sort: str, table: str, block: int, x: Activations) -> Logits:
        """Of each row by itself: those that are alike are coded differently."""
        inner = self.hidden(f"motion.{sort}", x)
        return self.logits(f"motion.{sort}.out", table, block, inner)

    def decisions(self, clip: int) -> dict[str, Decisions]:
        out = {}
        for name in ("modes", "candidates", "difference"):
            last = "x" if name == "difference" else "out"
            seen = [x for layer, x in self.seen if layer == f"motion.{name}.0"]
            rows = [r for layer, r in self.recorded if layer == f"motion.{name}.{last}"]
            if not seen:
                continue
            bits = np.concatenate([r.decisions for r in rows])
            block = np.concatenate([np.full(len(r.decisions), r.block, np.uint8) for r in rows])
            found = [np.concatenate(seen), bits, block, np.full(len(bits), clip, np.int32)]
            if name == "difference":
                across = [x for layer, x in self.seen if layer == "motion.difference.2"]
                below = [
                    r.decisions for layer, r in self.recorded if layer == "motion.difference.y"
                ]
                found += [np.concatenate(across), np.concatenate(below)]
            out[name] = Decisions(*(torch.from_numpy(a) for a in found))
        return out


@dataclass(frozen=True)
class _Recording(Generated):
    """In place of a generator."""

    tokens: _TokenRecorder | None = None
    motion: _MotionRecorder | None = None

    def model(self, shape: TokenShape) -> GeneratorModel:
        assert self.tokens is not None
        return self.tokens

    def motion_model(self) -> MotionGenerator | None:
        return self.motion


class CacheMaker:
    """Takes clips as they are coded, one after the other."""

    def __init__(self, bundle: models.Bundle) -> None:
        self._hash = bundle.tokens_hash
        self._entropy = bundle.entropy(bundle.entropy_number("adaptive"))
        self._frames: dict[tuple[int, Grid], list[tuple[Any, ...]]] = {}
        self._motion: list[dict[str, Decisions]] = []
        self._motion_bits: list[float] = []

    def _coder(self, grid: Grid, generated: Generated | None) -> Any:
        kind = PictureCoder if self._entropy.of_pictures else LatentCoder
        return kind(self._entropy.shape, self._entropy.prior, grid, MAX_FRAMES, generated)

    def add(self, items: list[Tokens], grid: Grid, step: int) -> None:
        """Tokens of a GOP of (h, w) cells; step as in VIDEO."""
        clip = len(self._motion_bits)
        tokens, motion = _TokenRecorder(self._entropy.shape), _MotionRecorder()
        recording = _Recording(None, 1, step, DEFAULT_SCALES, tokens, motion)  # type: ignore[arg-type]
        coder = self._coder(grid, recording)
        for item in items:
            coder.code(BitEncoder(), item)
        bits, motion_bits = self._adaptive_bits(grid, items)
        for place, (kind, size, seen, levels, depth, transform) in enumerate(tokens.found):
            row: tuple[Any, ...] = (
                seen.reshape(*size, -1), levels.reshape(*size, -1), depth.astype(np.uint8),
                np.int32(clip), np.int32(place), np.float32(bits[place]),
            )  # fmt: skip
            if transform is not None:
                row += (transform.astype(np.uint8),)
            self._frames.setdefault((kind, size), []).append(row)
        self._motion.append(motion.decisions(clip))
        self._motion_bits.append(motion_bits)

    def _adaptive_bits(self, grid: Grid, items: list[Tokens]) -> tuple[list[float], float]:
        """What the adaptive model takes for each latent frame, and for motion, of a GOP."""
        coder, bits = self._coder(grid, None), BitEncoder()
        tokens: list[float] = []
        motion: list[float] = []

        def measured(code: Any, found: list[float]) -> Any:
            def measuring(*args: Any, **named: Any) -> Any:
                before = bits.ideal_bits
                out = code(*args, **named)
                found.append(bits.ideal_bits - before)
                return out

            return measuring

        coder.tokens.code = measured(coder.tokens.code, tokens)
        if self._entropy.of_pictures:
            coder.motion.code_field = measured(coder.motion.code_field, motion)
        for item in items:
            coder.code(bits, item)
        return tokens, sum(motion)

    def cache(self, videos: int = 0) -> TokenCache:
        """videos: that the clips were from, in turn; 0: each from another one."""
        groups = [
            LatentFrames(kind, *(torch.from_numpy(np.stack(a)) for a in zip(*rows, strict=True)))
            for (kind, _), rows in sorted(self._frames.items())
        ]
        motion = {}
        for name in sorted({name for clip in self._motion for name in clip}):
            rows = [clip[name].__dict__ for clip in self._motion if name in clip]
            fields = [key for key, value in rows[0].items() if value is not None]
            motion[name] = Decisions(**{k: torch.cat([r[k] for r in rows]) for k in fields})
        clips = len(self._motion_bits)
        return TokenCache(groups, motion, self._motion_bits, clips, self._hash, videos)


def make_cache(
    bundle: models.Bundle, data: Path, clips: int, frames: int, crop: int, effort: str, seed: int,
    photos: int = 0,
) -> TokenCache:  # fmt: skip
    """Code ``clips`` crops of the videos under ``data``, and one picture each of at most ``photos``
    of its photographs. Raises DataError."""
    tokenizer, maker = bundle.tokenizer(), CacheMaker(bundle)
    grid = (crop // SPATIAL_STRIDE, crop // SPATIAL_STRIDE)
    sources = _sources_with_videos(data, frames, crop)
    rng = np.random.default_rng((seed, 1))
    pictures = sources.photos[:photos]
    single = (camera_motion(photo, 1, crop, rng).clamp(0, 1)[None] for photo in pictures)
    videos = crops_of(sources.videos, clips, frames, crop, seed)
    for clip, planes in enumerate(itertools.chain(videos, single)):
        step = round(step_of_quality(quality_of(clip)) * STEP_ONE)
        items = tokenized(tokenizer, planes, step / STEP_ONE, effort, bundle.tune)
        maker.add(list(items), grid, step)
        if clip % 10 == 0:
            logger.info("%d of %d clips", clip, clips + len(pictures))
    return maker.cache(len(sources.videos))
