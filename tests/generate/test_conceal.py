"""Lost GOPs: what stands in their place, and that it is told which frames are imagined."""

import json
from pathlib import Path

import numpy as np
import pytest

from neurocodec.codec.decompress import decompress
from neurocodec.errors import UsageError
from neurocodec.generate import conceal, start
from neurocodec.generate.conceal import Imagining
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.conftest import moving_picture
from tests.media.clips import look
from tests.mutations import VIDEO, assemble, pieces_of

GOLDEN = Path(__file__).parent.parent / "golden" / "motion"
BUNDLE = GOLDEN / "tiny.safetensors"
GONE = range(14, 20)  # frames of the second GOP


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    pieces = pieces_of((GOLDEN / "clip.nc").read_bytes())
    at = next(i for i, p in enumerate(pieces) if (p.type, p.number) == (VIDEO, 1))
    data = bytearray(assemble(pieces))
    begin = len(data) - sum(len(p.to_bytes()) for p in pieces[at:])
    data[begin + 40] ^= 1
    (tmp_path / "a.nc").write_bytes(data)
    return tmp_path / "a.nc"


def luma(path: Path) -> list[np.ndarray]:
    return [f.to_ndarray()[: f.height] for f in look(path).frames]


def test_concealed_frames_are_told_and_all_others_are_the_same(
    cli: Cli,  # noqa: F811
    damaged: Path,
    tiny_gen: Path,
    tmp_path: Path,
) -> None:
    found = {}
    for mode, verb in (("freeze", "frozen"), ("grey", "grey"), ("generate", "imagined")):
        out = tmp_path / f"{mode}.mkv"
        more = ("--imagine-with", tiny_gen) if mode == "generate" else ()
        ended = cli(
            "decompress", damaged, out, "--model", BUNDLE, "--lossless", "--conceal", mode,
            "--json", *more,
        )  # fmt: skip
        assert ended.status == 9
        assert f"; 6 frames are {verb}: 14 to 19; the rest was decoded" in ended.err
        stats = json.loads(ended.out)
        assert (stats["frozen_frames"], stats["concealed"]) == (6, [[14, 19]])
        found[mode] = luma(out)
    for i in range(26):
        a, b, c = (found[mode][i] for mode in ("freeze", "grey", "generate"))
        assert np.array_equal(a, b) is (i not in GONE)
        assert np.array_equal(a, c) is (i not in GONE)
    assert all((found["grey"][i] == 128).all() for i in GONE)
    assert all(np.array_equal(found["freeze"][i], found["freeze"][13]) for i in GONE)
    moves = [not np.array_equal(found["generate"][i], found["generate"][i + 1]) for i in GONE]
    assert all(moves)


def test_a_function_conceals(damaged: Path, tmp_path: Path) -> None:
    asked = []

    def brighter(before, count):  # type: ignore[no-untyped-def]
        asked.append((len(before), count))
        return [tuple(np.full_like(p, 200) for p in before[-1])] * count

    out = tmp_path / "a.mkv"
    stats = decompress(damaged, out, model=str(BUNDLE), lossless=True, conceal=brighter)
    assert asked == [(5, 6)]
    assert stats.concealed == ((14, 19),)
    assert all((luma(out)[i] == 200).all() for i in GONE)
    with pytest.raises(UsageError, match="give one of freeze, grey"):
        decompress(damaged, tmp_path / "b.mkv", model=str(BUNDLE), conceal="x")
    stats = decompress(damaged, tmp_path / "c.mkv", model=str(BUNDLE), start=0.6)
    assert stats.concealed == ((0, 4),)  # numbers of what was written


def test_tiles_of_frames_of_any_size(tiny_gen: Path) -> None:
    model = start(str(tiny_gen), "cpu")
    imagining = Imagining(model, steps=1)
    frames = [frame.planes for frame in moving_picture(5, 51, 37)]
    tiles, grid = imagining._tiles(frames)
    assert (tiles.shape, grid) == ((4, 6, 5, 16, 16), (2, 2))
    whole = imagining._joined(tiles, grid)
    for t, ours in enumerate(conceal.crop_planes(whole, (51, 37))):
        assert all(np.array_equal(a, b) for a, b in zip(ours, frames[t], strict=True))
    imagined = list(imagining(frames[:2], 6))
    assert len(imagined) == 6
    assert [p.shape for p in imagined[0]] == [p.shape for p in frames[0]]


def test_long_losses_end_in_a_still(tiny_gen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conceal, "MOST", 3)
    frames = [frame.planes for frame in moving_picture(5, 32, 32)]
    imagined = list(Imagining(start(str(tiny_gen), "cpu"), steps=1)(frames, 7))
    assert len(imagined) == 7
    assert all(frame is imagined[2] for frame in imagined[2:])


def test_a_bundle_to_imagine_with_needs_the_mode(cli: Cli, damaged: Path, tiny_gen: Path) -> None:  # noqa: F811
    out = damaged.with_name("out.mkv")
    ended = cli("decompress", damaged, out, "--model", BUNDLE, "--imagine-with", tiny_gen)
    assert (ended.status, out.exists()) == (2, False)
    assert "only for --conceal generate" in ended.err
