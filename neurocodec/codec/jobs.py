"""GOPs coded and decoded side by side: one here, each of the others in a process of its own.

A process builds the networks once, from the bundle's file, and is given whole GOPs: frames to make
bytes of, or bytes to make frames of. Results are those of one process, in the same order.

    python -m neurocodec.codec.jobs

It is sent a Setting, then frames and a step, answered by bytes, or VideoGops, answered by frames.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from .. import models
from ..bitstream.payloads import STEP_ONE, AudioPacket, Header, VideoGop
from ..device import choose_device
from ..media.frame import Frame, Planes
from .child import Child, early, serve
from .control import Events, GopTrier, Items, whole_gops
from .decoder import decode_gop
from .effort import EFFORTS, Effort
from .entropy_process import Setting as EntropySetting
from .frames import GopEnd
from .gop_stream import tokenize_pictures
from .latents import tokenize as tokenize_latents
from .plan import CODING
from .tokens import EntropyModel

T = TypeVar("T")
Request = tuple[list[Frame], int] | VideoGop


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


class _Here:
    """Codes and decodes in this process. Others may make it end early, at the next picture."""

    def __init__(self, setting: Setting) -> None:
        torch.set_num_threads(setting.threads)
        self._setting, self._stop = setting, threading.Event()

    @functools.cached_property
    def _made(self) -> tuple[torch.device, EntropyModel, Any]:
        """Device, entropy model and networks."""
        bundle, device = self._setting.bundle, choose_device(self._setting.device)
        entropy = bundle.entropy(self._setting.header.entropy_model)
        return device, entropy, bundle.tokenizer().to(device)

    def __call__(self, request: Request) -> Any:
        if isinstance(request, VideoGop):
            return self._decode(request)
        return self._encode(*request)

    def _encode(self, frames: list[Frame], step: int) -> bytes:
        setting, (device, entropy, networks) = self._setting, self._made
        make = functools.partial(
            tokenize, setting.bundle, networks, setting.header, setting.effort, setting.masking,
            device, 0, entropy, setting.steps,
        )  # fmt: skip
        new_gop = functools.partial(setting.encoder, entropy)
        trier = GopTrier(
            lambda events, step: self._watched(make(events, step, False)), new_gop, None
        )
        return trier.code(frames, step)[0]

    def _decode(self, gop: VideoGop) -> list[Planes]:
        device, entropy, networks = self._made
        frames = decode_gop(
            self._setting.bundle, entropy, networks, device, self._setting.header, gop
        )
        return list(self._watched(frames))[: gop.frames]

    def _watched(self, items: Iterator[T]) -> Iterator[T]:
        for item in items:
            if self._stop.is_set():
                raise InterruptedError
            yield item

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        pass


class _Beside:
    """Codes and decodes in a process of its own, from the first request on."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._child, self._told = setting, early(CODING), False
        self._lock, self._stopped = threading.Lock(), False

    def __call__(self, request: Request) -> Any:
        with self._lock:
            if self._stopped:
                raise InterruptedError
            self._child = child = self._child or Child(*CODING)
        if not self._told:
            child.send(self._setting)
            self._told = True
        child.send(request)
        return child.receive()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    def close(self) -> None:
        if self._child is not None:
            self._child.end()


class Jobs:
    """What codes or decodes the GOPs of a file. Leaving the context ends it."""

    def __init__(self, count: int, setting: Setting) -> None:
        """count: of GOPs in the works at once, with all their frames."""
        self._count, self._threads = count, torch.get_num_threads()
        self._all: list[_Here | _Beside] = [
            *(_Beside(setting) for _ in range(count - 1)),
            _Here(setting),
        ]
        self._idle: queue.LifoQueue[_Here | _Beside] = queue.LifoQueue()  # whoever is ready first
        for one in self._all:
            self._idle.put(one)
        self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> Jobs:
        return self

    def stop(self) -> None:
        """Let what is under way end soon."""
        for one in self._all:
            one.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)
        for one in self._all:
            one.close()
        torch.set_num_threads(self._threads)

    def _answer(self, request: Request) -> Any:
        one = self._idle.get()
        try:
            return one(request)
        finally:
            self._idle.put(one)

    def in_order(
        self, items: Iterable[T], request: Callable[[T], Request | None]
    ) -> Iterator[tuple[T, Any]]:
        """Each item with the answer to the request that is made of it, None where there is none. As
        many as there are jobs are under way."""
        waiting: deque[tuple[T, Future[Any] | None]] = deque()
        running = 0
        for item in items:
            asked = request(item)
            waiting.append(
                (item, None if asked is None else self._pool.submit(self._answer, asked))
            )
            running += asked is not None
            while waiting and (running >= self._count or waiting[0][1] is None):
                running -= waiting[0][1] is not None
                yield _answered(*waiting.popleft())
        while waiting:
            yield _answered(*waiting.popleft())

    def encode(self, events: Events, setting: Setting, step: float) -> Iterator[Any]:
        """Coded GOPs as :class:`GopEnd`, and audio packets as they come."""
        header, units = setting.header, round(step * STEP_ONE)
        gops = whole_gops(events, header.gop_frames, setting.bundle.is_motion)

        def request(item: list[Frame] | AudioPacket) -> Request | None:
            return None if isinstance(item, AudioPacket) else (item, units)

        for item, data in self.in_order(gops, request):
            if isinstance(item, AudioPacket):
                yield item
            else:
                yield GopEnd([frame.pts for frame in item], units, data)

    def decode(self, items: Iterator[Any]) -> Iterator[tuple[Any, list[Planes] | None]]:
        """items: of ``Decoder.sections``. The frames of those that are GOPs; None of others."""

        def request(item: Any) -> Request | None:
            return item[0] if isinstance(item, tuple) else None

        return self.in_order(items, request)


def _answered(item: T, future: Future[Any] | None) -> tuple[T, Any]:
    return item, future.result() if future else None


if __name__ == "__main__":

    def answering(setting: Setting) -> Callable[[Request], Iterator[Any]]:
        work = _Here(setting)
        return lambda request: iter([work(request)])

    serve(answering)
