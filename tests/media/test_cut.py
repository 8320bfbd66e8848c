from fractions import Fraction

import pytest

from neurocodec.errors import UsageError
from neurocodec.media.cut import check_cut, exact_seconds


def test_seconds_are_what_was_written() -> None:
    assert exact_seconds(0.1) == Fraction(1, 10)
    assert exact_seconds(3) == 3
    assert exact_seconds(1e-05) == Fraction(1, 100000)


@pytest.mark.parametrize(
    ("start", "duration"),
    [(-1, None), (float("nan"), None), (float("inf"), None), (0, 0), (0, -1), (0, float("nan"))],
)
def test_nonsense_is_refused(start: float, duration: float | None) -> None:
    with pytest.raises(UsageError):
        check_cut(start, duration)


def test_sense_is_not() -> None:
    check_cut(0, None)
    check_cut(0.5, 1e-3)
