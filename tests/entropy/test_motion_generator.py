from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neurocodec.entropy.adaptive import Before, TokenShape
from neurocodec.entropy.binary import BitDecoder, BitEncoder, Counts
from neurocodec.entropy.field import BOTH, DIRECT, FIRST, MAX_MV, SECOND, Field
from neurocodec.entropy.generator import COUNT_LIMIT, GeneratorConfig
from neurocodec.entropy.integer import BUCKETS, MAX_INPUTS, ONE, Activations, Layer
from neurocodec.entropy.motion import passes
from neurocodec.entropy.motion_features import MODE_FEATURES, VECTOR_FEATURES, Known
from neurocodec.entropy.motion_generator import (
    ACROSS,
    MOTION_TABLES,
    Logits,
    MotionGenerator,
    motion_layers,
)
from tests.generators import SMALL_MOTION, random_generator

SHAPE = TokenShape("levels", 3, 2, 5, True)
GENERATORS = [random_generator(SHAPE, seed, SMALL_MOTION) for seed in range(3)]
DISTANCES = [(-4, -4), (-4, -8), (-1, 1), (-4, 3), (5, -16), (2, 7)]
Grid = tuple[int, int]


@dataclass
class Coded:
    known: Known
    field: Field


def model_of(seed: int = 0) -> MotionGenerator:
    generator = GENERATORS[seed % len(GENERATORS)]
    return MotionGenerator(generator.layers, generator.prior)


def random_before(rng: np.random.Generator, grid: Grid) -> Before:
    depth = rng.integers(0, 4, grid)
    size = np.minimum(rng.pareto(0.7, (*grid, 3, 2)), 4095).astype(np.int16)
    return Before(depth, size * (np.arange(3)[:, None] < depth[..., None, None]))


def random_known(
    rng: np.random.Generator, grid: Grid, distances: tuple[int, int], suggested: bool
) -> Known:
    suggestion = None
    if suggested and distances[0] != distances[1]:
        limit = int(rng.choice([0, 3, MAX_MV]))
        mv = rng.integers(-limit, limit, (2, *grid, 2), endpoint=True).astype(np.int16)
        suggestion = mv, rng.integers(0, 4, grid).astype(np.uint8)
    level, step = int(rng.integers(6)), int(rng.integers(-127, 128))
    return Known(
        distances, level, step, suggestion, (random_before(rng, grid), random_before(rng, grid))
    )


def random_field(rng: np.random.Generator, known: Known, grid: Grid) -> Field:
    """Vectors of all sizes; areas of equal ones, and mirrored ones, among them."""
    h, w = grid
    mode = np.zeros(grid, np.uint8)
    if known.distances[0] != known.distances[1]:
        mode = rng.integers(0, 3 if known.suggested is None else 4, grid).astype(np.uint8)
    limit = int(rng.choice([1, 20, MAX_MV]))
    mv = rng.integers(-limit, limit, (2, h, w, 2), endpoint=True).astype(np.int16)
    mv[:, : h // 2, : w // 2] = mv[:, :1, :1]
    mv[1, h // 2 :] = -mv[0, h // 2 :]
    return field_of(known, mode, mv)


def field_of(known: Known, mode: NDArray[np.uint8], mv: NDArray[np.int16]) -> Field:
    """With vectors as the modes have them."""
    mv = mv * np.stack([mode != SECOND, mode % 4 != FIRST])[..., None]
    if known.suggested is not None:
        mv[:, mode == DIRECT] = known.suggested[0][:, mode == DIRECT]
    return Field(mode, mv.astype(np.int16))


def random_coded(rng: np.random.Generator, grid: Grid, distances: Any, suggested: bool) -> Coded:
    known = random_known(rng, grid, distances, suggested)
    return Coded(known, random_field(rng, known, grid))


def assert_equal(found: Field, expected: Field) -> None:
    np.testing.assert_array_equal(found.mode, expected.mode)
    np.testing.assert_array_equal(found.mv, expected.mv)
    assert (found.mode.dtype, found.mv.dtype) == (np.uint8, np.int16)


def encode(model: MotionGenerator, pictures: list[Coded]) -> BitEncoder:
    coder = BitEncoder()
    for p in pictures:
        assert_equal(model.code_field(coder, p.known, p.field, p.field.mode.shape), p.field)
    return coder


def assert_round_trip(pictures: list[Coded], seed: int = 0) -> MotionGenerator:
    encoder, decoder = model_of(seed), model_of(seed)
    coder = encode(encoder, pictures)
    data = coder.finish()
    assert 8 * len(data) <= 1.005 * coder.ideal_bits + 8 * 16
    source = BitDecoder(data)
    for p in pictures:
        assert_equal(decoder.code_field(source, p.known, None, p.field.mode.shape), p.field)
    for name, table in encoder.tables.items():
        np.testing.assert_array_equal(decoder.tables[name].counts, table.counts)
        assert table.counts.sum(-1).max() <= COUNT_LIMIT
    return encoder


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    distances=st.sampled_from(DISTANCES),
    suggested=st.booleans(),
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
)
def test_round_trip(distances: Any, suggested: bool, grid: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert_round_trip([random_coded(rng, grid, distances, suggested) for _ in range(2)], seed)


def test_round_trip_of_a_gop_of_large_pictures() -> None:
    rng = np.random.default_rng(0)
    pictures = [random_coded(rng, (40, 37), d, i != 2) for i, d in enumerate(DISTANCES)]
    modes = {int(mode) for p in pictures for mode in p.field.mode.flat}
    assert modes == {FIRST, SECOND, BOTH, DIRECT}
    assert_round_trip(pictures)


@pytest.mark.parametrize("grid", [(1, 1), (1, 40), (33, 1), (5, 7)])
@pytest.mark.parametrize("suggested", [False, True])
def test_the_largest_differences(grid: Grid, suggested: bool) -> None:
    known = random_known(np.random.default_rng(1), grid, (-1, 1), suggested)
    mv = np.full((2, *grid, 2), -MAX_MV, np.int16)
    mv[:, ::2, ::2] = MAX_MV
    field = Field(np.full(grid, BOTH, np.uint8), mv)
    assert_round_trip([Coded(known, field)])


def test_all_cells_are_direct() -> None:
    known = random_known(np.random.default_rng(2), (9, 11), (-2, 2), True)
    field = field_of(known, np.full((9, 11), DIRECT, np.uint8), np.zeros((2, 9, 11, 2), np.int16))
    assert field.mv.any()
    assert_round_trip([Coded(known, field)])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    distances=st.sampled_from(DISTANCES),
    suggested=st.booleans(),
    seed=st.integers(0, 999),
    length=st.sampled_from([0, 3, 30, 3000]),
)
def test_damaged_bytes_give_fields_in_range(
    distances: Any, suggested: bool, seed: int, length: int
) -> None:
    rng, grid = np.random.default_rng(seed), (9, 6)
    known = random_known(rng, grid, distances, suggested)
    model, coder = model_of(seed), BitDecoder(rng.bytes(length))
    for _ in range(2):
        field = model.code_field(coder, known, None, grid)
        assert field.mode.shape == grid
        assert field.mv.shape == (2, *grid, 2)
        assert np.abs(field.mv).max() <= MAX_MV
        if distances[0] == distances[1]:
            assert not field.mode.any()
        elif known.suggested is None:
            assert field.mode.max() <= BOTH
        assert_equal(field_of(known, field.mode, field.mv), field)  # unused vectors are 0


# -- what is seen -------------------------------------------------------------------------------


class Watched(MotionGenerator):
    """Keeps what layers are given, and the logits that the bits are coded with."""

    def __init__(self) -> None:
        super().__init__(GENERATORS[0].layers, GENERATORS[0].prior)
        self.seen: dict[str, list[Activations]] = {}
        self.given: list[tuple[str, int, list[Any]]] = []

    def apply(self, layer: str, x: Activations) -> Any:
        self.seen.setdefault(layer, []).append(x)
        return super().apply(layer, x)

    def logits(self, layer: str, table: str, block: int, x: Activations) -> Logits:
        found = super().logits(layer, table, block, x)
        self.given.append((table, block, found.contexts.tolist()))
        return found


def watch(picture: Coded) -> Watched:
    model = Watched()
    encode(model, [picture])
    return model


@pytest.mark.parametrize("distances", DISTANCES)
def test_features_are_as_many_as_layers_take(distances: Any) -> None:
    model = watch(random_coded(np.random.default_rng(3), (9, 8), distances, True))
    for layer, found in model.seen.items():
        inputs = motion_layers(SMALL_MOTION.motion)[layer][1]
        assert {(x.shape[1], x.dtype) for x in found} == {(inputs, np.dtype(np.int8))}
        assert min(x.min() for x in found) >= -127
    assert ("motion.modes.0" in model.seen) == (distances[0] != distances[1])
    assert (MODE_FEATURES, VECTOR_FEATURES, ACROSS) == (153, 152, 6)
    sides = int(distances[0] * distances[1] < 0)
    blocks = {2 * sides, 2 * sides + int(distances[0] != distances[1])}
    assert {block for table, block, _ in model.given if table != "motion_modes"} == blocks


def lone(mode: int, vectors: list[tuple[int, int]], suggested: Any = None) -> Coded:
    """A picture of one cell, of level 3; its references' cells have depths 1 and 3."""
    before = [Before(np.full((1, 1), d), np.full((1, 1, 3, 2), d, np.int16)) for d in (1, 3)]
    known = Known((-2, 1), 3, -5, suggested, (before[0], before[1]))
    mv = np.array(vectors, np.int16).reshape(2, 1, 1, 2)
    return Coded(known, Field(np.full((1, 1), mode, np.uint8), mv))


# lattice of the first pass, diagonal, two sides, level 3, step, distances
PLACE = [0, 0, ONE, ONE, ONE, 0, 0, 0, ONE, 0, 0, -5, 2 * ONE, ONE]


def test_features_of_a_lone_cell() -> None:
    model = watch(lone(BOTH, [(7, -1), (-7, 3)]))
    carried = [[ONE, 16 * 2 + 12], [2 * ONE, 16 * 4 + 3]]  # log2 of 2, 7; 4, 19
    (modes,) = model.seen["motion.modes.0"]
    assert modes.tolist() == [[*PLACE, 0, *[0] * (96 + 4 + 2 + 32), *carried[0], *carried[1]]]
    first, second = model.seen["motion.candidates.0"]
    nothing = [0] * (24 * 4 + 8 * 3)
    assert first.tolist() == [[*PLACE, 0, 0, ONE, *nothing, 0, 0, ONE, *[0] * 10, *carried[0]]]
    # The mirror (-3, 1) is the guess; what is off is the vector itself, halved and turned round.
    guess, off = [-32, ONE], [-32, ONE]
    assert second.tolist() == [
        [*PLACE, 0, ONE, ONE, *nothing, *guess, 0, ONE, 0, 0, ONE, *off, *[0] * 4, *carried[1]]
    ]
    # Differences from it: (7, -1) and (-4, 2)
    facts = [x[:, -ACROSS:].tolist() for x in model.seen["motion.difference.2"]]
    assert facts == [[[ONE, 0, 48, 48, 0, 0]], [[-ONE, 0, -36, 36, 0, 0]]]


def test_features_of_a_lone_cell_with_suggested_vectors() -> None:
    mv = np.array([[[[3, 0]]], [[[0, 0]]]], np.int16)
    model = watch(lone(SECOND, [(0, 0), (1, 0)], (mv, np.full((1, 1), SECOND, np.uint8))))
    (modes,) = model.seen["motion.modes.0"]
    assert modes[0, 14] == ONE
    assert modes[0, 15 + 96 : 15 + 96 + 6].tolist() == [0, ONE, 0, 0, 0, 0]
    (vectors,) = model.seen["motion.candidates.0"]
    assert vectors[0, 15:17].tolist() == [ONE, 0]
    assert vectors[0, -6:-2].tolist() == [0, 0, ONE, 0]
    facts = model.seen["motion.difference.2"][0][0, -ACROSS:]
    assert facts.tolist() == [ONE, 0, ONE, ONE, ONE, 0]


def test_features_see_the_cells_around() -> None:
    """Of a row of three cells, the last of which is coded last: it sees both others."""
    known = replace(random_known(np.random.default_rng(0), (1, 3), (-1, -2), False), suggested=None)
    mv = np.zeros((2, 1, 3, 2), np.int16)
    mv[0, 0, :, 0] = [3, 0, 3]
    mv[1, 0, :, 1] = [0, 7, 0]
    coded = Coded(known, field_of(known, np.array([[FIRST, SECOND, FIRST]], np.uint8), mv))
    model = watch(coded)
    assert [p.cells.tolist() for p in passes(1, 3)] == [[0], [2], [1]]
    modes = model.seen["motion.modes.0"][-1][0, 15 : 15 + 96].reshape(24, 4)
    assert np.argwhere(modes).tolist() == [[11, FIRST], [12, FIRST]]
    vectors = model.seen["motion.candidates.0"][1][0]  # of the cell that is coded second
    uses, same, away = vectors[17:41], vectors[41:65], vectors[65:113]
    assert np.flatnonzero(uses).tolist() == np.flatnonzero(same).tolist() == [11]
    assert not away.any()  # the guess is what the only neighbour has
    assert vectors[-15:-12].tolist() == [32, 0, 0]
    last = model.seen["motion.candidates.0"][2][0]  # over the other reference
    assert not last[17:113].any()


def test_contexts_depend_on_what_is_coded_before_alone() -> None:
    """Other modes and vectors from some pass on leave all logits up to that pass's first be."""
    rng, grid = np.random.default_rng(5), (9, 10)
    known = random_known(rng, grid, (-2, 3), True)
    first, other = random_field(rng, known, grid), random_field(rng, known, grid)
    before = watch(Coded(known, first)).given
    starts = [i for i, (table, _, _) in enumerate(before) if table == "motion_modes"]
    parts = passes(*grid)
    assert len(starts) == len(parts)
    for i, start in enumerate(starts):
        later = np.zeros(grid[0] * grid[1], np.bool_)
        for part in parts[i:]:
            later[part.cells] = True
        later = later.reshape(grid)
        mode = np.where(later, other.mode, first.mode)
        mv = np.where(later[..., None], other.mv, first.mv)
        after = watch(Coded(known, Field(mode, mv))).given
        assert after[: start + 1] == before[: start + 1]
        assert i == len(starts) - 1 or after[start + 1 :] != before[start + 1 :]


# -- cost ---------------------------------------------------------------------------------------


def still_model(certain: bool) -> MotionGenerator:
    """Its layers give 0 but for biases, which say that the guess is right."""
    layers = {
        name: Layer(
            np.zeros((inputs, outputs), np.float32),
            np.full(outputs, 20 if name == "motion.candidates.out" else -20) * int(certain),
            np.full(outputs, 1 << 20),
        )
        for name, (outputs, inputs) in motion_layers(4).items()
    }
    p = 1 / (1 + np.exp(-(np.arange(BUCKETS) - BUCKETS // 2) / 4))
    pairs = np.round(512 * np.stack([1 - p, p], -1)).astype(np.uint16)
    prior = {
        name: np.tile(pairs, (size[1] // BUCKETS, 1))[None].repeat(size[0], 0)
        for name, size in MOTION_TABLES.items()
    }
    return MotionGenerator(layers, prior)


@pytest.mark.parametrize("distances", [(-8, -8), (-4, -8), (-4, 4)])
def test_still_fields_cost_next_to_nothing(distances: tuple[int, int]) -> None:
    known = random_known(np.random.default_rng(0), (45, 80), distances, False)
    field = Field(np.zeros((45, 80), np.uint8), np.zeros((2, 45, 80, 2), np.int16))
    assert encode(still_model(True), [Coded(known, field)]).ideal_bits < 100
    model = still_model(False)  # counts learn it
    encode(model, [Coded(known, field)])
    assert encode(model, [Coded(known, field)]).ideal_bits < 100


# -- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("motion", [-1, MAX_INPUTS - ACROSS + 1, 1.5])
def test_widths_out_of_range_are_refused(motion: int) -> None:
    with pytest.raises(ValueError, match="2042 channels for motion"):
        GeneratorConfig(8, 4, 4, 1, motion=motion)


def test_tables_of_motion() -> None:
    with_motion, without = (
        GeneratorConfig(8, 4, 4, 1, motion=n).table_shapes(SHAPE) for n in (4, 0)
    )
    assert set(with_motion) - set(without) == set(MOTION_TABLES)
    for name in MOTION_TABLES:
        assert isinstance(model_of().tables[name], Counts)
