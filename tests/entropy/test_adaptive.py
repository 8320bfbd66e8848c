import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neurocodec.entropy.adaptive import (
    MAX_LEVEL,
    UNARY,
    Before,
    ContextModel,
    Prior,
    TokenModel,
    TokenShape,
    empty_prior,
    enlarge_before,
    trained_prior,
)
from neurocodec.entropy.binary import BitDecoder, BitEncoder, Counts, Ints

Latents = list[tuple[NDArray[np.int16], Ints]]  # (tokens, depth) of latent frames
SHAPES = [TokenShape("levels", 6, 4), TokenShape("levels", 1, 1), TokenShape("signs", 5, 3)]


def random_latents(shape: TokenShape, grid: tuple[int, int], seed: int, frames: int = 3) -> Latents:
    """Tokens with a heavy tail, up to MAX_LEVEL."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(frames):
        depth = rng.integers(0, shape.stages + 1, grid)
        size = (*grid, shape.stages, shape.bits)
        tokens = rng.choice([-1, 1], size)
        if shape.quantizer == "levels":
            magnitude = np.minimum(rng.pareto(0.7, size), MAX_LEVEL)
            tokens = tokens * magnitude.astype(np.int64)
        coded = np.arange(shape.stages)[:, None] < depth[..., None, None]
        out.append(((tokens * coded).astype(np.int16), depth))
    return out


def encode(shape: TokenShape, prior: Prior, latents: Latents) -> tuple[ContextModel, BitEncoder]:
    model, coder = ContextModel(shape, prior, latents[0][1].shape), BitEncoder()
    for tokens, depth in latents:
        same_tokens, same_depth = model.code_frame(coder, tokens, depth)
        np.testing.assert_array_equal(same_tokens, tokens)
        np.testing.assert_array_equal(same_depth, depth)
    return model, coder


def assert_round_trip(shape: TokenShape, prior: Prior, latents: Latents) -> bytes:
    encoder, coder = encode(shape, prior, latents)
    data = coder.finish()
    assert 8 * len(data) <= 1.005 * coder.ideal_bits + 8 * 16
    decoder, source = ContextModel(shape, prior, latents[0][1].shape), BitDecoder(data)
    for tokens, depth in latents:
        found_tokens, found_depth = decoder.code_frame(source)
        np.testing.assert_array_equal(found_tokens, tokens)
        np.testing.assert_array_equal(found_depth, depth)
    for name, table in encoder.tables.items():
        np.testing.assert_array_equal(decoder.tables[name].counts, table.counts)
    return data


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    quantizer=st.sampled_from(["levels", "signs"]),
    stages=st.integers(1, 9),
    bits=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
def test_round_trip(
    quantizer: str, stages: int, bits: int, grid: tuple[int, int], seed: int
) -> None:
    shape = TokenShape(quantizer, stages, bits)
    rng = np.random.default_rng(seed)
    prior = {
        name: rng.integers(0, 256, size).astype(np.uint8)
        for name, size in shape.table_shapes().items()
    }
    assert_round_trip(shape, prior, random_latents(shape, grid, seed))


def test_round_trip_of_magnitudes_around_the_escape() -> None:
    shape = TokenShape("levels", 1, 4)
    sizes = [1, UNARY, UNARY + 1, UNARY + 2, UNARY + 3, 255, 256, MAX_LEVEL - 1, MAX_LEVEL]
    tokens = np.array([[s, -s, 0, s] for s in sizes], np.int16).reshape(3, 3, 1, 4)
    latents = [(tokens, np.ones((3, 3), np.int64))] * 2
    assert_round_trip(shape, empty_prior(shape), latents)


def test_nothing_to_say_costs_next_to_nothing() -> None:
    shape = TokenShape("levels", 12, 8)
    skipped = (np.zeros((20, 30, 12, 8), np.int16), np.zeros((20, 30), np.int64))
    learning = encode(shape, empty_prior(shape), [skipped])[1].ideal_bits
    later = encode(shape, empty_prior(shape), [skipped] * 12)[1].ideal_bits - learning
    assert learning < 0.7 * 600
    assert later < 0.05 * 11 * 600


def test_repetition_is_cheaper_than_news() -> None:
    shape = TokenShape("levels", 6, 4)
    latents = random_latents(shape, (8, 8), 1, frames=2)
    again = encode(shape, empty_prior(shape), [latents[0]] * 2)[1]
    other = encode(shape, empty_prior(shape), latents)[1]
    assert again.ideal_bits < 0.97 * other.ideal_bits


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(12))
def test_noise_decodes_to_tokens_within_bounds(shape: TokenShape, seed: int) -> None:
    model = ContextModel(shape, empty_prior(shape), (5, 4))
    coder = BitDecoder(np.random.default_rng(seed).bytes(3001))
    for _ in range(4):
        tokens, depth = model.code_frame(coder)
        assert (tokens.shape, tokens.dtype) == ((5, 4, shape.stages, shape.bits), np.int16)
        assert (depth.min() >= 0, depth.max() <= shape.stages) == (True, True)
        coded = np.arange(shape.stages)[:, None] < depth[..., None, None]
        limit = MAX_LEVEL if shape.quantizer == "levels" else 1
        assert np.abs(tokens).max() <= limit
        assert not (tokens * ~coded).any()
        if shape.quantizer == "signs":
            assert (np.abs(tokens) == coded).all()


@pytest.mark.parametrize("data", [b"", b"\xff" * 4000, b"\x00" * 4000, b"\x01"])
@pytest.mark.parametrize("shape", SHAPES)
def test_special_bytes_decode_to_tokens_within_bounds(shape: TokenShape, data: bytes) -> None:
    model, coder = ContextModel(shape, empty_prior(shape), (5, 4)), BitDecoder(data)
    for _ in range(3):
        tokens, depth = model.code_frame(coder)
        assert np.abs(tokens).max(initial=0) <= MAX_LEVEL
        assert depth.max() <= shape.stages


@pytest.mark.parametrize(
    ("stages", "digits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (12, 4), (48, 6), (64, 6)]
)
def test_the_depth_tree_is_as_high_as_needed(stages: int, digits: int) -> None:
    assert TokenShape("levels", stages, 8).tree_bits == digits


def test_table_shapes_are_those_of_the_specification() -> None:
    assert TokenShape("levels", 12, 8).table_shapes() == {
        "coded": (1, 48, 2),
        "depth": (1, 48 * 16, 2),
        "nonzero": (24, 8 * 9 * 6 * 2, 2),
        "negative": (24, 8, 2),
        "more": (24, 9 * 14, 2),
    }


def test_table_shapes_of_many_kinds_are_those_of_the_specification() -> None:
    assert TokenShape("levels", 12, 8, kinds=5, depths_by_kind=True).table_shapes() == {
        "coded": (5, 48, 2),
        "depth": (5, 48 * 16, 2),
        "nonzero": (60, 8 * 9 * 6 * 2, 2),
        "negative": (60, 8, 2),
        "more": (60, 9 * 14, 2),
    }


def test_kinds_and_grids_may_change_from_call_to_call() -> None:
    shape = TokenShape("levels", 4, 3, kinds=5, depths_by_kind=True)
    pictures = [
        (kind, grid, random_latents(shape, grid, seed, frames=2))
        for seed, (kind, grid) in enumerate([(0, (1, 2)), (2, (5, 8)), (3, (5, 8)), (4, (5, 8))])
    ]
    encoder, coder = TokenModel(shape, empty_prior(shape)), BitEncoder()
    for kind, grid, [(other, other_depth), (tokens, depth)] in pictures:
        before = Before(other_depth, np.abs(other)) if kind else None
        encoder.code(coder, grid, kind, before, tokens, depth)
    decoder, source = TokenModel(shape, empty_prior(shape)), BitDecoder(coder.finish())
    for kind, grid, [(other, other_depth), (tokens, depth)] in pictures:
        before = Before(other_depth, np.abs(other)) if kind else None
        found_tokens, found_depth, _ = decoder.code(source, grid, kind, before)
        np.testing.assert_array_equal(found_tokens, tokens)
        np.testing.assert_array_equal(found_depth, depth)
    used = [bool(block.any()) for block in encoder.tables["coded"].counts]
    assert used == [True, False, True, True, True]


def test_transforms_are_said_with_depths_of_kinds_that_have_them() -> None:
    shape = TokenShape("levels", 4, 3, kinds=5, depths_by_kind=True, transform_kinds=3)
    assert shape.table_shapes()["depth"] == (5, 48 * 16, 2)
    [(tokens, depth)] = random_latents(shape, (5, 8), 0, frames=1)
    transform = np.random.default_rng(1).integers(0, 4, depth.shape) * (depth > 0)
    encoder, coder = TokenModel(shape, empty_prior(shape)), BitEncoder()
    for kind in (2, 3):
        encoder.code(coder, (5, 8), kind, None, tokens, depth, transform)
    decoder, source = TokenModel(shape, empty_prior(shape)), BitDecoder(coder.finish())
    for kind, expected in ((2, transform), (3, transform * 0)):
        found = decoder.code(source, (5, 8), kind)
        for ours, theirs in zip(found, (tokens, depth, expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_enlarge_before() -> None:
    depth = np.array([[1, 2], [3, 4]])
    found = enlarge_before(Before(depth, depth[..., None, None].astype(np.int16)), (5, 6))
    assert found.depth.tolist() == [[1, 1, 1, 1, 2, 2]] * 4 + [[3, 3, 3, 3, 4, 4]]
    np.testing.assert_array_equal(found.magnitude[..., 0, 0], found.depth)


def test_what_is_given_before_is_worth_bits() -> None:
    shape = TokenShape("levels", 6, 4, kinds=5, depths_by_kind=True)
    [(tokens, depth)] = random_latents(shape, (12, 12), 1, frames=1)
    bits = []
    for before in (None, Before(depth, np.abs(tokens))):
        coder, model = BitEncoder(), TokenModel(shape, empty_prior(shape))
        for _ in range(2):
            model.code(coder, (12, 12), 4, before, tokens, depth)
        bits.append(coder.ideal_bits)
    assert bits[1] < 0.97 * bits[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_empty_prior(shape: TokenShape) -> None:
    prior = empty_prior(shape)
    assert {name: table.shape for name, table in prior.items()} == shape.table_shapes()
    assert all(table.dtype == np.uint8 and not table.any() for table in prior.values())


def test_trained_prior_keeps_ratios_within_the_confidence() -> None:
    counts = Counts(np.array([[(0, 0), (3, 1), (300, 100), (1, 1 << 40)]]), limit=1 << 50)
    assert trained_prior({"coded": counts}, 48)["coded"].tolist() == [
        [[0, 0], [3, 1], [36, 12], [0, 48]]
    ]


def test_a_trained_prior_saves_bits() -> None:
    shape = TokenShape("levels", 6, 4)
    learned = encode(shape, empty_prior(shape), random_latents(shape, (9, 9), 1, frames=6))[0]
    prior = trained_prior(learned.tables, 48)
    assert {name: table.dtype for name, table in prior.items()} == dict.fromkeys(prior, np.uint8)
    other = random_latents(shape, (4, 4), 2)
    with_it = encode(shape, prior, other)[1].ideal_bits
    without = encode(shape, empty_prior(shape), other)[1].ideal_bits
    assert with_it < 0.95 * without
