import copy
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec.entropy.binary import BitDecoder, BitEncoder
from neurocodec.entropy.structure import (
    MAX_FRAMES,
    MAX_KEPT,
    MAX_LEVEL,
    MAX_MINI_GOP,
    Picture,
    StructureModel,
    regular,
)

lengths_lists = st.lists(st.integers(1, 16), min_size=1, max_size=8)


def code_all(
    coder: BitEncoder | BitDecoder, pictures: list[Picture] | None, frames: int
) -> list[Picture]:
    model = StructureModel(frames)
    return [model.code(coder, pictures[i] if pictures else None) for i in range(frames)]


def assert_decodable(pictures: list[Picture], frames: int) -> None:
    assert sorted(p.display for p in pictures) == list(range(frames))
    done: set[int] = set()
    for picture in pictures:
        assert done.issuperset(picture.refs)
        assert len(picture.refs) <= 2
        assert 0 <= picture.level <= MAX_LEVEL
        done.add(picture.display)


def round_trip(pictures: list[Picture]) -> float:
    """Returns the bits it takes."""
    coder = BitEncoder()
    assert code_all(coder, pictures, len(pictures)) == pictures
    assert code_all(BitDecoder(coder.finish()), None, len(pictures)) == pictures
    return coder.ideal_bits


def test_regular() -> None:
    assert regular([4, 2], 8) == [
        Picture(0, (), 0),
        Picture(4, (0, 0), 1),
        Picture(2, (0, 4), 2),
        Picture(1, (0, 2), 3),
        Picture(3, (2, 4), 3),
        Picture(6, (4, 0), 1),
        Picture(5, (4, 6), 2),
        Picture(7, (6, 4), 1),
    ]


def test_levels_of_a_long_mini_gop() -> None:
    levels = {p.display: p.level for p in regular([16], 17)}
    assert [levels[i] for i in range(17)] == [0, 5, 4, 5, 3, 5, 4, 5, 2, 5, 4, 5, 3, 5, 4, 5, 1]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(lengths_lists, st.integers(1, 60))
def test_regular_structures(lengths: list[int], frames: int) -> None:
    pictures = regular(lengths, frames)
    assert_decodable(pictures, frames)
    changes = sum(a != b for a, b in itertools.pairwise([8, *lengths]))
    assert round_trip(pictures) < 30 + 10 * changes


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 22))
def test_irregular_structures(rng: random.Random, frames: int) -> None:
    order = list(range(frames))
    rng.shuffle(order)
    pictures: list[Picture] = []
    model, coder = StructureModel(frames), BitEncoder()
    for display in order:
        refs = tuple(rng.choices(model.kept, k=rng.randrange(3))) if model.kept else ()
        picture = Picture(display, refs, rng.randrange(MAX_LEVEL + 1))
        if copy.deepcopy(model).code(BitEncoder(), picture) != picture:  # not kept any more
            picture = Picture(display, (), picture.level)
        pictures.append(model.code(coder, picture))
    assert code_all(BitDecoder(coder.finish()), None, frames) == pictures
    assert [p.display for p in pictures] == order


@pytest.mark.parametrize("seed", range(3))
def test_few_pictures_are_kept(seed: int) -> None:
    """However irregular a structure is, decoders hold few pictures, and agree on which."""
    rng = random.Random(seed)
    order = list(range(1, 200))
    rng.shuffle(order)
    model, coder = StructureModel(200), BitEncoder()
    pictures = [model.code(coder, Picture(0, (), 0))]
    most = 0
    for display in order:
        pictures.append(model.code(coder, Picture(display, (), 0)))
        most = max(most, len(model.kept))
    assert MAX_KEPT <= most <= MAX_KEPT + MAX_MINI_GOP + 1
    assert code_all(BitDecoder(coder.finish()), None, 200) == pictures
    assert sorted(p.display for p in pictures) == list(range(200))


def test_an_encoder_need_not_know_the_length() -> None:
    pictures = regular([8, 8, 4, 3], 24)
    model, coder = StructureModel(MAX_FRAMES), BitEncoder()
    assert [model.code(coder, p) for p in pictures] == pictures
    assert code_all(BitDecoder(coder.finish()), None, 24) == pictures


def test_what_is_kept() -> None:
    model, coder = StructureModel(33), BitEncoder()
    pictures = regular([8], 33)
    for picture in pictures:
        model.code(coder, picture)
        assert len(model.kept) <= 10
    assert set(model.kept) == {16, *range(24, 33)}


def test_a_picture_coded_early_is_kept_until_its_mini_gop_needs_it() -> None:
    early = Picture(12, (0,), 3)
    rest = [p for p in regular([8], 17) if p.display != 12]
    pictures = [rest[0], early, *rest[1:]]
    model, coder = StructureModel(17), BitEncoder()
    for picture in pictures:
        assert model.code(coder, picture) == picture
        assert set(model.kept).issuperset(picture.refs)
    assert Picture(10, (8, 12), 3) in pictures
    assert code_all(BitDecoder(coder.finish()), None, 17) == pictures


def test_one_irregular_picture_costs_little() -> None:
    pictures = regular([8], 33)
    pictures[9] = Picture(pictures[9].display, (), 0)  # a cut
    assert round_trip(pictures) < 60


@pytest.mark.parametrize("frames", [1, 2, 17, 60, MAX_FRAMES])
@pytest.mark.parametrize("seed", range(8))
def test_noise_decodes_to_a_structure(frames: int, seed: int) -> None:
    model, coder = StructureModel(frames), BitDecoder(np.random.default_rng(seed).bytes(3000))
    pictures = []
    for _ in range(frames):
        pictures.append(model.code(coder, None))
        assert set(model.kept).issuperset(pictures[-1].refs)
    assert_decodable(pictures, frames)


@pytest.mark.parametrize("data", [b"", b"\xff" * 4000, b"\x00" * 4000])
def test_special_bytes_decode_to_a_structure(data: bytes) -> None:
    assert_decodable(code_all(BitDecoder(data), None, 100), 100)


@pytest.mark.parametrize("lengths", [[1], [16], [15, 1]])
def test_the_longest_gop(lengths: list[int]) -> None:
    pictures = regular(lengths, MAX_FRAMES)
    assert_decodable(pictures, MAX_FRAMES)
    assert round_trip(pictures) < 40 + 20 * len(lengths)
    assert max(p.display for p in pictures) == MAX_FRAMES - 1


def test_one_frame() -> None:
    assert regular([8], 1) == [Picture(0, (), 0)]
    assert round_trip([Picture(0, (), 0)]) <= 1
    assert round_trip([Picture(0, (), 5)]) < 40


@pytest.mark.parametrize(
    "damaged",
    [
        Picture(17, (0,), 1),  # beyond the last frame
        Picture(0, (0,), 1),  # there already
        Picture(3, (5,), 1),  # predicted from what is not coded
        Picture(3, (3,), 1),  # from itself
        Picture(3, (0, 9), 1),
    ],
)
def test_in_place_of_the_impossible_the_regular_picture_stands(damaged: Picture) -> None:
    encoder, decoder, coder = StructureModel(17), StructureModel(17), BitEncoder()
    pictures = regular([8], 17)
    encoder.code(coder, pictures[0])
    assert encoder.code(coder, damaged).display < 17
    data = coder.finish()
    source = BitDecoder(data)
    assert decoder.code(source, None) == pictures[0]
    second = decoder.code(source, None)
    assert (second.refs, second.level) == ((0, 0), 1)
    assert encoder.kept == decoder.kept


@pytest.mark.parametrize(
    "picture",
    [
        Picture(16, (), 0), Picture(1, (0,), 5), Picture(2, (0, 0), 0), Picture(9, (0,), 1),
        Picture(16, (0, 0), 1),
    ],
)  # fmt: skip
def test_any_possible_picture_comes_next(picture: Picture) -> None:
    rest = [p for p in regular([8], 17) if p.display != picture.display]
    encoder, coder = StructureModel(17), BitEncoder()
    found = [encoder.code(coder, p) for p in (rest[0], picture)]
    assert found == [rest[0], picture]
    while len(found) < 17:
        found.append(encoder.code(coder, None))  # as the regular structure goes on
        assert set(encoder.kept).issuperset(found[-1].refs)
    assert_decodable(found, 17)
    assert code_all(BitDecoder(coder.finish()), None, 17) == found


def test_a_mini_gop_of_which_all_is_coded_is_passed_over() -> None:
    early = [Picture(0, (), 0), *(Picture(d, (0,), 1) for d in range(8, 0, -1))]
    encoder, coder = StructureModel(12), BitEncoder()
    found = [encoder.code(coder, p) for p in early]
    assert found == early
    while len(found) < 12:
        found.append(encoder.code(coder, None))
    assert [p.display for p in found[9:]] == [11, 9, 10]
    assert found[9].refs == (8, 0)
    assert code_all(BitDecoder(coder.finish()), None, 12) == found
