import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec.entropy.adaptive import MAX_LEVEL, Before, TokenShape
from neurocodec.entropy.binary import BitDecoder, BitEncoder
from neurocodec.entropy.field import Field
from neurocodec.entropy.generator import (
    COUNT_LIMIT,
    Generator,
    GeneratorConfig,
    GeneratorModel,
    Side,
    feature_count,
    features,
)
from neurocodec.entropy.integer import MAX_INPUTS, ONE
from neurocodec.entropy.schedule import MAX_STEPS, steps_of
from tests.generators import (
    SMALL,
    Group,
    Latent,
    random_generator,
    random_latents,
    random_parts,
    recorded,
)

LEVELS = TokenShape("levels", 6, 4)
SHAPES = [
    LEVELS,
    TokenShape("signs", 5, 3),
    TokenShape("levels", 1, 1),
    TokenShape("levels", 3, 2, 5, True),
    TokenShape("levels", 3, 2, 5, True, 1),
]
GENERATORS = {shape: random_generator(shape, seed) for seed, shape in enumerate(SHAPES)}


def encode(
    shape: TokenShape, latents: list[Latent], steps: int
) -> tuple[GeneratorModel, BitEncoder]:
    model, coder = GeneratorModel(shape, GENERATORS[shape], steps), BitEncoder()
    for kind, seen, tokens, depth in latents:
        same_tokens, same_depth, _ = model.code(coder, depth.shape, kind, seen, tokens, depth)  # type: ignore[arg-type]
        np.testing.assert_array_equal(same_tokens, tokens)
        np.testing.assert_array_equal(same_depth, depth)
    return model, coder


def assert_round_trip(shape: TokenShape, latents: list[Latent], steps: int) -> None:
    encoder, coder = encode(shape, latents, steps)
    data = coder.finish()
    assert 8 * len(data) <= 1.005 * coder.ideal_bits + 8 * 16
    decoder, source = GeneratorModel(shape, GENERATORS[shape], steps), BitDecoder(data)
    for kind, seen, tokens, depth in latents:
        found_tokens, found_depth, _ = decoder.code(source, depth.shape, kind, seen)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found_tokens, tokens)
        np.testing.assert_array_equal(found_depth, depth)
        assert (found_tokens.dtype, found_depth.dtype) == (np.int16, np.int64)
    for name, table in encoder.tables.items():
        np.testing.assert_array_equal(decoder.tables[name].counts, table.counts)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    shape=st.sampled_from(SHAPES),
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    steps=st.integers(1, MAX_STEPS),
    seed=st.integers(0, 1000),
)
def test_round_trip(shape: TokenShape, grid: tuple[int, int], steps: int, seed: int) -> None:
    assert_round_trip(shape, random_latents(shape, grid, seed, 2), steps)


def test_transforms() -> None:
    """They are coded in kinds that have them, and seen by other cells and by tokens."""
    shape = SHAPES[-1]
    _, seen, tokens, depth = random_latents(shape, (6, 5), 3, 1)[0]
    kind = 0
    transform = np.random.default_rng(1).integers(0, 4, depth.shape) * (depth > 0)
    model, coder = GeneratorModel(shape, GENERATORS[shape]), BitEncoder()
    model.code(coder, (6, 5), kind, seen, tokens, depth, transform)
    decoder = GeneratorModel(shape, GENERATORS[shape])
    found = decoder.code(BitDecoder(coder.finish()), (6, 5), kind, seen)
    for ours, theirs in zip(found, (tokens, depth, transform), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    groups = [recorded(shape, GENERATORS[shape], (kind, seen, tokens, depth), 4, t) for t in
              (transform, transform * 0)]  # fmt: skip
    for table in ("coded", "nonzero"):
        a, b = ([g[2] for g in every if g[0] == table] for every in groups)
        assert a[1] != b[1]


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
def test_round_trip_with_any_schedule(steps: int) -> None:
    assert_round_trip(LEVELS, random_latents(LEVELS, (5, 6), steps, 2), steps)


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_of_latents_without_tokens(shape: TokenShape) -> None:
    kind, seen, tokens, depth = random_latents(shape, (4, 4), 0, 1)[0]
    assert_round_trip(shape, [(kind, seen, tokens * 0, depth * 0)] * 2, 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_stay_below_their_limit(shape: TokenShape) -> None:
    model, _ = encode(shape, random_latents(shape, (12, 12), 0, 3), 2)
    for table in model.tables.values():
        assert table.counts.sum(-1).max() <= COUNT_LIMIT
        assert table.counts.min() >= 0


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    shape=st.sampled_from(SHAPES),
    steps=st.integers(1, MAX_STEPS),
    data=st.one_of(
        st.binary(max_size=40),
        st.integers(0, 999).map(lambda n: np.random.default_rng(n).bytes(2000)),
    ),
)
def test_damaged_bytes_give_tokens_in_range(shape: TokenShape, steps: int, data: bytes) -> None:
    model, coder = GeneratorModel(shape, GENERATORS[shape], steps), BitDecoder(data)
    before = None
    for kind in range(2):
        seen = features(shape, (3, 5), kind, before, Side(1 << 20))
        tokens, depth, transform = model.code(coder, (3, 5), kind, seen)
        assert not transform[depth == 0].any()
        assert transform.max() <= (3 if kind < shape.transform_kinds else 0)
        assert tokens.shape == (3, 5, shape.stages, shape.bits)
        assert depth.min() >= 0
        assert depth.max() <= shape.stages
        carried = np.arange(shape.stages)[:, None] < depth[..., None, None]
        assert not tokens[~np.broadcast_to(carried, tokens.shape)].any()
        magnitude = np.abs(tokens.astype(np.int64))
        assert magnitude.max() <= (MAX_LEVEL if shape.quantizer == "levels" else 1)
        if shape.quantizer == "signs":
            assert (magnitude == carried).all()
        before = Before(depth, magnitude.astype(np.int16))


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_no_context_depends_on_what_is_coded_later(steps: int) -> None:
    """Other depths and tokens from some step on leave all groups up to that step's first one be."""
    kind, seen, tokens, depth = random_latents(LEVELS, (4, 4), 3, 1)[0]
    depth = np.maximum(depth, 1)  # every step has tokens
    other = random_latents(LEVELS, (4, 4), 4, 1)[0]
    first = recorded(LEVELS, GENERATORS[LEVELS], (kind, seen, tokens, depth), steps)
    order = steps_of(4, 4, steps)
    for name, block in (("coded", kind), ("nonzero", kind * LEVELS.stages)):
        starts = [i for i, group in enumerate(first) if group[:2] == (name, block)]
        assert len(starts) == steps
        for step, start in enumerate(starts):
            later = order >= step
            mixed_tokens = np.where(later[..., None, None], 9 - tokens, tokens)
            mixed_depth = np.where(later, other[3], depth) if name == "coded" else depth
            mixed = (kind, seen, mixed_tokens, mixed_depth)
            groups = recorded(LEVELS, GENERATORS[LEVELS], mixed, steps)
            assert groups[: start + 1] == first[: start + 1]
            assert groups[start + 1 :] != first[start + 1 :]


@pytest.mark.parametrize("part", ["depth", "tokens", "seen"])
def test_contexts_depend_on_what_is_known(part: str) -> None:
    """Of the first cell alone, in the groups of all others."""
    kind, seen, tokens, depth = random_latents(LEVELS, (4, 4), 3, 1)[0]
    depth[0, 0], tokens[0, 0] = 2, 0
    first = recorded(LEVELS, GENERATORS[LEVELS], (kind, seen, tokens, depth), 16)
    if part == "depth":
        depth = depth.copy()
        depth[0, 0] = 1
    elif part == "tokens":
        tokens = tokens.copy()
        tokens[0, 0, 0] = 7
    else:
        seen = seen.copy()
        seen[0] = 127
    groups = recorded(LEVELS, GENERATORS[LEVELS], (kind, seen, tokens, depth), 16)

    def of_others(groups: list[Group], names: set[str], own: int) -> list[Group]:
        return [group for group in groups if group[0] in names][own:]

    for names, own, differ in (
        ({"coded", "depth"}, 1 + LEVELS.tree_bits, part != "tokens"),
        ({"nonzero"}, 2, True),  # of two stages
    ):
        assert (of_others(groups, names, own) != of_others(first, names, own)) == differ


def test_a_stage_sees_those_before_it_alone() -> None:
    """Of its own cell."""
    tokens = np.ones((1, 1, 6, 4), np.int16)
    seen, depth = features(LEVELS, (1, 1), 0, None, Side(1 << 20)), np.full((1, 1), 6)
    first = recorded(LEVELS, GENERATORS[LEVELS], (0, seen, tokens, depth), 1)
    starts = [i for i, group in enumerate(first) if group[0] == "nonzero"]
    assert len(starts) == 6
    for stage, start in enumerate(starts):
        changed = tokens.copy()
        changed[0, 0, stage] = -1
        groups = recorded(LEVELS, GENERATORS[LEVELS], (0, seen, changed, depth), 1)
        same = start + 3  # the stage's own: nonzero, negative, and more than 1
        assert groups[:same] == first[:same]
        assert (groups[same:] != first[same:]) == (stage < 5)


# -- features -----------------------------------------------------------------------------------


def test_features_without_anything_before() -> None:
    found = features(LEVELS, (2, 3), 1, None, Side(1 << 20, level=0))
    assert found.shape == (6, feature_count(LEVELS))
    expected = [0, ONE, ONE, 0, 0, 0, 0, 0, 16 * 20 - 308] + [0] * (8 + 1 + 24)
    assert all(row == expected for row in found.tolist())


@pytest.mark.parametrize(("step", "expected"), [(0, -127), (1, -127), (1 << 28, 127), (3 << 18, 4)])
def test_features_tell_the_step(step: int, expected: int) -> None:
    assert (features(LEVELS, (1, 1), 0, None, Side(step))[0, 8]) == expected


def test_features_tell_motion_and_what_was_before() -> None:
    shape = SHAPES[3]
    mode = np.array([[0, 1], [2, 3]], np.uint8)
    mv = np.zeros((2, 2, 2, 2), np.int16)
    mv[0, 0, 0], mv[1, 1, 1] = (3, -4), (0, 1023)
    depth = np.array([[0, 1], [2, 3]])
    magnitude = np.zeros((2, 2, 3, 2), np.int16)
    magnitude[1, 1, 2, 1] = MAX_LEVEL
    side = Side(1 << 20, 4, Field(mode, mv), (-1, 9))
    found = features(shape, (2, 2), 3, Before(depth, magnitude), side)
    motion = found[:, 12:20].tolist()
    one_hot = (ONE * np.eye(4, dtype=int)).tolist()
    # each of the two vectors differs from those of two neighbours
    rough = [16 * 3 + 14, 16 * 10 + 0, 16 * 10 + 0, 16 * 11 - 1]  # log2 of 15, 1031, 1031, 2047
    assert rough[0] == 62
    lengths = [48, 0, 0, 127]
    for i in range(4):
        assert motion[i][:4] == one_hot[i]
        assert motion[i][4] == min(rough[i], 127)
        assert motion[i][5] == lengths[i]
        assert motion[i][6:] == [ONE, 127]
    assert found[:, 20].tolist() == [0, 16, 24, 32]
    assert found[:, 21:].any(0).tolist() == [False] * 5 + [True]
    assert found[3, 26] == 127
    assert found[:, 3].tolist() == [ONE] * 4
    assert found[:, 5 + 4].tolist() == [ONE] * 4


# -- arrays -------------------------------------------------------------------------------------


def test_arrays_of_another_shape_are_refused() -> None:
    parts = random_parts(LEVELS)
    Generator.from_arrays(SMALL, LEVELS, parts.arrays, parts.prior)
    name = "depth.0.weight"
    for bad in (
        {name: parts.arrays[name][:, 1:]},
        {name: parts.arrays[name].astype(np.int16)},
        {"tokens.out.bias": parts.arrays["tokens.out.bias"][1:]},
        {"static.0.multiplier": parts.arrays["static.0.multiplier"].astype(np.int64)},
        {name: np.full_like(parts.arrays[name], 64)},
    ):
        with pytest.raises(ValueError, match=r"shape|type|too large"):
            Generator.from_arrays(SMALL, LEVELS, parts.arrays | bad, parts.prior)
    coded = parts.prior["coded"]
    for table in (coded[:, 1:], coded.astype(np.int64), np.full_like(coded, COUNT_LIMIT // 2 + 1)):
        with pytest.raises(ValueError, match="first counts coded"):
            Generator.from_arrays(SMALL, LEVELS, parts.arrays, parts.prior | {"coded": table})


def test_all_of_a_configuration_is_to_be_said() -> None:
    with pytest.raises(TypeError):
        GeneratorConfig(channels=8, seen=4, hidden=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "values",
    [{"channels": 0}, {"seen": MAX_INPUTS + 1}, {"hidden": -1}, {"blocks": 65}, {"blocks": 1.5}],
)
def test_configurations_out_of_range_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a generator has"):
        GeneratorConfig(**{"channels": 8, "seen": 4, "hidden": 4, "blocks": 1, **values})
