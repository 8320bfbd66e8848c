from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import neurocodec
from neurocodec.bitstream.reader import Reader
from neurocodec.bitstream.writer import Writer
from neurocodec.codec.decompress import decompress
from neurocodec.errors import FormatError, InputError, ModelMismatchError, OutputError, UsageError
from tests.media.clips import CLICK, Sound, look, same_planes, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_clip(path, 25, colour=(1, 1, 1, 1), aspect=Fraction(4, 3), sounds=[Sound("aac")])


@pytest.fixture(scope="module")
def compressed(clip: Path, tiny: Path) -> Path:
    path = clip.with_name("clip.nc")
    neurocodec.compress(clip, path, model=str(tiny), gop=5, quality=60)
    return path


@pytest.mark.parametrize("target", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.y4m", "lossless.mkv"])
def test_containers(target: str, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    lossless = target == "lossless.mkv"
    stats = decompress(compressed, tmp_path / target, model=str(tiny), lossless=lossless)
    assert (stats.width, stats.height, stats.frames) == (64, 48, 25)
    assert (stats.frozen_frames, stats.damage) == (0, ())
    seen = look(tmp_path / target)
    assert seen.times == [Fraction(i, 25) for i in range(25)]
    assert seen.aspect == Fraction(4, 3)
    if target == "a.y4m":
        assert not seen.codecs
        return
    assert seen.colour[:3] == (1, 1, 1)
    assert seen.clicks[0] == pytest.approx(CLICK, abs=0.006)
    if lossless:
        with neurocodec.open(compressed, str(tiny)) as video:
            assert all(same_planes(a, b) for a, b in zip(video, seen.frames, strict=True))


def test_pictures(
    compressed: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "a.jpg"):
        stats = decompress(compressed, tmp_path / name, model=str(tiny))
        assert stats.frames == 1
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (64, 48)
        assert [r.getMessage() for r in caplog.records] == [
            f"{tmp_path / name}: the first of 25 frames was written"
        ]
        caplog.clear()
    decompress(compressed, tmp_path / "b.png", model=str(tiny), start=0.6)
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert np.abs(np.asarray(a).astype(int) - np.asarray(b)).max() > 50
    assert not caplog.records


def test_without_sound(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    decompress(compressed, tmp_path / "a.mp4", model=str(tiny), audio=False)
    assert not look(tmp_path / "a.mp4").codecs


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("start", "duration", "first", "count"),
                         [(0.0, 0.8, 0, 20), (0.4, None, 10, 15), (0.28, 0.4, 7, 10)])  # fmt: skip
def test_a_cut_is_in_time(
    start: float, duration: float | None, first: int, count: int, suffix: str,
    compressed: Path, tiny: Path, tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / f"a{suffix}"
    told: list[tuple[int, int | None]] = []
    stats = decompress(
        compressed, out, model=str(tiny), start=start, duration=duration,
        progress=lambda *args: told.append(args),
    )  # fmt: skip
    assert stats.frames == count
    assert told[-1] == (count, count)
    seen = look(out)
    assert seen.times == [Fraction(i, 25) for i in range(count)]
    assert seen.clicks[0] == pytest.approx(CLICK - start, abs=0.006)


@pytest.mark.parametrize("late", [-10, 0, 10])
def test_sound_stored_beside_other_pictures_is_found(late: int, tiny: Path, tmp_path: Path) -> None:
    # GOPs of one frame, and the sound of each stored ten frames before or after it
    clip = write_clip(tmp_path / "a.mkv", 25, sounds=[Sound("flac")])
    neurocodec.compress(clip, tmp_path / "a.nc", model=str(tiny), gop=1)
    with Reader(tmp_path / "a.nc") as reader, (tmp_path / "b.nc").open("wb") as file:
        writer = Writer(file)
        writer.header(reader.header)
        sound = dict(enumerate(map(reader.read_audio, reader.gops)))
        for i, gop in enumerate(reader.gops):
            writer.audio(sound.pop(i - late, []))
            found = reader.read_gop(gop)
            if found:
                writer.gop(*found)
        writer.audio([packet for packets in sound.values() for packet in packets])
        writer.finish()
    decompress(tmp_path / "b.nc", tmp_path / "b.mkv", model=str(tiny), start=0.44, duration=0.12)
    seen = look(tmp_path / "b.mkv")
    assert len(seen.times) == 3
    assert seen.clicks[0] == pytest.approx(CLICK - 0.44, abs=0.006)


def test_nothing_there(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no frame at 7 s or later"):
        decompress(compressed, tmp_path / "a.mp4", model=str(tiny), start=7)
    assert not list(tmp_path.iterdir())


def test_refusals(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    for target, lossless in (("a.avi", False), ("a", False), ("a.mp4", True)):
        with pytest.raises(UsageError):
            decompress(compressed, tmp_path / target, model=str(tiny), lossless=lossless)
    with pytest.raises(UsageError):
        decompress(compressed, tmp_path / "a.mp4", model=str(tiny), start=float("inf"))
    with pytest.raises(OutputError):
        decompress(compressed, tmp_path / "missing" / "a.mp4", model=str(tiny))
    with pytest.raises(ModelMismatchError, match=r"tiny [0-9a-f]{16}, but here is .* [0-9a-f]{16}"):
        decompress(compressed, tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        decompress(compressed, tmp_path / "a.mp4", model=str(tiny))
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_lost_gop_is_frozen_and_told(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    data = bytearray(compressed.read_bytes())
    with Reader(compressed) as reader:
        at = reader.gops[2].video.offset  # type: ignore[union-attr]
    data[at + 60] ^= 1
    damaged = tmp_path / "a.nc"
    damaged.write_bytes(data)
    stats = decompress(damaged, tmp_path / "a.mkv", model=str(tiny), lossless=True)
    assert (stats.frames, stats.frozen_frames) == (25, 5)
    assert stats.damage == ("GOP 2 (0.40 s to 0.60 s): video section is damaged",)
    seen = look(tmp_path / "a.mkv")
    assert seen.times == [Fraction(i, 25) for i in range(25)]
    still = [f.to_ndarray() for f in seen.frames[9:16]]
    assert all((frame == still[0]).all() for frame in still[:6])
    assert (still[6] != still[0]).any()
    with pytest.raises(FormatError):
        decompress(damaged, tmp_path / "b.mkv", model=str(tiny), strict=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mkv", "a.nc"}


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_file_that_was_cut_off(kept: float, compressed: Path, tiny: Path, tmp_path: Path) -> None:
    whole = compressed.read_bytes()
    cut = tmp_path / "a.nc"
    cut.write_bytes(whole[: int(len(whole) * kept)])
    stats = decompress(cut, tmp_path / "a.mp4", model=str(tiny))
    assert stats.damage
    assert len(look(tmp_path / "a.mp4").times) == stats.frames < 25


def test_a_file_without_a_whole_gop(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    cut = tmp_path / "a.nc"
    cut.write_bytes(compressed.read_bytes()[:1500])
    with pytest.raises(FormatError, match="no frame in it could be decoded"):
        decompress(cut, tmp_path / "a.mp4", model=str(tiny))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_an_interrupted_one_leaves_nothing(compressed: Path, tiny: Path, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("a.mp4", "a.mkv", "a.webm", "a.y4m", "a.png"):
        with pytest.raises(KeyboardInterrupt):
            decompress(compressed, tmp_path / name, model=str(tiny), progress=stop)
    assert not list(tmp_path.iterdir())
