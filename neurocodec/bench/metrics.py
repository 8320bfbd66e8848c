"""Quality of decoded frames against their source, frame by frame, in the source's 8-bit 4:2:0.

psnr      of Y, U and V in dB, 100 for equal planes, and (6 Y + U + V) / 8
ms_ssim   of Y: Wang, Simoncelli and Bovik, "Multiscale structural similarity", 2003
vmaf      vmaf_v0.6.1, by ffmpeg's libvmaf
xpsnr     ITU-T P.910 / Helmrich et al. 2020, by ffmpeg: of Y, U and V, and (6 Y + U + V) / 8
st_lpips  shift-tolerant LPIPS of the RGB picture, see perceptual.py; smaller is better

The figure of a clip is the mean over its frames.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .. import similarity
from ..bitstream.payloads import Colour
from ..codec.compare import frame_psnr
from ..errors import Error, InputError, UsageError
from ..media.frame import Frame, Plane, Planes
from . import perceptual
from .colour import ToRgb
from .ffmpeg import Ffmpeg
from .y4m import Y4m, write_y4m

Columns = dict[str, list[float | None]]  # a value a frame; None where one was not looked at
_PLANES = ("y", "u", "v")
_MOST_DB = 100.0


class MetricError(Error):
    """A metric cannot be computed here, or not of frames like these."""


@dataclass
class Quality:
    """means: key -> over frames. columns: key -> per frame. missing: metric -> why."""

    means: dict[str, float] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """What is compared. every: st_lpips looks at frames 0, every, 2 every ..."""

    source: Y4m
    decoded: Y4m
    colour: Colour
    ffmpeg: Ffmpeg | None
    every: int = 1


def measure(names: Iterable[str], pair: Pair) -> Quality:
    """Compute metrics by name. Raises InputError where the clips differ in size or length."""
    a, b = pair.source, pair.decoded
    if (a.width, a.height, a.count) != (b.width, b.height, b.count):
        raise InputError(
            f"{b.path.name}: {b.count} frames of {b.width}x{b.height}, but the source has "
            f"{a.count} of {a.width}x{a.height}"
        )
    quality = Quality()
    for name in names:
        try:
            quality.columns.update(METRICS[name](pair))
        except (MetricError, UsageError) as error:
            quality.missing[name] = str(error)
    for key, values in quality.columns.items():
        quality.means[key] = float(np.mean([v for v in values if v is not None]))
    return quality


def psnr(pair: Pair) -> Columns:
    rows = []
    for a, b in zip(pair.source, pair.decoded, strict=True):
        y, u, v = frame_psnr(Frame(*a, 0), Frame(*b, 0))
        rows.append((y, u, v, weighted(y, u, v)))
    keys = ("psnr_y", "psnr_u", "psnr_v", "psnr")
    return {key: list(values) for key, values in zip(keys, zip(*rows, strict=True), strict=True)}


def weighted(y: float, u: float, v: float) -> float:
    return (6 * y + u + v) / 8


def ms_ssim(pair: Pair) -> Columns:
    both = zip(pair.source, pair.decoded, strict=True)
    return {"ms_ssim": [plane_ms_ssim(a[0], b[0]) for a, b in both]}


def plane_ms_ssim(a: Plane, b: Plane) -> float:
    """See ``similarity.py``. Raises MetricError below 11 pixels, and without pytorch-msssim."""
    x, y = (torch.from_numpy(p.astype(np.float32))[None] for p in (a, b))
    try:
        return float(similarity.ms_ssim(x, y, 255))
    except (UsageError, ValueError) as error:
        raise MetricError(str(error)) from None


def vmaf(pair: Pair) -> Columns:
    text = _filter(pair, "libvmaf", "libvmaf=log_fmt=json:log_path=out:n_threads=2", "VMAF")
    frames = json.loads(text)["frames"]
    return {"vmaf": [frame["metrics"]["vmaf"] for frame in frames]}


def xpsnr(pair: Pair) -> Columns:
    text = _filter(pair, "xpsnr", "xpsnr=stats_file=out", "XPSNR")
    columns: Columns = {key: [] for key in ("xpsnr_y", "xpsnr_u", "xpsnr_v", "xpsnr")}
    for line in text.splitlines():
        found = dict(re.findall(r"XPSNR (\w): *([\d.]+|inf)", line))
        if not line.startswith("n:") or len(found) < len(_PLANES):
            continue
        values = [min(float(found[p]), _MOST_DB) for p in _PLANES]
        for plane, value in zip(_PLANES, values, strict=True):
            columns[f"xpsnr_{plane}"].append(value)
        columns["xpsnr"].append(weighted(*values))
    return columns


def _filter(pair: Pair, name: str, graph: str, title: str) -> str:
    """Run a two-input filter of ffmpeg that writes a file "out", and return that file."""
    if pair.ffmpeg is None:
        raise MetricError(f"{title} needs ffmpeg: pip install 'neurocodec[bench]'")
    if name not in pair.ffmpeg.filters:
        raise MetricError(f"ffmpeg {pair.ffmpeg.version} has no {name}")
    with tempfile.TemporaryDirectory() as scratch:
        decoded = pair.decoded.path.resolve()
        if pair.decoded.depth != 8:
            decoded = Path(scratch) / "decoded.y4m"
            write_y4m(decoded, pair.decoded, pair.source.rate)
        command = [pair.ffmpeg.path, "-hide_banner", "-nostdin", "-y"]
        for path in (decoded, pair.source.path.resolve()):
            command += ["-r", str(pair.source.rate), "-i", str(path)]
        command += ["-lavfi", f"[0:v][1:v]{graph}", "-f", "null", "-"]
        ended = subprocess.run(command, cwd=scratch, capture_output=True)
        out = Path(scratch) / "out"
        if ended.returncode or not out.exists():
            size = f"{pair.source.width}x{pair.source.height}"
            raise MetricError(f"{title} failed, of frames of {size}")
        return out.read_text()


def st_lpips(pair: Pair) -> Columns:
    if min(pair.source.width, pair.source.height) < perceptual.SMALLEST_SIDE:
        side = perceptual.SMALLEST_SIDE
        raise MetricError(f"ST-LPIPS needs frames of at least {side}x{side} pixels")
    to_rgb = ToRgb(pair.colour)

    def look(planes: tuple[Planes, Planes]) -> float:
        return perceptual.distance(to_rgb(planes[0]), to_rgb(planes[1]))

    count = pair.source.count
    looked = {
        i: look((pair.source.frame(i), pair.decoded.frame(i))) for i in range(0, count, pair.every)
    }
    return {"st_lpips": [looked.get(i) for i in range(count)]}


METRICS: dict[str, Callable[[Pair], Columns]] = {
    "psnr": psnr,
    "ms_ssim": ms_ssim,
    "vmaf": vmaf,
    "xpsnr": xpsnr,
    "st_lpips": st_lpips,
}
