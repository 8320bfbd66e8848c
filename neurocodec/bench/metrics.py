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

from ..bitstream.payloads import Colour
from ..codec.compare import frame_psnr
from ..errors import Error, InputError, UsageError
from ..media.frame import Frame, Plane
from . import perceptual
from .colour import ToRgb
from .ffmpeg import Ffmpeg
from .y4m import Planes, Y4m, write_y4m

Columns = dict[str, list[float | None]]  # a value a frame; None where one was not looked at
_PLANES = ("y", "u", "v")
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest first
_WINDOW = 11  # pixels
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


def scales_of(width: int, height: int) -> int:
    """How many scales MS-SSIM has: 5 from 161 pixels on (the smaller side), then one less each
    time the window of 11 would not fit into the coarsest; 0 below 11."""
    side, scales = min(width, height), 0
    while scales < len(_SCALE_WEIGHTS) and side > (_WINDOW - 1) << scales:
        scales += 1
    return scales


def plane_ms_ssim(a: Plane, b: Plane) -> float:
    """By pytorch-msssim. With fewer than five scales: the finest ones, their weights scaled to a
    sum of 1, which with one scale is plain SSIM. Raises MetricError below 11 pixels."""
    try:
        import pytorch_msssim
    except ImportError:
        raise MetricError("the metric ms_ssim needs: pip install 'neurocodec[bench]'") from None
    scales = scales_of(a.shape[1], a.shape[0])
    if scales == 0:
        raise MetricError(f"MS-SSIM needs frames of at least {_WINDOW}x{_WINDOW} pixels")
    x, y = (torch.from_numpy(p.astype(np.float32))[None, None] for p in (a, b))
    if scales == len(_SCALE_WEIGHTS):
        return float(pytorch_msssim.ms_ssim(x, y, data_range=255))
    weights = np.array(_SCALE_WEIGHTS[:scales]) / sum(_SCALE_WEIGHTS[:scales])
    value = 1.0
    for scale, weight in enumerate(weights):
        last = scale == scales - 1
        # contrast and structure alone: a vast K1 makes the luminance term 1
        constants = (0.01, 0.03) if last else (1e6, 0.03)
        term = pytorch_msssim.ssim(x, y, data_range=255, K=constants, nonnegative_ssim=True)
        value *= float(term) ** weight
        if not last:
            padding = [side % 2 for side in x.shape[2:]]  # as pytorch-msssim has it
            x, y = (torch.nn.functional.avg_pool2d(p, 2, padding=padding) for p in (x, y))
    return value


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
