from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurocodec.bitstream.payloads import Colour
from neurocodec.media.frame import Frame, MediaInfo
from neurocodec.media.writer import open_writer

# matrix -> weights of red and blue; 14 is one that libav cannot convert and takes for BT.601
WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593),
           14: (0.299, 0.114)}  # fmt: skip
INFO = MediaInfo(34, 18, Fraction(1), Fraction(25), Fraction(1, 25), Colour())


def flat(y: int, u: int, v: int, size: tuple[int, int] = (34, 18)) -> Frame:
    half = ((size[1] + 1) // 2, (size[0] + 1) // 2)
    shapes = (size[::-1], half, half)
    return Frame(
        *(np.full(s, value, np.uint8) for s, value in zip(shapes, (y, u, v), strict=True)), 0
    )


def rgb_of(y: int, u: int, v: int, matrix: int, full: bool) -> list[float]:
    red, blue = WEIGHTS[matrix]
    luma = y / 255 if full else (y - 16) / 219
    cb, cr = ((c - 128) / (255 if full else 224) for c in (u, v))
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return [min(255.0, max(0.0, 255 * c)) for c in (r, g, b)]


def written(path: Path, frame: Frame, info: MediaInfo) -> Image.Image:
    writer = open_writer(path, path.suffix, info, False)
    writer.write(frame)
    assert writer.full
    writer.write(flat(0, 0, 0))  # no more than one
    writer.close()
    return Image.open(path)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0.51), (".jpg", 3)])
def test_colours(suffix: str, tolerance: float, matrix: int, full: bool, tmp_path: Path) -> None:
    info = replace(INFO, colour=Colour(matrix=matrix, full_range=full))
    for y, u, v in (
        (81, 90, 200),
        (145, 54, 100),
        (100, 180, 120),
        (16, 128, 128),
        (235, 128, 128),
    ):
        with written(tmp_path / f"a{suffix}", flat(y, u, v), info) as picture:
            got = np.asarray(picture.convert("RGB"))[8, 16]
        assert np.abs(got - rgb_of(y, u, v, matrix, full)).max() <= tolerance


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (17, 13), (1, 64)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_any_size(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    info = replace(INFO, width=size[0], height=size[1])
    with written(tmp_path / f"a{suffix}", flat(100, 90, 150, size), info) as picture:
        assert picture.size == size
        assert picture.format == ("PNG" if suffix == ".png" else "JPEG")
