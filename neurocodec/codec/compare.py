"""A .nc file against the video it was made of."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..media.frame import Frame
from ..media.reader import MediaReader
from ..threads import ahead
from .video import Video


@dataclass(frozen=True)
class Quality:
    """PSNR in dB, the mean over frames, in the source's own 8-bit 4:2:0 samples."""

    frames: int
    psnr_y: float
    psnr_u: float
    psnr_v: float

    @property
    def psnr(self) -> float:
        """(6 Y + U + V) / 8."""
        return (6 * self.psnr_y + self.psnr_u + self.psnr_v) / 8


def frame_psnr(a: Frame, b: Frame) -> list[float]:
    """Of Y, U and V; 100 for equal planes."""
    out = []
    for x, y in zip(a.planes, b.planes, strict=True):
        error = float(np.square(x.astype(np.float64) - y).mean())
        out.append(100.0 if error == 0 else 10 * np.log10(255.0**2 / error))
    return out


def compare(
    src: str | os.PathLike[str], nc: str | os.PathLike[str], model: str | None = None
) -> Quality:
    """Decode ``nc`` and compare it with ``src``, frame by frame. Raises InputError."""
    rows = []
    with MediaReader(src, audio="none") as reader, Video(nc, model) as video:
        sources = ahead((item for item in reader if isinstance(item, Frame)), 16)
        try:
            for decoded, source in itertools.zip_longest(video, sources):
                if decoded is None or source is None or decoded.y.shape != source.y.shape:
                    raise InputError(f"{nc}: differs from {src} in length or size")
                rows.append(frame_psnr(source, decoded))
        finally:
            sources.close()
    y, u, v = np.mean(rows, 0)
    return Quality(len(rows), float(y), float(u), float(v))
