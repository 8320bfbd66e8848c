"""Run a suite: our own points first, then those of the anchors at rates that suit them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock

import numpy as np

from ..errors import Error, OutputError
from .anchors import Codec, Dial, Setting, make_codec
from .bd import curve as rising_curve
from .ffmpeg import Ffmpeg
from .points import Point, PointMaker, write_source_picture
from .process import Programs
from .results import Curve, Results, Source
from .search import RateSearch, rate_at_quality
from .sources import prepare
from .suite import OURS, Suite
from .versions import libraries, machine

POINTS_ALONE = 4  # of an anchor when there are none of ours to meet
MOST_EXTRA = 2  # points beyond our rates, at either end
MARGIN = 0.3  # dB beyond our own curve, so that curves surely overlap
Notify = Callable[[str], None]
Job = Callable[[], None]


def run_suite(
    suite: Suite,
    folder: Path,
    *,
    only: tuple[str, ...] = (),
    jobs: int = 1,
    ffmpeg: str | None = None,
    notify: Notify = lambda line: None,
) -> Results:
    """Run what is not in ``folder`` yet. only: codecs by name or label; all if empty.

    jobs: codecs and clips at once; times are then not those of a codec alone. notify: is told of
    every finished point, in a line. Raises UsageError, InputError, OutputError; a codec that
    fails is noted in the results and does not end the run.
    """
    return Benchmark(suite, folder, only, jobs, Ffmpeg(ffmpeg), notify).run()


class Benchmark:
    def __init__(
        self,
        suite: Suite,
        folder: Path,
        only: tuple[str, ...],
        jobs: int,
        ffmpeg: Ffmpeg,
        notify: Notify,
    ) -> None:
        self._suite, self._jobs, self._ffmpeg, self._notify = suite, jobs, ffmpeg, notify
        self._settings = suite.settings(only)
        self._results = _open(folder)
        self._programs = Programs()
        self._maker = PointMaker(self._results, suite, ffmpeg, self._programs, jobs)
        self._lock = Lock()  # of the results

    def run(self) -> Results:
        results = self._results
        results.about = {
            "suite": self._suite.to_dict(),
            "ffmpeg": self._ffmpeg.version,
            "libraries": libraries(),
            "machine": {**machine(), "jobs": self._jobs},
        }
        sources = [prepare(clip, self._suite.frames, results) for clip in self._suite.clips]
        results.sources = {source.name: source for source in sources}
        for source in sources:
            write_source_picture(source, results)
        labels = [s.label for s in self._suite.settings()]
        results.curves = {
            (source.name, label): results.curves.get(
                (source.name, label), Curve(source.name, label, "not run")
            )
            for source in sources
            for label in labels
        }
        results.save()
        ours = [s for s in self._settings if s.codec == OURS]
        anchors = [s for s in self._settings if s.codec != OURS]
        for settings in (ours, anchors):  # anchors go by our rates
            self._all(self._job(source, s) for source in sources for s in settings)
        return results

    def _all(self, jobs: Iterable[Job]) -> None:
        if self._jobs == 1:
            for job in jobs:
                job()
            return
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._programs.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _job(self, source: Source, setting: Setting) -> Job:
        def job() -> None:
            ours = self._suite.ours
            codec = make_codec(setting, self._ffmpeg, ours.gop, ours.model, ours.tune)
            curve = Curve(source.name, setting.label)
            if codec.still and source.frames > 1:
                curve.status = "skipped: takes one frame only"
            elif missing := codec.missing():
                curve.status = f"missing: {missing}"
            else:
                try:
                    self._points(source, codec, curve)
                    curve.status = "done"
                except (Error, OSError) as error:
                    curve.status = f"failed: {error}"
            self._keep(curve)
            if curve.status != "done":
                self._notify(f"{source.name}  {setting.label}: {curve.status}")

        return job

    def _keep(self, curve: Curve) -> None:
        with self._lock:
            self._results.curves[curve.clip, curve.codec] = curve
            self._results.save()

    # -- which points ---------------------------------------------------------------------------

    def _points(self, source: Source, codec: Codec, curve: Curve) -> None:
        if codec.setting.codec == OURS:
            for i, quality in enumerate(self._suite.ours.qualities):
                self._add(source, codec, quality, i, curve)
            return
        ours = self._ours(source)
        if not ours:
            for value in spread(codec.dial):
                self._add(source, codec, value, None, curve)
            return

        def size_of(value: float) -> float:
            return float(self._maker.encode(source, codec, value)["bytes"])

        search = RateSearch(codec.dial, size_of)
        for i, point in enumerate(ours):
            self._add(source, codec, search.find(point["bytes"]), i, curve)
        for at_low_end in (True, False):
            for _ in range(MOST_EXTRA):
                rate = beyond(_psnr_curve(ours), _psnr_curve(self._of(curve)), at_low_end)
                if rate is None or not self._add(source, codec, search.find(rate), None, curve):
                    break

    def _add(
        self, source: Source, codec: Codec, value: float, target: int | None, curve: Curve
    ) -> bool:
        """False where the curve has this point already."""
        path = self._maker.relative(source, codec, value)
        if path in curve.points:
            return False
        made = self._maker.made
        point = self._maker.complete(source, codec, value)
        cached = "  (was there)" if self._maker.made == made else ""
        curve.points.append(path)
        curve.targets.append(target)
        self._keep(curve)
        psnr = f"  {point['metrics']['psnr']:.2f} dB" if "psnr" in point["metrics"] else ""
        self._notify(
            f"{source.name}  {codec.setting.label}  {codec.dial.name} {value:g}:  "
            f"{point['bytes']} bytes  {point['bpp']:.4f} bpp{psnr}{cached}"
        )
        return True

    def _ours(self, source: Source) -> list[Point]:
        curve = self._results.curves[source.name, OURS]
        return self._of(curve) if curve.status == "done" else []

    def _of(self, curve: Curve) -> list[Point]:
        return self._results.points(curve)


def spread(dial: Dial) -> list[float]:
    """Values for a codec that has no rates to meet: between its probes, and half as far beyond."""
    coarse, fine = dial.probes
    reach = (fine - coarse) / 4
    return [dial.clamp(v) for v in np.linspace(coarse - reach, fine + reach, POINTS_ALONE)]


def beyond(
    ours: list[tuple[float, float]], anchor: list[tuple[float, float]], low: bool
) -> float | None:
    """Rate of a further point of an anchor so that its PSNR reaches the low (or high) end of ours.

    Without it a much better codec would have no quality in common with us, and no BD-rate. None
    where it reaches it already, or no slope is known.
    """
    if len(anchor) < 2 or not ours:
        return None
    if low:
        wanted = ours[0][1]
        return None if anchor[0][1] <= wanted else rate_at_quality(anchor, wanted - MARGIN)
    wanted = ours[-1][1]
    return None if anchor[-1][1] >= wanted else rate_at_quality(anchor, wanted + MARGIN)


def _psnr_curve(points: list[Point]) -> list[tuple[float, float]]:
    pairs = [(p["bytes"], p["metrics"]["psnr"]) for p in points if "psnr" in p["metrics"]]
    return rising_curve("psnr", pairs)


def _open(folder: Path) -> Results:
    try:
        (folder / "work").mkdir(parents=True, exist_ok=True)
        (folder / "work" / ".gitignore").write_text("*\n")
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from None
    if (folder / "run.json").exists():
        return Results.read(folder)
    return Results(folder)


def failures(results: Results) -> list[str]:
    """A line for each curve that failed; missing codecs are no failure."""
    return [
        f"{c.clip}, {c.codec}: {c.status}"
        for c in results.curves.values()
        if c.status.startswith("failed")
    ]
