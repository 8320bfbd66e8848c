import io
import struct
import zlib

import pytest

from neurocodec.bitstream.limits import MAX_SECTION_BYTES
from neurocodec.bitstream.sections import (
    HEAD_BYTES,
    MAGIC,
    SYNC,
    SectionType,
    check_preamble,
    find_sync,
    parse_head,
    preamble,
    read_head,
    read_payload,
    section,
)
from neurocodec.errors import FormatError, VersionError


def test_preamble_bytes() -> None:
    assert preamble().hex() == "894e43560d0a1a0a01000000"
    check_preamble(preamble())
    check_preamble(preamble()[:10] + b"\x07\x07")  # reserved


def test_section_bytes() -> None:
    data = section(SectionType.VIDEO, 258, b"payload")
    assert data[:20].hex() == "f54e4373" + "02" + "000000" + "02010000" + "07000000" + "156a2c42"
    assert data[20:24] == struct.pack("<I", zlib.crc32(data[:20]))
    assert data[24:] == b"payload"


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", FormatError, "not a .nc file"),
        (b"RIFF", FormatError, "not a .nc file"),
        (b"\x1a\x45\xdf\xa3" + bytes(20), FormatError, "not a .nc file"),
        (preamble()[:1], FormatError, "ends within"),
        (preamble()[:7], FormatError, "ends within"),
        (preamble()[:11], FormatError, "ends within"),
        (MAGIC + b"\0\0\0\0", FormatError, "version 0"),
        (MAGIC + b"\2\0\0\0", VersionError, "version 2; this program reads up to 1"),
        (MAGIC + b"\0\1\0\0", VersionError, "version 256"),
    ],
)
def test_preambles_that_are_refused(data: bytes, error: type[FormatError], text: str) -> None:
    with pytest.raises(error, match=text):
        check_preamble(data)


def test_head_round_trip() -> None:
    head = parse_head(section(SectionType.AUDIO, 7, b"abc")[:HEAD_BYTES], 100)
    assert head is not None
    assert (head.type, head.number, head.length, head.end) == (4, 7, 3, 127)


def test_a_head_with_any_bit_flipped_is_none() -> None:
    data = section(SectionType.AUDIO, 7, b"abc")[:HEAD_BYTES]
    for bit in range(8 * HEAD_BYTES):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert parse_head(bytes(damaged), 0) is None
    assert parse_head(data[:-1], 0) is None


def test_a_head_of_an_unknown_type_with_reserved_bytes_is_one() -> None:
    head = SYNC + struct.pack("<B3sIII", 200, b"xyz", 1, 2, 3)
    found = parse_head(head + struct.pack("<I", zlib.crc32(head)), 0)
    assert found is not None
    assert found.type == 200


def test_a_length_above_the_limit_is_no_head() -> None:
    head = SYNC + struct.pack("<B3xIII", 2, 1, MAX_SECTION_BYTES + 1, 3)
    assert parse_head(head + struct.pack("<I", zlib.crc32(head)), 0) is None


def test_a_payload_above_the_limit_is_not_written() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return MAX_SECTION_BYTES + 1

    with pytest.raises(FormatError, match="the limit is"):
        section(SectionType.VIDEO, 0, Huge())


@pytest.mark.parametrize("damage", ["none", "flip", "cut"])
def test_payload(damage: str) -> None:
    data = section(SectionType.VIDEO, 0, b"payload")
    if damage == "flip":
        data = data[:-1] + b"D"
    elif damage == "cut":
        data = data[:-1]
    file = io.BytesIO(b"before" + data)
    head = read_head(file, 6)
    assert head is not None
    assert read_payload(file, head) == (b"payload" if damage == "none" else None)


BLOCK = 1 << 16  # of find_sync


@pytest.mark.parametrize(
    "before", [0, 1, 23, 24, 1000, *range(BLOCK - 26, BLOCK + 3), BLOCK + 41, 2 * BLOCK + 7]
)
@pytest.mark.parametrize("noise", [b"\0", SYNC])
def test_find_sync_anywhere(before: int, noise: bytes) -> None:
    data = (noise * before)[:before] + section(SectionType.VIDEO, 5, b"x") + b"tail" * 10
    head = find_sync(io.BytesIO(data), 0)
    assert head is not None
    assert (head.offset, head.number) == (before, 5)
    assert find_sync(io.BytesIO(data), before + 1) is None


@pytest.mark.parametrize(
    "data", [b"", SYNC, SYNC * 5, b"\0" * 100, section(SectionType.END, 0, b"")[:-1]]
)
def test_find_sync_finds_nothing(data: bytes) -> None:
    assert find_sync(io.BytesIO(data), 0) is None
    assert find_sync(io.BytesIO(data), len(data) + 9) is None
