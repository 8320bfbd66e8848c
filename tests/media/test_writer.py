from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from neurocodec.bitstream.payloads import Colour
from neurocodec.errors import OutputError, UsageError
from neurocodec.media.frame import Frame, MediaInfo, planes_of
from neurocodec.media.writer import check_target, is_picture, open_writer
from tests.conftest import moving_picture

from .clips import look, read, same_planes

SIZES = [(64, 48), (1, 1), (2, 2), (17, 13), (3, 48), (64, 1), (63, 47)]
VIDEO = [".mp4", ".mov", ".mkv", ".webm"]


def info_of(size: tuple[int, int] = (64, 48)) -> MediaInfo:
    return MediaInfo(*size, Fraction(1), Fraction(25), Fraction(1, 25), Colour())


def write(
    path: Path, info: MediaInfo, frames: list[Frame] | None = None, lossless: bool = False
) -> Path:
    writer = open_writer(path, path.suffix, info, lossless)
    for frame in frames or moving_picture(5, info.width, info.height):
        writer.write(frame)
    writer.close()
    writer.release()
    return path


def test_targets() -> None:
    for target in ("-", "a.mp4", "A.MOV", "b/a.mkv", "a.webm", "a.y4m", "a.png", "a.JPG", "a.jpeg"):
        check_target(target, False)
    check_target("a.mkv", True)
    for target, lossless in (("a", False), ("a.nc", False), (".mp4", False), ("a.mp4", True),
                             ("-", True)):  # fmt: skip
        with pytest.raises(UsageError):
            check_target(target, lossless)
    assert is_picture("a.PNG")
    assert not is_picture("a.mp4")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_lossless_gives_every_sample_back(
    size: tuple[int, int], full: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    w, h = size
    half = ((h + 1) // 2, (w + 1) // 2)
    frames = [
        Frame(*(rng.integers(0, 256, shape, np.uint8) for shape in ((h, w), half, half)), i)
        for i in range(3)
    ]
    colour = Colour(9, 16, 9, full)
    path = write(tmp_path / "a.mkv", replace(info_of(size), colour=colour), frames, True)
    seen = look(path)
    assert seen.frames[0].format.name == "yuv420p"
    assert all(same_planes(a, b) for a, b in zip(frames, seen.frames, strict=True))
    assert seen.colour == (9, 16, 9, 2 if full else 1)
    info, again, _ = read(path)
    assert info.colour == colour
    assert all((a.y == b.y).all() for a, b in zip(frames, again, strict=True))


@pytest.mark.parametrize("suffix", [*VIDEO, ".y4m"])
@pytest.mark.parametrize("size", SIZES)
def test_any_size_into_any_container(size: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    seen = look(write(tmp_path / f"a{suffix}", info_of(size)))
    assert len(seen.frames) == 5
    assert (seen.frames[0].width, seen.frames[0].height) == size
    for made, got in zip(moving_picture(5, *size), seen.frames, strict=True):
        assert abs(made.y.astype(int) - planes_of(got)[0]).mean() < 2


@pytest.mark.parametrize("suffix", VIDEO)
def test_h264_unless_it_cannot(suffix: str, tmp_path: Path) -> None:
    import av

    for size, expected in (((64, 48), "h264"), ((63, 48), "vp9")):
        path = write(tmp_path / f"a{suffix}", info_of(size))
        with av.open(str(path)) as container:
            codec = container.streams.video[0].codec_context.name
        assert codec == ("vp9" if suffix == ".webm" else expected)


@pytest.mark.parametrize("suffix", VIDEO)
def test_timestamps_survive(suffix: str, tmp_path: Path) -> None:
    exact = suffix in (".mp4", ".mov")
    base = Fraction(1, 90000) if exact else Fraction(1, 1000)  # Matroska counts milliseconds
    pts = [0, 3003, 3004, 9009, 900000] if exact else [0, 7, 100, 101, 5000]
    frames = [replace(f, pts=at) for f, at in zip(moving_picture(5, 64, 48), pts, strict=True)]
    info = replace(info_of(), time_base=base)
    seen = look(write(tmp_path / f"a{suffix}", info, frames))
    assert seen.times == [at * base for at in pts]


@pytest.mark.parametrize("suffix", VIDEO)
def test_seconds_between_frames(suffix: str, tmp_path: Path) -> None:
    info = replace(info_of(), time_base=Fraction(7, 3), frame_rate=Fraction(3, 7))
    seen = look(write(tmp_path / f"a{suffix}", info))
    assert [float(time) for time in seen.times] == pytest.approx(
        [i * 7 / 3 for i in range(5)], abs=0.001
    )


@pytest.mark.parametrize("suffix", [*VIDEO, ".y4m", "lossless"])
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(3, 4)])
def test_shape_of_pixels(aspect: Fraction, suffix: str, tmp_path: Path) -> None:
    info = replace(info_of(), sample_aspect=aspect)
    path = tmp_path / (f"a{suffix}" if suffix != "lossless" else "a.mkv")
    seen = look(write(path, info, lossless=suffix == "lossless"))
    assert seen.aspect == aspect
    assert len(seen.frames) == 5


@pytest.mark.parametrize("suffix", VIDEO)
@pytest.mark.parametrize("full", [False, True])
def test_colour_description_and_range(full: bool, suffix: str, tmp_path: Path) -> None:
    info = replace(info_of(), colour=Colour(9, 16, 9, full))
    flat = [
        Frame(*(np.full(shape, value, np.uint8) for shape, value in
                (((48, 64), value), ((24, 32), 100), ((24, 32), 150))), i)
        for i, value in enumerate((0, 16, 100, 235, 255))
    ]  # fmt: skip
    seen = look(write(tmp_path / f"a{suffix}", info, flat))
    primaries, transfer, matrix, color_range = seen.colour
    assert (primaries, transfer, matrix) == (9, 16, 9)
    assert (color_range == 2) == full
    for made, got in zip(flat, seen.frames, strict=True):
        for a, b in zip(made.planes, planes_of(got), strict=True):
            assert abs(a.astype(int) - b).max() <= 3


def test_one_frame_lasts(tmp_path: Path) -> None:
    import av

    path = write(tmp_path / "a.mp4", info_of(), moving_picture(1, 64, 48))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.duration
        assert stream.duration * stream.time_base == Fraction(1, 25)


def test_visually_lossless(tmp_path: Path) -> None:
    for suffix in VIDEO:
        made = moving_picture(5, 64, 48)
        seen = look(write(tmp_path / f"a{suffix}", info_of(), made))
        error = [
            np.square(a.y.astype(float) - planes_of(b)[0]).mean()
            for a, b in zip(made, seen.frames, strict=True)
        ]
        assert 10 * np.log10(255**2 / np.mean(error)) > 42


def test_what_cannot_be_written(tmp_path: Path) -> None:
    for suffix in VIDEO:
        with pytest.raises(OutputError):
            write(tmp_path / "missing" / f"a{suffix}", info_of())
