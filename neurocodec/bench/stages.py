"""Where the time of a command goes:  python -m neurocodec.bench.stages REPORT.json COMMAND ARGS...

Runs a command of ours and looks, some hundred times a second, at what each of its threads is at:
the innermost module of this package in its call stack decides the stage. Stages run side by side,
so that their sum may exceed the time of the whole.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from ..cli import main
from ..codec import plan

INTERVAL = 0.004  # seconds
STAGES = (
    "start-up", "media", "search", "prediction", "network", "loop filter", "motion entropy",
    "token entropy", "bitstream", "other",
)  # fmt: skip
_PACKAGE = str(Path(__file__).parent.parent) + "/"
_BY_MODULE = {
    "media": "media",
    "tokenizer": "network",
    "entropy": "token entropy",
    "bitstream": "bitstream",
    "models": "start-up",
    "codec/tokens.py": "token entropy",
    "codec/search.py": "search",
    "codec/block_search.py": "search",
    "codec/merging.py": "search",
    "codec/lookahead.py": "search",
    "codec/temporal_filter.py": "search",
    "codec/pictures.py": "network",
    "codec/loop_filter.py": "loop filter",
    "codec/bilateral.py": "loop filter",
    "codec/wiener": "loop filter",
    "codec/frames.py": "network",
    "entropy/motion": "motion entropy",
    "entropy/field": "motion entropy",
    "entropy/structure": "motion entropy",
    "tokenizer/motion.py": "prediction",
    "tokenizer/quarter_pixels.py": "prediction",
}
# what others call for their own ends: the caller decides
_TOOLS = (
    "entropy/integer.py", "entropy/binary.py", "entropy/adaptive.py", "tokenizer/motion.py",
    "tokenizer/quarter_pixels.py",
)  # fmt: skip
_CALLERS = ("entropy/", "codec/search.py", "codec/merging.py")
# a thread that waits for another, and ourselves
_WAITING = ("threads.py", "codec/wavefront.py", "codec/child.py", "codec/jobs.py", "bench/")


def stage_of(frame: FrameType | None) -> str | None:
    """Of a thread by its innermost frame; None for one that waits."""
    found: str | None = None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return "start-up"
        if file.startswith(_PACKAGE) and (found is None or found in _TOOLS):
            outer = file[len(_PACKAGE) :]
            if found is None or outer.startswith(_CALLERS):
                found = outer
        frame = frame.f_back
    if found is None or found.startswith(_WAITING):
        return None
    fitting = [module for module in _BY_MODULE if found.startswith(module)]
    return _BY_MODULE[max(fitting, key=len)] if fitting else "other"


class Sampler:
    """While entered, adds up the seconds that threads spend in each stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        own, last = threading.get_ident(), time.perf_counter()
        while not self._stop.wait(INTERVAL):
            now = time.perf_counter()
            for thread, frame in sys._current_frames().items():
                stage = stage_of(frame) if thread != own else None
                if stage:
                    self.seconds[stage] += now - last
            last = now

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def run(report: Path, arguments: list[str]) -> None:
    plan.ENTROPY_PAYS = sys.maxsize  # all of it in this process, where it is seen
    began = time.perf_counter()
    with Sampler() as sampler:
        main.main(arguments, standalone_mode=False)
    values = {"wall": time.perf_counter() - began, **sampler.seconds}
    report.write_text(json.dumps({key: round(value, 3) for key, value in values.items()}))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
