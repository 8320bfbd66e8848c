"""The process beside ours that codes tokens, see ``entropy_process.py``: when it pays, and its
start. Nothing is loaded here that takes long, so that it can be started before such things are."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
from pathlib import Path

from ..bitstream.reader import Reader
from ..errors import Error
from ..threads import QUIET, processors

# Pixels of a clip, below which starting a process takes longer, and loading torch in it; and of a
# picture, above which the process is large already
WORTH_IT, WORTH_TORCH, LARGE = 6_000_000, 40_000_000, 1_500_000
_Child = subprocess.Popen[bytes]
_waiting: dict[tuple[str, ...], _Child] = {}  # started early, by arguments


def pays(width: int, height: int, frames: int | None) -> bool:
    """Whether a clip is long enough and there is a processor to spare. frames: None: not known."""
    return processors() > 1 and (frames is None or width * height * frames >= WORTH_IT)


def arguments(width: int, height: int, frames: int | None) -> tuple[str, ...]:
    """What the process of such a clip is told at its start."""
    long = frames is None or width * height * frames >= WORTH_TORCH
    return ("torch",) if long and width * height <= LARGE else ()


def environment() -> dict[str, str]:
    """For a Python that is to find this very package."""
    path = os.environ.get("PYTHONPATH")
    parent = str(Path(__file__).parents[2])
    here = {"PYTHONPATH": os.pathsep.join([parent, path] if path else [parent])}
    return QUIET | os.environ | here


def started(given: tuple[str, ...]) -> _Child:
    """One that has been started early with these arguments, or a new one."""
    return _waiting.pop(given, None) or _start(given)


def _start(given: tuple[str, ...]) -> _Child:
    return subprocess.Popen(
        [sys.executable, "-m", "neurocodec.codec.entropy_process", *given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment() | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,  # an interrupt is for us alone
    )  # fmt: skip


def start_early(path: str) -> None:
    """For the .nc file at ``path``, if it is one and long: while we load torch, the process loads
    what it needs."""
    if not Path(path).is_file():  # a pipe can be opened but once
        return
    with contextlib.suppress(Error), Reader(path) as reader:
        clip = reader.header.width, reader.header.height, reader.frames
        if pays(*clip):
            given = arguments(*clip)
            _waiting[given] = _start(given)


def end(child: _Child) -> None:
    child.kill()
    child.communicate()


@atexit.register
def dismiss() -> None:
    """End those that nobody has asked for."""
    while _waiting:
        end(_waiting.popitem()[1])
