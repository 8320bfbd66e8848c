"""Threads: how many, and work ahead in one, with bounded memory."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

T = TypeVar("T")
_END = object()


def share_of(jobs: int) -> int:
    """Threads of each of so many processes, for the processors there are."""
    return max(1, (os.cpu_count() or 1) // jobs)


def ahead(
    source: Iterator[T], size: int, stop: Callable[[], None] | None = None
) -> Generator[T, None, None]:
    """Yield what ``source`` yields, which runs in a thread at most ``size`` items ahead.

    Exceptions of the source are raised here. Closing the generator stops the thread; stop: makes
    the source itself end soon, where it may be waiting for something.
    """
    items: queue.Queue[object] = queue.Queue(size)
    closed = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not closed.is_set():
            try:
                items.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as error:  # handed over, not swallowed
            failure.append(error)
        put(_END)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        closed.set()
        if stop is not None:
            stop()
        thread.join()
