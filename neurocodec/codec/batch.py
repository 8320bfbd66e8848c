"""All videos of a folder, each compressed by a process of its own, here or on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, UsageError
from ..threads import share_of
from .batch_ray import LOCAL, RayRunning
from .child import environment

MAX_WAITING = 256  # files that a cluster is given at once, unless it is said how many

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ogv", ".ts", ".webm", ".wmv", ".y4m"}
)


@dataclass
class BatchReport:
    """Files by their path below the source folder; failed: with the line that said why."""

    done: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)  # already, from an earlier run
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "done": sorted(self.done),
            "there": sorted(self.there),
            "failed": dict(sorted(self.failed.items())),
        }


def find_videos(source: Path, target: Path) -> list[Path]:
    """Paths below ``source`` by their suffixes, without hidden ones and without ``target``.

    Raises InputError.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    found = []

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(source, onerror=refuse):
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and (Path(folder) / name).resolve() != target.resolve()
        )
        for name in sorted(files):
            if name[0] != "." and Path(name).suffix.lower() in SUFFIXES:
                found.append((Path(folder) / name).relative_to(source))
    return found


def batch(
    source: Path,
    target: Path,
    options: Sequence[str] = (),
    jobs: int | None = None,
    notify: Callable[[str, str], None] = lambda path, line: None,
    ray: str | None = None,
) -> BatchReport:
    """Compress ``source/x.mp4`` into ``target/x.mp4.nc``, for all videos below the folder.

    A file that is there and no older than its source is left as it is: what was interrupted goes on
    by the same call. options: of the command ``compress``. jobs: files at once, by default 1, or as
    many as a cluster takes. notify: is told of each file that is done, and of the reason where it
    failed ("" where it did not). ray: the address of a Ray cluster to do it, see ``batch_ray``.

    Raises UsageError, InputError, OutputError.
    """
    videos = find_videos(source, target)
    if not videos:
        raise InputError(f"{source}: holds no video ({' '.join(sorted(SUFFIXES))})")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror}") from None
    if ray not in (None, LOCAL):
        threads, jobs = 1, jobs or min(len(videos), MAX_WAITING)
    else:
        jobs = jobs or 1
        threads = share_of(jobs)
    given = _threads_of(options)
    options = [*options, "--threads", str(threads)] if given is None else options
    report, lock = BatchReport(), threading.Lock()
    running: _Running | RayRunning
    running = _Running() if ray is None else RayRunning(ray, jobs, given or threads)

    def one(video: Path) -> None:
        out = target / f"{video}.nc"
        if _is_done(source / video, out):
            with lock:
                report.there.append(str(video))
            return
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            status, line = OutputError.exit_status, f"{out.parent}: {error.strerror}"
        else:
            status, line = running.call(
                ["compress", *options, "--quiet", "-y", "--", str(source / video), str(out)]
            )
        if running.stopped:
            return  # by us, whatever it says
        if status == UsageError.exit_status:
            running.stop()
            raise UsageError(line)
        with lock:
            if status:
                report.failed[str(video)] = line
            else:
                report.done.append(str(video))
            notify(str(video), line if status else "")

    with contextlib.closing(running), ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(one, video) for video in videos]
            for future in futures:
                future.result()
        except BaseException:
            running.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return report


def _threads_of(options: Sequence[str]) -> int | None:
    """What options say of threads, 1 where that is no number; None: nothing."""
    for i, option in enumerate(options):
        name, _, value = option.partition("=")
        if name == "--threads":
            value = value or "".join(options[i + 1 : i + 2])
            return max(1, int(value)) if value.isdecimal() else 1
    return None


def _is_done(video: Path, out: Path) -> bool:
    """What is there is whole: a file appears under its name only then."""
    try:
        return out.stat().st_mtime_ns >= video.stat().st_mtime_ns
    except OSError:
        return False


class _Running:
    """The processes under way."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[str]] = set()
        self.stopped, self._lock = False, threading.Lock()

    def call(self, arguments: list[str]) -> tuple[int, str]:
        """Status and last line of standard error of a command of ours."""
        with self._lock:
            if self.stopped:
                return 1, "interrupted"
            child = subprocess.Popen(
                [sys.executable, "-m", "neurocodec", *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, errors="replace", env=environment(),
            )  # fmt: skip
            self._children.add(child)
        try:
            lines = child.communicate()[1].splitlines()
        finally:
            with self._lock:
                self._children.discard(child)
        if child.returncode < 0:
            why = "; out of memory, perhaps" if -child.returncode == signal.SIGKILL else ""
            return child.returncode, f"ended by signal {-child.returncode}{why}"
        last = lines[-1] if lines else f"exit status {child.returncode}"
        return child.returncode, last.removeprefix("neurocodec: error: ")

    def stop(self) -> None:
        """End them; they leave nothing half-written."""
        with self._lock:
            self.stopped = True
            for child in self._children:
                child.terminate()

    def close(self) -> None:
        """Nothing to do: a call has seen its process end."""
