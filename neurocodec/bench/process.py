"""Run a program and measure time and memory, in a way that an interrupt ends it too."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Error, UsageError
from .anchors import PYTHON

_LAUNCH = Path(__file__).with_name("launch.py")


class ProgramError(Error):
    """A program ended badly. The message is the last thing it said."""


class StoppedError(Exception):
    """Programs were stopped: no fault of the one that ran, so nothing to be written down."""


@dataclass(frozen=True)
class Use:
    """What a run took. seconds: of wall clock. peak_bytes: resident, at least the launcher's."""

    command: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def to_dict(self, frames: int) -> dict[str, Any]:
        return {**vars(self), "fps": round(frames / self.seconds, 3)}


def shown(command: list[str]) -> str:
    """As a person would type it: without the folders that programs lie in."""
    if tuple(command[: len(PYTHON)]) == PYTHON:
        rest = command[len(PYTHON) :]
        return shlex.join(rest if rest[0] == "neurocodec" else ["python", "-m", *rest])
    return shlex.join([Path(command[0]).name.split("-")[0], *command[1:]])


class Programs:
    """Runs programs, from several threads at once if need be, until it is stopped."""

    def __init__(self) -> None:
        if not hasattr(os, "wait4"):
            raise UsageError("benchmarks need Linux, macOS or another Unix")
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def measure(self, command: list[str], folder: Path) -> tuple[Use, str]:
        """Run in ``folder``; returns what it took and its output.

        Raises ProgramError where the program fails, StoppedError after :meth:`stop`.
        """
        with tempfile.TemporaryDirectory() as scratch:
            report, log = Path(scratch) / "report.json", Path(scratch) / "log"
            launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(report), str(log), *command]
            self._run(launch, folder)
            text = log.read_text(errors="replace") if log.exists() else ""
            if not report.exists():
                if self._stopped:
                    raise StoppedError
                raise ProgramError(f"{Path(command[0]).name} could not be run")
            values = json.loads(report.read_text())
        if values.pop("status"):
            raise ProgramError(_last_words(text))
        return Use(shown(command), **values), text

    def _run(self, command: list[str], folder: Path) -> None:
        with self._lock:
            if self._stopped:
                raise StoppedError
            process = subprocess.Popen(
                command, cwd=folder, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._running.add(process)
        with process:
            try:
                process.wait()
            except BaseException:
                _kill(process)
                raise
            finally:
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # its session is a group of its own
        os.killpg(process.pid, signal.SIGKILL)


def _last_words(log: str) -> str:
    """The line of a program's output that most likely says what was wrong."""
    lines = [line.strip() for line in log.replace("\r", "\n").splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    last = (telling or lines or ["it failed without a word"])[-1]
    return last.removeprefix("neurocodec: error: ")[:300]
