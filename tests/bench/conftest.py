"""Clips made up by arithmetic, spoilt in known ways, as y4m files."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from neurocodec.bench.ffmpeg import Ffmpeg
from neurocodec.bench.metrics import Pair
from neurocodec.bench.run import run_suite
from neurocodec.bench.suite import Suite, read_suite
from neurocodec.bench.y4m import open_y4m, write_y4m
from neurocodec.bitstream.payloads import Colour
from neurocodec.media.frame import Planes
from tests.conftest import moving_picture, write_clip


@pytest.fixture(scope="session")
def ffmpeg() -> Ffmpeg:
    return Ffmpeg()


def planes(frames: int, width: int, height: int) -> list[Planes]:
    return [frame.planes for frame in moving_picture(frames, width, height)]


def spoilt(frames: list[Planes], strength: float = 6.0) -> list[Planes]:
    """With noise of this standard deviation, the same every time."""
    rng = np.random.default_rng(3)

    def noisy(plane: np.ndarray) -> np.ndarray:
        noise = rng.normal(0, strength, plane.shape)
        return (plane + noise).clip(0, 255).round().astype(np.uint8)

    return [(noisy(y), noisy(u), noisy(v)) for y, u, v in frames]


def write_pair(
    folder: Path, ffmpeg: Ffmpeg, frames: int = 3, width: int = 192, height: int = 176
) -> Pair:
    source = planes(frames, width, height)
    write_y4m(folder / "source.y4m", source, Fraction(25))
    write_y4m(folder / "decoded.y4m", spoilt(source), Fraction(25))
    return Pair(open_y4m(folder / "source.y4m"), open_y4m(folder / "decoded.y4m"), Colour(), ffmpeg)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> Pair:
    return write_pair(tmp_path_factory.mktemp("pair"), ffmpeg)


@dataclass(frozen=True)
class Finished:
    suite: Suite
    folder: Path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Finished:
    """A whole run with our codec and two anchors. Not to be written to."""
    folder = tmp_path_factory.mktemp("bench")
    write_clip(folder / "clip.mkv", 5, 192, 176)
    (folder / "suite.toml").write_text(
        f"""
        name = "tests"
        clips = ["clip.mkv"]
        frames = 5
        st_lpips_every = 4
        [neurocodec]
        qualities = [10, 50, 90]
        gop = 5
        model = "{tiny}"
        [[anchors]]
        codec = "x265"
        preset = "ultrafast"
        [[anchors]]
        codec = "vvenc"
        preset = "faster"
        gop = "matched"
        """
    )
    suite = read_suite(folder / "suite.toml")
    run_suite(suite, folder / "out")
    return Finished(suite, folder / "out")
