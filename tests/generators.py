"""Small generators with random weights, large ones, so that every context comes up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neurocodec import models
from neurocodec.entropy.adaptive import MAX_LEVEL, Before, Prior, TokenShape
from neurocodec.entropy.binary import BitEncoder, Bits, Counts, Ints
from neurocodec.entropy.field import Field
from neurocodec.entropy.generator import (
    COUNT_LIMIT,
    MODES,
    Generator,
    GeneratorConfig,
    GeneratorModel,
    Side,
    features,
)
from neurocodec.entropy.integer import Activations
from neurocodec.entropy.loop_filter import blocks_of
from neurocodec.entropy.wiener import (
    CHROMA_TAPS,
    CLASSES,
    LUMA_TAPS,
    MAX_TAP,
    REGION,
    TAPS,
    LumaFilter,
    Wiener,
)
from neurocodec.train.generator_net import GeneratorNet

SMALL = GeneratorConfig(channels=8, seen=4, hidden=6, blocks=1)
SMALL_MOTION = GeneratorConfig(channels=8, seen=4, hidden=6, blocks=1, motion=12)
_GAINS = {
    "depth.out": 8,
    "tokens.out": 32,
    "motion.modes.out": 32,
    "motion.candidates.out": 8,
    "motion.difference.x": 8,
    "motion.difference.y": 8,
}  # of last layers, as a random net's logits have to be large


def random_net(shape: TokenShape, seed: int = 0, config: GeneratorConfig = SMALL) -> GeneratorNet:
    torch.manual_seed(seed)
    net = GeneratorNet(config, shape)
    with torch.no_grad():
        for name in config.layers(shape):
            net.layer(name).weight *= _GAINS.get(name, 2)
    return net


def random_counts(shape: TokenShape, seed: int = 0, config: GeneratorConfig = SMALL) -> Prior:
    """Counts of every size; tokens are often there, and often large."""
    rng = np.random.default_rng(seed)
    prior: Prior = {}
    for name, size in config.table_shapes(shape).items():
        total = np.round(COUNT_LIMIT * rng.random(size[:2]) ** 6)
        share = rng.random(size[:2])
        if name in ("coded", "nonzero", "more"):
            share = 1 - (0.04 if name == "more" else 0.5) * share**2
        ones = np.round(share * total)
        prior[name] = np.stack([total - ones, ones], -1).astype(np.uint16)
    return prior


def random_parts(
    shape: TokenShape, seed: int = 0, config: GeneratorConfig = SMALL
) -> models.GeneratorParts:
    arrays = random_net(shape, seed, config).arrays()
    return models.GeneratorParts(config, arrays, random_counts(shape, seed, config))


def random_generator(
    shape: TokenShape, seed: int = 0, config: GeneratorConfig = SMALL
) -> Generator:
    parts = random_parts(shape, seed, config)
    return Generator.from_arrays(config, shape, parts.arrays, parts.prior)


Latent = tuple[int, Activations, NDArray[np.int16], Ints]  # kind, features, tokens, depth


def random_field(rng: np.random.Generator, grid: tuple[int, int]) -> Field:
    mv = rng.integers(-1023, 1024, (2, *grid, 2)) // rng.choice([1, 100])
    return Field(rng.integers(0, MODES, grid).astype(np.uint8), mv.astype(np.int16))


def random_luma_filter(rng: np.random.Generator, grid: tuple[int, int]) -> LumaFilter:
    count = int(rng.choice([1, 2, 9, CLASSES]))
    which = rng.integers(0, count, CLASSES)
    return LumaFilter(which, _random_taps(rng, count), rng.random(blocks_of(grid, REGION)) < 0.7)


def random_wiener(rng: np.random.Generator, grid: tuple[int, int]) -> Wiener:
    """Of a picture of (h, w) cells; mostly with filters of some planes."""
    luma = random_luma_filter(rng, grid) if rng.random() < 0.6 else None
    u, v = (_random_taps(rng) if rng.random() < 0.6 else None for _ in range(2))
    return Wiener(luma, (u, v))


def _random_taps(rng: np.random.Generator, filters: int = 0) -> Ints:
    """Of so many filters of luma, or of one of chroma; of all sizes that there are."""
    shape = (filters, len(TAPS)) if filters else (len(CHROMA_TAPS) + len(LUMA_TAPS),)
    taps = np.round(rng.laplace(0, rng.choice([3, 60]), shape))
    return np.clip(taps, -MAX_TAP, MAX_TAP).astype(np.int64)


def random_latents(shape: TokenShape, grid: tuple[int, int], seed: int, count: int) -> list[Latent]:
    """Tokens with a heavy tail, up to MAX_LEVEL; with motion, and what was before."""
    rng = np.random.default_rng(seed)
    found: list[Latent] = []
    before = None
    for _ in range(count):
        kind = int(rng.integers(shape.kinds))
        depth = rng.integers(0, shape.stages + 1, grid)
        size = (*grid, shape.stages, shape.bits)
        tokens = rng.choice([-1, 1], size)
        if shape.quantizer == "levels":
            tokens = tokens * np.minimum(rng.pareto(0.7, size), MAX_LEVEL).astype(np.int64)
        tokens = tokens * (np.arange(shape.stages)[:, None] < depth[..., None, None])
        side = Side(int(rng.integers(1, 1 << 28)))
        if shape.kinds == 5:
            distances = tuple(rng.integers(-8, 8, 2).tolist())
            side = replace(side, level=3, motion=random_field(rng, grid), distances=distances)
        seen = features(shape, grid, kind, before, side)
        found.append((kind, seen, tokens.astype(np.int16), depth))
        before = Before(depth, np.abs(tokens).astype(np.int16))
    return found


Group = tuple[str, int, list[int]]  # table, block and contexts


def recorded(
    shape: TokenShape, generator: Generator, latent: Latent, steps: int,
    transform: Ints | None = None,
) -> list[Group]:  # fmt: skip
    """The groups of bits of a latent frame, in order."""
    groups: list[Group] = []
    code = Counts.code

    def recording(self: Counts, coder: Any, bits: Bits, block: int, contexts: Ints) -> Bits:
        (name,) = (name for name, table in model.tables.items() if table is self)
        groups.append((name, block, contexts.tolist()))
        return code(self, coder, bits, block, contexts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counts, "code", recording)
        model = GeneratorModel(shape, generator, steps)
        kind, seen, tokens, depth = latent
        model.code(BitEncoder(), depth.shape, kind, seen, tokens, depth, transform)  # type: ignore[arg-type]
    return groups
