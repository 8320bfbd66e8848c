"""Tokens of training clips, made once and kept in one file.

Clips are coded as the codec codes them, each at one of many qualities; what the generator sees of
each latent frame is kept beside its tokens, and what the adaptive model takes for them.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .. import models
from ..bitstream.payloads import STEP_ONE
from ..codec.lookahead import thumbnail
from ..codec.picture_encoder import EFFORTS, GopStream, PictureEncoder
from ..codec.tokens import (
    DEFAULT_SCALES,
    EntropyModel,
    Generated,
    Grid,
    LatentCoder,
    LatentTokens,
    PictureCoder,
    Tokens,
)
from ..device import autocast
from ..entropy.adaptive import TokenShape
from ..entropy.binary import BitCoder, BitEncoder, Ints
from ..entropy.generator import GeneratorModel
from ..entropy.integer import Activations
from ..entropy.structure import MAX_FRAMES
from ..errors import DataError, InputError
from ..tokenizer.config import SPATIAL_STRIDE, step_of_quality
from .data import load_sources

logger = logging.getLogger(__name__)
_CPU = torch.device("cpu")


def crops(data: Path, clips: int, frames: int, crop: int, seed: int = 0) -> Iterator[Tensor]:
    """Crops (1, 6, T, crop/2, crop/2) in 0..1 of the videos of a folder, in turn."""
    sources = load_sources(data, frames, crop)
    videos = sources.videos
    if not videos:
        raise DataError(f"{data}: no video of {frames} frames and {crop} pixels")
    rng = np.random.default_rng(seed)
    half = crop // 2
    for i in range(clips):
        video = videos[i % len(videos)]
        y, x = (int(rng.integers(side - half + 1)) for side in video.shape[2:])
        yield video[None, :, :frames, y : y + half, x : x + half].float() / 255


def quality_of(clip: int) -> float:
    """The quality of the clip of this number: any few in a row cover the dial evenly."""
    return 100 * (clip * 0.618034 % 1)


def tokenized(
    tokenizer: Any, planes: Tensor, step: float, effort: str = "medium"
) -> Iterator[Tokens]:
    """Tokens of a clip (1, 6, T, H/2, W/2) of whole cells, coded as one GOP."""
    if tokenizer.config.family != "motion":
        with torch.inference_mode(), autocast(_CPU):
            steps = torch.tensor([step])
            z = tokenizer.encoder(planes, steps).float()
            previous = None
            for t in range(z.shape[2]):
                tokens, depth, previous = tokenizer.quantize(z[:, :, t], previous, steps)
                yield LatentTokens(tokens.to(torch.int16).numpy(), depth.numpy())
        return
    grid = (planes.shape[3] // 4, planes.shape[4] // 4)
    loop = PictureEncoder(tokenizer, grid, step, DEFAULT_SCALES, _CPU)
    loop.effort = EFFORTS[effort]
    stream = GopStream(loop)
    for t in range(planes.shape[2]):
        picture = planes[:, :, t]
        y = (F.pixel_shuffle(picture[:, :4], 2)[0, 0] * 255).round().byte().numpy()
        yield from stream.add(picture, thumbnail(y))
    yield from stream.flush()


@dataclass
class LatentFrames:
    """Latent frames of one kind and size: what is seen of them (N, h, w, F) int8, tokens (N, h, w,
    D) int16, depth (N, h, w) uint8; clip and place in it (N,) int32; bits of the adaptive model
    (N,) float32."""

    kind: int
    seen: Tensor
    tokens: Tensor
    depth: Tensor
    clip: Tensor
    place: Tensor
    bits: Tensor


@dataclass
class TokenCache:
    frames: list[LatentFrames]
    clips: int
    model: str  # hash of the bundle whose tokenizer it is

    def save(self, path: Path) -> None:
        part = path.with_name(path.name + ".part")
        torch.save({**self.__dict__, "frames": [f.__dict__ for f in self.frames]}, part)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> TokenCache:
        """Mapped into memory. Raises InputError."""
        try:
            state = torch.load(path, mmap=True, weights_only=True)
            frames = [LatentFrames(**f) for f in state.pop("frames")]
            return cls(frames=frames, **state)
        except (OSError, RuntimeError, TypeError, KeyError, AttributeError, pickle.UnpicklingError):
            raise InputError(f"{path}: not a file of tokens") from None

    def of_clip(self, clip: int) -> list[tuple[int, Activations, NDArray[np.int16], Ints, float]]:
        """Its latent frames in order: kind, seen (h w, F), tokens (h, w, D), depth (h, w), bits."""
        found = []
        for f in self.frames:
            for i in np.flatnonzero(f.clip.numpy() == clip):
                seen = f.seen[i].numpy().reshape(-1, f.seen.shape[-1])
                depth = f.depth[i].numpy().astype(np.int64)
                item = (f.kind, seen, f.tokens[i].numpy(), depth, float(f.bits[i]))
                found.append((int(f.place[i]), item))
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]


class _Recorder(GeneratorModel):
    """Keeps what a generator is asked to code."""

    def __init__(self, shape: TokenShape) -> None:
        self.shape = shape
        self.found: list[tuple[int, Grid, Activations, NDArray[np.int16], Ints]] = []

    def code(
        self, coder: BitCoder, grid: Grid, kind: int, seen: Activations,
        tokens: NDArray[np.int16] | None = None, depth: Ints | None = None,
    ) -> tuple[NDArray[np.int16], Ints]:  # fmt: skip
        assert tokens is not None
        assert depth is not None
        self.found.append((kind, grid, seen, tokens, depth))
        return tokens, depth


@dataclass(frozen=True)
class _Recording(Generated):
    """In place of a generator."""

    recorder: _Recorder | None = None

    def model(self, shape: TokenShape) -> GeneratorModel:
        assert self.recorder is not None
        return self.recorder


def _coder(entropy: EntropyModel, grid: Grid, generated: Generated | None) -> Any:
    kind = PictureCoder if entropy.of_pictures else LatentCoder
    return kind(entropy.shape, entropy.prior, grid, MAX_FRAMES, generated)


def _adaptive_bits(entropy: EntropyModel, grid: Grid, items: list[Tokens]) -> list[float]:
    """What the adaptive model takes for each latent frame of a GOP."""
    coder, bits, found = _coder(entropy, grid, None), BitEncoder(), []
    code = coder.tokens.code

    def measured(*args: Any, **named: Any) -> Any:
        before = bits.ideal_bits
        out = code(*args, **named)
        found.append(bits.ideal_bits - before)
        return out

    coder.tokens.code = measured
    for item in items:
        coder.code(bits, item)
    return found


def make_cache(
    bundle: models.Bundle, data: Path, clips: int, frames: int, crop: int, effort: str, seed: int
) -> TokenCache:
    """Code ``clips`` crops of the videos under ``data``. Raises DataError."""
    tokenizer, entropy = bundle.tokenizer(), bundle.entropy(bundle.entropy_number("adaptive"))
    grid = (crop // SPATIAL_STRIDE, crop // SPATIAL_STRIDE)
    found: dict[tuple[int, Grid], list[tuple[Any, ...]]] = {}
    for clip, planes in enumerate(crops(data, clips, frames, crop, seed)):
        step = round(step_of_quality(quality_of(clip)) * STEP_ONE)
        items = list(tokenized(tokenizer, planes, step / STEP_ONE, effort))
        recorder = _Recorder(entropy.shape)
        coder = _coder(entropy, grid, _Recording(None, 1, step, recorder=recorder))  # type: ignore[arg-type]
        for item in items:
            coder.code(BitEncoder(), item)
        bits = _adaptive_bits(entropy, grid, items)
        for place, (kind, size, seen, tokens, depth) in enumerate(recorder.found):
            found.setdefault((kind, size), []).append(
                (seen.reshape(*size, -1), tokens.reshape(*size, -1), depth.astype(np.uint8),
                 np.int32(clip), np.int32(place), np.float32(bits[place]))
            )  # fmt: skip
        if clip % 10 == 0:
            logger.info("%d of %d clips", clip, clips)
    groups = [
        LatentFrames(kind, *(torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)))
        for (kind, _), rows in sorted(found.items())
    ]
    return TokenCache(groups, clips, bundle.hash.hex())
