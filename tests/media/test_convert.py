from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from neurocodec.bitstream.payloads import Colour

from .clips import picture_of, read, write_clip

RAMP = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (48, 1))
HALF = np.full((24, 32), 100, np.uint8)
LIMITED, FULL = 1, 2


def clip_of(
    path: Path, pix_fmt: str, planes: list[NDArray[Any]], full: int, matrix: int = 2
) -> Path:
    pictures = [picture_of(planes, pix_fmt, full) for _ in range(2)]
    return write_clip(
        path, codec="ffv1", pix_fmt=pix_fmt, pictures=pictures, colour=(2, 2, matrix, full)
    )


@pytest.mark.parametrize("full", [0, LIMITED, FULL])
def test_8_bit_420_comes_through_untouched(
    full: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info, frames, _ = read(clip_of(tmp_path / "a.mkv", "yuv420p", [RAMP, HALF, HALF + 9], full))
    assert info.colour.full_range == (full == FULL)
    assert np.array_equal(frames[1].y, RAMP)
    assert np.array_equal(frames[1].u, HALF)
    assert np.array_equal(frames[1].v, HALF + 9)
    assert not caplog.records


@pytest.mark.parametrize("full", [LIMITED, FULL])
def test_10_bits_become_8_with_one_notice(
    full: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    y, c = RAMP.astype(np.uint16) * 4, HALF.astype(np.uint16) * 4
    info, frames, _ = read(clip_of(tmp_path / "a.mkv", "yuv420p10le", [y, c, c], full))
    assert info.colour.full_range == (full == FULL)
    scale = 255 / 1023 if full == FULL else 1 / 4
    assert abs(frames[0].y - y * scale).max() <= 1
    assert abs(frames[0].u - c * scale).max() <= 1
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'a.mkv'}: yuv420p10le is converted to 8-bit 4:2:0"
    ]


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p"])
def test_less_subsampled_colour_is_averaged(
    pix_fmt: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wide = RAMP if pix_fmt == "yuv444p" else RAMP[:, ::2]
    for full in (LIMITED, FULL):
        info, frames, _ = read(clip_of(tmp_path / "a.mkv", pix_fmt, [RAMP, wide, wide], full))
        assert info.colour.full_range == (full == FULL)
        assert np.array_equal(frames[0].y, RAMP)
        assert frames[0].u.shape == (24, 32)
        assert abs(frames[0].u[5].astype(int) - RAMP[5, ::2]).max() <= 4
    assert len(caplog.records) == 2


@pytest.mark.parametrize("full", [LIMITED, FULL])
def test_grey_keeps_its_range(full: int, tmp_path: Path) -> None:
    info, frames, _ = read(clip_of(tmp_path / "a.mkv", "gray", [RAMP], full))
    assert info.colour.full_range == (full == FULL)
    assert np.array_equal(frames[0].y, RAMP)
    assert (frames[0].u == 128).all()
    assert (frames[0].v == 128).all()


@pytest.mark.parametrize("matrix", [1, 6, 8, 9, 14])
def test_matrix_is_kept_also_where_libav_cannot_convert_it(matrix: int, tmp_path: Path) -> None:
    y, c = RAMP.astype(np.uint16) * 4, HALF.astype(np.uint16) * 4
    path = clip_of(tmp_path / "a.mkv", "yuv420p10le", [y, c, c], LIMITED, matrix)
    info, frames, _ = read(path)
    assert info.colour.matrix == matrix
    assert np.array_equal(frames[0].y, RAMP)


def test_reserved_code_points_are_unspecified(tmp_path: Path) -> None:
    path = clip_of(tmp_path / "a.mkv", "yuv420p", [RAMP, HALF, HALF], LIMITED, matrix=0)
    assert read(path)[0].colour == Colour(2, 2, 2, False)


def test_rgb_becomes_full_range_bt601(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 90, 90)]
    picture = Image.new("RGB", (16 * len(colours), 16))
    for i, colour in enumerate(colours):
        picture.paste(colour, (16 * i, 0, 16 * i + 16, 16))
    picture.save(tmp_path / "a.png")
    info, frames, _ = read(tmp_path / "a.png")
    assert info.colour == Colour(2, 2, 5, True)
    for i, (r, g, b) in enumerate(colours):
        y = 0.299 * r + 0.587 * g + 0.114 * b
        expected = y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402
        got = [plane[plane.shape[0] // 2, (2 * i + 1) * plane.shape[1] // 12]
               for plane in frames[0].planes]  # fmt: skip
        assert np.abs(np.subtract(got, np.clip(expected, 0, 255))).max() <= 1
        if r == g == b:
            assert got[1:] == [128, 128]
    assert len(caplog.records) == 1


def test_transparency_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGBA", (16, 16), (10, 200, 30, 128)).save(tmp_path / "a.png")
    read(tmp_path / "a.png")
    assert "rgba is converted to 8-bit 4:2:0, without its transparency" in caplog.text


def quadrants(picture: NDArray[Any]) -> list[int]:
    """Mean of each quarter, to tens."""
    h, w = (n // 2 for n in picture.shape)
    parts = (picture[:h, :w], picture[:h, w:], picture[h:, :w], picture[h:, w:])
    return [round(float(part.mean()) / 10) for part in parts]


def corners(width: int, height: int) -> NDArray[np.uint8]:
    """A picture whose quarters differ."""
    picture = np.zeros((height, width), np.uint8)
    h, w = height // 2, width // 2
    picture[:h, :w], picture[:h, w:], picture[h:, :w], picture[h:, w:] = 40, 90, 150, 210
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(corners(64, 48))
    picture.save(tmp_path / "a.jpg", quality=95, exif=exif)
    info, frames, _ = read(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    assert (info.height, info.width) == upright.shape
    assert quadrants(frames[0].y) == quadrants(upright)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_video_is_turned_upright(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    chroma = corners(32, 24)
    pictures = [picture_of([corners(64, 48), chroma, 255 - chroma]) for _ in range(2)]
    path = write_clip(tmp_path / "a.mp4", pictures=pictures, rotation=(degrees, mirrored))
    info, frames, _ = read(path)
    expected = np.rot90(corners(64, 48), degrees // 90)
    if mirrored:
        expected = expected[:, ::-1]
    assert (info.height, info.width) == expected.shape
    assert quadrants(frames[1].y) == quadrants(expected)
    assert quadrants(frames[1].u) == quadrants(expected)


def test_change_of_resolution_is_scaled_with_one_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, size in (("a.jpg", (32, 32)), ("b.jpg", (64, 48))):
        Image.new("L", size, 77).convert("YCbCr").save(tmp_path / name, quality=95)
    data = [(tmp_path / name).read_bytes() for name in ("a.jpg", "b.jpg", "b.jpg")]
    (tmp_path / "clip.mjpeg").write_bytes(b"".join(data))
    info, frames, _ = read(tmp_path / "clip.mjpeg")
    assert (info.width, info.height) == (32, 32)
    assert [frame.y.shape for frame in frames] == [(32, 32)] * 3
    assert all(abs(frame.y.astype(int) - 77).max() <= 1 for frame in frames)
    assert sum("resolution changes" in r.getMessage() for r in caplog.records) == 1
