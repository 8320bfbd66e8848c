from fractions import Fraction
from pathlib import Path

import pytest

import neurocodec
from neurocodec.bitstream.reader import Reader
from neurocodec.codec import coding as module
from neurocodec.codec.compress import compress
from neurocodec.errors import InputError, ModelError, OutputError, UsageError
from tests.media.clips import Sound, write_clip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.nc"


def test_stats_are_those_of_the_file(tmp_path: Path, out: Path, tiny: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 12, sounds=[Sound("aac", 0.5)])
    stats = compress(clip, out, model=str(tiny), quality=40, gop=5)
    assert (stats.width, stats.height, stats.frames, stats.gops) == (64, 48, 12, 3)
    assert stats.bytes == out.stat().st_size
    assert stats.bits_per_pixel == 8 * stats.bytes / (12 * 64 * 48)
    assert stats.duration == pytest.approx(12 / 25)
    assert (stats.model, stats.quality) == ("tiny", 40)
    assert stats.audio_bytes > 1000
    assert 0 < stats.video_bytes < stats.bytes - stats.audio_bytes
    assert stats.to_dict()["frames"] == 12


def test_duration_follows_the_timestamps(tmp_path: Path, out: Path, tiny: Path) -> None:
    clip = write_clip(
        tmp_path / "a.mkv", 3, codec="ffv1", pts=[0, 40, 5000], time_base=Fraction(1, 1000)
    )
    stats = compress(clip, out, model=str(tiny))
    assert stats.duration == pytest.approx(5.0, abs=2.6)  # the nominal rate of such a clip is odd
    with Reader(out) as reader:
        assert reader.read_gop(reader.gops[0])[1] == [0, 40, 5000]  # type: ignore[index]


def test_progress_tells_frames(tmp_path: Path, out: Path, tiny: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 12)
    told: list[tuple[int, int | None]] = []
    compress(clip, out, model=str(tiny), gop=9, progress=lambda *args: told.append(args))
    assert [done for done, _ in told] == [1, 5, 9, 9, 10, 14, 12]
    assert {expected for _, expected in told} == {12}


def test_sound_is_written_in_pieces(
    tmp_path: Path, out: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = [Sound("pcm_s16le", 0.25)] * 4
    clip = write_clip(tmp_path / "a.mkv", 2, rate=1, sounds=sounds)
    monkeypatch.setattr(module, "MAX_WAITING", 50_000)
    compress(clip, out, model=str(tiny))
    with Reader(out) as reader:
        packets = [packet for gop in reader.gops for packet in reader.read_audio(gop)]
        pieces = [section for gop in reader.gops for section in gop.audio]
    assert sum(len(packet.data) for packet in packets) == 192_000
    assert len(pieces) >= 2


def test_a_cut(tmp_path: Path, out: Path, tiny: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 25)
    assert compress(clip, out, model=str(tiny), start=0.4, duration=0.4).frames == 10


def test_a_picture(tmp_path: Path, out: Path, tiny: Path) -> None:
    from PIL import Image

    Image.new("RGB", (33, 17), (9, 99, 199)).save(tmp_path / "a.png")
    assert compress(tmp_path / "a.png", out, model=str(tiny)).frames == 1
    with Reader(out) as reader:
        assert reader.header.metadata["kind"] == "picture"


def test_options_of_no_sense(tmp_path: Path, out: Path, tiny: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 2)
    for options in (
        {"quality": -1},
        {"quality": 101},
        {"gop": 0},
        {"gop": 1025},
        {"start": -1.0},
        {"start": float("nan")},
        {"duration": 0.0},
        {"audio": "mp3"},
        {"effort": "none"},
        {"tune": "none"},
        {"tune": "psnr"},  # of a model without motion
    ):
        with pytest.raises(UsageError):
            compress(clip, out, model=str(tiny), **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="same file"):
        compress(clip, clip, model=str(tiny), overwrite=True)
    with pytest.raises(ModelError):
        compress(clip, out, model="no-such-model")
    assert not out.exists()


def test_nothing_is_left_of_a_failure(
    tmp_path: Path, out: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "a.mp4", 12)
    with pytest.raises(InputError):
        compress(tmp_path / "missing.mp4", out, model=str(tiny))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(clip, out, model=str(tiny), progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(OutputError, match="/dev/full: No space left"):
        compress(clip, "/dev/full", model=str(tiny))
    out.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        compress(clip, out, model=str(tiny))
    assert out.read_bytes() == b"old"
    compress(clip, out, model=str(tiny), overwrite=True)
    assert out.read_bytes() != b"old"


def test_the_same_input_gives_the_same_file(tmp_path: Path, out: Path, tiny: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 12, sounds=[Sound("aac", 0.5)])
    for audio in ("copy", "opus"):
        neurocodec.compress(clip, out, model=str(tiny), audio=audio, overwrite=True)
        neurocodec.compress(clip, tmp_path / "b.nc", model=str(tiny), audio=audio, overwrite=True)
        assert out.read_bytes() == (tmp_path / "b.nc").read_bytes()
