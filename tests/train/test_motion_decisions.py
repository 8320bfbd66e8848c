"""Decisions about motion, as they are kept for training, are those that are coded."""

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocodec import models
from neurocodec.bitstream.payloads import STEP_ONE
from neurocodec.codec.frames import pad_planes
from neurocodec.codec.tokens import Generated, PictureCoder, PictureTokens
from neurocodec.entropy.adaptive import Prior
from neurocodec.entropy.binary import BitEncoder, Counts
from neurocodec.entropy.field import Field, MotionMemory, distances_of
from neurocodec.entropy.generator import COUNT_LIMIT, Generator
from neurocodec.entropy.integer import BUCKETS, bucket
from neurocodec.entropy.loop_filter import LoopFilterModel
from neurocodec.entropy.motion import MotionModel, motion_part
from neurocodec.entropy.motion_decisions import MORE_BITS
from neurocodec.entropy.motion_features import MODE_FEATURES, VECTOR_FEATURES
from neurocodec.entropy.motion_generator import (
    ACROSS,
    LAST_LAYERS,
    MOTION_TABLES,
    MotionGenerator,
)
from neurocodec.entropy.structure import MAX_FRAMES
from neurocodec.train import generator as module
from neurocodec.train.generator import (
    GeneratorRun,
    GeneratorTrainConfig,
    compare_motion,
    flat_prior,
    gathered_prior,
    generator_of,
)
from neurocodec.train.generator_net import GeneratorNet
from neurocodec.train.token_cache import CacheMaker, Decisions, TokenCache, tokenized
from tests.conftest import moving_picture
from tests.generators import SMALL_MOTION, random_counts, random_net

GRID = (6, 8)
STEPS = (round(0.05 * STEP_ONE), round(0.3 * STEP_ONE), round(0.1 * STEP_ONE))


@dataclass
class Clips:
    bundle: models.Bundle
    items: list[list[PictureTokens]]
    cache: TokenCache


def rough(items: list[PictureTokens]) -> list[PictureTokens]:
    """With any modes but DIRECT, and vectors of all sizes."""
    rng = np.random.default_rng(0)
    found = []
    for item in items:
        motion = item.motion
        if motion is not None:
            mode = motion.mode.copy()
            if len(set(item.picture.refs)) == 2:
                mode = rng.integers(0, 3, GRID).astype(np.uint8)
            mv = np.round(rng.laplace(0, rng.choice([2, 200]), (2, *GRID, 2))).clip(-1023, 1023)
            mv *= np.stack([mode != 1, mode != 0])[..., None]
            motion = Field(mode, mv.astype(np.int16))
        found.append(replace(item, motion=motion))
    return found


@pytest.fixture(scope="module")
def clips(tiny_motion: Path) -> Clips:
    bundle = models.read_bundle(tiny_motion)
    tokenizer, maker = bundle.tokenizer(), CacheMaker(bundle)
    frames = moving_picture(19, 64, 48)
    parts = (frames[:17], frames[2:][::-1], frames[4:13])
    every = []
    for i, (part, step) in enumerate(zip(parts, STEPS, strict=True)):
        planes = pad_planes(part)
        items = list(tokenized(tokenizer, planes, step / STEP_ONE, "fast"))
        assert all(isinstance(item, PictureTokens) for item in items)
        every.append(rough(items) if i == 1 else items)  # type: ignore[arg-type]
        maker.add(every[-1], GRID, step)  # type: ignore[arg-type]
    return Clips(bundle, every, maker.cache())  # type: ignore[arg-type]


def coded_motion(clips: Clips, clip: int, generator: Generator, tables: dict[str, Counts]) -> float:
    """Bits of a clip's motion, with these counts."""
    generated = Generated(generator, 4, STEPS[clip])
    shape, prior = clips.bundle.shape, clips.bundle.prior()
    coder, bits, found = PictureCoder(shape, prior, GRID, MAX_FRAMES, generated), BitEncoder(), 0.0
    model = coder.motion_generator
    assert model is not None
    model.tables = tables
    code = model.code_field

    def measured(*args: object) -> Field:
        nonlocal found
        before = bits.ideal_bits
        field = code(*args)  # type: ignore[arg-type]
        found += bits.ideal_bits - before
        return field

    model.code_field = measured  # type: ignore[method-assign]
    for item in clips.items[clip]:
        coder.code(bits, item)
    return found


def frozen(prior: Prior) -> dict[str, Counts]:
    return {name: Counts(prior[name], COUNT_LIMIT, 0) for name in MOTION_TABLES}


def bits_of_decisions(cache: TokenCache, clip: int, generator: Generator) -> float:
    """By the layers in integers and the first counts, which do not change."""
    layers, model = generator.layers, MotionGenerator(generator.layers, generator.prior)
    total = 0.0

    def add(table: str, contexts: np.ndarray, bits: np.ndarray, block: np.ndarray) -> None:
        nonlocal total
        at, column = np.nonzero(bits >= 0)
        pairs = generator.prior[table].astype(np.int64)[
            block[at], column * BUCKETS + contexts[at, column]
        ]
        p = ((2 * pairs[:, 1] + 1) << 16) // (2 * pairs.sum(1) + 2)
        p = p.clip(1, 65535) / 65536
        total -= float(np.log2(np.where(bits[at, column] > 0, p, 1 - p)).sum())

    for name, rows in cache.motion.items():
        mine = rows.clip.numpy() == clip
        block, bits = rows.block.numpy()[mine], rows.bits.numpy()[mine]
        inner = model.hidden(f"motion.{name}", rows.seen.numpy()[mine])
        last, table = LAST_LAYERS[name]
        add(table, bucket(layers[last](inner)), bits, block)
        if rows.across is None or rows.bits_y is None:
            continue
        below = rows.bits_y.numpy()[mine]
        inner = np.concatenate([inner, rows.across.numpy()[mine]], 1)
        inner = layers["motion.difference.2"].relu(inner)
        add("motion_y", bucket(layers["motion.difference.y"](inner)), below, block)
        for part in (bits, below):
            length = (part[:, MORE_BITS] == 1).sum(1)
            total += int(np.maximum(length - 2, 0).sum())
    return total


def net_of(clips: Clips, seed: int = 0) -> GeneratorNet:
    return random_net(clips.bundle.shape, seed, SMALL_MOTION)


def test_there_are_decisions_of_all_sorts(clips: Clips) -> None:
    motion = clips.cache.motion
    assert list(motion) == ["candidates", "difference", "modes"]
    for name, rows in motion.items():
        features = MODE_FEATURES if name == "modes" else VECTOR_FEATURES
        assert (rows.seen.shape[1], rows.seen.dtype) == (features, torch.int8)
        assert set(rows.clip.tolist()) == {0, 1, 2}
        assert len(rows.seen) == len(rows.bits) == len(rows.block) == len(rows.clip)
        assert set(rows.bits.unique().tolist()) == {-1, 0, 1}
    modes = motion["modes"].bits
    assert all(set(column.unique().tolist()) >= {0, 1} for column in modes.T)
    across = motion["difference"].across
    assert across is not None
    assert across.shape == (len(motion["difference"].bits), ACROSS)


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_decisions_cost_what_is_written(clips: Clips, clip: int) -> None:
    net = net_of(clips, clip)
    prior = random_counts(clips.bundle.shape, clip, SMALL_MOTION)
    generator = generator_of(net, prior)
    written = coded_motion(clips, clip, generator, frozen(prior))
    assert written > 100
    assert bits_of_decisions(clips.cache, clip, generator) == pytest.approx(written, rel=1e-9)


def test_bits_of_the_adaptive_model_are_those_of_motion_alone(clips: Clips) -> None:
    """With those of tokens and loop filters they leave a little for the structure."""
    shape, prior = clips.bundle.shape, clips.bundle.prior()
    for clip, items in enumerate(clips.items):
        coder, bits = PictureCoder(shape, prior, GRID, MAX_FRAMES), BitEncoder()
        for item in items:
            coder.code(bits, item)
        tokens = sum(float(f.bits[f.clip == clip].sum()) for f in clips.cache.frames)
        memory, model, alone = MotionMemory(), MotionModel(motion_part(prior)), BitEncoder()
        for item in items:
            if item.motion is not None:
                distances, suggested = distances_of(item.picture), memory.suggest(item.picture)
                model.code_field(alone, distances, item.motion, GRID, suggested)
                memory.remember(item.picture, item.motion, range(MAX_FRAMES))
        found = clips.cache.motion_bits[clip]
        assert found == pytest.approx(alone.ideal_bits)
        filters, smooth = LoopFilterModel(GRID), BitEncoder()
        for item in items:
            filters.code(smooth, item.motion is None, item.loop_filter)
        assert 0 < bits.ideal_bits - tokens - found - smooth.ideal_bits < 40


def test_comparison_of_motion(clips: Clips) -> None:
    """In floats about what it is in integers, with first counts that believe the network."""
    torch.manual_seed(0)
    net = GeneratorNet(SMALL_MOTION, clips.bundle.shape)
    prior, adaptive = flat_prior(net), clips.cache.motion_bits
    generator = generator_of(net, prior)
    sizes = [coded_motion(clips, clip, generator, frozen(prior)) for clip in range(3)]
    with torch.no_grad():
        for chosen in ([0], [1], [0, 2], [0, 1, 2]):
            expected = sum(sizes[i] for i in chosen) / sum(adaptive[i] for i in chosen)
            assert compare_motion(net, clips.cache, chosen) == pytest.approx(expected, rel=0.03)


def test_first_counts_are_of_what_is_coded(clips: Clips) -> None:
    net = net_of(clips)
    empty: Prior = {
        name: np.zeros(size, np.uint16)
        for name, size in SMALL_MOTION.table_shapes(clips.bundle.shape).items()
    }
    generator = generator_of(net, empty)
    tables = {name: Counts(empty[name], 1 << 50) for name in MOTION_TABLES}
    for clip in range(3):
        coded_motion(clips, clip, generator, tables)
    found = module._motion_counts(net, clips.cache, empty)
    assert found.keys() == MOTION_TABLES.keys()
    for name, table in tables.items():
        np.testing.assert_array_equal(found[name], table.counts)

    prior, flat = gathered_prior(net, clips.cache, [0, 1, 2]), flat_prior(net)
    generator_of(net, prior)  # which checks it
    for name, table in tables.items():
        held = table.counts + flat[name] / 32  # where nothing was seen, the network's word
        share = prior[name][..., 1] / prior[name].sum(-1)
        np.testing.assert_allclose(share, held[..., 1] / held.sum(-1), atol=0.002)
    sizes = [coded_motion(clips, 1, generator, frozen(p)) for p in (prior, flat)]
    assert sizes[0] < 0.9 * sizes[1]


def test_a_cache_keeps_decisions(clips: Clips, tmp_path: Path) -> None:
    clips.cache.save(tmp_path / "tokens.pt")
    loaded = TokenCache.load(tmp_path / "tokens.pt")
    assert loaded.motion_bits == clips.cache.motion_bits
    assert loaded.motion.keys() == clips.cache.motion.keys()
    for name, rows in clips.cache.motion.items():
        for field in dataclasses.fields(Decisions):
            ours, theirs = getattr(rows, field.name), getattr(loaded.motion[name], field.name)
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def run_of(clips: Clips, cache: TokenCache, out: Path) -> GeneratorRun:
    config = GeneratorTrainConfig(
        channels=8, seen=4, hidden=6, motion=12, steps=60, warm_up=2, save_every=100
    )
    return GeneratorRun(config, clips.bundle.shape, cache, out, "cpu")


def test_training_learns_motion(clips: Clips, tmp_path: Path) -> None:
    run = run_of(clips, clips.cache, tmp_path)
    run.validate()
    batches = run.batches()
    first, *_, last = [run.step(next(batches)) for _ in range(60)]
    for name in clips.cache.motion:
        assert last[name] < first[name]
    run.validate()
    before, after = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert before["held_out"] == 1
    assert np.isfinite([before["motion"], after["motion"]]).all()


def test_training_where_a_sort_of_decisions_is_held_out_alone(clips: Clips, tmp_path: Path) -> None:
    rows = clips.cache.motion["difference"]
    held = replace(rows, clip=torch.full_like(rows.clip, 2))
    cache = replace(clips.cache, motion=clips.cache.motion | {"difference": held})
    run = run_of(clips, cache, tmp_path)
    assert "difference" not in run.step(next(run.batches()))
    run.validate()
