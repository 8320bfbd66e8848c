"""The package and the reader written from the specification find the same in the same bytes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurocodec
from neurocodec import models
from neurocodec.bitstream.payloads import STEP_ONE, VideoGop
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.tokens import (
    EXTENDED_GENERATED_PICTURES,
    EXTENDED_PICTURES,
    GENERATED_LATENTS,
    GENERATED_PICTURES,
    PICTURES,
    EntropyModel,
    GopEncoder,
    LatentTokens,
    PictureCoder,
    PictureTokens,
    Tokens,
    decode_tokens,
    grids_of,
    hash_tokens,
    kind_of,
)
from neurocodec.codec.verify import verify
from neurocodec.entropy.adaptive import UNARY, ContextModel, Prior, TokenShape
from neurocodec.entropy.binary import BitDecoder, Counts
from neurocodec.entropy.field import DIRECT, FIRST, SECOND, Field, MotionMemory, distances_of
from neurocodec.entropy.generator import GeneratorConfig
from neurocodec.entropy.integer import BUCKETS
from neurocodec.entropy.loop_filter import (
    MAX_OFFSET,
    OFFSET_BLOCKS,
    LoopFilter,
    Offsets,
    blocks_of,
)
from neurocodec.entropy.motion import MOTION_PREFIX
from neurocodec.entropy.motion import TABLES as MOTION_TABLES
from neurocodec.entropy.motion_decisions import DIFFERENCE_LOGITS
from neurocodec.entropy.motion_generator import MOTION_TABLES as GENERATED_MOTION_TABLES
from neurocodec.entropy.motion_generator import Logits, MotionGenerator
from neurocodec.entropy.signs import HIDDEN_EVERY
from neurocodec.entropy.structure import regular
from tests import reference_generator, reference_pictures, reference_reader, reference_tokens
from tests.bitstream.small import HEADER
from tests.conftest import tiny_motion_tokenizer, tiny_tokenizer, write_clip
from tests.generators import (
    SMALL,
    SMALL_MOTION,
    random_generator,
    random_latents,
    random_parts,
    random_wiener,
)


def random_prior(shape: TokenShape, seed: int = 0) -> Prior:
    """One that makes large tokens likely, so that noise has escape codes in it."""
    rng = np.random.default_rng(seed)
    sizes = shape.table_shapes()
    if shape.depths_by_kind:
        sizes |= {MOTION_PREFIX + name: size for name, size in MOTION_TABLES.items()}
    prior: Prior = {
        name: rng.integers(0, rng.integers(1, 256), size).astype(np.uint8)
        for name, size in sizes.items()
    }
    for name in ("nonzero", "more"):
        prior[name][..., 0] //= 32
    return prior


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "prior.safetensors"
    tokenizer = tiny_tokenizer()
    config = tokenizer.config
    shape = TokenShape(config.quantizer, config.stages, config.bits)
    models.write_bundle(path, "prior", tokenizer, random_prior(shape), {})
    return path


@pytest.fixture(scope="module")
def motion_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "prior.safetensors"
    tokenizer = tiny_motion_tokenizer()
    prior = random_prior(models.token_shape(tokenizer.config))
    models.write_bundle(path, "prior", tokenizer, prior, {})
    return path


@pytest.mark.parametrize(
    ("quality", "frames", "size"), [(0, 9, (40, 24)), (50, 6, (33, 41)), (100, 5, (16, 8))]
)
def test_tokens_of_a_file(
    tmp_path: Path, bundle: Path, quality: int, frames: int, size: tuple[int, int]
) -> None:
    source = write_clip(tmp_path / "in.mkv", frames, *size)
    out = tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(bundle), quality=quality, gop=5)
    data, model = out.read_bytes(), bundle.read_bytes()
    expected = verify(out, str(bundle), tokens=True).tokens
    assert len(expected) == -(-frames // 5)
    assert reference_reader.hashes(model, data) == expected
    assert reference_reader.hashes(model, data[:-1]) == expected  # found by scanning


@pytest.mark.parametrize(
    ("quality", "frames", "size", "gop"),
    [(0, 11, (40, 24), 9), (60, 20, (41, 66), 40), (100, 1, (1, 1), 1), (30, 7, (16, 90), 5)],
)
def test_tokens_of_a_file_of_pictures(
    tmp_path: Path, motion_bundle: Path, quality: int, frames: int, size: tuple[int, int], gop: int
) -> None:
    source = write_clip(tmp_path / "in.mkv", frames, *size)
    out = tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(motion_bundle), quality=quality, gop=gop)
    data, model = out.read_bytes(), motion_bundle.read_bytes()
    report = verify(out, str(motion_bundle), tokens=True)
    assert (report.frames, report.damage) == (frames, [])
    assert reference_reader.hashes(model, data) == report.tokens


def test_times_and_sound(tmp_path: Path, bundle: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", 7, 16, 16, sound="flac", pts=[0, 1, 2, 5, 6, 7, 9])
    out = tmp_path / "out.nc"
    neurocodec.compress(source, out, model=str(bundle), gop=3, quality=0)
    file = reference_reader.read_file(out.read_bytes())
    assert file.tracks == 1
    with Reader(out) as reader:
        for gop in reader.gops:
            packets = [(p.track, p.pts, p.duration, p.data) for p in reader.read_audio(gop)]
            assert file.audio[gop.number] == packets
            found = reader.read_gop(gop)
            if found is not None:
                theirs = file.gops[gop.number]
                assert (theirs.times, theirs.step) == (found[1], found[0].step)


@pytest.mark.parametrize(
    ("shape", "seed"),
    [
        *((TokenShape("signs", 6, 9), seed) for seed in (0, 1, 2)),
        *((TokenShape("levels", 6, 4), seed) for seed in (4, 5, 6, 18)),
        *((TokenShape("levels", 1, 1), seed) for seed in (0, 1)),
        *((TokenShape("levels", 40, 1), seed) for seed in (0, 1)),
    ],
)
def test_tokens_of_noise(shape: TokenShape, seed: int) -> None:
    """The seeds are such that every branch is reached, also that of bytes no encoder writes."""
    data = np.random.default_rng(seed).bytes(4000)
    prior = random_prior(shape, seed)
    h, w = 4, 5
    model = ContextModel(shape, prior, (h, w))
    coder = BitDecoder(data)
    ours = hash_tokens(LatentTokens(*model.code_frame(coder)) for _ in range(3))
    plain = plain_shape(shape)
    tables = {name: table.tolist() for name, table in prior.items()}
    latents = reference_tokens.decode_latents(plain, tables, 8 * w, 8 * h, 9, data)
    assert reference_tokens.hash_latents(latents, plain) == ours


def plain_shape(shape: TokenShape) -> reference_tokens.Shape:
    """The reference's."""
    return reference_tokens.Shape(
        shape.quantizer, shape.stages, shape.bits, shape.transform_kinds, shape.loop_filter
    )


PICTURE_SHAPE = TokenShape("levels", 3, 2, 5, True, 3, True)


def assert_same_pictures(
    found: Sequence[Tokens], prior: Prior, grid: tuple[int, int], data: bytes, hides: bool = False
) -> None:
    """data: scales, masking, with ``hides`` of how many levels one has a hidden sign, and words."""
    plain = plain_shape(PICTURE_SHAPE)
    tables = {name: table.tolist() for name, table in prior.items()}
    h, w = grid
    theirs = reference_pictures.decode_pictures(
        plain, tables, 8 * w, 8 * h, len(found), data, hides=hides
    )
    for ours, other in zip(found, theirs, strict=True):
        assert hash_tokens([ours]) == reference_pictures.hash_pictures([other], plain)


@pytest.mark.parametrize("seed", range(12))
def test_pictures_of_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data, prior = rng.bytes(12000), random_prior(PICTURE_SHAPE, seed)
    grid, frames = (int(rng.integers(1, 9)), int(rng.integers(1, 40))), int(rng.integers(1, 24))
    model, coder = PictureCoder(PICTURE_SHAPE, prior, grid, frames), BitDecoder(data[7:])
    found = [model.code(coder) for _ in range(frames)]
    assert_same_pictures(found, prior, grid, data[:7] + b"\5" + data[7:])


def random_offsets(rng: np.random.Generator, grid: tuple[int, int]) -> Offsets | None:
    """Of a plane, mostly 0, sometimes as large as there are."""
    size = int(rng.integers(len(OFFSET_BLOCKS) + 1))
    if size == len(OFFSET_BLOCKS):
        return None
    shape = blocks_of(grid, OFFSET_BLOCKS[size])
    found = np.clip(rng.laplace(0, 4, shape), -MAX_OFFSET, MAX_OFFSET).astype(np.int64)
    return found * rng.integers(0, 2, shape)


def random_pictures(grid: tuple[int, int], seed: int) -> list[PictureTokens]:
    """A GOP of 21 frames, mostly regular, with every mode and every number of references."""
    rng = np.random.default_rng(seed)
    structure = regular([8, 3], 21)
    for i, refs in ((3, (0,)), (5, (8, 8)), (12, ()), (14, (8, 12))):
        structure[i] = replace(structure[i], refs=refs)
    memory, pictures = MotionMemory(), []
    for picture in structure:
        latents = []
        for h, w in grids_of(grid) if not picture.refs else [grid]:
            depth = rng.integers(0, 4, (h, w)) * rng.integers(0, 2, (h, w))
            tokens = np.round(rng.laplace(0, rng.choice([1, 30]), (h, w, 3, 2))).astype(np.int16)
            tokens[np.arange(3) >= depth[..., None]] = 0
            transform = rng.integers(0, 4, (h, w)) * (depth > 0) if not picture.refs else None
            latents.append(LatentTokens(tokens, depth, transform))
        field = None
        if picture.refs:
            suggested = memory.suggest(picture)
            mode = np.zeros(grid, np.uint8)
            if len(set(distances_of(picture))) == 2:
                limit = DIRECT if suggested is None else DIRECT + 1
                mode = np.repeat(rng.integers(0, limit, grid), 2, 1)[:, : grid[1]].astype(np.uint8)
            mv = rng.integers(-3, 4, (2, *grid, 2)) * int(rng.choice([1, 250]))
            mv[:, : grid[0] // 2] = mv[:, :1, :1]
            mv[0][mode == SECOND] = mv[1][mode == FIRST] = 0
            if suggested is not None:
                mv[:, mode == DIRECT] = suggested[:, mode == DIRECT]
            field = Field(mode, mv.astype(np.int16))
            memory.remember(picture, field, range(21))
        strengths = tuple(int(s) for s in rng.integers(0, 4, 3))
        blocks = (rng.random(blocks_of(grid)) < 0.6) & (strengths[0] > 0)
        wide = bool(rng.integers(2)) and strengths[0] > 0
        offsets = [random_offsets(rng, grid) if picture.refs else None for _ in range(3)]
        by = LoopFilter(
            (strengths[0], strengths[1], strengths[2]), blocks, wide,
            (offsets[0], offsets[1], offsets[2]),
        )  # fmt: skip
        pictures.append(PictureTokens(picture, field, latents, loop_filter=by))
    return pictures


def extended(pictures: list[PictureTokens], grid: tuple[int, int]) -> list[PictureTokens]:
    """The same, changed in place: with Wiener filters, and signs such as a file with hidden ones
    can say."""
    rng = np.random.default_rng(len(pictures))
    for item in pictures:
        item.wiener = random_wiener(rng, grid)
    for latent in (latent for item in pictures for latent in item.parts):
        for cell in latent.tokens.reshape(-1, latent.tokens[0, 0].size):
            some = np.flatnonzero(cell)
            for end in range(HIDDEN_EVERY, len(some) + 1, HIDDEN_EVERY):
                run = some[end - HIDDEN_EVERY : end]
                odd = np.abs(cell[run]).sum() % 2
                cell[run[-1]] = np.abs(cell[run[-1]]) * (1 - 2 * odd)
    return pictures


@pytest.mark.parametrize(("grid", "seed"), [((1, 1), 0), ((3, 5), 1), ((9, 4), 2), ((35, 33), 3)])
@pytest.mark.parametrize("hides", [False, True])
def test_pictures_that_were_encoded(grid: tuple[int, int], seed: int, hides: bool) -> None:
    prior, pictures = random_prior(PICTURE_SHAPE, seed), random_pictures(grid, seed)
    pictures = extended(pictures, grid) if hides else pictures
    number = EXTENDED_PICTURES if hides else PICTURES
    encoder = GopEncoder(EntropyModel(number, PICTURE_SHAPE, prior), grid, 1024, STEP_ONE)
    for picture in pictures:
        encoder.add(picture)
    data = encoder.finish()
    assert_same_pictures(pictures, prior, grid, data, hides)
    hidden = HIDDEN_EVERY if hides else 0
    model = PictureCoder(PICTURE_SHAPE, prior, grid, 21, hidden=hidden, wieners=hides)
    coder = BitDecoder(data[8 + hides :])
    assert hash_tokens(model.code(coder) for _ in range(21)) == hash_tokens(pictures)


def test_tokens_that_do_not_tell_their_hidden_signs_are_not_coded() -> None:
    prior, pictures = random_prior(PICTURE_SHAPE, 1), random_pictures((3, 5), 1)
    entropy = EntropyModel(EXTENDED_PICTURES, PICTURE_SHAPE, prior)
    encoder = GopEncoder(entropy, (3, 5), 1024, STEP_ONE)
    with pytest.raises(AssertionError, match="hidden signs"):
        encoder.add(pictures[0])


def test_those_pictures_have_everything() -> None:
    pictures = random_pictures((9, 4), 2)
    assert {len(p.picture.refs) for p in pictures} == {0, 1, 2}
    assert {kind_of(p.picture) for p in pictures} == {2, 3, 4}
    assert {m for p in pictures if p.motion for m in p.motion.mode.flat} == {0, 1, 2, 3}
    strengths = {p.loop_filter.strengths[i] for p in pictures if p.loop_filter for i in range(3)}
    assert strengths == {0, 1, 2, 3}
    assert {p.loop_filter.wide for p in pictures if p.loop_filter} == {False, True}
    offsets = [o for p in pictures if p.loop_filter for o in p.loop_filter.offsets]
    assert {None if o is None else o.shape for o in offsets} == {None, (2, 1), (3, 1)}


# -- with a generator ---------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "size"), [(1, (40, 24)), (4, (33, 41)), (16, (16, 8))])
def test_tokens_of_a_file_with_a_generator(
    tmp_path: Path, bundle: Path, steps: int, size: tuple[int, int]
) -> None:
    """The prior of entropy model 0 in this bundle is one that the others must not start from."""
    source, out = write_clip(tmp_path / "in.mkv", 6, *size), tmp_path / "out.nc"
    path = with_generator(bundle, tmp_path / "with.safetensors", steps)
    neurocodec.compress(source, out, model=str(path), gop=5, steps=steps)
    assert_same_tokens(out, path, GENERATED_LATENTS)


@pytest.mark.parametrize(
    ("steps", "frames", "size"), [(1, 1, (1, 1)), (5, 9, (40, 24)), (16, 4, (33, 41))]
)
def test_tokens_of_a_file_of_pictures_with_a_generator(
    tmp_path: Path, motion_bundle: Path, steps: int, frames: int, size: tuple[int, int]
) -> None:
    source, out = write_clip(tmp_path / "in.mkv", frames, *size), tmp_path / "out.nc"
    path = with_generator(motion_bundle, tmp_path / "with.safetensors", steps)
    neurocodec.compress(source, out, model=str(path), quality=40, steps=steps)
    assert_same_tokens(out, path, EXTENDED_GENERATED_PICTURES)


@pytest.mark.parametrize(
    ("quality", "frames", "size"), [(0, 6, (1, 1)), (50, 11, (60, 44)), (90, 9, (33, 25))]
)
def test_tokens_of_a_file_of_pictures_with_a_generator_of_motion(
    tmp_path: Path, motion_bundle: Path, quality: int, frames: int, size: tuple[int, int]
) -> None:
    source, out = write_clip(tmp_path / "in.mkv", frames, *size), tmp_path / "out.nc"
    path = with_generator(motion_bundle, tmp_path / "with.safetensors", frames, SMALL_MOTION)
    neurocodec.compress(source, out, model=str(path), quality=quality)
    assert_same_tokens(out, path, EXTENDED_GENERATED_PICTURES)


def with_generator(path: Path, target: Path, seed: int, config: GeneratorConfig = SMALL) -> Path:
    bundle = models.read_bundle(path)
    parts = random_parts(bundle.shape, seed, config)
    models.write_bundle(target, "with", bundle.tokenizer(), bundle.prior(), {}, parts)
    return target


def assert_same_tokens(file: Path, bundle: Path, entropy_model: int) -> None:
    data, report = file.read_bytes(), verify(file, str(bundle), tokens=True)
    assert report.damage == []
    assert reference_reader.read_file(data).entropy_model == entropy_model
    assert reference_reader.hashes(bundle.read_bytes(), data) == report.tokens


def plain_generator(
    shape: TokenShape, seed: int, config: GeneratorConfig = SMALL
) -> reference_generator.Generator:
    parts = random_parts(shape, seed, config)
    layers = {
        name: reference_generator.Layer(
            parts.arrays[f"{name}.weight"].astype(np.int64),
            parts.arrays[f"{name}.bias"].tolist(),
            parts.arrays[f"{name}.multiplier"].tolist(),
        )
        for name in parts.config.layers(shape)
    }
    prior = {name: table.tolist() for name, table in parts.prior.items()}
    return reference_generator.Generator(config.hidden, config.blocks, config.motion, layers, prior)


def step_of(seed: int) -> int:
    return 1 + 4321 * seed**3


def decode_both(
    shape: TokenShape, seed: int, grid: tuple[int, int], frames: int, data: bytes,
    config: GeneratorConfig = SMALL, hides: bool = False,
) -> tuple[list[Tokens], str]:  # fmt: skip
    """Tokens by the package, and the hash by the reference. hides: of pictures."""
    number = GENERATED_LATENTS
    if shape.depths_by_kind:
        number = EXTENDED_GENERATED_PICTURES if hides else GENERATED_PICTURES
    prior, generator = random_prior(shape, seed), random_generator(shape, seed, config)
    (h, w), step = grid, step_of(seed)
    header = replace(HEADER, width=8 * w, height=8 * h, entropy_model=number)
    gop = VideoGop(frames, 0, 1, step, data)
    ours = list(decode_tokens(header, gop, EntropyModel(number, shape, prior, generator)))
    plain = plain_shape(shape)
    other = plain_generator(shape, seed, config)
    if shape.depths_by_kind:
        tables = {name: table.tolist() for name, table in prior.items()}
        pictures = reference_pictures.decode_pictures(
            plain, tables, 8 * w, 8 * h, frames, data, other, step, hides
        )
        return ours, reference_pictures.hash_pictures(pictures, plain)
    latents = reference_generator.decode_generated_latents(
        plain, other, 8 * w, 8 * h, frames, step, data
    )
    return ours, reference_tokens.hash_latents(latents, plain)


NOISE_SHAPES = [
    TokenShape("levels", 6, 4),
    TokenShape("signs", 5, 3),
    TokenShape("levels", 1, 1),
    PICTURE_SHAPE,
]


@pytest.mark.parametrize("shape", NOISE_SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_tokens_of_noise_with_a_generator(shape: TokenShape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = 7 if shape.depths_by_kind else 0
    data = bytearray(rng.bytes(4000))
    data[at] = (0, 3, 16, 255)[seed]  # the schedule
    ours, theirs = decode_both(shape, seed, (5, 4), 9, bytes(data))
    assert hash_tokens(ours) == theirs


@pytest.mark.parametrize("shape", [NOISE_SHAPES[0], PICTURE_SHAPE])
@pytest.mark.parametrize("length", [0, 1, 5, 7, 8, 11, 30])
def test_tokens_of_too_few_bytes_with_a_generator(shape: TokenShape, length: int) -> None:
    ours, theirs = decode_both(shape, 1, (3, 3), 4, bytes(range(100, 100 + length)))
    assert hash_tokens(ours) == theirs


def test_tokens_that_were_encoded_with_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every depth, tokens of all sizes, and every bucket is among them."""
    shape, grid = NOISE_SHAPES[0], (5, 4)
    used: dict[int, set[int]] = {}  # contexts, by how many there are in the table
    code = Counts.code

    def watching(self: Counts, coder: Any, bits: Any, block: int, contexts: Any) -> Any:
        used.setdefault(self.counts.shape[1], set()).update(contexts.tolist())
        return code(self, coder, bits, block, contexts)

    monkeypatch.setattr(Counts, "code", watching)
    largest = 0
    for seed in range(4):
        latents: list[Tokens] = [
            LatentTokens(tokens, depth)
            for _, _, tokens, depth in random_latents(shape, grid, seed, 3)
        ]
        generator, prior = random_generator(shape, seed), random_prior(shape, seed)
        entropy = EntropyModel(GENERATED_LATENTS, shape, prior, generator)
        encoder = GopEncoder(entropy, grid, 9, step_of(seed), steps=3 + 4 * seed)
        for latent in latents:
            encoder.add(latent)
            assert isinstance(latent, LatentTokens)
            largest = max(largest, int(np.abs(latent.tokens).max()))
        ours, theirs = decode_both(shape, seed, grid, 9, encoder.finish())
        assert hash_tokens(latents) == hash_tokens(ours) == theirs
    assert largest > 255  # whose logarithm is more than an activation can be
    assert used[BUCKETS] == set(range(BUCKETS))
    assert len(used[UNARY * BUCKETS]) > UNARY * BUCKETS / 2
    assert {context // BUCKETS for context in used[8 * BUCKETS]} == set(range(1, 7))


# -- and with motion by it ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("hidden", [None, 0, 1, 3])
def test_pictures_of_noise_with_a_generator_of_motion(seed: int, hidden: int | None) -> None:
    rng, hides = np.random.default_rng(seed), hidden is not None
    data = bytes([64] * 7 + [30] + ([hidden] if hidden is not None else []) + [2]) + rng.bytes(8000)
    grid, frames = (int(rng.integers(1, 7)), int(rng.integers(1, 36))), int(rng.integers(2, 7))
    ours, theirs = decode_both(PICTURE_SHAPE, seed, grid, frames, data, SMALL_MOTION, hides)
    assert hash_tokens(ours) == theirs


@pytest.mark.parametrize("length", [0, 7, 8, 9, 12, 16, 30, 90])
def test_pictures_of_too_few_bytes_with_a_generator_of_motion(length: int) -> None:
    data = bytes(range(100, 100 + length))
    for hides in (False, True):
        ours, theirs = decode_both(PICTURE_SHAPE, 1, (3, 5), 6, data, SMALL_MOTION, hides)
        assert hash_tokens(ours) == theirs


def test_pictures_that_were_encoded_with_a_generator_of_motion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both find them again. They have every decision about motion, and nearly every bucket."""
    used: dict[tuple[int, ...], set[tuple[int, int]]] = {}  # by shape of the table
    asked: list[Logits] = []
    ask = MotionGenerator._asked

    def watching(self: MotionGenerator, coder: Any, logits: Logits) -> Any:
        asked.append(logits)
        return ask(self, coder, logits)

    monkeypatch.setattr(MotionGenerator, "_asked", watching)
    for grid, seed, hides in (((1, 1), 0, False), ((9, 4), 2, False), ((34, 9), 5, True)):
        pictures = random_pictures(grid, seed)
        pictures = extended(pictures, grid) if hides else pictures
        number = EXTENDED_GENERATED_PICTURES if hides else GENERATED_PICTURES
        generator, prior = (
            random_generator(PICTURE_SHAPE, seed, SMALL_MOTION), random_prior(PICTURE_SHAPE, seed)
        )  # fmt: skip
        entropy = EntropyModel(number, PICTURE_SHAPE, prior, generator)
        encoder = GopEncoder(entropy, grid, 1024, step_of(seed), steps=2)
        for picture in pictures:
            encoder.add(picture)
        data = encoder.finish()
        ours, theirs = decode_both(PICTURE_SHAPE, seed, grid, 21, data, SMALL_MOTION, hides)
        assert hash_tokens(ours) == hash_tokens(pictures) == theirs
    for logits in asked:
        rows, columns = np.nonzero(logits.decisions >= 0)
        contexts = columns * BUCKETS + logits.contexts[rows, columns]
        found = used.setdefault(GENERATED_MOTION_TABLES[logits.table], set())
        found.update((logits.block, context) for context in contexts.tolist())
    for size in sorted(set(GENERATED_MOTION_TABLES.values())):
        assert {block for block, _ in used[size]} == set(range(size[0]))
        places = {context for _, context in used[size]}
        assert len({place % BUCKETS for place in places}) > BUCKETS - 4
        missing = set(range(size[1] // BUCKETS)) - {place // BUCKETS for place in places}
        if size[1] == DIFFERENCE_LOGITS * BUCKETS:
            # No difference has 11 bits behind the first one; with one there is no second one.
            assert missing.issuperset({34, 45, 46, 56, 57, 67, 68, 78, 79, 89})
            assert len(missing) < 20
        else:
            assert not missing
