"""Threads: how many, and work ahead in one, with bounded memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()

# Ours are many short operations, in several processes. OpenBLAS, which numpy has, gains nothing by
# threads then, and threads that wait by turning round and round take the processors from others.
# glibc's allocator keeps gaps in a heap for each thread: 150 MB of them where pictures are large.
QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MALLOC_ARENA_MAX": "1"}
_M_ARENA_MAX = -8  # of mallopt(3)


def quieten() -> None:
    """Say how libraries' threads are to wait, where the environment says nothing. Heeded by those
    that are loaded after it, numpy and torch among them, and by processes started from here."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        # libraries other than glibc have none
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, int(QUIET["MALLOC_ARENA_MAX"]))
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that processes could still take, about: half of what there is where nothing says."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        if sys.platform == "linux":
            with open("/proc/meminfo", encoding="ascii") as file:
                return next(int(row.split()[1]) << 10 for row in file if "MemAvailable" in row)
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30


def share_of(jobs: int) -> int:
    """Threads of each of so many processes, for the processors there are."""
    return max(1, processors() // jobs)


def side_by_side(*calls: Callable[[], T]) -> list[T]:
    """What each call returns, made in threads of their own where there are processors for it and
    torch is to use more than one. For long operations that let others run."""
    import torch  # here alone: this module is loaded where no network is

    if len(calls) == 1 or torch.get_num_threads() == 1:
        return [call() for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


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
