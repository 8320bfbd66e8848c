import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocodec.bitstream import limits
from neurocodec.bitstream.payloads import (
    END_BYTES,
    AudioPacket,
    AudioTrack,
    Colour,
    End,
    Header,
    IndexEntry,
    VideoGop,
    audio_from_bytes,
    audio_to_bytes,
    index_from_bytes,
    index_to_bytes,
    timestamps_from_bytes,
    timestamps_to_bytes,
)
from neurocodec.errors import FormatError

from .small import GOPS, HEADER, PACKETS, TIMES, TRACK

quick = settings(deadline=None, derandomize=True)

BYTE = st.integers(0, 255)
RATIONAL = st.builds(
    Fraction, st.integers(1, limits.MAX_TERM), st.integers(1, limits.MAX_TERM)
)  # lowest terms stay within
TEXT = st.text(max_size=20)
TIME = st.integers(1 - limits.MAX_TIME, limits.MAX_TIME - 1)
TRACKS = st.builds(
    AudioTrack, TEXT, RATIONAL, st.integers(1, limits.MAX_TERM), st.integers(0, 65535), TEXT,
    st.binary(max_size=50),
)  # fmt: skip
HEADERS = st.builds(
    Header, st.binary(min_size=32, max_size=32), TEXT, st.integers(1, 2048), st.integers(1, 16384),
    RATIONAL, RATIONAL, RATIONAL, st.builds(Colour, BYTE, BYTE, BYTE, st.booleans()),
    st.integers(1, limits.MAX_GOP_FRAMES), BYTE, st.lists(TRACKS, max_size=3).map(tuple),
    st.dictionaries(TEXT, TEXT, max_size=3), BYTE,
)  # fmt: skip


@quick
@given(HEADERS, st.binary(max_size=9))
def test_header_round_trip(header: Header, later_fields: bytes) -> None:
    assert Header.from_bytes(header.to_bytes() + later_fields) == header


@quick
@given(st.data())
def test_bytes_of_any_kind_give_a_header_or_a_format_error(data: st.DataObject) -> None:
    good = HEADER.to_bytes()
    at = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=12))
    with contextlib.suppress(FormatError):
        Header.from_bytes(good[:at] + noise + good[at + len(noise) :])


def test_header_layout() -> None:
    """As in section 3.1 of the specification."""
    header = replace(HEADER, metadata={"k": "v"})
    assert header.to_bytes() == (
        bytes(range(32))
        + b"\x04\0\0\0tiny"
        + struct.pack("<IIHBB", 64, 48, 5, 50, 0)
        + struct.pack("<IIIIII", 4, 3, 30000, 1001, 1, 90000)
        + bytes([1, 1, 1, 1])
        + b"\x01\0" + b"\x04\0\0\0opus" + struct.pack("<IIIH", 1, 48000, 48000, 2)
        + b"\x03\0\0\0eng" + b"\x08\0\0\0matroska"
        + b"\x01\0" + b"\x01\0\0\0k" + b"\x01\0\0\0v"
    )  # fmt: skip


def test_other_bits_of_the_range_are_ignored() -> None:
    data = bytearray(replace(HEADER, tracks=(), metadata={}).to_bytes())
    assert data[-5] == 1
    data[-5] = 0xFE
    assert not Header.from_bytes(bytes(data)).colour.full_range


def test_a_cut_header() -> None:
    data = HEADER.to_bytes()
    for size in range(len(data)):
        with pytest.raises(FormatError, match="too short"):
            Header.from_bytes(data[:size])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"width": 0}, "frame of 0x48"),
        ({"height": 0}, "frame of 64x0"),
        ({"width": limits.MAX_SIDE + 1}, "frame of 16385x48"),
        ({"width": 8192, "height": 4097}, "frame of 8192x4097"),
        ({"gop_frames": 0}, "GOPs of 0"),
        ({"gop_frames": limits.MAX_GOP_FRAMES + 1}, "GOPs of 1025"),
        ({"model_name": "x" * 4097}, "4097 bytes, more than 4096"),
        ({"tracks": (TRACK,) * 33}, "33 audio tracks"),
        ({"tracks": (replace(TRACK, codec="x" * 4097),)}, "4097 bytes"),
        ({"tracks": (replace(TRACK, language="x" * 4097),)}, "4097 bytes"),
        ({"tracks": (replace(TRACK, description=bytes(1 + (1 << 20))),)}, "1048577 bytes"),
        ({"tracks": (replace(TRACK, sample_rate=0),)}, "0 samples per second"),
        ({"tracks": (replace(TRACK, sample_rate=1 << 31),)}, "samples per second"),
        ({"metadata": {str(i): "" for i in range(257)}}, "257 metadata entries"),
        ({"metadata": {"x" * 4097: ""}}, "4097 bytes"),
        ({"metadata": {"": "x" * 4097}}, "4097 bytes"),
    ],
)
def test_headers_outside_the_limits(change: dict[str, Any], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        Header.from_bytes(replace(HEADER, **change).to_bytes())


def test_headers_at_the_limits() -> None:
    header = replace(
        HEADER, width=8192, height=4096, gop_frames=1024, quality=255, model_name="x" * 4096,
        tracks=(replace(TRACK, description=bytes(1 << 20)), *(TRACK,) * 31),
        metadata={str(i): "" for i in range(256)},
    )  # fmt: skip
    assert Header.from_bytes(header.to_bytes()) == header


@pytest.mark.parametrize(
    "change",
    [
        {"width": -1},
        {"quality": 256},
        {"entropy_model": 256},
        {"time_base": Fraction(0)},
        {"frame_rate": Fraction(1 << 31)},
        {"colour": Colour(256)},
    ],
)
def test_values_that_do_not_fit_are_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="not fit"):
        replace(HEADER, **change).to_bytes()


# the other payloads


@quick
@given(
    st.integers(1, limits.MAX_GOP_FRAMES), TIME, st.integers(0, limits.MAX_DURATION),
    st.integers(1, 1 << 20), st.binary(max_size=50),
)  # fmt: skip
def test_video_round_trip(frames: int, first: int, duration: int, step: int, tokens: bytes) -> None:
    gop = VideoGop(frames, first, duration, step, tokens)
    data = gop.to_bytes()
    assert len(data) == 18 + len(tokens)
    assert VideoGop.from_bytes(data) == gop


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"frames": 0}, "0 frames"),
        ({"frames": 1025}, "1025 frames"),
        ({"step": 0}, "step of 0/65536"),
        ({"step": (1 << 20) + 1}, "step"),
        ({"first_pts": limits.MAX_TIME}, "timestamp"),
        ({"first_pts": -limits.MAX_TIME}, "timestamp"),
    ],
)
def test_video_outside_the_limits(change: dict[str, Any], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        VideoGop.from_bytes(replace(GOPS[0], **change).to_bytes())


@quick
@given(st.lists(TIME, max_size=30), st.binary(max_size=5))
def test_timestamps_round_trip(times: list[int], tail: bytes) -> None:
    assert timestamps_from_bytes(timestamps_to_bytes(times) + tail) == times


def test_regular_times_take_a_byte_each_after_the_second() -> None:
    times = [10**9 + 3003 * i for i in range(100)]
    assert len(timestamps_to_bytes(times)) == 2 + 5 + 5 + 98


@pytest.mark.parametrize(
    "data", [b"\x01\x04", b"\x00\x00\x09"[:1], struct.pack("<H", 1), struct.pack("<H", 2) + b"\1"]
)
def test_timestamps_that_end_too_early(data: bytes) -> None:
    with pytest.raises(FormatError):
        timestamps_from_bytes(data)


@pytest.mark.parametrize("time", [limits.MAX_TIME, -limits.MAX_TIME])
def test_timestamps_out_of_range(time: int) -> None:
    with pytest.raises(FormatError, match="timestamp"):
        timestamps_from_bytes(timestamps_to_bytes([0, time]))


@quick
@given(
    st.lists(
        st.builds(
            AudioPacket, st.integers(0, 2), TIME, st.integers(0, limits.MAX_DURATION), st.binary()
        ),
        max_size=6,
    )
)
def test_audio_round_trip(packets: list[AudioPacket]) -> None:
    assert audio_from_bytes(audio_to_bytes(packets), tracks=3) == packets


def test_an_audio_packet_of_a_track_that_is_not_there() -> None:
    with pytest.raises(FormatError, match="track 0, which does not exist"):
        audio_from_bytes(audio_to_bytes(PACKETS[0]), tracks=0)


def test_an_audio_packet_out_of_range() -> None:
    with pytest.raises(FormatError, match="timestamp"):
        audio_from_bytes(audio_to_bytes([AudioPacket(0, limits.MAX_TIME, 0, b"")]), tracks=1)


@quick
@given(
    st.lists(
        st.builds(
            IndexEntry, BYTE, st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1),
            st.integers(0, limits.MAX_GOP_FRAMES), TIME,
        ),
        max_size=9,
    )
)  # fmt: skip
def test_index_round_trip(entries: list[IndexEntry]) -> None:
    data = index_to_bytes(entries)
    assert len(data) == 4 + 23 * len(entries)
    assert index_from_bytes(data) == entries


@pytest.mark.parametrize(
    "entry", [IndexEntry(2, 0, 0, 1025, 0), IndexEntry(2, 0, 0, 1, limits.MAX_TIME)]
)
def test_an_index_outside_the_limits(entry: IndexEntry) -> None:
    with pytest.raises(FormatError):
        index_from_bytes(index_to_bytes([entry]))


def test_end_round_trip() -> None:
    end = End((1 << 64) - 1, (1 << 32) - 1, (1 << 64) - 1)
    assert len(end.to_bytes()) == END_BYTES
    assert End.from_bytes(end.to_bytes()) == end


@pytest.mark.parametrize(
    ("parse", "count", "text"),
    [
        (timestamps_from_bytes, struct.pack("<H", 1025), "1025 frames"),
        (lambda data: audio_from_bytes(data, 1), struct.pack("<I", (1 << 20) + 1), "packets"),
        (index_from_bytes, struct.pack("<I", 3 * (1 << 24) + 1), "entries"),
    ],
)
def test_counts_above_the_limits_are_refused_at_once(
    parse: Callable[[bytes], object], count: bytes, text: str
) -> None:
    with pytest.raises(FormatError, match=text):
        parse(count)


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (timestamps_from_bytes, timestamps_to_bytes(TIMES[1])),
        (lambda data: audio_from_bytes(data, 1), audio_to_bytes(PACKETS[0])),
        (index_from_bytes, index_to_bytes([IndexEntry(2, 0, 0)])),
        (End.from_bytes, End(1, 2, 3).to_bytes()),
        (VideoGop.from_bytes, GOPS[0].to_bytes()[:18]),
    ],
)
def test_payloads_cut_anywhere(parse: Callable[[bytes], object], data: bytes) -> None:
    parse(data)
    for size in range(len(data)):
        with pytest.raises(FormatError, match="too short"):
            parse(data[:size])
