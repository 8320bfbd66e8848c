"""GOPs coded and decoded side by side, each by one of several processes.

A process builds the networks once, from the bundle's file, and is given whole GOPs: frames to make
bytes of, or bytes to make frames of. Results are those of one process, in the same order.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

import torch

from .. import models
from ..bitstream.payloads import STEP_ONE, AudioPacket, Header, VideoGop
from ..device import choose_device
from ..errors import Error
from ..media.frame import Frame
from .control import Events, GopTrier, Items, whole_gops
from .decoder import decode_gop
from .effort import EFFORTS, Effort
from .entropy_process import Setting as EntropySetting
from .frames import GopEnd, Planes
from .gop_stream import tokenize_pictures
from .latents import tokenize as tokenize_latents
from .tokens import EntropyModel

T = TypeVar("T")
# Of a process: bytes for the program and its libraries, for each pixel of a picture, and for each
# of a frame that waits, before and behind the pipe
_JOB_BYTES, _PIXEL_BYTES, _FRAME_BYTES = 400 << 20, 800, 3
_GPU_BYTES, _GPU_PIXEL_BYTES = 600 << 20, 600  # likewise, on a GPU
_WORTH_IT = 10_000_000  # pixels of all frames: ten seconds of coding, about
_PAYS = 1.5


@dataclass(frozen=True)
class Setting(EntropySetting):
    """What a process must know to code or decode the GOPs of a file."""

    device: str = "auto"
    threads: int = 1  # of torch, in each process
    effort: Effort = EFFORTS["medium"]


def tokenize(
    bundle: models.Bundle, networks: Any, header: Header, effort: Effort, masking: int,
    device: torch.device, skip: int, entropy: EntropyModel, steps: int, events: Events, step: float,
    find_cuts: bool,
) -> Items:  # fmt: skip
    """Frames and sound to tokens, GopEnds and sound. networks: of the bundle, on the device.
    skip: frames that are coded already. entropy, steps: what the tokens will be coded by."""
    if bundle.is_motion:
        return tokenize_pictures(
            events, networks, step, header.gop_frames, device, effort, find_cuts, masking=masking,
            skip=skip, entropy=entropy, steps=steps,
        )  # fmt: skip
    return tokenize_latents(events, networks, step, header.gop_frames, device, skip, entropy, steps)


def jobs_that_pay(
    frames: int | None, gop_frames: int, size: tuple[int, int], processors: int, memory: int,
    gpu_memory: int | None = None,
) -> int:  # fmt: skip
    """How many GOPs of a clip to have in the works at once.

    frames: of the clip, None where that is not known. size: of its pictures. memory, gpu_memory:
    bytes, of which half may be used; None without a GPU. One, where more would hardly be done
    sooner: a process takes seconds to start, and one of several is slower than one that has all
    processors, and waits where the last GOPs are few.
    """
    pixels = size[0] * size[1]
    each = _JOB_BYTES + pixels * (_PIXEL_BYTES + _FRAME_BYTES * gop_frames)
    gops = -(-(frames or 1) // gop_frames)
    jobs = min(processors, gops, memory // 2 // each)
    if gpu_memory is not None:
        jobs = min(jobs, gpu_memory // 2 // (_GPU_BYTES + pixels * _GPU_PIXEL_BYTES))
    if jobs < 2 or frames is None or frames * pixels < _WORTH_IT:
        return 1
    rounds = -(-gops // jobs)
    alone = gops - (rounds - 1) * jobs == 1  # the last GOP, which may be short
    last = frames - (gops - 1) * gop_frames if alone else gop_frames
    longest = (rounds - 1) * gop_frames + last  # frames that one process has to do
    return jobs if frames >= _PAYS * longest else 1


class _Worker:
    """What a process keeps from GOP to GOP."""

    def __init__(self, setting: Setting, stop: Event) -> None:
        torch.set_num_threads(setting.threads)
        self._setting, self._stop = setting, stop
        bundle, header = setting.bundle, setting.header
        self._device = choose_device(setting.device)
        self._entropy = bundle.entropy(header.entropy_model)
        self._networks = bundle.tokenizer().to(self._device)

    def encode(self, frames: list[Frame], step: int) -> bytes:
        setting, header = self._setting, self._setting.header
        make = functools.partial(
            tokenize, setting.bundle, self._networks, header, setting.effort, setting.masking,
            self._device, 0, self._entropy, setting.steps,
        )  # fmt: skip
        new_gop = functools.partial(setting.encoder, self._entropy)
        trier = GopTrier(
            lambda events, step: self._watched(make(events, step, False)), new_gop, None
        )
        return trier.code(frames, step)[0]

    def decode(self, gop: VideoGop) -> list[Planes]:
        setting = self._setting
        frames = decode_gop(
            setting.bundle, self._entropy, self._networks, self._device, setting.header, gop
        )
        return list(self._watched(frames))[: gop.frames]

    def _watched(self, items: Iterator[T]) -> Iterator[T]:
        for item in items:
            if self._stop.is_set():
                raise InterruptedError
            yield item


_given: tuple[Setting, Event] | None = None  # to this process


def _start(setting: Setting, stop: Event) -> None:
    global _given
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says when to end
    _given = setting, stop


@functools.cache
def _worker() -> _Worker:
    """Made by the first task, whose failure is then reported as any other."""
    assert _given is not None
    return _Worker(*_given)


def _encode(frames: list[Frame], step: int) -> bytes:
    return _worker().encode(frames, step)


def _decode(gop: VideoGop) -> list[Planes]:
    return _worker().decode(gop)


class Jobs:
    """Processes that code or decode the GOPs of a file. Leaving the context ends them."""

    def __init__(self, count: int, setting: Setting) -> None:
        """count: of processes; each has a GOP in the works, with all its frames."""
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._count, self._stop = count, context.Event()
        self._pool = ProcessPoolExecutor(count, context, _start, (setting, self._stop))

    def __enter__(self) -> Jobs:
        return self

    def stop(self) -> None:
        """Let what is under way end at the next picture."""
        self._stop.set()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)

    def in_order(
        self, items: Iterable[T], task: Callable[[T], tuple[Callable[..., Any], Any] | None]
    ) -> Iterator[tuple[T, Any]]:
        """Each item with the result of its task, None where it has none.

        task: says of an item the function to call in a process, and its arguments. At most one
        task a process is under way.
        """
        waiting: deque[tuple[T, Future[Any] | None]] = deque()
        running = 0
        for item in items:
            call = task(item)
            waiting.append((item, self._pool.submit(call[0], *call[1]) if call else None))
            running += call is not None
            while waiting and (running >= self._count or waiting[0][1] is None):
                running -= waiting[0][1] is not None
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def _result(self, item: T, future: Future[Any] | None) -> tuple[T, Any]:
        try:
            return item, future.result() if future else None
        except BrokenProcessPool:
            raise Error("a process of --jobs ended by itself; out of memory, perhaps") from None

    def encode(self, events: Events, setting: Setting, step: float) -> Iterator[Any]:
        """Coded GOPs as :class:`GopEnd`, and audio packets as they come."""
        header, units = setting.header, round(step * STEP_ONE)
        gops = whole_gops(events, header.gop_frames, setting.bundle.is_motion)

        def task(item: list[Frame] | AudioPacket) -> tuple[Callable[..., Any], Any] | None:
            return None if isinstance(item, AudioPacket) else (_encode, (item, units))

        for item, data in self.in_order(gops, task):
            if isinstance(item, AudioPacket):
                yield item
            else:
                yield GopEnd([frame.pts for frame in item], units, data)

    def decode(self, items: Iterator[Any]) -> Iterator[tuple[Any, list[Planes] | None]]:
        """items: of ``Decoder.sections``. The frames of those that are GOPs; None of others."""

        def task(item: Any) -> tuple[Callable[..., Any], Any] | None:
            return (_decode, (item[0],)) if isinstance(item, tuple) else None

        return self.in_order(items, task)
