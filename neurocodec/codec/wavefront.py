"""Pictures of a GOP side by side: each as soon as those that it is predicted from are there.

Each picture is what it would be by itself: its references, and its tokens or its source, make it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import torch

from ..entropy.structure import Picture
from .pictures import PictureLoop

G = TypeVar("G")  # what is given with a picture
R = TypeVar("R")  # and what comes of it
_AT_ONCE = 2  # threads: interpolated references take memory


def workers_for(loop: PictureLoop) -> int:
    """How many threads: one where torch or the loop is to have one, where there is too little
    memory for more references, or where a GPU does the work."""
    if loop.alone or loop.large or loop.device.type != "cpu":
        return 1
    return min(_AT_ONCE, torch.get_num_threads())


class Wavefront(Generic[G, R]):
    """Work on pictures, by threads where there are several. To be closed."""

    def __init__(
        self, loop: PictureLoop, prepare: Callable[[Picture, G], Callable[[], R]],
        take: Callable[[Picture, R], None],
    ) -> None:  # fmt: skip
        """prepare: of a picture whose references are there and what was given with it, the work,
        which a thread does. take: told what it came to, and is to put the decoded picture into the
        loop. Both are called by the thread that calls this."""
        self._loop, self._prepare, self._take = loop, prepare, take
        self.workers = workers_for(loop)
        loop.threads = max(1, torch.get_num_threads() // self.workers)
        self._pool = ThreadPoolExecutor(self.workers) if self.workers > 1 else None
        self._waiting: list[tuple[Picture, G]] = []
        self._running: dict[Future[R], Picture] = {}

    def __len__(self) -> int:
        """Of pictures that are left."""
        return len(self._waiting) + len(self._running)

    def add(self, picture: Picture, given: G) -> None:
        """The next picture in coding order."""
        self._waiting.append((picture, given))

    def proceed(self, enough: Callable[[], bool]) -> None:
        """Until that is so, or nothing is left."""
        if self._pool is None:
            while self._waiting and not enough():
                picture, given = self._waiting.pop(0)
                self._take(picture, self._prepare(picture, given)())
            return
        while True:
            self._start(self._pool)
            done, _ = wait(self._running, 0 if enough() else None, FIRST_COMPLETED)
            for future in done:
                self._take(self._running.pop(future), future.result())
            if not done:
                return

    def references(self) -> set[int]:
        """Displays that pictures which are left refer to."""
        left = [*(picture for picture, _ in self._waiting), *self._running.values()]
        return {display for picture in left for display in picture.refs}

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Those whose references are there, as long as a thread is free."""
        for one in list(self._waiting):
            if len(self._running) == self.workers:
                return
            if self._loop.pictures.keys() >= set(one[0].refs):
                self._waiting.remove(one)
                self._running[pool.submit(self._prepare(*one))] = one[0]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
