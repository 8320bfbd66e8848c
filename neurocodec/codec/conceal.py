"""What is shown in place of lost frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..media.frame import Planes

SEEN = 5  # frames before a loss that a concealer is given, at most
# frames shown before, one at least, and how many are lost -> so many frames
Concealer = Callable[[Sequence[Planes], int], Iterable[Planes]]


def grey_frame(width: int, height: int) -> Planes:
    half = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    return np.full((height, width), 128, np.uint8), half, half


def freeze(before: Sequence[Planes], count: int) -> Iterable[Planes]:
    """The last frame, again and again."""
    return [before[-1]] * count


def grey(before: Sequence[Planes], count: int) -> Iterable[Planes]:
    height, width = before[-1][0].shape
    return [grey_frame(width, height)] * count


CONCEALERS: dict[str, Concealer] = {"freeze": freeze, "grey": grey}
