import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec.entropy.binary import (
    _PLACE,
    HALF,
    BitDecoder,
    BitEncoder,
    Bits,
    Counts,
    Ints,
    Stream,
    code_raw,
)
from tests.reference_tokens import RangeDecoder


class Spy(BitEncoder):
    """Keeps the probabilities of each group that it was asked to make room for."""

    def __init__(self) -> None:
        super().__init__()
        self._groups: list[tuple[Stream, int, int]] = []

    def stream(self, count: int) -> Stream:
        found = super().stream(count)
        self._groups.append((found, int(found[0][_PLACE]), count))
        return found

    @property
    def calls(self) -> list[list[int]]:
        return [(words[at : at + count] >> 1).tolist() for (_, words), at, count in self._groups]


def bits_of(*values: int) -> Bits:
    return np.array(values, np.int32)


def contexts_of(*values: int) -> Ints:
    return np.array(values, np.int64)


def table(*pairs: tuple[int, int], blocks: int = 1) -> Counts:
    return Counts(np.array([pairs] * blocks, np.uint8))


# counts


@pytest.mark.parametrize(
    ("zeros", "ones", "expected"),
    [(0, 0, 32768), (1, 0, 16384), (0, 1, 49152), (2, 1, 24576), (255, 0, 128), (0, 255, 65408)],
)
def test_probability_of_counts(zeros: int, ones: int, expected: int) -> None:
    spy = Spy()
    table((zeros, ones)).code(spy, bits_of(0), 0, contexts_of(0))
    assert spy.calls == [[expected]]


def test_probabilities_are_those_of_a_division_of_integers() -> None:
    """Though it is done in float64: of all counts up to a limit, and of some large ones."""
    n0, n1 = (x.ravel() for x in np.mgrid[0:200, 0:200])
    large = np.random.default_rng(0).integers(0, 16384, (2, 20000))
    n0, n1 = np.concatenate([n0, large[0]]), np.concatenate([n1, large[1]])
    spy, counts = Spy(), Counts(np.stack([n0, n1], 1)[None], limit=1 << 30)
    counts.code(spy, np.zeros(len(n0), np.int32), 0, np.arange(len(n0)))
    exact = ((2 * n1 + 1) << 16) // (2 * (n0 + n1) + 2)
    assert (np.array(spy.calls[0]) == exact.clip(1, 65535)).all()


def test_probability_stays_inside_the_open_interval() -> None:
    spy = Spy()
    counts = Counts(np.array([[(1 << 20, 0), (0, 1 << 20)]]), limit=1 << 30)
    counts.code(spy, bits_of(0, 1), 0, contexts_of(0, 1))
    assert spy.calls == [[1, 65535]]


def test_bits_of_one_call_share_the_counts_before_it() -> None:
    spy, counts = Spy(), table((0, 0), (0, 0))
    counts.code(spy, bits_of(1, 1, 0, 1), 0, contexts_of(0, 0, 0, 1))
    assert spy.calls == [[32768] * 4]
    assert counts.counts.tolist() == [[[1, 2], [0, 1]]]


def test_blocks_are_apart() -> None:
    counts = table((0, 0), blocks=3)
    counts.code(BitEncoder(), bits_of(1), 1, contexts_of(0))
    assert counts.counts.tolist() == [[[0, 0]], [[0, 1]], [[0, 0]]]


def test_counts_are_halved_rounding_up_above_the_limit() -> None:
    counts, coder = table((1, 0), (4, 4)), BitEncoder()
    counts.code(coder, np.ones(1022, np.int32), 0, np.zeros(1022, np.int64))
    assert counts.counts[0].tolist() == [[1, 1022], [4, 4]]
    counts.code(coder, bits_of(1), 0, contexts_of(0))
    assert counts.counts[0].tolist() == [[1, 512], [4, 4]]


def test_counts_are_halved_until_they_are_small_enough() -> None:
    counts = table((0, 0))
    counts.code(BitEncoder(), np.zeros(5000, np.int32), 0, np.zeros(5000, np.int64))
    assert counts.counts[0].tolist() == [[625, 0]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=9), min_size=1, max_size=30
    ),
    st.sampled_from([(1, 5), (32, 70), (1, 1023)]),
)
def test_probabilities_and_counts_are_those_of_the_definition(
    calls: list[list[tuple[int, bool]]], unit_and_limit: tuple[int, int]
) -> None:
    unit, limit = unit_and_limit
    prior = [[0, 0], [200, 3], [1, 0], [7, 255]]
    counts, spy = Counts(np.array([prior], np.uint8), limit, unit), Spy()
    expected = []
    for call in calls:
        at = contexts_of(*(context for context, _ in call))
        counts.code(spy, bits_of(*(bit for _, bit in call)), 0, at)
        pairs = [prior[context] for context, _ in call]
        parts = [(2 * n1 + 1) * 65536 // (2 * (n0 + n1) + 2) for n0, n1 in pairs]
        if call:
            expected.append([min(max(part, 1), 65535) for part in parts])
        for context, bit in call:
            prior[context][bit] += unit
        for context, _ in call:
            while sum(prior[context]) > limit:
                prior[context] = [(n + 1) // 2 for n in prior[context]]
    assert [list(p) for p in spy.calls] == expected
    assert counts.counts[0].tolist() == prior


def test_the_prior_is_left_alone() -> None:
    prior = np.zeros((1, 1, 2), np.uint8)
    Counts(prior).code(BitEncoder(), bits_of(1), 0, contexts_of(0))
    assert not prior.any()


def test_an_empty_call_codes_nothing() -> None:
    spy = Spy()
    assert len(table((0, 0)).code(spy, bits_of(), 0, contexts_of())) == 0
    assert len(code_raw(spy, bits_of())) == 0
    assert not any(spy.calls)
    assert spy.finish() == b""


def test_raw_bits_cost_one_bit() -> None:
    coder = BitEncoder()
    code_raw(coder, bits_of(0, 1, 1))
    assert coder.ideal_bits == 3
    p = np.random.default_rng(0).integers(1, 1 << 16, 5000)
    coder.code((p % 3 == 0).astype(np.int32), p.astype(np.float64))
    expected = -np.log2(np.where(p % 3 == 0, p, 65536 - p) / 65536).sum()
    assert coder.ideal_bits - 3 == pytest.approx(expected)


# coder

CODED = st.lists(
    st.lists(
        st.tuples(st.integers(0, 1), st.one_of(st.integers(1, 65535), st.sampled_from([1, 65535]))),
        min_size=1,
        max_size=40,
    ),
    max_size=8,
)


def encode(calls: list[list[tuple[int, int]]]) -> bytes:
    coder = BitEncoder()
    for call in calls:
        bits, ks = zip(*call, strict=True)
        assert coder.code(bits_of(*bits), np.array(ks)).tolist() == list(bits)
    return coder.finish()


@settings(deadline=None, derandomize=True)
@given(calls=CODED, tail=st.binary(max_size=3))
def test_decoder_and_reference_give_back_what_was_encoded(
    calls: list[list[tuple[int, int]]], tail: bytes
) -> None:
    data = encode(calls) + tail  # less than a word more is ignored
    ours, reference = BitDecoder(data), RangeDecoder(data)
    for call in calls:
        bits, ks = zip(*call, strict=True)
        nothing = np.zeros(len(bits), np.int32)
        assert ours.code(nothing, np.array(ks)).tolist() == list(bits)
        assert reference.group(list(ks)) == list(bits)


def test_words_are_pinned() -> None:
    """The format's arithmetic: a change here is a new format version."""
    i = np.arange(200)
    ks = i * 7919 % 65535 + 1
    bits = (i * i * 31337 % 65536 < ks).astype(np.int32)
    coder = BitEncoder()
    coder.code(bits, ks)
    assert coder.finish().hex() == "8871ffff84154d204e322e1208ac5cffcaf9d436"


def test_every_probability_has_the_interval_of_the_specification() -> None:
    """The last part of a zero and the first of a one, for each k; see section 4."""
    k = np.arange(1, 65536)
    first_one = 256 * (65536 - k) - (k < HALF)
    scale = (1 << 40) - 1  # of the first bit
    for k_, part in zip(k[::7].tolist(), first_one[::7].tolist(), strict=True):
        for point, bit in ((part * scale - 1, 0), (part * scale, 1)):
            data = np.array([point >> 32, point & 0xFFFFFFFF], "<u4").tobytes()
            assert BitDecoder(data).code(bits_of(0), np.array([k_]))[0] == bit


@pytest.mark.parametrize("probability", [1, 300, 32768, 65000])
def test_rate_is_the_ideal_one(probability: int) -> None:
    rng = np.random.default_rng(probability)
    coder, total = BitEncoder(), 0
    for size in (1, 70, 20000):
        bits = (rng.integers(0, 65536, size) < probability).astype(np.int32)
        coder.code(bits, np.full(size, probability))
        total += size
    assert 8 * len(coder.finish()) <= 1.005 * coder.ideal_bits + 8 * 16
    assert coder.ideal_bits <= 1.1 * total


def test_no_data_decodes_to_something() -> None:
    assert BitDecoder(b"").code(np.zeros(5, np.int32), np.full(5, HALF)).tolist() == [0] * 5


def test_bytes_that_no_encoder_writes_give_zeros_from_then_on() -> None:
    coder = BitDecoder(b"\xff" * 8 + b"\x55" * 100)
    nothing = np.zeros(9, np.int32)
    for _ in range(3):
        assert coder.code(nothing, np.full(9, HALF)).tolist() == [0] * 9
