"""Pictures from far inside GOPs, for the inter networks of the ``motion`` tokenizer.

Errors of pictures add up along a GOP: what a picture twenty references from the intra picture is
predicted from looks unlike what one next to it is. Clips are coded by the codec itself, with the
weights that there are, and of some pictures what their networks see is kept.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..codec.effort import DEFAULT_TUNE, TUNES
from ..codec.gop_stream import GopStream
from ..codec.lookahead import thumbnail
from ..codec.picture_encoder import Encoded, Known, PictureEncoder
from ..codec.pictures import References, step_of
from ..codec.tokens import DEFAULT_SCALES, PictureTokens, before_of, kind_of
from ..entropy.adaptive import Before
from ..entropy.field import Field, align_before
from ..entropy.structure import Picture
from ..entropy.wiener import Wiener
from ..threads import ahead
from ..tokenizer.config import BETWEEN, INTER, SPATIAL_STRIDE, step_of_quality
from ..tokenizer.motion_model import MotionTokenizer
from .data import Sources, camera_motion, mirror
from .windows import Stored, usable

logger = logging.getLogger(__name__)

SIDE = 256  # pixels of what is coded
FRAMES = 28  # of a clip, which is then played backwards: GOPs have nearly twice as many
KEPT = 12  # pictures of a GOP
LEAST_FRAMES = 9  # of a video
CLIPS = 100  # to code
CROP = 128  # pixels of what is learnt from at once
QUALITIES = (5, 90)
MASKINGS = (TUNES["psnr"], TUNES[DEFAULT_TUNE], TUNES[DEFAULT_TUNE], TUNES["ms-ssim"])
PHOTO_ODDS = 0.1


@dataclass
class Chains(Stored):
    """What the networks see of N pictures: planes (N, 6, S/2, S/2) uint8, their two predictions
    (N, 2, 6, S/2, S/2) float16, magnitudes where these come from (N, h, w, D) uint8, kind, step and
    masking (N,)."""

    what = "coded pictures"
    planes: Tensor
    predictions: Tensor
    before: Tensor
    kind: Tensor
    step: Tensor
    masking: Tensor


class _Recorder(PictureEncoder):
    """An encoder that keeps what it predicted some pictures from."""

    alone = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: dict[int, Before] = {}  # what pictures carry, by display
        self.last: tuple[Tensor, Tensor] | None = None
        self.found: list[dict[str, Tensor]] = []
        self.wanted: frozenset[int] = frozenset()

    def predicted(self, references: References, motion: Field) -> tuple[Tensor, Tensor]:
        self.last = super().predicted(references, motion)
        return self.last

    def _encoded(
        self, picture: Picture, planes: Tensor, known: Known | None, last: Wiener | None
    ) -> Encoded:
        item, decoded = super()._encoded(picture, planes, known, last)
        if item.motion is not None and picture.display in self.wanted:
            assert self.last is not None
            first, second = picture.pair
            before = align_before(item.motion, [self.seen[first], self.seen[second]]).magnitude
            self.found.append({
                "planes": (planes[0] * 255).round().byte(),
                "predictions": torch.cat(self.last).half(),
                "before": torch.from_numpy(before.clip(max=255).astype(np.uint8)).flatten(2),
                "kind": torch.tensor(kind_of(picture)),
                "step": torch.tensor(step_of(self.step, self.scales, picture)),
                "masking": torch.tensor(self.masking),
            })  # fmt: skip
        self.seen[picture.display] = before_of(item.parts[-1])
        return item, decoded


def _clip(sources: Sources, rng: np.random.Generator) -> Tensor:
    """(T, 6, S/2, S/2) uint8, to and fro."""
    half = SIDE // 2
    if sources.photos and (not sources.videos or rng.random() < PHOTO_ODDS):
        photo = sources.photos[rng.integers(len(sources.photos))]
        clip = (camera_motion(photo, FRAMES, SIDE, rng) * 255).round().byte()
    else:
        video = sources.videos[rng.integers(len(sources.videos))]
        y, x = (int(rng.integers((side - half) // 4 + 1)) * 4 for side in video.shape[2:])
        start = int(rng.integers(max(0, video.shape[1] - FRAMES) + 1))
        clip = video[:, start : start + FRAMES, y : y + half, x : x + half]
        if rng.random() < 0.5:
            clip = mirror(clip)
    clip = clip.transpose(0, 1)
    return torch.cat([clip, clip[:-1].flip(0)])


def make_chains(tokenizer: MotionTokenizer, sources: Sources, count: int, seed: int = 0) -> Chains:
    """Code ``count`` clips, and keep some pictures of each. Raises DataError where the sources are
    too small."""
    sources = usable(sources, LEAST_FRAMES, SIDE)
    rng = np.random.default_rng((seed, 3))
    grid = (SIDE // SPATIAL_STRIDE,) * 2
    found: list[dict[str, Tensor]] = []
    for i in range(count):
        clip = _clip(sources, rng)
        step = step_of_quality(rng.uniform(*QUALITIES))
        masking = int(rng.choice(MASKINGS))
        loop = _Recorder(tokenizer, grid, step, DEFAULT_SCALES, torch.device("cpu"), masking)
        loop.wanted = frozenset(rng.choice(len(clip) - 1, KEPT, replace=False) + 1)
        stream = GopStream(loop)
        for planes in clip:
            luma = F.pixel_shuffle(planes[None, :4], 2)[0, 0].numpy()
            _drain(stream.add(planes[None].float() / 255, thumbnail(luma)))
        _drain(stream.flush())
        found += loop.found
        if i % 10 == 0:
            logger.info("%d of %d clips coded", i, count)
    return Chains(**{k: torch.stack([f[k] for f in found]) for k in found[0]})


def _drain(items: Iterator[PictureTokens]) -> None:
    for _ in items:
        pass


@dataclass
class ChainBatch:
    """Crops of pictures of one kind and masking: planes (B, 6, S/2, S/2) in 0..1, predictions two
    such, before (B, h, w, D), step (B,)."""

    planes: Tensor
    predictions: tuple[Tensor, Tensor]
    before: Tensor
    kind: int
    step: Tensor
    masking: float


class ChainBatches:
    """Endless batches, the same for a seed; ``batch(i)`` depends on the seed and i alone."""

    def __init__(self, chains: Chains, size: int, crop: int, seed: int = 0) -> None:
        self.chains, self.size, self.crop, self.seed = chains, size, crop, seed
        self._groups: list[NDArray[np.int64]] = []
        for kind in (INTER, BETWEEN):
            for masking in chains.masking.unique():
                at = np.flatnonzero(((chains.kind == kind) & (chains.masking == masking)).numpy())
                if len(at):
                    self._groups.append(at)
        sizes = np.array([len(g) for g in self._groups])
        self._odds = sizes / sizes.sum()

    def batch(self, index: int) -> ChainBatch:
        rng = np.random.default_rng((self.seed, index))
        c = self.chains
        group = self._groups[rng.choice(len(self._groups), p=self._odds)]
        places = rng.choice(group, self.size)
        cells, half = self.crop // SPATIAL_STRIDE, SPATIAL_STRIDE // 2
        limit = c.before.shape[1] - cells
        parts = []
        for i in places:
            y, x = (int(rng.integers(limit + 1)) for _ in range(2))
            rows, columns = (slice(half * n, half * (n + cells)) for n in (y, x))
            first, second = c.predictions[i][..., rows, columns].float()
            before = c.before[i][y : y + cells, x : x + cells].float()
            parts.append((c.planes[i][:, rows, columns].float() / 255, first, second, before))
        planes, first, second, before = (torch.stack(p) for p in zip(*parts, strict=True))
        return ChainBatch(
            planes,
            (first, second),
            before,
            int(c.kind[places[0]]),
            c.step[places].float(),
            float(c.masking[places[0]]),
        )

    def iterate(self, start: int) -> Iterator[ChainBatch]:
        """Batches start, start + 1, ... prepared ahead by a thread."""
        yield from ahead(map(self.batch, itertools.count(start)), 2)
