import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec.entropy.adaptive import Before, Prior, trained_prior
from neurocodec.entropy.binary import BitDecoder, BitEncoder, Counts
from neurocodec.entropy.field import (
    BOTH,
    DIRECT,
    FIRST,
    MAX_MV,
    SECOND,
    Field,
    MotionMemory,
    align_before,
    align_cells,
    distances_of,
    scaled,
)
from neurocodec.entropy.motion import TABLES, MotionModel, empty_motion_prior
from neurocodec.entropy.structure import Picture, StructureModel, regular

Fields = list[tuple[tuple[int, ...], Field]]  # (distances, field) of pictures


def field_of(mode: np.ndarray, vectors: np.ndarray) -> Field:
    """Vectors (2, h, w, 2) are set to 0 where the mode does not use them."""
    used = np.stack([mode != SECOND, mode != FIRST])
    return Field(mode.astype(np.uint8), (vectors * used[..., None]).astype(np.int16))


def random_field(rng: np.random.Generator, grid: tuple[int, int], references: int) -> Field:
    """Vectors of all sizes; areas of equal ones among them."""
    h, w = grid
    mode = rng.integers(0, 3, grid) if references == 2 else np.zeros(grid)
    limit = int(rng.choice([1, 20, MAX_MV]))
    vectors = rng.integers(-limit, limit, (2, h, w, 2), endpoint=True)
    vectors[:, : h // 2, : w // 2] = vectors[:, :1, :1]
    vectors[1, h // 2 :] = -vectors[0, h // 2 :]
    return field_of(mode, vectors)


def static(grid: tuple[int, int], mode: int = FIRST) -> Field:
    return field_of(np.full(grid, mode), np.zeros((2, *grid, 2)))


def encode(prior: Prior, fields: Fields) -> tuple[MotionModel, BitEncoder]:
    model, coder = MotionModel(prior), BitEncoder()
    for distances, field in fields:
        assert_equal(model.code_field(coder, distances, field, field.mode.shape), field)
    return model, coder


def assert_equal(found: Field, expected: Field) -> None:
    np.testing.assert_array_equal(found.mode, expected.mode)
    np.testing.assert_array_equal(found.mv, expected.mv)
    assert (found.mode.dtype, found.mv.dtype) == (np.uint8, np.int16)


def assert_round_trip(prior: Prior, fields: Fields) -> float:
    """Returns the bits it takes."""
    encoder, coder = encode(prior, fields)
    data = coder.finish()
    assert 8 * len(data) <= 1.005 * coder.ideal_bits + 8 * 16
    decoder, source = MotionModel(prior), BitDecoder(data)
    for distances, field in fields:
        assert_equal(decoder.code_field(source, distances, None, field.mode.shape), field)
    for name, table in encoder.tables.items():
        np.testing.assert_array_equal(decoder.tables[name].counts, table.counts)
    return coder.ideal_bits


def random_prior(seed: int) -> Prior:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, size).astype(np.uint8) for name, size in TABLES.items()}


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    distances=st.sampled_from([(-4,), (-4, -8), (-3, -3), (-1, 1), (-4, 3), (5, -16)]),
    grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 1000),
)
def test_round_trip(distances: tuple[int, ...], grid: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    references = len(set(distances))
    fields = [(distances, random_field(rng, grid, references)) for _ in range(2)]
    assert_round_trip(random_prior(seed), fields)


def test_round_trip_of_several_kinds_of_picture() -> None:
    rng = np.random.default_rng(0)
    kinds = [(-8,), (-4, 4), (-8, -16), (-1, 1)]
    assert_round_trip(
        empty_motion_prior(), [(d, random_field(rng, (11, 37), len(d))) for d in kinds]
    )


def test_the_largest_difference() -> None:
    vectors = np.full((2, 5, 7, 2), -MAX_MV)
    vectors[:, ::2, ::2] = MAX_MV
    field = field_of(np.full((5, 7), BOTH), vectors)
    assert_round_trip(empty_motion_prior(), [((-1, 1), field)])


@pytest.mark.parametrize(
    ("distances", "mode"), [((-8,), FIRST), ((-8, -16), FIRST), ((-4, 4), FIRST), ((-4, 4), BOTH)]
)
def test_static_fields_cost_next_to_nothing(distances: tuple[int, ...], mode: int) -> None:
    field = (distances, static((45, 80), mode))
    warm = assert_round_trip(empty_motion_prior(), [field])
    assert assert_round_trip(empty_motion_prior(), [field] * 2) - warm < 60
    prior = trained_prior(encode(empty_motion_prior(), [field] * 2)[0].tables, 48)
    assert encode(prior, [field])[1].ideal_bits < 240


def test_a_moving_rectangle_costs_its_outline() -> None:
    vectors = np.zeros((2, 45, 80, 2))
    vectors[:, 12:28, 20:52] = (37, -9)
    fields = [((-4,), static((45, 80))), ((-4,), field_of(np.zeros((45, 80)), vectors))]
    ground = assert_round_trip(empty_motion_prior(), fields[:1])
    assert assert_round_trip(empty_motion_prior(), fields) - ground < 1100  # 96 cells around


def test_mirrored_vectors_come_for_little() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(-60, 60, (30, 40, 2))
    mode = np.full((30, 40), BOTH)
    mirrored = field_of(mode, np.stack([first, scaled(first, 4, -2)]))
    other = field_of(mode, np.stack([first, scaled(first[::-1], 4, -2)]))
    bits = [encode(empty_motion_prior(), [((-2, 4), f)])[1].ideal_bits for f in (mirrored, other)]
    assert bits[0] < 0.65 * bits[1]


@pytest.mark.parametrize("distances", [(-3,), (-2, 2), (-4, -8)])
@pytest.mark.parametrize("data", [b"", b"\xff" * 4000, b"\x00" * 4000, *range(6)])
def test_any_bytes_decode_to_a_field_within_bounds(
    distances: tuple[int, ...], data: bytes | int
) -> None:
    if isinstance(data, int):
        data = np.random.default_rng(data).bytes(3000)
    coder, model = BitDecoder(data), MotionModel(random_prior(len(data)))
    for _ in range(3):
        field = model.code_field(coder, distances, None, (19, 23))
        assert field.mode.max() <= (BOTH if len(distances) == 2 else FIRST)
        assert np.abs(field.mv).max() <= MAX_MV
        assert not field.mv[0][field.mode == SECOND].any()
        assert not field.mv[1][field.mode == FIRST].any()


@pytest.mark.parametrize(
    ("mv", "to", "of", "expected"),
    [(6, 1, 2, 3), (5, 1, 2, 3), (-5, 1, 2, -2), (6, 1, -2, -3), (5, -1, 2, -2), (800, 3, 1, 1023)],
)
def test_scaled(mv: int, to: int, of: int, expected: int) -> None:
    assert scaled(np.array([mv]), to, of).tolist() == [expected]


def test_align_cells() -> None:
    array = np.arange(12).reshape(3, 4)
    mv = np.zeros((3, 4, 2), np.int16)
    mv[0, 0] = (16, 15)  # half a cell right counts, less does not
    mv[0, 1] = (-16, 64)
    mv[1, 2] = (-17, -1000)
    assert align_cells(array, mv).tolist() == [[1, 9, 2, 3], [4, 5, 1, 7], [8, 9, 10, 11]]
    assert align_cells(np.zeros((3, 4, 5, 6)), mv).shape == (3, 4, 5, 6)


def test_align_before() -> None:
    first, second = (
        Before(np.array([[a, b]]), np.array([[[[a]], [[b]]]], np.int16))
        for a, b in ((1, 2), (3, 0))
    )
    mv = np.zeros((2, 1, 2, 2), np.int16)
    for mode, expected in ((FIRST, [1, 2]), (SECOND, [3, 0]), (BOTH, [3, 2])):
        field = Field(np.full((1, 2), mode, np.uint8), mv)
        found = align_before(field, [first, second])
        assert found.depth.ravel().tolist() == found.magnitude.ravel().tolist() == expected
    assert align_before(Field(np.zeros((1, 2), np.uint8), mv), [second]).depth.tolist() == [[3, 0]]


def test_a_trained_prior_saves_bits() -> None:
    tables = {name: Counts(prior, 1 << 40) for name, prior in empty_motion_prior().items()}
    model = MotionModel(empty_motion_prior())
    model.tables = tables
    fields = [random_field(np.random.default_rng(i), (16, 20), 2) for i in range(4)]
    for field in fields[:3]:
        model.code_field(BitEncoder(), (-2, 2), field, (16, 20))
    last = [((-2, 2), fields[3])]
    with_it = encode(trained_prior(tables, 48), last)[1].ideal_bits
    assert with_it < encode(empty_motion_prior(), last)[1].ideal_bits


def with_direct(rng: np.random.Generator, field: Field, suggested: np.ndarray) -> Field:
    """The field with areas of DIRECT cells in it."""
    h, w = field.mode.shape
    direct = np.repeat(np.repeat(rng.random(((h + 3) // 4, (w + 3) // 4)) < 0.4, 4, 0), 4, 1)
    direct = direct[:h, :w]
    mode = np.where(direct, DIRECT, field.mode).astype(np.uint8)
    return Field(mode, np.where(direct[..., None], suggested, field.mv))


@pytest.mark.parametrize(
    ("grid", "lengths", "seed"), [((1, 1), [8], 0), ((7, 5), [4, 3], 1), ((34, 37), [16], 2)]
)
def test_round_trip_of_a_gop_with_direct_cells(
    grid: tuple[int, int], lengths: list[int], seed: int
) -> None:
    rng, prior, pictures = np.random.default_rng(seed), random_prior(seed), regular(lengths, 18)
    model, coder, memory, fields = MotionModel(prior), BitEncoder(), MotionMemory(), {}
    structure = StructureModel(18)
    for picture in pictures:
        structure.code(BitEncoder(), picture)
        if not picture.refs:
            continue
        suggested, distances = memory.suggest(picture), distances_of(picture)
        field = random_field(rng, grid, len(set(distances)))
        if suggested is not None:
            field = with_direct(rng, field, suggested)
        fields[picture] = field
        assert_equal(model.code_field(coder, distances, field, grid, suggested), field)
        memory.remember(picture, field, structure.kept)
    assert any((field.mode == DIRECT).any() for field in fields.values())
    data = coder.finish()
    assert 8 * len(data) <= 1.005 * coder.ideal_bits + 8 * 16

    decoder, source, memory, structure = (
        MotionModel(prior), BitDecoder(data), MotionMemory(), StructureModel(18),
    )  # fmt: skip
    for picture in pictures:
        structure.code(BitEncoder(), picture)
        if not picture.refs:
            continue
        found = decoder.code_field(
            source, distances_of(picture), None, grid, memory.suggest(picture)
        )
        assert_equal(found, fields[picture])
        memory.remember(picture, found, structure.kept)


def test_direct_cells_cost_next_to_nothing() -> None:
    suggested = np.random.default_rng(0).integers(-99, 99, (2, 45, 80, 2)).astype(np.int16)
    field = Field(np.full((45, 80), DIRECT, np.uint8), suggested)
    model, coder, bits = MotionModel(empty_motion_prior()), BitEncoder(), []
    for _ in range(3):
        model.code_field(coder, (-2, 2), field, (45, 80), suggested)
        bits.append(coder.ideal_bits)
    assert max(np.diff(bits)) < 60
    coder = BitEncoder()
    MotionModel(trained_prior(model.tables, 48)).code_field(
        coder, (-2, 2), field, (45, 80), suggested
    )
    assert coder.ideal_bits < 240


def test_direct_cells_are_neighbours_like_others() -> None:
    suggested = np.tile(np.array([[37, -9], [-37, 9]], np.int16)[:, None, None], (1, 16, 16, 1))
    board = np.add.outer(np.arange(16), np.arange(16)) % 2
    same = Field(np.where(board, DIRECT, BOTH).astype(np.uint8), suggested)
    other = Field(same.mode, np.where(board[..., None], suggested, suggested + 50))
    bits = []
    for field in (same, other):
        coder = BitEncoder()
        MotionModel(empty_motion_prior()).code_field(coder, (-1, 1), field, (16, 16), suggested)
        bits.append(coder.ideal_bits)
    assert bits[0] < bits[1] - 20


@pytest.mark.parametrize("data", [b"", b"\xff" * 4000, b"\x00" * 4000, *range(6)])
def test_any_bytes_decode_to_direct_cells_that_are_as_suggested(data: bytes | int) -> None:
    rng = np.random.default_rng(0)
    suggested = rng.integers(-MAX_MV, MAX_MV, (2, 19, 23, 2), endpoint=True).astype(np.int16)
    if isinstance(data, int):
        data = np.random.default_rng(data).bytes(3000)
    coder, model = BitDecoder(data), MotionModel(random_prior(len(data)))
    for _ in range(3):
        field = model.code_field(coder, (-2, 2), None, (19, 23), suggested)
        direct = field.mode == DIRECT
        np.testing.assert_array_equal(field.mv[:, direct], suggested[:, direct])
        assert field.mode.max() <= DIRECT
        assert np.abs(field.mv).max() <= MAX_MV
        assert not field.mv[0][field.mode == SECOND].any()
        assert not field.mv[1][field.mode == FIRST].any()


@pytest.mark.parametrize("distances", [(-3,), (-3, -3)])
def test_with_one_reference_there_are_no_direct_cells(distances: tuple[int, ...]) -> None:
    suggested = np.ones((2, 9, 9, 2), np.int16)
    data = np.random.default_rng(0).bytes(500)
    fields = [
        MotionModel(empty_motion_prior()).code_field(BitDecoder(data), distances, None, (9, 9), d)
        for d in (suggested, None)
    ]
    assert_equal(*fields)
    assert not fields[0].mode.any()


def test_suggestions_go_on_as_things_move() -> None:
    memory = MotionMemory()
    mode = np.array([[FIRST, SECOND, BOTH, DIRECT]], np.uint8)
    mv = np.array([[[(16, -8), (0, 0), (4, 4), (MAX_MV, 0)]]] * 2, np.int16)
    mv[1, 0, 1] = (7, -7)
    far = Picture(8, (0, 4), 1)  # distances -8 and -4
    memory.remember(far, Field(mode, mv), [0, 4])
    suggested = memory.suggest(Picture(6, (4, 8), 2))  # distances -2 and 2
    assert suggested is not None
    assert suggested[0, 0].tolist() == [[4, -2], [4, -3], [1, 1], [256, 0]]
    assert suggested[1, 0].tolist() == [[-4, 2], [-3, 4], [-1, -1], [-256, 0]]
    wide = memory.suggest(Picture(100, (8, 4), 2))
    assert wide is not None
    assert wide[0, 0, 3].tolist() == [MAX_MV, 0]  # cut


def test_what_suggests_is_the_reference_coded_last_that_has_motion() -> None:
    memory, grid = MotionMemory(), (1, 1)

    def field(x: int) -> Field:
        return field_of(np.zeros(grid), np.full((2, *grid, 2), x))

    assert memory.suggest(Picture(4, (0, 8), 2)) is None  # nothing is known
    memory.remember(Picture(8, (0, 0), 1), field(80), [0, 8])
    assert memory.suggest(Picture(9, (0,), 2)) is None
    assert memory.suggest(Picture(9, (8, 8), 2)) is None
    assert memory.suggest(Picture(9, (0, 1), 2)) is None  # of intra pictures
    memory.remember(Picture(4, (0, 8), 2), field(4), [0, 8])
    for refs, x in (((0, 8), 20), ((4, 8), 2), ((8, 4), 2)):
        suggested = memory.suggest(Picture(2, refs, 3))
        assert suggested is not None
        assert suggested[0, 0, 0, 0] == x * (refs[0] - 2) / -2
    memory.remember(Picture(16, (8, 0), 1), field(0), [8])
    assert memory.suggest(Picture(5, (0, 4), 3)) is None  # forgotten
