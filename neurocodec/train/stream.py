"""Training clips decoded as they are needed, by threads, for data that does not fit into memory."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .data import (
    DECODE_ERRORS,
    Batches,
    Sources,
    camera_motion,
    load_entries,
    random_clip,
    read_photo,
    read_video,
)
from .listing import Entry

HELD_OUT = 16  # videos at most, kept in memory


class StreamBatches(Batches):
    """As :class:`Batches`, of files that are decoded for each clip.

    Clip number n = batch * index + place is of file n of an order that is drawn anew for every
    epoch, so each file is seen once an epoch. Files that cannot be decoded, or are too small or
    short, are counted, and the next one takes their place. ``workers`` threads decode; no more
    than two batches and ``workers`` clips are held.
    """

    def __init__(
        self, entries: list[Entry], batch: int, frames: int, crop: int, seed: int = 0,
        workers: int = 2, short_side: int = 288,
    ) -> None:  # fmt: skip
        """Raises DataError where there is no entry."""
        if not entries:
            raise DataError("no video or photograph to learn from")
        super().__init__(Sources([], [], [], 0), batch, frames, crop, seed)
        self.entries, self.workers, self.short_side = entries, workers, short_side
        self.classes = sorted({entry.label for entry in entries})
        self._bad: set[int] = set()
        self._lock = threading.Lock()
        self._order = lru_cache(2)(self._draw_order)

    @property
    def skipped(self) -> int:
        """How many files have turned out not to be usable."""
        return len(self._bad)

    def _draw_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch, 2))
        return rng.permutation(len(self.entries))

    def _decode(self, entry: Entry, rng: np.random.Generator) -> Tensor:
        """A clip of a file. Raises one of DECODE_ERRORS."""
        if not entry.is_video:
            photo = read_photo(entry.open(), 2 * self.short_side)
            if min(photo.shape[1:]) < self.crop:
                raise ValueError("too small")
            return camera_motion(photo, self.frames, self.crop, rng)
        wanted = 2 * self.frames
        video = read_video(entry.open(), wanted, self.short_side, start=float(rng.random()))
        if video.shape[1] < self.frames or 2 * min(video.shape[2:]) < self.crop:
            raise ValueError("too short or small")
        return random_clip(video, self.frames, self.crop, rng)

    def labelled(self, index: int, place: int) -> tuple[Tensor, int]:
        """A clip of a batch (6, T, crop/2, crop/2), and the number of its class. Raises DataError
        where no file can be decoded."""
        number = (index % (1 << 62)) * self.size + place
        epoch, at = divmod(number, len(self.entries))
        order = self._order(epoch)
        for attempt in range(len(order)):
            which = int(order[(at + attempt) % len(order)])
            if which in self._bad:
                continue
            rng = np.random.default_rng((self.seed, number, attempt))
            try:
                clip = self._decode(self.entries[which], rng)
            except DECODE_ERRORS:
                with self._lock:
                    self._bad.add(which)
                continue
            return clip, self.classes.index(self.entries[which].label)
        raise DataError(
            f"none of {len(order)} files gives {self.frames} frames of {self.crop} pixels"
        )

    def clips(self, index: int, places: range) -> Tensor:
        return torch.stack([self.labelled(index, place)[0] for place in places])

    def iterate(self, start: int, part: slice = slice(None)) -> Iterator[Tensor]:
        """Parts of batches start, start + 1, ... decoded ahead by the workers."""
        places = range(self.size)[part]
        jobs = ((index, place) for index in itertools.count(start) for place in places)
        flying: deque[Future[tuple[Tensor, int]]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            while True:
                batch: list[Tensor] = []
                while len(batch) < len(places):
                    while len(flying) < len(places) + self.workers:
                        flying.append(pool.submit(self.labelled, *next(jobs)))
                    batch.append(flying.popleft().result()[0])
                yield torch.stack(batch)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def hold_out(entries: list[Entry], every: int, frames: int, crop: int) -> Sources:
    """Take every n-th video out of the entries, and decode the first of them."""
    videos = [entry for entry in entries if entry.is_video]
    taken = videos[every // 2 :: every] or videos[:1]
    if len(videos) < 2:
        taken = []
    for entry in taken:
        entries.remove(entry)
    return load_entries(taken[:HELD_OUT], frames, crop) if taken else Sources([], [], [], 0)
