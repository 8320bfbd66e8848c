"""A small file of three GOPs with everything in it, made by the writer."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from neurocodec.bitstream.payloads import AudioPacket, AudioTrack, Colour, Header, VideoGop
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.sections import HEAD_BYTES, SYNC, parse_head
from neurocodec.bitstream.writer import Writable, Writer

TRACK = AudioTrack("opus", Fraction(1, 48000), 48000, 2, "eng", b"matroska")
HEADER = Header(
    model_hash=bytes(range(32)),
    model_name="tiny",
    width=64,
    height=48,
    sample_aspect=Fraction(4, 3),
    frame_rate=Fraction(30000, 1001),
    time_base=Fraction(1, 90000),
    colour=Colour(1, 1, 1, True),
    gop_frames=5,
    quality=50,
    tracks=(TRACK,),
    metadata={"encoder": "test", "ключ": "значение"},
)
GOPS = [
    VideoGop(5, 0, 3003, 9000, b"first tokens" + SYNC + b"in the payload"),
    VideoGop(5, 15015, 3003, 9000, b"second tokens"),
    VideoGop(2, 30030, 3003, 9000, b"third"),
]
TIMES = [GOPS[0].regular_times(), [15015, 18018, 21030, 24024, 28000], GOPS[2].regular_times()]
PACKETS = [
    [AudioPacket(0, 0, 960, b"packet 0"), AudioPacket(0, 960, 960, b"")],
    [],
    [AudioPacket(0, 1920, 960, b"packet 2")],
    [AudioPacket(0, 2880, 960, b"after the last GOP")],
]


def write_to(file: Writable) -> Writer:
    writer = Writer(file)
    writer.header(HEADER)
    for gop, times, packets in zip(GOPS, TIMES, PACKETS[:3], strict=True):
        writer.audio(packets)
        writer.gop(gop, times)
    writer.audio(PACKETS[3])
    writer.finish()
    return writer


def write_small() -> bytes:
    file = io.BytesIO()
    write_to(file)
    return file.getvalue()


SMALL = write_small()


@dataclass(frozen=True)
class Place:
    """A section of SMALL: bytes begin..end, head included."""

    type: int
    number: int
    begin: int
    end: int


def places(data: bytes = SMALL) -> list[Place]:
    found, at = [], 12
    while at < len(data):
        head = parse_head(data[at : at + HEAD_BYTES], at)
        assert head is not None
        found.append(Place(head.type, head.number, at, head.end))
        at = head.end
    return found


@dataclass
class Contents:
    """What a reader finds, by GOP number."""

    video: dict[int, tuple[VideoGop, list[int]]] = field(default_factory=dict)
    audio: dict[int, list[AudioPacket]] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    complete: bool = False


def read(path: Path, data: bytes) -> Contents:
    """Write the data to the path and read all of it. Raises as the reader does."""
    path.write_bytes(data)
    out = Contents()
    with Reader(path) as reader:
        assert reader.header == HEADER
        for gop in reader.gops:
            packets = reader.read_audio(gop)
            if packets:
                out.audio[gop.number] = packets
            found = reader.read_gop(gop)
            if found is not None:
                out.video[gop.number] = found
        out.damage, out.complete = reader.damage, reader.complete
    return out


WHOLE = Contents(
    {i: (gop, times) for i, (gop, times) in enumerate(zip(GOPS, TIMES, strict=True))},
    {i: packets for i, packets in enumerate(PACKETS) if packets},
    [],
    True,
)
