from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import neurocodec
from neurocodec.errors import FormatError, InputError, ModelMismatchError, UsageError
from tests.media.clips import Sound, write_clip


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("video")
    clip = write_clip(folder / "a.mp4", 20, start=0.2, sounds=[Sound("aac")])
    neurocodec.compress(clip, folder / "a.nc", model=str(tiny), gop=5)
    return folder / "a.nc"


def test_what_it_says(compressed: Path, tiny: Path) -> None:
    with neurocodec.open(compressed, str(tiny)) as video:
        assert (video.width, video.height, video.frame_count) == (64, 48, 20)
        assert (video.frame_rate, video.time_base) == (25, Fraction(1, 12800))
        assert video.duration == pytest.approx(0.8)
        assert video.damage == []


def test_duration_follows_the_timestamps(tiny: Path, tmp_path: Path) -> None:
    base = Fraction(1, 1000)
    clip = write_clip(tmp_path / "a.mkv", 26, codec="ffv1", time_base=base,
                      pts=[*range(0, 1000, 40), 5000])  # fmt: skip
    neurocodec.compress(clip, tmp_path / "a.nc", model=str(tiny))
    with neurocodec.open(tmp_path / "a.nc", str(tiny)) as video:
        assert video.duration == pytest.approx(5 + 1 / video.frame_rate)


def test_iterating_again_gives_the_same(compressed: Path, tiny: Path) -> None:
    with neurocodec.open(compressed, str(tiny)) as video:
        first, second = list(video), list(video)
    assert [f.pts for f in first] == [2560 + 512 * i for i in range(20)]
    assert all(np.array_equal(a.y, b.y) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("seconds", "index"), [(0, 0), (0.4, 10), (0.41, 11), (0.76, 19)])
def test_seeking(seconds: float, index: int, compressed: Path, tiny: Path) -> None:
    with neurocodec.open(compressed, str(tiny)) as video:
        whole = list(video)
        video.seek(seconds)
        part = list(video)
    assert [f.pts for f in part] == [f.pts for f in whole[index:]]
    assert np.array_equal(part[0].y, whole[index].y)


def test_seeking_where_nothing_is(compressed: Path, tiny: Path) -> None:
    with neurocodec.open(compressed, str(tiny)) as video:
        video.seek(9)
        assert list(video) == []
        with pytest.raises(UsageError):
            video.seek(-1)


def test_refusals(compressed: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError):
        neurocodec.open(compressed)
    with pytest.raises(InputError):
        neurocodec.open(tmp_path / "missing.nc")
    (tmp_path / "a.nc").write_bytes(b"something else")
    with pytest.raises(FormatError):
        neurocodec.open(tmp_path / "a.nc")
