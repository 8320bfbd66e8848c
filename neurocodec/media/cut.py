"""Parts of a clip, as users give them: start and duration in seconds."""

from __future__ import annotations

import math
from fractions import Fraction

from ..errors import UsageError


def check_cut(start: float, duration: float | None) -> None:
    """Raises UsageError for anything but a finite start >= 0 and duration > 0."""
    if not (math.isfinite(start) and start >= 0):
        raise UsageError(f"start {start:g}: give 0 or more seconds")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise UsageError(f"duration {duration:g}: give more than 0 seconds")


def exact_seconds(value: float) -> Fraction:
    """The decimal number that a user wrote: 0.1 is 1/10, not the float nearest to it."""
    return Fraction(str(value))
