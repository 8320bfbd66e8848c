import os
import struct
from fractions import Fraction
from pathlib import Path

import pytest

from neurocodec.bitstream.payloads import (
    End,
    IndexEntry,
    VideoGop,
    audio_to_bytes,
    index_to_bytes,
    timestamps_to_bytes,
)
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.sections import SYNC, SectionType, preamble, section
from neurocodec.errors import Error, FormatError, InputError, VersionError

from .small import GOPS, HEADER, PACKETS, SMALL, TIMES, WHOLE, Place, places, read

HEADER_END = places()[0].end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.nc"


def where(type_: SectionType, number: int = 0) -> Place:
    return next(p for p in places() if (p.type, p.number) == (type_, number))


def bytes_of(place: Place) -> bytes:
    return SMALL[place.begin : place.end]


def without(*lost: Place) -> bytes:
    """SMALL with sections cut out, so that the index points to the wrong places."""
    return preamble() + b"".join(bytes_of(place) for place in places() if place not in lost)


def with_index(entries: list[IndexEntry], body: bytes = SMALL[: places()[-2].begin]) -> bytes:
    index = section(SectionType.INDEX, 0, index_to_bytes(entries))
    return body + index + section(SectionType.END, 0, End(len(body), 3, 12).to_bytes())


def entry_of(place: Place) -> IndexEntry:
    return IndexEntry(place.type, place.number, place.begin)


def test_whole_file(path: Path) -> None:
    assert read(path, SMALL) == WHOLE
    with Reader(path) as reader:
        assert reader.frames == 12
        assert [gop.number for gop in reader.gops] == [0, 1, 2, 3]  # 3: sound alone
        assert reader.header.frame_rate == Fraction(30000, 1001)


def test_gops_are_read_in_any_order(path: Path) -> None:
    path.write_bytes(SMALL)
    with Reader(path) as reader:
        for number in (2, 0, 1, 0):
            assert reader.read_gop(reader.gops[number]) == WHOLE.video[number]


# not files of this format


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        Reader(tmp_path / "missing.nc")
    with pytest.raises(InputError, match="directory"):
        Reader(tmp_path)


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd here")
def test_a_pipe_cannot_be_read() -> None:
    out, into = os.pipe()
    try:
        with pytest.raises(InputError, match="/dev/fd"):
            Reader(f"/dev/fd/{out}")
    finally:
        os.close(out)
        os.close(into)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a video",
        preamble(),
        SMALL[: HEADER_END - 1],
        preamble() + SMALL[HEADER_END:],
        preamble() + section(SectionType.VIDEO, 0, HEADER.to_bytes()),
        preamble() + section(SectionType.HEADER, 0, b""),
        preamble() + section(SectionType.HEADER, 0, HEADER.to_bytes() + bytes(1 << 22)),
    ],
)
def test_files_without_a_header(path: Path, data: bytes) -> None:
    with pytest.raises(FormatError, match=r"small\.nc: "):
        read(path, data)


def test_a_newer_version(path: Path) -> None:
    with pytest.raises(VersionError, match=r"small\.nc: format version 2; this program reads"):
        read(path, SMALL[:8] + b"\2" + SMALL[9:])


# damage


def test_cut_at_every_byte(path: Path) -> None:
    videos = [place for place in places() if place.type == SectionType.VIDEO]
    sounds = [place for place in places() if place.type == SectionType.AUDIO]
    for size in range(len(SMALL)):
        try:
            found = read(path, SMALL[:size])
        except Error:
            assert size < HEADER_END
            continue
        assert size >= HEADER_END
        assert not found.complete
        assert found.damage
        whole = {place.number for place in videos if place.end <= size}
        assert found.video == {number: WHOLE.video[number] for number in whole}
        heard = {place.number for place in sounds if place.end <= size}
        assert found.audio == {number: WHOLE.audio[number] for number in heard}


def test_every_byte_wrong(path: Path) -> None:
    ignored = (10, 11)  # reserved bytes of the preamble
    for at in range(len(SMALL)):
        data = SMALL[:at] + bytes([SMALL[at] ^ 0x55]) + SMALL[at + 1 :]
        try:
            found = read(path, data)
        except FormatError:
            assert at < HEADER_END
            continue
        assert at >= HEADER_END or at in ignored
        assert bool(found.damage) == (at not in ignored)
        hit = next((p for p in places() if p.begin <= at < p.end), None)
        for number in range(3):
            if hit is not None and hit.type == SectionType.VIDEO and hit.number == number:
                assert number not in found.video
            else:
                assert found.video[number][0] == GOPS[number]
                late = hit is not None and hit.type == SectionType.TIMESTAMPS and number == 1
                times = GOPS[1].regular_times() if late else TIMES[number]
                assert found.video[number][1] == times


def test_damage_is_told_by_gop(path: Path) -> None:
    place = where(SectionType.VIDEO, 1)
    found = read(path, SMALL[: place.end - 1] + b"!" + SMALL[place.end :])
    assert found.complete
    assert found.damage == ["GOP 1 (0.17 s to 0.33 s): video section is damaged"]
    found = read(path, SMALL[: place.begin] + b"!" + SMALL[place.begin + 1 :])
    assert found.damage == ["GOP 1 (0.17 s to 0.33 s): video section is missing"]


def test_an_index_tells_the_length_of_a_lost_gop(path: Path) -> None:
    place = where(SectionType.VIDEO, 1)
    path.write_bytes(SMALL[: place.begin] + bytes(place.end - place.begin) + SMALL[place.end :])
    with Reader(path) as reader:
        video = reader.gops[1].video
        assert video is not None
        assert (video.frames, video.first_pts) == (5, 15015)
        assert reader.frames == 12


@pytest.mark.parametrize(
    "lost", [places()[-1:], places()[-2:], places()[-2:-1]], ids=["end", "both", "index"]
)
def test_without_a_trailer_the_file_is_scanned(path: Path, lost: list[Place]) -> None:
    found = read(path, without(*lost))
    assert (found.video, found.audio) == (WHOLE.video, WHOLE.audio)
    assert not found.complete
    assert found.damage == ["no index at the end (cut off or damaged); rebuilt by scanning"]
    with Reader(path) as reader:
        assert reader.frames == 12


def test_bytes_after_the_end_do_no_harm(path: Path) -> None:
    found = read(path, SMALL + b"tail")
    assert (found.video, found.audio) == (WHOLE.video, WHOLE.audio)


def test_a_lost_end_is_not_blamed_on_a_gop(path: Path) -> None:
    assert len(read(path, SMALL[:-1]).damage) == 1
    cut = where(SectionType.VIDEO, 2).end - 1
    assert read(path, SMALL[:cut]).damage[1:] == [
        "GOP 2 (0.33 s to the end): cut off at the end of the file"
    ]


def test_scanning_skips_payloads_and_finds_the_way_back(path: Path) -> None:
    """A whole section inside a payload is not one; a damaged head costs its section alone."""
    inner = section(SectionType.VIDEO, 9, GOPS[2].to_bytes())
    tokens = SYNC + inner + SYNC * 3 + inner[:30]
    body = SMALL[:HEADER_END] + section(
        SectionType.VIDEO, 0, VideoGop(5, 0, 3003, 9000, tokens).to_bytes()
    )
    noise = SYNC + b"\xf5" * 100 + SYNC[:3]
    found = read(path, body + noise + bytes_of(where(SectionType.VIDEO, 2)))
    assert list(found.video) == [0, 2]
    assert found.video[0][0].tokens == tokens


# what is not known, or not so


@pytest.mark.parametrize("indexed", [True, False])
def test_unknown_sections_are_skipped(path: Path, indexed: bool) -> None:
    unknown = section(77, 1, b"from the future" + SYNC)  # type: ignore[arg-type]
    shift = len(unknown)
    tail = SMALL[HEADER_END : places()[-2].begin]
    body = SMALL[:HEADER_END] + unknown + tail
    entries = [IndexEntry(77, 1, HEADER_END)] + [
        IndexEntry(p.type, p.number, p.begin + shift) for p in places()[1:-2]
    ]
    found = read(path, with_index(entries, body) if indexed else body + unknown)
    assert (found.video, found.audio, found.complete) == (WHOLE.video, WHOLE.audio, indexed)


@pytest.mark.parametrize(
    "wrong",
    [
        IndexEntry(2, 1, 1 << 63),
        IndexEntry(2, 1, len(SMALL) * 2),
        IndexEntry(2, 1, 3),
        IndexEntry(2, 1, where(SectionType.VIDEO, 2).begin),
        IndexEntry(2, 1, where(SectionType.TIMESTAMPS, 1).begin),
    ],
)
def test_an_index_that_points_elsewhere(path: Path, wrong: IndexEntry) -> None:
    entries = [entry_of(p) for p in places()[1:-2] if (p.type, p.number) != (2, 1)]
    found = read(path, with_index([*entries, wrong]))
    assert found.video == WHOLE.video
    assert found.damage == ["sections are not where the index says; found by scanning"]


@pytest.mark.parametrize("end", [End(0, 3, 12), End((1 << 64) - 1, 3, 12), End(HEADER_END, 3, 12)])
def test_an_end_that_points_elsewhere(path: Path, end: End) -> None:
    found = read(path, SMALL[:-44] + section(SectionType.END, 0, end.to_bytes()))
    assert (found.video, found.complete) == (WHOLE.video, False)


@pytest.mark.parametrize(
    "payload", [b"", struct.pack("<I", 1), index_to_bytes([IndexEntry(2, 0, 0, 1025)])]
)
def test_an_index_that_makes_no_sense(path: Path, payload: bytes) -> None:
    body = SMALL[: places()[-2].begin]
    index = section(SectionType.INDEX, 0, payload)
    end = section(SectionType.END, 0, End(len(body), 3, 12).to_bytes())
    found = read(path, body + index + end)
    assert (found.video, found.complete) == (WHOLE.video, False)


def test_an_end_of_another_size(path: Path) -> None:
    payload = End(places()[-2].begin, 3, 12).to_bytes()
    for end in (payload + b"more", payload[:-4]):
        data = SMALL[:-44] + section(SectionType.END, 0, end) + bytes(max(0, 20 - len(end)))
        assert not read(path, data).complete


def test_the_first_of_two_sections_counts(path: Path) -> None:
    other = VideoGop(5, 7, 7, 7, b"other")
    times = section(SectionType.TIMESTAMPS, 0, timestamps_to_bytes([1, 2, 3, 4, 6]))
    body = SMALL[:HEADER_END] + times + section(SectionType.VIDEO, 0, GOPS[0].to_bytes())
    body += section(SectionType.TIMESTAMPS, 0, timestamps_to_bytes([2, 3, 4, 5, 9]))
    found = read(path, body + section(SectionType.VIDEO, 0, other.to_bytes()))
    assert found.video == {0: (GOPS[0], [1, 2, 3, 4, 6])}


def test_sections_of_a_gop_stand_in_any_order(path: Path) -> None:
    order = [places()[i] for i in (4, 6, 7, 3, 2, 1, 5)]
    found = read(path, SMALL[:HEADER_END] + b"".join(map(bytes_of, order)))
    assert (found.video, found.audio) == (WHOLE.video, WHOLE.audio)


def test_audio_sections_of_a_gop_add_up(path: Path) -> None:
    one = [section(SectionType.AUDIO, 0, audio_to_bytes([p])) for p in PACKETS[0]]
    found = read(path, SMALL[:HEADER_END] + b"".join(one))
    assert found.audio == {0: PACKETS[0]}


@pytest.mark.parametrize(
    ("type_", "payload", "text"),
    [
        (SectionType.VIDEO, b"short", "a video section is too short"),
        (SectionType.VIDEO, VideoGop(0, 0, 0, 1, b"").to_bytes(), "a GOP of 0 frames"),
        (SectionType.TIMESTAMPS, timestamps_to_bytes([0]), "differ in number"),
        (SectionType.TIMESTAMPS, struct.pack("<H", 5), "too short"),
        (SectionType.AUDIO, struct.pack("<I", 1), "too short"),
        (SectionType.AUDIO, audio_to_bytes([PACKETS[0][0]])[:4] + b"\1\0" + bytes(16), "track 1"),
    ],
)
def test_sections_that_make_no_sense_are_damage(
    path: Path, type_: SectionType, payload: bytes, text: str
) -> None:
    """Their CRC fits, so only their contents tell."""
    body = SMALL[:HEADER_END] + section(type_, 0, payload)
    if type_ != SectionType.VIDEO:
        body += section(SectionType.VIDEO, 0, GOPS[0].to_bytes())
    entries = [IndexEntry(type_, 0, HEADER_END)]
    if type_ != SectionType.VIDEO:
        entries.append(IndexEntry(2, 0, HEADER_END + 24 + len(payload)))
    found = read(path, with_index(entries, body))
    assert found.complete
    assert len(found.damage) == 1
    assert found.damage[0].startswith("GOP 0: ")
    assert text in found.damage[0]
    if type_ != SectionType.VIDEO:
        assert found.video[0] == WHOLE.video[0]
