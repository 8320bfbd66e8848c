"""Rate control: the quantizer step of each GOP, for a file to meet a size, bitrate or quality.

A GOP is coded at the step that experience suggests, and again where the result is too far off.
What is too much or too little is made up for by the GOPs that follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from ..tokenizer.config import STEP_LIMITS

MOST_TRIES = 4  # of a GOP
SIZE_TOLERANCE = 0.04  # of a GOP's budget
PSNR_TOLERANCE = 0.08  # dB
_SIZE_SLOPE = -1.1  # of log size over log step, before there is experience
_PSNR_SLOPE = -6.5  # dB for e times the step
_CATCH_UP = 2.0  # GOPs in which what was overspent is saved


@dataclass(frozen=True)
class GopResult:
    """bytes: of the coded GOP; psnr: (6 Y + U + V) / 8 in dB, the mean over its frames."""

    frames: int
    bytes: int
    psnr: float


class Control(Protocol):
    """Chooses steps: ``first`` begins a GOP; ``again`` gives another, or None if no more are to be
    tried; ``miss`` says how far off a try is, and ``settle`` which was taken."""

    def first(self, seconds: float) -> float: ...

    def again(self, result: GopResult) -> float | None: ...

    def miss(self, result: GopResult) -> float: ...

    def settle(self, result: GopResult) -> None: ...


class Aim:
    """Finds the step at which one figure of a GOP, about linear in log step, has a wanted value."""

    def __init__(self, start: float, slope: float) -> None:
        """start: a first step; slope: of the figure over log step, until it is known."""
        self.step, self._slope = start, slope
        self._tries: list[tuple[float, float]] = []  # log step, figure

    def begin(self) -> None:
        self._tries = []

    def next(self, figure: float, wanted: float, tolerance: float) -> float | None:
        """The step to try after the present one gave a figure; None if that will have to do."""
        before, tries = self.step, self._tried(figure)
        step = self._towards(wanted)
        if step == before:  # which did not do what the closest try promised: on from here
            step = self._from(self._tries[-1], wanted)
        close = abs(figure - wanted) <= tolerance
        return None if close or tries >= MOST_TRIES or step == before else step

    def _tried(self, figure: float) -> int:
        """Note what the present step gave. Returns how many were tried for this GOP."""
        self._tries.append((math.log(self.step), figure))
        if len(self._tries) > 1:
            (x0, y0), (x1, y1) = self._tries[-2:]
            if x0 != x1:
                slope = (y1 - y0) / (x1 - x0)
                if 0.3 < slope / self._slope < 3:
                    self._slope = slope
        return len(self._tries)

    def _towards(self, wanted: float) -> float:
        """The next step to try, from the try that came closest."""
        return self._from(min(self._tries, key=lambda t: abs(t[1] - wanted)), wanted)

    def _from(self, tried: tuple[float, float], wanted: float) -> float:
        x, y = tried
        low, high = STEP_LIMITS
        self.step = min(max(math.exp(x + (wanted - y) / self._slope), low), high)
        return self.step


class SizeControl:
    """Holds a bitrate over the file; what cannot be met is met as nearly as can be."""

    def __init__(self, bytes_per_second: float, start: float) -> None:
        self._rate = bytes_per_second
        self._aim = Aim(start, _SIZE_SLOPE)
        self._owed = 0.0  # bytes that GOPs so far have spent too much
        self._budget = self._fair = 0.0

    def first(self, seconds: float) -> float:
        fair = self._rate * seconds
        self._budget = max(fair - self._owed / _CATCH_UP, 0.3 * fair)
        self._fair = fair
        self._aim.begin()
        return self._aim.step

    def again(self, result: GopResult) -> float | None:
        return self._aim.next(math.log(result.bytes), math.log(self._budget), SIZE_TOLERANCE)

    def miss(self, result: GopResult) -> float:
        return abs(math.log(result.bytes / self._budget))

    def settle(self, result: GopResult) -> None:
        self._owed += result.bytes - self._fair


class PsnrControl:
    """Holds the PSNR of every GOP."""

    def __init__(self, psnr: float, start: float) -> None:
        self._wanted = psnr
        self._aim = Aim(start, _PSNR_SLOPE)

    def first(self, seconds: float) -> float:
        self._aim.begin()
        return self._aim.step

    def again(self, result: GopResult) -> float | None:
        return self._aim.next(result.psnr, self._wanted, PSNR_TOLERANCE)

    def miss(self, result: GopResult) -> float:
        return abs(result.psnr - self._wanted)

    def settle(self, result: GopResult) -> None:
        """Every GOP is for itself."""


def step_for_rate(bits_per_pixel: float) -> float:
    """A step to begin with, from what clips take on average."""
    low, high = STEP_LIMITS
    return min(max(0.12 * (bits_per_pixel / 0.1) ** (1 / _SIZE_SLOPE), low), high)
