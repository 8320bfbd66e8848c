"""YUV4MPEG2 files: the form in which frames go from codec to codec and to the metrics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..media.frame import Plane, Planes

_MARK = b"FRAME\n"
_DEPTHS = {"420jpeg": 8, "420mpeg2": 8, "420paldv": 8, "420": 8, "420p10": 10}


@dataclass(frozen=True)
class Y4m:
    """A 4:2:0 file. depth: bits of its samples; frames are given out with 8."""

    path: Path
    width: int
    height: int
    rate: Fraction
    depth: int
    count: int
    _start: int

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        half = (self.height + 1) // 2, (self.width + 1) // 2
        return [(self.height, self.width), half, half]

    def frame(self, index: int) -> Planes:
        """Y (H, W), U and V (ceil(H/2), ceil(W/2)), uint8; deeper samples are rounded."""
        kind = np.dtype(np.uint8) if self.depth == 8 else np.dtype("<u2")
        sizes = [h * w for h, w in self._shapes]
        length = sum(sizes) * kind.itemsize
        with self.path.open("rb") as file:
            file.seek(self._start + index * (len(_MARK) + length) + len(_MARK))
            samples = np.frombuffer(file.read(length), kind)
        planes, at = [], 0
        for size, shape in zip(sizes, self._shapes, strict=True):
            planes.append(_to_8_bits(samples[at : at + size].reshape(shape), self.depth))
            at += size
        return planes[0], planes[1], planes[2]

    def __iter__(self) -> Iterator[Planes]:
        return (self.frame(i) for i in range(self.count))


def _to_8_bits(samples: NDArray[Any], depth: int) -> Plane:
    """By rounding; ffmpeg would dither, and lose 0.1 dB doing so."""
    if depth == 8:
        return samples.astype(np.uint8, copy=False)
    shift = depth - 8
    return np.minimum((samples.astype(np.int32) + (1 << shift >> 1)) >> shift, 255).astype(np.uint8)


def open_y4m(path: str | os.PathLike[str]) -> Y4m:
    """Raises InputError for what is not a whole 8- or 10-bit 4:2:0 file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            line = file.readline(1024)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    words = line.decode("ascii", "replace").split()
    if not words or words[0] != "YUV4MPEG2":
        raise InputError(f"{path}: not a y4m file")
    values = {word[0]: word[1:] for word in words[1:] if word[0] != "X"}
    try:
        width, height = int(values["W"]), int(values["H"])
        rate = Fraction(values["F"].replace(":", "/"))
        depth = _DEPTHS[values.get("C", "420jpeg")]
    except (KeyError, ValueError, ZeroDivisionError):
        raise InputError(f"{path}: not a y4m file of 8- or 10-bit 4:2:0") from None
    samples = width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
    count, left = divmod(size - len(line), len(_MARK) + samples * (1 if depth == 8 else 2))
    if left or not count:
        raise InputError(f"{path}: cut off, or empty")
    return Y4m(path, width, height, rate, depth, count, len(line))


def with_whole_chroma(planes: Planes) -> Planes:
    """Chroma doubled, to the size (H, W) of luma."""
    y, u, v = planes
    u, v = (p.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] for p in (u, v))
    return y, u, v


def write_y4m(path: Path, frames: Iterable[Planes], rate: Fraction) -> str:
    """Returns the SHA-256 of the file.

    Range and matrix are left out on purpose: with them ffmpeg converts samples for some encoders.
    """
    digest = hashlib.sha256()
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        for i, planes in enumerate(frames):
            data = _MARK + b"".join(np.ascontiguousarray(p).tobytes() for p in planes)
            if i == 0:
                height, width = planes[0].shape
                rates = f"{rate.numerator}:{rate.denominator}"
                data = f"YUV4MPEG2 W{width} H{height} F{rates} Ip A1:1 C420jpeg\n".encode() + data
            digest.update(data)
            file.write(data)
    os.replace(part, path)
    return digest.hexdigest()
