import math

import numpy as np
import pytest

from neurocodec.bench.bd import Delta, bd_quality, bd_rate, curve, mean, quality_of

RATES = (0.02, 0.05, 0.1, 0.2)
ANCHOR = [(r, 30 + 10 * math.log10(r / 0.02)) for r in RATES]  # straight in log rate


def test_known_deltas() -> None:
    """A codec that needs 1.5 times the rate of a straight curve: +50 %, and so many dB less."""
    test = [(1.5 * rate, value) for rate, value in ANCHOR]
    assert bd_rate("psnr", ANCHOR, test).value == pytest.approx(50, abs=0.01)
    assert bd_quality("psnr", ANCHOR, test).value == pytest.approx(-10 * math.log10(1.5), abs=1e-3)
    assert bd_rate("psnr", ANCHOR, ANCHOR) == Delta(pytest.approx(0, abs=1e-9), "", 1)  # type: ignore[arg-type]


def test_order_and_count_of_points_do_not_matter() -> None:
    more = [(1.5 * r, v) for r, v in reversed(ANCHOR)] + [
        (0.45, ANCHOR[3][1] + 10 * math.log10(1.5))
    ]
    assert bd_rate("psnr", ANCHOR, more).value == pytest.approx(50, abs=0.01)


def test_against_the_integral_by_hand() -> None:
    """Two curved curves; PCHIP from scipy, integrated by the trapezoidal rule."""
    from scipy.interpolate import PchipInterpolator

    test = [(0.03, 29.0), (0.07, 31.5), (0.15, 35.0), (0.4, 37.0)]
    low, high = 30.0, 37.0
    grid = np.linspace(low, high, 20001)
    logs = [
        PchipInterpolator([q for _, q in c], [math.log10(r) for r, _ in c])(grid)
        for c in (ANCHOR, test)
    ]
    expected = (10 ** np.mean(logs[1] - logs[0]) - 1) * 100
    assert bd_rate("psnr", ANCHOR, test).value == pytest.approx(expected, rel=1e-3)


def test_no_overlap_is_said_in_words() -> None:
    worse = [(r, v - 20) for r, v in ANCHOR]
    found = bd_rate("psnr", ANCHOR, worse)
    assert found == Delta(None, "no overlap, anchor better")
    assert bd_rate("psnr", worse, ANCHOR).words == "no overlap, ours better"
    assert bd_quality("psnr", ANCHOR, worse).value == pytest.approx(-20)
    far = [(100 * r, v) for r, v in ANCHOR]
    assert bd_quality("psnr", ANCHOR, far).words == "no overlap of the rates"
    assert bd_rate("psnr", ANCHOR, ANCHOR[:2]).words == "too few points"


def test_metrics_are_put_on_a_rising_scale() -> None:
    assert quality_of("ms_ssim", 0.99) == pytest.approx(20)
    assert quality_of("st_lpips", 0.2) == -0.2
    assert [r for r, _ in curve("st_lpips", [(1, 0.3), (2, 0.35), (3, 0.1), (3, 0.05)])] == [1, 3]


def test_mean_says_of_how_many_clips() -> None:
    gone = Delta(None, "no overlap, anchor better")
    assert mean([Delta(10, "", 0.5), Delta(30, "", 1)]) == Delta(20, "", 0.75)
    assert mean([Delta(10, "", 1), gone]).words == "1 of 2 clips"
    assert mean([gone, gone]).words == gone.words
