from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec.bitstream.fields import FieldReader, FieldWriter
from neurocodec.bitstream.limits import MAX_TERM, MAX_TIME
from neurocodec.errors import FormatError

quick = settings(deadline=None, derandomize=True)


def reader_of(data: bytes) -> FieldReader:
    return FieldReader(data, "the test")


@quick
@given(st.integers(-(1 << 64), 1 << 64))
def test_varint_round_trip(value: int) -> None:
    writer = FieldWriter()
    writer.varint(value)
    reader = reader_of(bytes(writer.data))
    assert reader.varint() == value
    assert reader.rest() == b""


@pytest.mark.parametrize(
    ("value", "data"), [(0, "00"), (-1, "01"), (1, "02"), (63, "7e"), (64, "8001"), (-65, "8101")]
)
def test_varint_bytes(value: int, data: str) -> None:
    writer = FieldWriter()
    writer.varint(value)
    assert writer.data.hex() == data


def test_a_varint_need_not_be_short() -> None:
    assert reader_of(b"\x82\x80\x80\x00").varint() == 1


def test_a_varint_has_an_end() -> None:
    assert reader_of(b"\xff" * 9 + b"\x00").varint() == -(1 << 62)
    with pytest.raises(FormatError, match="too long"):
        reader_of(b"\xff" * 10 + b"\x00").varint()
    with pytest.raises(FormatError, match="too short"):
        reader_of(b"\xff").varint()


@quick
@given(st.text(), st.binary(), st.integers(1, MAX_TERM), st.integers(1, MAX_TERM))
def test_text_blob_and_rational_round_trip(text: str, blob: bytes, above: int, below: int) -> None:
    writer = FieldWriter()
    writer.text(text)
    writer.blob(blob)
    writer.rational(Fraction(above, below))
    reader = reader_of(bytes(writer.data))
    assert reader.text(1 << 12) == text
    assert reader.blob(1 << 12) == blob
    assert reader.rational() == Fraction(above, below)
    assert reader.rest() == b""


def test_text_that_is_not_utf8_is_replaced() -> None:
    assert reader_of(b"\x03\0\0\0a\xffb").text(9) == "a\N{REPLACEMENT CHARACTER}b"
    writer = FieldWriter()
    writer.text("a\udc80")
    assert bytes(writer.data) == b"\x02\0\0\0a?"


def test_a_rational_need_not_be_in_lowest_terms() -> None:
    assert reader_of(b"\x02\0\0\0\x04\0\0\0").rational() == Fraction(1, 2)


@pytest.mark.parametrize(("above", "below"), [(0, 1), (1, 0), (1 << 31, 1), (1, 1 << 31)])
def test_rationals_out_of_range(above: int, below: int) -> None:
    data = above.to_bytes(4, "little") + below.to_bytes(4, "little")
    with pytest.raises(FormatError, match="fraction"):
        reader_of(data).rational()


@pytest.mark.parametrize(
    "value", [Fraction(0), Fraction(-1, 2), Fraction(1 << 31), Fraction(1, 1 << 31)]
)
def test_a_rational_out_of_range_is_not_written(value: Fraction) -> None:
    with pytest.raises(FormatError):
        FieldWriter().rational(value)


def test_a_blob_above_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError, match="4294967295 bytes, more than 8"):
        reader_of(b"\xff\xff\xff\xff").blob(8)
    with pytest.raises(FormatError, match="too short"):
        reader_of(b"\x08\0\0\0abc").blob(8)


def test_values_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(FormatError, match="does not fit"):
        FieldWriter().pack("H", 65536)


def test_times_are_limited() -> None:
    reader = reader_of(b"")
    assert reader.time(MAX_TIME - 1) == MAX_TIME - 1
    for value in (MAX_TIME, -MAX_TIME):
        with pytest.raises(FormatError, match="timestamp"):
            reader.time(value)


def test_fields_end_with_the_bytes() -> None:
    reader = reader_of(b"\x01\0\x02")
    assert reader.number("H") == 1
    with pytest.raises(FormatError, match="the test is too short"):
        reader.number("H")
    assert reader.rest() == b"\x02"
