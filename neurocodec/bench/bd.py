"""Bjontegaard deltas between two rate-distortion curves, in numbers or in words.

The ``bjontegaard`` package does the integral (piecewise cubic Hermite interpolation, as in JVET's
and AOM's common test conditions); here curves are made fit for it, and what has no number is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError

LEAST_POINTS = 3
Point = tuple[float, float]  # rate, value of a metric


@dataclass(frozen=True)
class Delta:
    """value: percent of rate, or units of quality; None where ``words`` say why there is none.

    overlap: share of the range of ``test``'s curve that the figure is about, 0..1.
    """

    value: float | None
    words: str = ""
    overlap: float = 0.0


def quality_of(key: str, value: float) -> float:
    """A metric as a quality that grows, on the scale on which curves are integrated."""
    if key == "ms_ssim":
        return -10 * math.log10(max(1 - value, 1e-10))  # in dB, as usual
    if key == "st_lpips":
        return -value
    return value


def curve(key: str, points: Sequence[Point]) -> list[Point]:
    """(rate, quality), both rising strictly: what costs more than a better point is left out."""
    rising: list[Point] = []
    for rate, value in sorted(points):
        quality = quality_of(key, value)
        if not rising or (rate > rising[-1][0] and quality > rising[-1][1]):
            rising.append((rate, quality))
    return rising


def bd_rate(key: str, anchor: Sequence[Point], test: Sequence[Point]) -> Delta:
    """How much more rate ``test`` needs than ``anchor`` at equal quality, in percent."""
    return _delta("bd_rate", curve(key, anchor), curve(key, test), axis=1)


def bd_quality(key: str, anchor: Sequence[Point], test: Sequence[Point]) -> Delta:
    """How much better ``test`` is than ``anchor`` at equal rate; below 0 if it is worse."""
    return _delta("bd_psnr", curve(key, anchor), curve(key, test), axis=0)


def _delta(function: str, anchor: list[Point], test: list[Point], axis: int) -> Delta:
    """axis: 0 where the curves are compared along the rate, 1 along the quality."""
    if min(len(anchor), len(test)) < LEAST_POINTS:
        return Delta(None, "too few points")
    spans = []
    for points in (anchor, test):
        along = [math.log10(p[0]) if axis == 0 else p[1] for p in points]
        spans.append((min(along), max(along)))
    (low_a, high_a), (low_b, high_b) = spans
    common = min(high_a, high_b) - max(low_a, low_b)
    if common <= 0:
        if axis == 0:
            return Delta(None, "no overlap of the rates")
        ahead = "anchor" if low_a >= high_b else "ours"
        return Delta(None, f"no overlap, {ahead} better")
    try:
        import bjontegaard
    except ImportError:
        raise UsageError("BD-rates need: pip install 'neurocodec[bench]'") from None
    arrays = [np.array(c) for points in (anchor, test) for c in zip(*points, strict=True)]
    value = getattr(bjontegaard, function)(
        *arrays, method="pchip", require_matching_points=False, min_overlap=0
    )
    return Delta(float(value), "", common / (high_b - low_b))


def mean(deltas: Sequence[Delta]) -> Delta:
    """Over clips; says of how many where some have no number."""
    values = [d.value for d in deltas if d.value is not None]
    if not values:
        reasons = {d.words for d in deltas}
        return Delta(None, reasons.pop() if len(reasons) == 1 else "no overlap")
    words = f"{len(values)} of {len(deltas)} clips" if len(values) < len(deltas) else ""
    return Delta(float(np.mean(values)), words, float(np.mean([d.overlap for d in deltas])))
