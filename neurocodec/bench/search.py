"""Which values of a codec's dial give the wanted rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .anchors import Dial

CLOSE = 0.03  # of the rate: no correction below it
CORRECTIONS = 2
RateOf = Callable[[float], float]


class RateSearch:
    """Learns how rate follows the dial: log(rate) is taken for linear between two tries.

    rate_of: encodes at a value and returns the rate, in any unit; it is asked once for each value.
    """

    def __init__(self, dial: Dial, rate_of: RateOf) -> None:
        self._dial, self._rate_of = dial, rate_of
        self._known: dict[float, float] = {}  # value -> log rate

    def find(self, target: float) -> float:
        """The value whose rate is nearest to ``target``: two probes at first, then corrections."""
        for probe in self._dial.probes:
            self._try(probe)
        wanted = math.log(target)
        for _ in range(1 + CORRECTIONS):
            if abs(self._try(self._interpolate(wanted)) - wanted) <= math.log1p(CLOSE):
                break
        return min(self._known, key=lambda value: abs(self._known[value] - wanted))

    def _try(self, value: float) -> float:
        if value not in self._known:
            self._known[value] = math.log(self._rate_of(value))
        return self._known[value]

    def _interpolate(self, wanted: float) -> float:
        """Between the two tries around ``wanted``, or beyond the two nearest to it."""
        by_rate = sorted((rate, value) for value, rate in self._known.items())
        below = [item for item in by_rate if item[0] <= wanted]
        above = [item for item in by_rate if item[0] > wanted]
        if below and above:
            (r0, v0), (r1, v1) = below[-1], above[0]
        else:
            (r0, v0), (r1, v1) = by_rate[:2] if above else by_rate[-2:]
        if r0 == r1:
            return self._dial.clamp(v0)
        return self._dial.clamp(v0 + (wanted - r0) * (v1 - v0) / (r1 - r0))


def rate_at_quality(points: Sequence[tuple[float, float]], quality: float) -> float:
    """Rate at which a curve of (rate, quality) would reach ``quality`` beyond one of its ends,
    by the slope of the two points there. Factor of at most 4 beyond that end."""
    by_rate = sorted(points)
    low = quality < by_rate[0][1]
    end, other = (by_rate[0], by_rate[1]) if low else (by_rate[-1], by_rate[-2])
    rate, value = math.log(end[0]), end[1]
    slope = (math.log(other[0]) - rate) / (other[1] - value)  # d log rate / d quality
    step = (quality - value) * slope
    return math.exp(rate + min(max(step, -math.log(4)), math.log(4)))
