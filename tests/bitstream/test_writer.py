from dataclasses import replace

import pytest

from neurocodec.bitstream.payloads import VideoGop
from neurocodec.bitstream.sections import SectionType
from neurocodec.bitstream.writer import Writer
from neurocodec.errors import FormatError

from .small import GOPS, HEADER, PACKETS, SMALL, TIMES, TRACK, places, write_to


class Pipe:
    """Nothing but write, as a pipe has it."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data


def test_writing_needs_write_alone() -> None:
    pipe = Pipe()
    writer = write_to(pipe)
    assert pipe.data == SMALL
    assert writer.bytes_written == len(SMALL)


def test_order_and_numbers_of_sections() -> None:
    assert [(place.type, place.number) for place in places()] == [
        (SectionType.HEADER, 0),
        (SectionType.AUDIO, 0),
        (SectionType.VIDEO, 0),
        (SectionType.TIMESTAMPS, 1),
        (SectionType.VIDEO, 1),
        (SectionType.AUDIO, 2),
        (SectionType.VIDEO, 2),
        (SectionType.AUDIO, 3),
        (SectionType.INDEX, 0),
        (SectionType.END, 0),
    ]
    assert places()[-1].end - places()[-1].begin == 44


def test_bytes_are_counted_by_kind() -> None:
    writer = Writer(Pipe())
    writer.header(HEADER)
    before = writer.bytes_written
    writer.audio(PACKETS[0])
    writer.audio([])
    assert writer.audio_bytes == writer.bytes_written - before
    before = writer.bytes_written
    writer.gop(GOPS[1], TIMES[1])
    assert writer.video_bytes == writer.bytes_written - before


def test_a_header_that_no_reader_takes_is_not_written() -> None:
    pipe = Pipe()
    with pytest.raises(FormatError, match="4097 bytes"):
        Writer(pipe).header(replace(HEADER, metadata={"title": "x" * 4097}))
    huge = replace(TRACK, description=bytes(1 << 20))
    with pytest.raises(FormatError, match="the limit is 4194304"):
        Writer(pipe).header(replace(HEADER, tracks=(huge,) * 4))
    assert pipe.data == b""


def test_values_that_do_not_fit_are_not_written() -> None:
    writer = Writer(Pipe())
    writer.header(HEADER)
    with pytest.raises(FormatError, match="does not fit"):
        writer.gop(VideoGop(1, 0, 1 << 32, 1, b""), [0])
