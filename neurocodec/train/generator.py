"""Training of the generator: cross-entropy of tokens over the steps of the schedule."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import models
from ..entropy.adaptive import Prior, TokenShape
from ..entropy.binary import BitEncoder, Counts, Ints
from ..entropy.generator import (
    DEFAULT_STEPS,
    Generator,
    GeneratorConfig,
    GeneratorModel,
)
from ..entropy.integer import BUCKETS, LOGIT_ONE, MAX_INPUTS, ONE, bucket
from ..entropy.motion_decisions import MORE_BITS
from ..entropy.motion_generator import (
    COUNT_LIMIT,
    COUNT_UNIT,
    LAST_LAYERS,
    MOTION_TABLES,
    MotionGenerator,
)
from ..errors import DataError, InputError, UsageError
from ..tokenizer.config import TEMPORAL_STRIDE
from .generator_net import GeneratorNet, motion_cost
from .run import Run, load_checkpoint, refuse_folder_of_a_run
from .token_cache import Decisions, LatentFrames, TokenCache, make_cache

logger = logging.getLogger(__name__)

HELD_OUT = 12  # every so many videos one is not trained on
SCHEDULES = ((2, 0.15), (4, 0.7), (8, 0.15))  # steps, and how often each is trained
CELLS = 6400  # of one batch, about: of the latent frames of a GOP's first picture half as many
ROWS = 1024  # decisions about motion of each sort in a batch
CONFIDENCE = 32 * COUNT_UNIT  # what first counts add up to, at least
RARE = 8  # and so much more where a bit is rare, that this is what they hold of it
PRIOR_CLIPS = 100


@dataclass
class GeneratorTrainConfig:
    channels: int = 64
    seen: int = 32
    hidden: int = 32
    blocks: int = 1
    motion: int = 96  # of a tokenizer with motion
    steps: int = 20000
    learning_rate: float = 2e-3
    warm_up: int = 200
    ema: float = 0.998
    clip_norm: float = 1.0
    seed: int = 0
    save_every: int = 200
    validate_every: int = 2000
    tokens: str = ""  # file of them

    def shape(self, motion: bool) -> GeneratorConfig:
        width = self.motion if motion else 0
        return GeneratorConfig(self.channels, self.seen, self.hidden, self.blocks, width)


@dataclass(frozen=True)
class _Shape:
    """What a checkpoint says of the model, and of the tokenizer it is for."""

    config: GeneratorConfig
    tokenizer: str  # tokens_hash of its bundle

    def to_dict(self) -> dict[str, Any]:
        return {"generator": self.config.to_dict(), "tokenizer": self.tokenizer}


class GeneratorRun(Run):
    config: GeneratorTrainConfig
    model: GeneratorNet

    def __init__(
        self, config: GeneratorTrainConfig, shape: TokenShape, cache: TokenCache, out: Path,
        device: str = "auto",
    ) -> None:  # fmt: skip
        torch.manual_seed(config.seed)
        net = GeneratorNet(config.shape(bool(cache.motion)), shape)
        super().__init__(config, _Shape(net.config, cache.model), net, out, device)
        self.cache = cache
        decisions = {
            name: np.flatnonzero(~held_out(rows.clip, cache)) for name, rows in cache.motion.items()
        }
        self._decisions = {name: places for name, places in decisions.items() if len(places)}

    def start_from_bundle(self, bundle: models.Bundle) -> None:
        """Take the weights of a bundle's generator. Raises InputError, ModelError."""
        parts = models.generator_parts(bundle)
        if parts is None:
            raise InputError(f"{bundle.path}: has no generator")
        own, without = self.model.shape, replace(self.model.shape, transform_kinds=0)
        if parts.config != self.model.config or bundle.shape not in (own, without):
            raise InputError(f"{bundle.path}: its generator has other sizes")
        self.model.load_arrays(parts.arrays)
        self.forget_average()

    def batches(self) -> Iterator[tuple[LatentFrames, Tensor]]:
        """Endless: a group of latent frames, and which of them. Depends on the seed and the number
        of the step alone."""
        groups = [(f, np.flatnonzero(~held_out(f.clip, self.cache))) for f in self.cache.frames]
        groups = [(f, places) for f, places in groups if len(places)]
        if not groups:
            raise DataError("no clip to train on")
        carried = np.array([float(f.bits[torch.from_numpy(at)].sum()) for f, at in groups])
        kinds = np.array([f.kind for f, _ in groups])
        of_kind = np.bincount(kinds, carried)[kinds]
        odds = carried / np.sqrt(of_kind)  # of a kind as the root of its bits, of sizes as theirs
        odds /= odds.sum()
        while True:
            rng = np.random.default_rng((self.config.seed, self.done))
            f, places = groups[rng.choice(len(groups), p=odds)]
            size = max(2, min(64, CELLS // f.depth[0].numel()))
            yield f, torch.from_numpy(rng.choice(places, size))

    def step(self, batch: tuple[LatentFrames, Tensor]) -> dict[str, float]:
        f, at = batch
        rng = np.random.default_rng((self.config.seed, self.done, 1))
        self.start_step()
        schedules, odds = zip(*SCHEDULES, strict=True)
        seen = f.seen[at].to(self.device).float() / ONE
        depth, tokens = f.depth[at].to(self.device).long(), f.tokens[at].to(self.device).long()
        transform = None if f.transform is None else f.transform[at].to(self.device).long()
        steps = int(rng.choice(schedules, p=odds))
        nats = self.model.cost(seen, depth, tokens, steps, transform)
        adaptive = float(f.bits[at].sum()) * float(np.log(2))
        loss, motion = nats / max(adaptive, 1.0), {}
        for name, places in self._decisions.items():
            rows = torch.from_numpy(rng.choice(places, ROWS))
            cost = decision_cost(self.model, name, self.cache.motion[name], rows, self.device)
            loss = loss + cost / ROWS
            motion[name] = cost.item() / ROWS
        self.backward(loss, {"seen": seen, "depth": depth, "tokens": tokens})
        norm = self.finish_step()
        return {"nats": nats.item(), "adaptive": adaptive, **motion, "norm": norm}

    def log(self, entry: dict[str, Any]) -> None:
        if "adaptive" in entry:  # means over steps
            entry["ratio"] = entry.pop("nats") / max(entry.pop("adaptive"), 1.0)
        super().log(entry)

    def validate(self) -> None:
        """Size of held-out clips against the adaptive model's, by kind, in files as written."""
        cache = self.cache
        held = np.flatnonzero(held_out(torch.arange(cache.clips), cache)).tolist()
        with self.averaged():
            generator = generator_of(self.model, flat_prior(self.model))
            ratios = compare(cache, generator, self.model.shape, held)
            if cache.motion and held:
                ratios["motion"] = compare_motion(self.model, cache, held)
        self.log({"step": self.done, "held_out": len(held), **ratios})


def held_out(clip: Tensor, cache: TokenCache) -> NDArray[np.bool_]:
    """Whether the videos that clips (N,) are from are held out."""
    videos = min(cache.videos or cache.clips, cache.clips)
    every = min(HELD_OUT, videos)
    if every < 2:
        return np.zeros(len(clip), np.bool_)
    return clip.numpy() % videos % every == every - 1  # type: ignore[no-any-return]


def decision_cost(
    net: GeneratorNet, name: str, rows: Decisions, at: Tensor, device: torch.device
) -> Tensor:
    """Nats of decisions about motion; summed."""
    x, bits = rows.seen[at].to(device).float() / ONE, rows.bits[at].to(device)
    logits, inner = net.motion_logits(name, x)
    cost = motion_cost(logits, bits)
    if rows.across is None or rows.bits_y is None:
        return cost
    logits = net.across_logits(inner, rows.across[at].to(device).float() / ONE)
    return cost + motion_cost(logits, rows.bits_y[at].to(device))


def compare_motion(net: GeneratorNet, cache: TokenCache, clips: list[int]) -> float:
    """Cross-entropy of motion over what the adaptive model takes."""
    nats, raw, device = 0.0, 0.0, next(net.parameters()).device
    for name, rows in cache.motion.items():
        at = torch.from_numpy(np.flatnonzero(np.isin(rows.clip.numpy(), clips)))
        for part in at.split(20000):
            nats += float(decision_cost(net, name, rows, part, device))
        for bits in (rows.bits, rows.bits_y) if rows.bits_y is not None else ():
            raw += _raw_bits(bits[at])
    adaptive = sum(cache.motion_bits[i] for i in clips)
    return (nats / float(np.log(2)) + raw) / max(adaptive, 1.0)


def _raw_bits(bits: Tensor) -> float:
    """How many bits of differences (N, outputs) have no context."""
    length = (bits[:, MORE_BITS] > 0).sum(1)
    return float((length - 2).clamp(min=0).sum())


def compare(
    cache: TokenCache, generator: Generator, shape: TokenShape, clips: list[int],
    steps: int = DEFAULT_STEPS,
) -> dict[str, float]:  # fmt: skip
    """Bits of the generator over those of the adaptive model, by kind and of all."""
    sums: dict[str, list[float]] = {}
    for clip in clips:
        model, coder = GeneratorModel(shape, generator, steps), BitEncoder()
        for kind, seen, tokens, depth, transform, adaptive in cache.of_clip(clip):
            before = coder.ideal_bits
            model.code(coder, depth.shape, kind, seen, tokens, depth, transform)  # type: ignore[arg-type]
            for name in (f"kind{kind}", "all"):
                found = sums.setdefault(name, [0.0, 0.0])
                found[0] += coder.ideal_bits - before
                found[1] += adaptive
    return {name: a / max(b, 1.0) for name, (a, b) in sorted(sums.items())}


def generator_of(net: GeneratorNet, prior: Prior) -> Generator:
    return Generator.from_arrays(net.config, net.shape, net.arrays(), prior)


def flat_prior(net: GeneratorNet) -> Prior:
    """First counts that take the network at its word."""
    logits = (np.arange(BUCKETS) - BUCKETS / 2) / LOGIT_ONE  # those of a class are rounded to it
    p = 1 / (1 + np.exp(-logits))
    pairs = _counts(1 - p, p)
    return {
        name: np.tile(pairs, (size[1] // BUCKETS, 1))[None].repeat(size[0], 0)
        for name, size in net.config.table_shapes(net.shape).items()
    }


def _counts(zeros: Any, ones: Any) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Numbers of zeros and ones -> first counts (..., 2) of about that proportion."""
    p = (ones + 1e-9) / (zeros + ones + 2e-9)
    total = np.clip(RARE / np.minimum(p, 1 - p), CONFIDENCE, COUNT_LIMIT - 1)
    pairs = np.stack([(1 - p) * total, p * total], -1)
    return np.round(pairs).astype(np.uint16)  # type: ignore[no-any-return]


def gathered_prior(net: GeneratorNet, cache: TokenCache, clips: list[int]) -> Prior:
    """First counts from what the network's classes held in these clips, and its word for a little
    more."""
    flat = flat_prior(net)
    model = GeneratorModel(net.shape, generator_of(net, flat))
    for name in model.tables:
        model.tables[name] = Counts(np.zeros_like(flat[name]), 1 << 50)
    for clip in clips:
        coder = BitEncoder()
        for kind, seen, tokens, depth, transform, _ in cache.of_clip(clip):
            model.code(coder, depth.shape, kind, seen, tokens, depth, transform)  # type: ignore[arg-type]
    found: dict[str, NDArray[Any]] = {name: table.counts for name, table in model.tables.items()}
    if net.config.motion:
        found |= _motion_counts(net, cache, flat)
    prior: Prior = {}
    for name, counts in found.items():
        held = counts + flat[name] * (COUNT_UNIT / CONFIDENCE)
        prior[name] = _counts(held[..., 0], held[..., 1])
    return prior


def _motion_counts(net: GeneratorNet, cache: TokenCache, flat: Prior) -> dict[str, Ints]:
    """What the network's classes held of decisions about motion, in all clips."""
    layers = generator_of(net, flat).layers
    model = MotionGenerator(layers, flat)
    tables = {name: np.zeros(flat[name].shape, np.int64) for name in MOTION_TABLES}

    def count(name: str, contexts: Ints, rows: Decisions, bits: Tensor, part: slice) -> None:
        at, column = np.nonzero(bits[part].numpy() >= 0)
        context = column * BUCKETS + contexts[at, column]
        index = (rows.block[part].numpy()[at], context, bits[part].numpy()[at, column])
        np.add.at(tables[name], index, 1)

    for name, rows in cache.motion.items():
        for start in range(0, len(rows.bits), 20000):
            part = slice(start, start + 20000)
            inner = model.hidden(f"motion.{name}", rows.seen[part].numpy())
            last, table = LAST_LAYERS[name]
            count(table, bucket(layers[last](inner)), rows, rows.bits, part)
            if rows.across is None or rows.bits_y is None:
                continue
            inner = np.concatenate([inner, rows.across[part].numpy()], 1)
            inner = layers["motion.difference.2"].relu(inner)
            contexts = bucket(layers["motion.difference.y"](inner))
            count("motion_y", contexts, rows, rows.bits_y, part)
    return tables


def train_generator(
    bundle: models.Bundle,
    data: Path,
    out: Path,
    config: GeneratorTrainConfig,
    tokens: Path | None = None,
    clips: int = 400,
    frames: int = 17,
    crop: int = 224,
    effort: str = "medium",
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
    photos: int = 400,
    start: models.Bundle | None = None,
) -> None:
    """Train in ``out`` on the tokens that a bundle's tokenizer makes of the videos under ``data``.

    tokens: file of tokens, made where it does not exist; by default one in ``out``. clips, frames,
    crop, photos: what is made. One video of twelve is held out. start: bundle whose generator is
    trained on. Raises DataError, InputError, ModelError, UsageError.
    """
    if not resume:
        refuse_folder_of_a_run(out)
    _check(config, bundle, frames)
    file = (tokens or out / "tokens.pt").resolve()
    for folder in (out, file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        make_cache(bundle, data, clips, frames, crop, effort, config.seed, photos).save(file)
    cache = TokenCache.load(file)
    if cache.model != bundle.tokens_hash:
        raise InputError(f"{file}: tokens of another model than {bundle.name}")
    config = replace(config, tokens=str(file))
    run = GeneratorRun(config, bundle.shape, cache, out, device)
    if resume:
        run.resume()
    elif start is not None:
        run.start_from_bundle(start)
    run.loop(run.batches(), run.step, run.validate, progress)


def _check(config: GeneratorTrainConfig, bundle: models.Bundle, frames: int) -> None:
    """Raises UsageError."""
    try:
        sizes = config.shape(bundle.is_motion).layers(bundle.shape)
    except ValueError as error:
        raise UsageError(str(error)) from None
    inputs = max(inputs for _, inputs in sizes.values())
    if inputs > MAX_INPUTS:
        raise UsageError(f"{config.channels} channels: a layer would have {inputs} inputs, more "
                         f"than {MAX_INPUTS}")  # fmt: skip
    if not bundle.is_motion and frames % TEMPORAL_STRIDE != 1:
        raise UsageError(f"{frames} frames: give one more than a multiple of {TEMPORAL_STRIDE}")


def add_generator(bundle: models.Bundle, run: Path, target: Path) -> None:
    """Write a bundle with the averaged weights of a run as its generator, and first counts from the
    tokens it learned from. Raises InputError."""
    state = load_checkpoint(run)
    if "generator" not in state["tokenizer"]:
        raise InputError(f"{run}: not the run of a generator, nor a finished one of a transformer")
    if state["tokenizer"]["tokenizer"] != bundle.tokens_hash:
        raise InputError(f"{run}: not a generator for {bundle.name} {bundle.tokens_hash[:16]}")
    config = GeneratorConfig(**state["tokenizer"]["generator"])
    net = GeneratorNet(config, bundle.shape)
    net.load_state_dict(state["model"])
    net.load_state_dict(state["average"], strict=False)
    tokens = Path(state["config"]["tokens"])
    cache = TokenCache.load(tokens if tokens.exists() else run / tokens.name)  # moved with it
    if cache.model != bundle.tokens_hash:
        raise InputError(f"{tokens}: tokens of another model than {bundle.name}")
    prior = gathered_prior(net, cache, list(range(min(cache.clips, PRIOR_CLIPS))))
    card = bundle.card | {
        "generator": {
            "steps": state["done"],
            "hours": round(state["seconds"] / 3600, 2),
            "config": {k: v for k, v in state["config"].items() if k != "tokens"},  # a file here
            "tokenizer": bundle.tokens_hash,
        }
    }
    parts = models.GeneratorParts(config, net.arrays(), prior)
    models.write_bundle(target, target.stem, bundle.tokenizer(), bundle.prior(), card, parts)
