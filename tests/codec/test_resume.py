"""Compression that is broken off and goes on."""

from pathlib import Path

import pytest

from neurocodec.codec.compress import compress
from neurocodec.errors import OutputError, UsageError
from tests.media.clips import Sound, write_clip


class Killed(BaseException):
    """As if the process was: nothing tidies up but what ``--resume`` asks for."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "clip.mkv"
    return write_clip(path, 30, sounds=[Sound("aac", 1.2)])


def stop_after(frames: int):  # type: ignore[no-untyped-def]
    def progress(done: int, _: int | None) -> None:
        if done > frames:
            raise Killed

    return progress


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".neurocodec-*.part"))


@pytest.mark.parametrize("family", ["tiny", "tiny_motion"])
@pytest.mark.parametrize("frames", [0, 13, 29])
def test_the_same_bytes_as_without_a_break(
    family: str, frames: int, clip: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = str(request.getfixturevalue(family))
    whole = tmp_path / "whole.nc"
    stats = compress(clip, whole, model=model, gop=6)
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "a.nc"
    with pytest.raises(Killed):
        compress(clip, target, model=model, gop=6, resume=True, progress=stop_after(frames))
    (part,) = parts(folder)
    kept = part.stat().st_size
    seen = []
    again = compress(
        clip, target, model=model, gop=6, resume=True, progress=lambda done, _: seen.append(done)
    )
    assert target.read_bytes() == whole.read_bytes()
    assert frames - 6 < seen[0]  # the first GOPs were not coded again
    assert kept > 1000 * (frames > 6)
    for name in ("frames", "gops", "duration", "bytes", "video_bytes", "audio_bytes"):
        assert getattr(again, name) == getattr(stats, name)
    assert not parts(folder)


def test_a_torn_end_is_cut_off(clip: Path, tiny: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.nc"
    compress(clip, whole, model=str(tiny), gop=6)
    target = tmp_path / "a.nc"
    with pytest.raises(Killed):
        compress(clip, target, model=str(tiny), gop=6, resume=True, progress=stop_after(20))
    (part,) = parts(tmp_path)
    begun = part.read_bytes()
    for torn in (begun[:-100], begun + bytes(50), begun[:100], b"", bytes(300),
                 begun[:-100] + bytes(100)):  # fmt: skip
        part.write_bytes(torn)
        compress(clip, target, model=str(tiny), gop=6, resume=True, overwrite=True)
        assert target.read_bytes() == whole.read_bytes()


def test_other_settings_begin_anew(clip: Path, tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.nc"
    with pytest.raises(Killed):
        compress(clip, target, model=str(tiny), gop=6, resume=True, progress=stop_after(20))
    compress(clip, target, model=str(tiny), gop=6, quality=60, resume=True)
    whole = target.read_bytes()
    compress(clip, target, model=str(tiny), gop=6, quality=60, overwrite=True)
    assert target.read_bytes() == whole
    assert not parts(tmp_path)  # nothing of the first is left


def test_without_the_wish_to_resume_nothing_is_left(clip: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        compress(clip, tmp_path / "a.nc", model=str(tiny), gop=6, progress=stop_after(20))
    assert not list(tmp_path.iterdir())


def test_two_at_once(clip: Path, tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.nc"

    def meanwhile(done: int, _: int | None) -> None:
        if done == 1:
            with pytest.raises(OutputError, match="another process is writing it"):
                compress(clip, target, model=str(tiny), gop=6, resume=True)

    compress(clip, target, model=str(tiny), gop=6, progress=meanwhile)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_what_cannot_be_resumed(clip: Path, tiny: Path, tmp_path: Path) -> None:
    for target, aim in (("-", {}), (tmp_path / "a.nc", {"bitrate": 100.0})):
        with pytest.raises(UsageError, match="resume"):
            compress(clip, target, model=str(tiny), resume=True, **aim)  # type: ignore[arg-type]
