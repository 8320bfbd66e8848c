"""Rate control: the arithmetic on made-up GOPs, and whole files."""

import math
from fractions import Fraction
from pathlib import Path

import pytest

from neurocodec.codec.compress import compress
from neurocodec.codec.control import controlled
from neurocodec.codec.frames import GopEnd
from neurocodec.codec.rate import GopResult, PsnrControl, SizeControl, step_for_rate
from neurocodec.errors import InputError, UsageError
from neurocodec.media.frame import Frame
from tests.conftest import two_scenes, write_clip
from tests.media.clips import Sound
from tests.media.clips import write_clip as write_sounding_clip


def size_at(step: float, hardness: float) -> int:
    """Bytes of a made-up GOP; the slope is not quite what the control starts from."""
    return round(hardness * step**-0.8 + 100)


def spend(control: SizeControl, hardnesses: list[float]) -> tuple[int, int]:
    """Code GOPs of one second. Returns bytes, and how many tries it took."""
    total = tries = 0
    for hardness in hardnesses:
        step: float | None = control.first(1.0)
        while step is not None:
            size = size_at(step, hardness)
            tries += 1
            step = control.again(GopResult(25, size, 0.0))
        control.settle(GopResult(25, size, 0.0))
        total += size
    return total, tries


@pytest.mark.parametrize("start", [0.01, 0.1, 1.0])
def test_a_bitrate_is_held_over_gops_that_differ(start: float) -> None:
    hardnesses = [3000.0, 2000.0, 9000.0, 500.0, 4000.0, 4000.0]
    total, tries = spend(SizeControl(20_000, start), hardnesses)
    assert total == pytest.approx(120_000, rel=0.03)
    assert tries <= 3.5 * len(hardnesses)


def test_a_steady_clip_needs_about_one_try_a_gop() -> None:
    total, tries = spend(SizeControl(20_000, 0.1), [3000.0] * 20)
    assert total == pytest.approx(400_000, rel=0.03)
    assert tries <= 25


def test_a_bitrate_out_of_reach_ends() -> None:
    _, tries = spend(SizeControl(10.0, 0.1), [3000.0] * 3)
    assert tries <= 12


def test_psnr_is_held() -> None:
    control = PsnrControl(37.0, 0.16)
    for hardness in (30.0, 26.0, 35.0):
        step: float | None = control.first(1.0)
        while step is not None:
            psnr = hardness - 7.5 * math.log(step / 0.5)
            step = control.again(GopResult(25, 1000, psnr))
        assert psnr == pytest.approx(37.0, abs=0.1)


def test_a_coarser_step_that_was_no_worse_is_not_the_last() -> None:
    control = PsnrControl(34.0, 0.16)
    steps: list[float] = []
    step: float | None = control.first(1.0)
    for psnr in (37.9, 34.33, 34.35, 33.95):
        assert step is not None
        steps.append(step)
        step = control.again(GopResult(25, 1000, psnr))
    assert step is None
    assert steps == sorted(set(steps))


def test_a_try_that_came_closest_is_taken() -> None:
    """Whatever came after it."""
    sizes = iter([60_000, 27_000, 90_000, 40_000])

    class Trier:
        def code(self, frames: list[Frame], step: int) -> tuple[bytes, GopResult]:
            size = next(sizes)
            return bytes([size // 1000]), GopResult(len(frames), size, 0.0)

    frames = two_scenes(32, 32, 25, 0)
    control = SizeControl(25_000, 0.1)
    ends = list(controlled(iter(frames), Trier(), control, 25, Fraction(25), False))  # type: ignore[arg-type]
    assert [end.data for end in ends if isinstance(end, GopEnd)] == [bytes([27])]


def test_more_bits_mean_a_finer_first_step() -> None:
    steps = [step_for_rate(bpp) for bpp in (1e-6, 0.01, 0.1, 1.0, 1e3)]
    assert steps == sorted(steps, reverse=True)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mkv", 48, 96, 64)


def test_a_bitrate_of_a_file(clip: Path, tmp_path: Path, tiny_motion: Path) -> None:
    options = {"model": str(tiny_motion), "gop": 12, "effort": "fast"}
    plain = compress(clip, tmp_path / "plain.nc", quality=30, **options)  # type: ignore[arg-type]
    wanted = 1.4 * plain.video_bytes * 8 / 1000 / (48 / 25)
    stats = compress(clip, tmp_path / "a.nc", bitrate=wanted, **options)  # type: ignore[arg-type]
    assert stats.video_bytes == pytest.approx(1.4 * plain.video_bytes, rel=0.06)


def test_a_target_size_counts_the_sound(tmp_path: Path, tiny_motion: Path) -> None:
    clip = write_sounding_clip(tmp_path / "a.mp4", 50, sounds=[Sound("aac", 2.0)])
    stats = compress(
        clip, tmp_path / "a.nc", target_size=48_000, model=str(tiny_motion), gop=17, effort="fast"
    )
    assert stats.bytes == pytest.approx(48_000, rel=0.06)
    assert stats.audio_bytes > 2_000
    with pytest.raises(InputError, match=r"a\.mp4: the sound alone"):
        compress(clip, tmp_path / "b.nc", target_size=2_000, model=str(tiny_motion))


@pytest.mark.parametrize("family", ["tiny", "tiny_motion"])
def test_a_psnr_of_a_file(
    family: str, clip: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from neurocodec.codec.compare import compare

    model = str(request.getfixturevalue(family))
    compress(clip, tmp_path / "a.nc", psnr=34.0, model=model, gop=25, effort="fast")
    assert compare(clip, tmp_path / "a.nc", model).psnr == pytest.approx(34.0, abs=0.2)


@pytest.mark.parametrize(
    "aims",
    [
        {"bitrate": 100.0, "psnr": 30.0},
        {"bitrate": 0.0},
        {"bitrate": math.nan},
        {"target_size": 0},
        {"psnr": 5.0},
        {"psnr": math.nan},
    ],
)
def test_aims_of_no_sense(aims: dict[str, float], clip: Path, tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(UsageError):
        compress(clip, tmp_path / "a.nc", model=str(tiny), **aims)  # type: ignore[arg-type]
    assert not (tmp_path / "a.nc").exists()
