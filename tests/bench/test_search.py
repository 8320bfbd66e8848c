import math

import pytest

from neurocodec.bench.anchors import CODECS, Dial
from neurocodec.bench.search import RateSearch, rate_at_quality


def crf_like(value: float) -> float:
    """Rate falls by 12 % a step, faster at the coarse end."""
    return 1000 * 0.88**value * (1 - (value / 80) ** 3)


@pytest.mark.parametrize("name", ["x264", "x265", "svt-av1", "vvenc"])
@pytest.mark.parametrize("target", [5.0, 20.0, 60.0, 150.0])
def test_two_probes_and_a_few_tries_meet_the_rate(name: str, target: float) -> None:
    dial = CODECS[name].dial
    asked: list[float] = []

    def rate_of(value: float) -> float:
        asked.append(value)
        return crf_like(value)

    found = RateSearch(dial, rate_of).find(target)
    assert crf_like(found) == pytest.approx(target, rel=0.07)  # half a step of 12 %
    assert len(asked) <= 5
    assert len(set(asked)) == len(asked)


def test_later_targets_use_what_is_known() -> None:
    asked: list[float] = []
    search = RateSearch(Dial("crf", 51, 8, (38, 24)), lambda v: asked.append(v) or crf_like(v))  # type: ignore[func-returns-value]
    values = [search.find(t) for t in (10, 20, 40, 80)]
    assert values == sorted(values, reverse=True)
    assert len(asked) <= 2 + 4 * 3


def test_a_rate_out_of_reach_gives_the_end_of_the_dial() -> None:
    search = RateSearch(Dial("quality", 0, 100, (20, 80)), lambda v: 10 + v)
    assert search.find(1e6) == 100
    assert search.find(0.1) == 0


def test_steps() -> None:
    assert Dial("crf", 51, 8, (38, 24), 0.5).clamp(30.3) == 30.5
    assert Dial("qp", 51, 8, (38, 24)).clamp(30.4) == 30
    assert Dial("qp", 51, 8, (38, 24)).clamp(70) == 51


def test_rate_at_quality_follows_the_slope_of_the_end() -> None:
    points = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0)]  # 3 dB a doubling
    assert rate_at_quality(points, 27) == pytest.approx(0.05)
    assert rate_at_quality(points, 39) == pytest.approx(0.8)
    assert rate_at_quality(points, 0) == pytest.approx(0.025)  # never further than a factor of 4
    assert math.isclose(rate_at_quality(points, 60), 1.6)
