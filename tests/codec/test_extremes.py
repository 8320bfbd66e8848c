"""The short form of scripts/extremes.py: sizes, lengths and clocks at the edge, odd sources."""

import gc
from fractions import Fraction
from pathlib import Path

import pytest

import neurocodec
from neurocodec.media.frame import Frame
from scripts import extremes
from scripts.extremes import ODD, Case
from tests.cli.conftest import Cli, cli  # noqa: F401

SMALL = [
    Case("1x1", (1, 1), 5, suffix=".mkv", codec="ffv1"),
    Case("16x16", (16, 16), 5),
    Case("512x8", (512, 8), 3),
    Case("8x512", (8, 512), 3),
    Case("one frame", frames=1),
    Case("1000 frames a second", frames=12, base=Fraction(1, 1000)),
    Case("time base 1001/30000", frames=12, base=Fraction(1, 30000), step=1001),
    Case("time base 1/1001", frames=12, base=Fraction(1, 1001), step=40),
    Case("a frame an hour", frames=5, base=Fraction(1, 10), step=36000),
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_edges(case: Case, tiny_motion: Path, tmp_path: Path) -> None:
    source = extremes.write(tmp_path / f"in{case.suffix}", case)
    model = str(tiny_motion)
    neurocodec.compress(source, tmp_path / "a.nc", model=model, effort="fast", quality=80)
    neurocodec.decompress(tmp_path / "a.nc", tmp_path / "a.mkv", model=model)
    there, back = (extremes.frames_of(path) for path in (source, tmp_path / "a.mkv"))
    count, _, wrong = extremes.compare(there, back)
    assert (count, wrong) == (case.frames, "")


def test_a_difference_is_found(tmp_path: Path) -> None:
    """What the tests above look with."""
    source = extremes.write(tmp_path / "a.mp4", Case("", frames=5))
    frames = list(extremes.frames_of(source))
    late = [(at + Fraction(1, 25), frame) for at, frame in frames]
    assert "instead of" in extremes.compare(frames, late)[2]
    assert extremes.compare(frames, frames[:4])[2] == "not as many frames"
    dark = [(at, Frame(f.y // 2, f.u, f.v, f.pts)) for at, f in frames]
    assert "dB" in extremes.compare(frames, dark)[2]


@pytest.mark.parametrize("case", ODD, ids=lambda case: case.name)
def test_odd_sources(
    case: extremes.Odd,
    cli: Cli,  # noqa: F811
    tiny_motion: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*arguments: str | Path) -> extremes.Ended:
        ended = cli(*arguments)
        return extremes.Ended(ended.status, ended.err.strip(), 0, 0)

    monkeypatch.setattr(extremes, "run", run)
    monkeypatch.setattr(extremes, "ODD", [case])
    assert extremes.odd(tmp_path, ["--model", str(tiny_motion)]) == []


def test_frames_are_not_kept(tiny: Path, tmp_path: Path) -> None:
    """Memory does not grow with length: of 90 frames, not all are there at a time."""
    source = extremes.write(tmp_path / "in.mp4", Case("", (16, 16), 90))
    most = looked = 0

    def look(done: int, expected: int | None) -> None:
        nonlocal most, looked
        if done >= looked + 15:
            looked = done
            most = max(most, sum(type(thing) is Frame for thing in gc.get_objects()))

    settings = {"model": str(tiny), "gop": 9, "progress": look}
    neurocodec.compress(source, tmp_path / "a.nc", effort="fast", **settings)  # type: ignore[arg-type]
    assert 0 < most < 70
