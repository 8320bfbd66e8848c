from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from neurocodec.bench.y4m import open_y4m, write_y4m
from neurocodec.errors import InputError
from tests.bench.conftest import planes


@pytest.mark.parametrize(("width", "height"), [(64, 48), (35, 27)])
def test_round_trip_and_libav_reads_it(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "clip.y4m"
    frames = planes(3, width, height)
    digest = write_y4m(path, frames, Fraction(30000, 1001))
    assert len(digest) == 64
    clip = open_y4m(path)
    assert (clip.width, clip.height, clip.count, clip.rate) == (
        width,
        height,
        3,
        Fraction(30000, 1001),
    )
    for mine, theirs in zip(clip, frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
    assert len(decoded) == 3
    assert decoded[1].format.name == "yuv420p"
    luma = np.frombuffer(decoded[1].planes[0], np.uint8).reshape(height, -1)[:, :width]
    assert np.array_equal(luma, frames[1][0])


def test_ten_bits_are_rounded(tmp_path: Path) -> None:
    path = tmp_path / "deep.y4m"
    samples = np.array([0, 1, 2, 3, 509, 510, 1021, 1023], "<u2")
    chroma = np.full(4, 514, "<u2")
    path.write_bytes(
        b"YUV4MPEG2 W4 H2 F25:1 C420p10 XYSCSS=420P10\nFRAME\n"
        + samples.tobytes()
        + chroma.tobytes()
    )
    y, u, v = open_y4m(path).frame(0)
    assert y.flatten().tolist() == [0, 0, 1, 1, 127, 128, 255, 255]
    assert u.flatten().tolist() == v.flatten().tolist() == [129, 129]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF", "not a y4m file"),
        (b"YUV4MPEG2 W4 H2 F25:1 C444\nFRAME\n", "8- or 10-bit 4:2:0"),
        (b"YUV4MPEG2 W4 H2 F25:1\nFRAME\n" + bytes(11), "cut off"),
        (b"YUV4MPEG2 W4 H2 F25:1\n", "cut off, or empty"),
    ],
)
def test_what_is_not_one_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "clip.y4m"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_y4m(path)
    with pytest.raises(InputError, match="No such file"):
        open_y4m(tmp_path / "none.y4m")
