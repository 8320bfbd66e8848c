import io
from pathlib import Path

import pytest

from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.repair import repair
from neurocodec.bitstream.sections import SectionType, section
from neurocodec.errors import FormatError

from .small import SMALL, WHOLE, Contents, places, read

HEADER_END = places()[0].end
BODY_END = places()[-2].begin


def repaired(path: Path, data: bytes) -> tuple[bytes, bool]:
    path.write_bytes(data)
    out = io.BytesIO()
    done = repair(path, out)
    assert done.bytes == len(out.getvalue())
    return out.getvalue(), done.lost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.nc"


def test_a_whole_file_stays_as_it_is(path: Path) -> None:
    assert repaired(path, SMALL) == (SMALL, False)


@pytest.mark.parametrize("tail", [b"", SMALL[BODY_END:-1], bytes(100)])
def test_index_and_end_are_made_anew(path: Path, tail: bytes) -> None:
    assert repaired(path, SMALL[:BODY_END] + tail) == (SMALL, False)


def test_sections_in_another_order_are_put_in_order(path: Path) -> None:
    parts = [SMALL[p.begin : p.end] for p in places()[1:-2]]
    for order in (parts[::-1], parts[3:] + parts[:3]):
        assert repaired(path, SMALL[:HEADER_END] + b"".join(order)) == (SMALL, False)


def test_cut_at_every_byte(path: Path) -> None:
    for size in range(HEADER_END, BODY_END):
        data, _ = repaired(path, SMALL[:size])
        before = read(path, SMALL[:size])
        found = read(path, data)
        assert (found.complete, found.damage) == (True, [])
        assert found.video == before.video  # the first ones: their numbers stay
        assert found.audio == before.audio


def test_every_byte_wrong_leaves_a_whole_file(path: Path) -> None:
    for at in range(HEADER_END, BODY_END):
        data, lost = repaired(path, SMALL[:at] + bytes([SMALL[at] ^ 0x55]) + SMALL[at + 1 :])
        found = read(path, data)
        assert lost
        assert (found.complete, found.damage) == (True, [])
        assert len(found.video) >= 2
        assert all(gop in list(WHOLE.video.values()) or gop[0] == WHOLE.video[1][0]
                   for gop in found.video.values())  # fmt: skip
        assert sum(map(len, found.audio.values())) >= 2


def test_a_lost_gop_leaves_no_gap_in_numbers(path: Path) -> None:
    lost = next(p for p in places() if (p.type, p.number) == (SectionType.VIDEO, 1))
    data, told = repaired(path, SMALL[: lost.begin] + SMALL[lost.end :])
    assert told
    found = read(path, data)
    assert found == Contents(
        {0: WHOLE.video[0], 1: WHOLE.video[2]},
        {0: WHOLE.audio[0], 1: WHOLE.audio[2], 2: WHOLE.audio[3]},
        [], True,
    )  # fmt: skip
    assert repaired(path, data) == (data, False)


def test_sections_of_later_formats_are_kept(path: Path) -> None:
    unknown = section(77, 1, b"from the future")
    at = next(p for p in places() if p.number == 1).begin
    data, lost = repaired(path, SMALL[:at] + unknown + SMALL[at:BODY_END])
    assert not lost
    assert unknown in data
    with Reader(path) as reader:
        assert [entry.number for entry in reader.scan().others] == [1]


def test_without_a_header_there_is_nothing_to_do(path: Path) -> None:
    with pytest.raises(FormatError):
        repaired(path, SMALL[: HEADER_END - 1])
