"""Our metrics against other people's implementations of them, on the same frames."""

import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import block_reduce
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from neurocodec.bench import metrics
from neurocodec.bench.ffmpeg import Ffmpeg
from neurocodec.bench.metrics import MetricError, Pair
from neurocodec.bench.y4m import open_y4m, write_y4m
from neurocodec.errors import InputError
from neurocodec.similarity import scales_of
from tests.bench.conftest import planes, spoilt, write_pair


def by_ffmpeg(pair: Pair, name: str, folder: Path) -> list[dict[str, float]]:
    """What a filter of ffmpeg writes for each frame."""
    command = [
        pair.ffmpeg.path, "-i", str(pair.decoded.path), "-i", str(pair.source.path),
        "-lavfi", f"{name}=stats_file=out", "-f", "null", "-",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    lines = (folder / "out").read_text().splitlines()
    return [{k: float(v) for k, v in re.findall(r"(\w+):([\d.]+)", line)} for line in lines]


def test_psnr_against_ffmpeg(pair: Pair, tmp_path: Path) -> None:
    ours = metrics.psnr(pair)
    for i, row in enumerate(by_ffmpeg(pair, "psnr", tmp_path)):
        for plane in "yuv":
            assert ours[f"psnr_{plane}"][i] == pytest.approx(row[f"psnr_{plane}"], abs=0.006)
    y, u, v = (ours[f"psnr_{p}"][0] for p in "yuv")
    assert None not in (y, u, v)
    assert ours["psnr"][0] == pytest.approx((6 * y + u + v) / 8)  # type: ignore[operator]


def test_psnr_against_scikit_image(pair: Pair) -> None:
    ours = metrics.psnr(pair)
    for i, (a, b) in enumerate(zip(pair.source, pair.decoded, strict=True)):
        for plane, x, y in zip("yuv", a, b, strict=True):
            assert ours[f"psnr_{plane}"][i] == pytest.approx(
                peak_signal_noise_ratio(x, y), abs=1e-9
            )


# a Gaussian window of 11x11, as in Wang et al. 2004
AS_PUBLISHED = {
    "data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False,
}  # fmt: skip


def ms_ssim_by_scikit_image(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    value = 1.0
    x, y = a.astype(float), b.astype(float)
    for scale, weight in enumerate(weights / weights.sum()):
        k1 = 0.01 if scale == scales - 1 else 1e6  # contrast and structure alone
        term = structural_similarity(x, y, K1=k1, **AS_PUBLISHED)
        value *= term**weight
        # sides here are whole multiples of 2^scales, so that borders cannot differ
        x, y = (block_reduce(p, 2, np.mean) for p in (x, y))
    return value


@pytest.mark.parametrize(
    ("width", "height", "scales"),
    [(192, 176, 5), (112, 96, 4), (64, 48, 3), (32, 24, 2), (16, 12, 1)],
)
def test_ms_ssim_against_scikit_image(width: int, height: int, scales: int) -> None:
    source = planes(1, width, height)
    a, b = source[0][0], spoilt(source, 20)[0][0]
    assert scales_of(width, height) == scales
    expected = ms_ssim_by_scikit_image(a, b, scales)
    assert metrics.plane_ms_ssim(a, b) == pytest.approx(expected, abs=2e-4)
    assert expected < 0.99


def test_one_scale_is_the_ssim_of_scikit_image_and_near_that_of_ffmpeg(
    tmp_path: Path, ffmpeg: Ffmpeg
) -> None:
    small = write_pair(tmp_path, ffmpeg, 1, 64, 18)
    ours = metrics.ms_ssim(small)["ms_ssim"][0]
    a, b = small.source.frame(0)[0], small.decoded.frame(0)[0]
    assert ours == pytest.approx(structural_similarity(a, b, **AS_PUBLISHED), abs=1e-4)
    # whose window is 8x8 and flat
    assert ours == pytest.approx(by_ffmpeg(small, "ssim", tmp_path)[0]["Y"], abs=0.05)


def test_scales() -> None:
    assert [scales_of(640, side) for side in (161, 160, 81, 80, 11, 10)] == [
        5,
        4,
        4,
        3,
        1,
        0,
    ]
    with pytest.raises(MetricError, match="11x11"):
        metrics.plane_ms_ssim(np.zeros((8, 64), np.uint8), np.zeros((8, 64), np.uint8))


def test_vmaf_and_xpsnr_follow_quality(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "worse.y4m"
    write_y4m(path, spoilt(list(pair.source), 20), Fraction(25))
    worse = replace(pair, decoded=open_y4m(path))
    same = replace(pair, decoded=pair.source)
    for metric, key, least in ((metrics.vmaf, "vmaf", 90), (metrics.xpsnr, "xpsnr", 99)):
        values = [metric(p)[key][1] for p in (worse, pair, same)]
        assert values == sorted(values)  # type: ignore[type-var]
        assert values[2] >= least  # type: ignore[operator]
        assert len(metric(pair)[key]) == 3


def test_xpsnr_of_white_noise_is_near_psnr(pair: Pair) -> None:
    """Its weights average 1 where errors and picture are alike everywhere."""
    assert metrics.xpsnr(pair)["xpsnr_u"][0] == pytest.approx(
        metrics.psnr(pair)["psnr_u"][0], abs=3
    )


def test_measure_gives_means_and_says_what_is_missing(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    small = write_pair(tmp_path, ffmpeg, 2, 24, 20)
    found = metrics.measure(["psnr", "ms_ssim", "st_lpips"], small)
    assert found.means["psnr_y"] == pytest.approx(np.mean(found.columns["psnr_y"]))  # type: ignore[arg-type]
    assert found.missing == {"st_lpips": "ST-LPIPS needs frames of at least 32x32 pixels"}


def test_clips_of_different_length_are_refused(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "short.y4m"
    write_y4m(path, planes(2, 192, 176), Fraction(25))
    with pytest.raises(InputError, match="2 frames of 192x176, but the source has 3"):
        metrics.measure(["psnr"], replace(pair, decoded=open_y4m(path)))
