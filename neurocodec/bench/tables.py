"""The figures of a benchmark gathered for people: curves, averages, BD tables, speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from . import bd
from .results import Curve, Results, Source
from .suite import OURS

Point = dict[str, Any]


@dataclass(frozen=True)
class Title:
    """How a metric is shown. smaller: whether smaller is better."""

    key: str
    title: str
    unit: str = ""
    digits: int = 2
    smaller: bool = False


TITLES = (
    Title("psnr", "PSNR-YUV", "dB"),
    Title("ms_ssim", "MS-SSIM", digits=4),
    Title("vmaf", "VMAF"),
    Title("xpsnr", "XPSNR", "dB"),
    Title("st_lpips", "ST-LPIPS", digits=4, smaller=True),
)
SMALL_OVERLAP = 0.5


class Tables:
    """Everything that the reports show of ``results``. Raises InputError for lost files."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.points: dict[str, dict[str, list[Point]]] = {}  # clip -> codec -> by rate
        for (clip, codec), curve in results.curves.items():
            found = _with_targets(results, curve)
            if found:
                self.points.setdefault(clip, {})[codec] = found

    @property
    def clips(self) -> list[Source]:
        return list(self.results.sources.values())

    @cached_property
    def codecs(self) -> list[str]:
        """Ours first, then as in the suite; only those that have a point."""
        labels = dict.fromkeys(codec for _, codec in self.results.curves)
        return [c for c in labels if any(c in curves for curves in self.points.values())]

    @property
    def anchors(self) -> list[str]:
        return [c for c in self.codecs if c != OURS]

    @cached_property
    def titles(self) -> list[Title]:
        """Of the metrics that any point has."""
        found = {k for curves in self.points.values() for ps in curves.values() for p in ps
                 for k in p["metrics"]}  # fmt: skip
        return [title for title in TITLES if title.key in found]

    def curve(self, clip: str, codec: str, key: str) -> list[tuple[float, float]]:
        """(bits per pixel, value) of the points that have the metric."""
        points = self.points.get(clip, {}).get(codec, [])
        return [(p["bpp"], p["metrics"][key]) for p in points if key in p["metrics"]]

    def bd_rate(self, clip: str, anchor: str, key: str) -> bd.Delta:
        return bd.bd_rate(key, self.curve(clip, anchor, key), self.curve(clip, OURS, key))

    def bd_quality(self, clip: str, anchor: str, key: str) -> bd.Delta:
        return bd.bd_quality(key, self.curve(clip, anchor, key), self.curve(clip, OURS, key))

    def mean_bd_rate(self, anchor: str, key: str) -> bd.Delta:
        return bd.mean([self.bd_rate(clip, anchor, key) for clip in self._clips_of(anchor)])

    def mean_bd_quality(self, anchor: str, key: str) -> bd.Delta:
        return bd.mean([self.bd_quality(clip, anchor, key) for clip in self._clips_of(anchor)])

    def _clips_of(self, codec: str) -> list[str]:
        return [clip for clip, curves in self.points.items() if codec in curves]

    def speed(self, codec: str, stage: str, clip: str | None = None) -> float | None:
        """Frames a second over all points; stage: "encode" or "decode". With start-up."""
        clips = self._clips_of(codec) if clip is None else [clip]
        used = [
            (p["frames"], p[stage]["seconds"])
            for name in clips
            for p in self.points.get(name, {}).get(codec, [])
            if p[stage]
        ]
        seconds = sum(s for _, s in used)
        return sum(f for f, _ in used) / seconds if seconds else None

    def average(self, codec: str) -> list[Point]:
        """Mean rate and metrics over the clips, of points made to meet the same point of ours;
        only of those that every clip has."""
        clips = [self.points[clip].get(codec, []) for clip in self.points]
        by_target = [
            {p["target"]: p for p in points if p["target"] is not None} for points in clips
        ]
        common = set.intersection(*(set(points) for points in by_target)) if by_target else set()
        out = []
        for target in sorted(common):
            points = [of_clip[target] for of_clip in by_target]
            mean = {key: sum(p[key] for p in points) / len(points) for key in ("bpp", "kbps")}
            metrics = {
                t.key: sum(p["metrics"][t.key] for p in points) / len(points)
                for t in self.titles
                if all(t.key in p["metrics"] for p in points)
            }
            out.append({**mean, "metrics": metrics, "target": target})
        return out


def _with_targets(results: Results, curve: Curve) -> list[Point]:
    points = results.points(curve)
    for point, path, target in zip(points, curve.points, curve.targets, strict=True):
        point["target"] = target
        point["picture"] = str(PurePosixPath(path).relative_to("points").with_suffix(""))
    return sorted(points, key=lambda p: float(p["bytes"]))


def shown_delta(delta: bd.Delta, unit: str = " %", digits: int = 0) -> str:
    """For a table cell: "~" before figures of curves that have little in common."""
    if delta.value is None:
        return delta.words
    little = "~" if delta.overlap < SMALL_OVERLAP else ""
    words = f" ({delta.words})" if delta.words else ""
    return f"{little}{delta.value:+.{digits}f}{unit}{words}"


def shown_speed(fps: float | None) -> str:
    """In two figures; timing is worth no more."""
    if not fps:
        return "-"
    return f"{fps:.{max(0, 1 - math.floor(math.log10(fps)))}f}"


def shown_value(title: Title, value: float) -> str:
    return f"{value:.{title.digits}f}"
