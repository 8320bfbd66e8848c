"""Files that were damaged on their way: what is whole decodes as if nothing was, and the rest is
told with its time."""

import itertools
from pathlib import Path
from random import Random

import numpy as np
import pytest

import neurocodec
from neurocodec.codec.decompress import decompress
from neurocodec.errors import FormatError
from neurocodec.media.frame import Frame
from tests.mutations import AUDIO, VIDEO, Piece, assemble, pieces_of

GOLDEN = Path(__file__).parent.parent / "golden"
BUNDLE = GOLDEN / "motion" / "tiny.safetensors"
CLIP = (GOLDEN / "motion" / "clip.nc").read_bytes()  # GOPs of 14, 6 and 6 frames, 25 a second
STARTS = {0: 0, 1: 14, 2: 20, 3: 26}
PIECES = pieces_of(CLIP)


def frames_of(path: Path, data: bytes) -> tuple[dict[int, Frame], list[str]]:
    path.write_bytes(data)
    with neurocodec.open(path, str(BUNDLE), "cpu") as video:
        found = {frame.pts: frame for frame in video}
        return found, list(video.damage)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Frame]:
    found, damage = frames_of(tmp_path_factory.mktemp("whole") / "a.nc", CLIP)
    assert (sorted(found), damage) == (list(range(26)), [])
    return found


def assert_same(found: dict[int, Frame], whole: dict[int, Frame], gops: set[int]) -> None:
    """The frames of these GOPs are there, bit by bit."""
    for gop in gops:
        for pts in range(STARTS[gop], STARTS[gop + 1]):
            for ours, theirs in zip(found[pts].planes, whole[pts].planes, strict=True):
                assert np.array_equal(ours, theirs)


def at_gop(number: int) -> int:
    return next(i for i, p in enumerate(PIECES) if (p.type, p.number) == (VIDEO, number))


def test_the_clip_is_what_these_tests_take_it_for() -> None:
    assert [p.number for p in PIECES if p.type == VIDEO] == [0, 1, 2]
    assert assemble(PIECES) == CLIP


@pytest.mark.parametrize("place", range(len(PIECES)))
def test_a_flipped_bit_in_every_section(
    place: int, whole: dict[int, Frame], tmp_path: Path
) -> None:
    random = Random(place)
    begin = len(CLIP) - sum(len(p.to_bytes()) for p in PIECES[place:])
    piece = PIECES[place]
    for at in (begin + random.randrange(24), begin + 24 + random.randrange(len(piece.payload))):
        data = bytearray(CLIP)
        data[at] ^= 1 << random.randrange(8)
        if place == 0:
            with pytest.raises(FormatError, match="the header is damaged"):
                frames_of(tmp_path / "a.nc", bytes(data))
            continue
        found, damage = frames_of(tmp_path / "a.nc", bytes(data))
        lost = {piece.number} if piece.type == VIDEO else set()
        assert_same(found, whole, {0, 1, 2} - lost)
        assert len(found) == 26
        begin_s, end_s = STARTS[piece.number] / 25, STARTS[piece.number + 1] / 25
        expected = f"GOP {piece.number} ({begin_s:.2f} s to {end_s:.2f} s): video section is "
        assert len(damage) == 1
        assert damage[0].startswith(expected if lost else "no index at the end")


@pytest.mark.parametrize("indexed", [True, False])
def test_a_lost_gop(indexed: bool, whole: dict[int, Frame], tmp_path: Path) -> None:
    rest = [p for i, p in enumerate(PIECES) if i != at_gop(1)]
    data = assemble(rest, indexed=False)  # the old index, at another place than its trailer says
    if not indexed:
        data = assemble([p for p in rest if p.type in (1, VIDEO)], indexed=False)
    found, damage = frames_of(tmp_path / "a.nc", data)
    assert_same(found, whole, {0, 2})
    assert len(found) == (26 if indexed else 20)  # an index tells how long it was: frozen
    what = "video section is missing" if indexed else "missing"
    assert damage[-1] == f"GOP 1 (0.56 s to 0.80 s): {what}"


def test_a_gop_twice(whole: dict[int, Frame], tmp_path: Path) -> None:
    pieces = list(PIECES)
    pieces.insert(at_gop(1), PIECES[at_gop(1)])
    found, damage = frames_of(tmp_path / "a.nc", assemble(pieces, indexed=False))
    assert_same(found, whole, {0, 1, 2})
    assert "GOP 1: a second video section is ignored" in damage


@pytest.mark.parametrize("indexed", [True, False])
def test_swapped_gops(indexed: bool, whole: dict[int, Frame], tmp_path: Path) -> None:
    pieces = list(PIECES)
    a, b = at_gop(0), at_gop(2)
    pieces[a], pieces[b] = pieces[b], pieces[a]
    if not indexed:
        pieces = pieces[:-2]
    found, damage = frames_of(tmp_path / "a.nc", assemble(pieces, indexed=False))
    assert_same(found, whole, {0, 1, 2})
    assert len(damage) == 1


def test_a_foreign_section(whole: dict[int, Frame], tmp_path: Path) -> None:
    other = next(p for p in pieces_of((GOLDEN / "sound.nc").read_bytes()) if p.type == AUDIO)
    pieces = list(PIECES)
    pieces.insert(at_gop(1), other)  # of a track that is not there
    found, damage = frames_of(tmp_path / "a.nc", assemble(pieces, indexed=False))
    assert_same(found, whole, {0, 1, 2})
    assert damage[0].startswith("no index at the end")
    assert "which does not exist" in damage[1]
    # the GOP of another file, with the times of its own
    pieces = [*PIECES[: at_gop(1)], Piece(VIDEO, 1, PIECES[at_gop(0)].payload)]
    pieces += PIECES[at_gop(1) + 1 :]
    found, damage = frames_of(tmp_path / "a.nc", assemble(pieces))
    assert_same(found, whole, {0})
    assert sorted(found) == list(range(14 + 14 + 6))
    assert damage[0] == "GOP 1: its times are in those of the GOP before; moved"


def test_cut_anywhere(whole: dict[int, Frame], tmp_path: Path) -> None:
    """In the head and in the middle of every section."""
    ends = np.cumsum([12, *(len(p.to_bytes()) for p in PIECES)])
    for begin, end in itertools.pairwise(ends[1:]):
        for size in (int(begin) + 24, (int(begin) + int(end)) // 2):
            complete = {p.number for p, e in zip(PIECES, ends[1:], strict=True)
                        if p.type == VIDEO and e <= size}  # fmt: skip
            found, damage = frames_of(tmp_path / "a.nc", CLIP[:size])
            assert_same(found, whole, complete)
            assert len(found) == sum(STARTS[n + 1] - STARTS[n] for n in complete)
            assert damage


def test_times_that_do_not_rise(whole: dict[int, Frame], tmp_path: Path) -> None:
    pieces = list(PIECES)
    video = bytearray(pieces[at_gop(1)].payload)
    video[10:14] = bytes(4)  # the frames' duration
    pieces[at_gop(1)] = Piece(VIDEO, 1, bytes(video))
    found, damage = frames_of(tmp_path / "a.nc", assemble(pieces))
    assert_same(found, whole, {0, 1, 2})
    assert damage == ["GOP 1 (0.56 s to 0.80 s): its times do not rise; frames are spaced evenly"]


def test_strict_stops(tmp_path: Path) -> None:
    data = bytearray(CLIP)
    data[-200] ^= 1
    path = tmp_path / "a.nc"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        decompress(path, tmp_path / "a.mkv", model=str(BUNDLE), strict=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize(
    ("limits", "word"),
    [({"max_pixels": 58 * 42 - 1}, "58x42"), ({"max_frames": 25}, "26 frames")],
)
def test_limits_for_files_from_strangers(limits: dict[str, int], word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(CLIP)
    with pytest.raises(FormatError, match=word):
        decompress(path, tmp_path / "a.y4m", model=str(BUNDLE), **limits)  # type: ignore[arg-type]
    allowed = {name: limit + 1 for name, limit in limits.items()}
    decompress(path, tmp_path / "a.y4m", model=str(BUNDLE), **allowed)  # type: ignore[arg-type]


def test_an_index_that_hides_frames_does_not_get_round_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    pieces = [p for p in PIECES if p.type in (1, VIDEO)]
    data = bytearray(assemble(pieces))
    index = pieces_of(bytes(data))[-2]
    payload = bytearray(index.payload)
    for entry in range(3):
        payload[4 + 23 * entry + 13 : 4 + 23 * entry + 15] = b"\1\0"
    end = pieces_of(bytes(data))[-1]
    path.write_bytes(assemble([*pieces, Piece(5, 0, bytes(payload)), end], indexed=False))
    with pytest.raises(FormatError, match="more than 10 frames"):
        decompress(path, tmp_path / "a.y4m", model=str(BUNDLE), max_frames=10)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]
