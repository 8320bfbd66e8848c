"""Small generators with random weights, large ones, so that every context comes up."""

from __future__ import annotations

import numpy as np
import torch

from neurocodec import models
from neurocodec.entropy.adaptive import Prior, TokenShape
from neurocodec.entropy.generator import COUNT_LIMIT, Generator, GeneratorConfig
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
