"""Entropy coding beside the networks, in a process of its own that needs no torch.

For a long clip it loads torch all the same, while it works, for its faster products.

A thread would do if it were not for Python's lock: both sides call many short operations, and wait
for each other. The process ends when its standard input does, however we ended.

    python -m neurocodec.codec.entropy_process [torch]

It is sent a Setting, then of each GOP either a VideoGop, which is answered by its Tokens one after
the other and None, or Tokens, and with None bytes are asked.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import models
from ..bitstream.payloads import Header, VideoGop
from ..entropy.binary import BitDecoder, code_raw
from ..entropy.generator import DEFAULT_STEPS
from ..entropy.integer import use_torch
from .child import Child, early, serve
from .plan import entropy_command
from .tokens import EntropyModel, GopEncoder, Tokens, decode_tokens, grid_of


@dataclass(frozen=True)
class Setting:
    """steps: of the generator's schedule, and masking, when coding."""

    bundle: models.Bundle
    header: Header
    steps: int = DEFAULT_STEPS
    masking: int = 0

    def encoder(self, entropy: EntropyModel, step: int) -> GopEncoder:
        """Of a GOP. entropy: the bundle's, for the header. step: in units of 1 / STEP_ONE."""
        grid = grid_of(self.header.width, self.header.height)
        return GopEncoder(
            entropy, grid, self.header.gop_frames, step, steps=self.steps, masking=self.masking
        )


class EntropyProcess:
    """Codes or decodes the tokens of a file's GOPs, one after the other."""

    def __init__(self, setting: Setting, frames: int | None) -> None:
        """frames: of the clip; None: not known."""
        self._setting = setting
        self._command = entropy_command(setting.header.width, setting.header.height, frames)
        self._child: Child | None = None

    def __enter__(self) -> EntropyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def decode(self, gop: VideoGop) -> Iterator[Tokens]:
        """As ``decode_tokens``; the process is an item or two ahead."""
        whole = False
        try:
            self._send(gop)
            while (item := self._receive()) is not None:
                yield item
            whole = True
        finally:
            if not whole:  # what it still has to say is of no use
                self.close()

    def gop(self, step: int) -> _Gop:
        """To be used as a :class:`GopEncoder`. step: in units of 1 / STEP_ONE."""
        return _Gop(self, step)

    def _send(self, request: Any) -> None:
        if self._child is None:
            self._child = early(self._command) or Child(*self._command)
            self._child.send(self._setting)
        self._child.send(request)

    def _receive(self) -> Any:
        assert self._child is not None
        return self._child.receive()


class _Gop:
    def __init__(self, process: EntropyProcess, step: int) -> None:
        self._process, self._step = process, step

    def add(self, tokens: Tokens) -> None:
        self._process._send((self._step, tokens))

    def finish(self) -> bytes:
        self._process._send(None)
        data: bytes = self._process._receive()
        return data


def answering(setting: Setting) -> Callable[[Any], Iterator[Any]]:
    """What answers requests."""
    header = setting.header
    entropy = setting.bundle.entropy(header.entropy_model)
    encoder: GopEncoder | None = None

    def answers(request: VideoGop | tuple[int, Tokens] | None) -> Iterator[Any]:
        nonlocal encoder
        if isinstance(request, VideoGop):
            yield from decode_tokens(header, request, entropy)
            yield None
        elif request is None:
            assert encoder is not None
            yield encoder.finish()
            encoder = None
        else:
            step, tokens = request
            if encoder is None:
                encoder = setting.encoder(entropy, step)
            encoder.add(tokens)

    return answers


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.argv[1:]:
        threading.Thread(target=use_torch, daemon=True).start()
    code_raw(BitDecoder(b""), np.zeros(1, np.int32))  # what compiled code needs is loaded by that
    serve(answering)
