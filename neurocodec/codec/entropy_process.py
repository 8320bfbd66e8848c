"""Entropy coding beside the networks, in a process of its own that needs no torch.

For a long clip it loads torch all the same, while it works, for its faster products.

A thread would do if it were not for Python's lock: both sides call many short operations, and wait
for each other. The process ends when its standard input does, however we ended.

    python -m neurocodec.codec.entropy_process [torch]

Requests and answers are pickles, ours alone: a Setting, then of each GOP either a VideoGop, which
is answered by its Tokens one after the other and None, or Tokens, and with None bytes are asked.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from .. import models
from ..bitstream.payloads import Header, VideoGop
from ..entropy.binary import BitDecoder, code_raw
from ..entropy.generator import DEFAULT_STEPS
from ..entropy.integer import use_torch
from ..errors import Error
from .child import arguments, end, started
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
        self._arguments = arguments(setting.header.width, setting.header.height, frames)
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EntropyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            end(child)

    def decode(self, gop: VideoGop) -> Iterator[Tokens]:
        """As ``decode_tokens``; the process is an item or two ahead."""
        self._send(gop)
        whole = False
        try:
            while (item := self._receive()) is not None:
                yield item
            whole = True
        finally:
            if not whole:  # what it still has to say is of no use
                self.close()

    def gop(self, step: int) -> _Gop:
        """To be used as a :class:`GopEncoder`. step: in units of 1 / STEP_ONE."""
        return _Gop(self, step)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._child is None:
            self._child = started(self._arguments)
            self._send(self._setting)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        return self._child.stdin, self._child.stdout

    def _send(self, request: Any) -> None:
        to, _ = self._pipes()
        try:
            pickle.dump(request, to, pickle.HIGHEST_PROTOCOL)
            to.flush()
        except BrokenPipeError:
            self._receive()  # raises what it ended by
            raise self._ended() from None

    def _receive(self) -> Any:
        try:
            answer = pickle.load(self._pipes()[1])
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> Error:
        self.close()
        return Error("the process of entropy coding ended by itself; out of memory, perhaps")


class _Gop:
    def __init__(self, process: EntropyProcess, step: int) -> None:
        self._process, self._step = process, step

    def add(self, tokens: Tokens) -> None:
        self._process._send((self._step, tokens))

    def finish(self) -> bytes:
        self._process._send(None)
        return self._process._receive()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""

    def answer(value: Any) -> None:
        pickle.dump(value, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()

    setting: Setting = pickle.load(requests)
    header = setting.header
    entropy = setting.bundle.entropy(header.entropy_model)
    encoder: GopEncoder | None = None
    while True:
        request = pickle.load(requests)
        if isinstance(request, VideoGop):
            for tokens in decode_tokens(header, request, entropy):
                answer(tokens)
            answer(None)
        elif request is None:
            assert encoder is not None
            answer(encoder.finish())
            encoder = None
        else:
            step, tokens = request
            if encoder is None:
                encoder = setting.encoder(entropy, step)
            encoder.add(tokens)


def main() -> None:
    answers = sys.stdout.buffer
    if "torch" in sys.argv[1:]:
        threading.Thread(target=use_torch, daemon=True).start()
    code_raw(BitDecoder(b""), np.zeros(1, np.int32))  # what compiled code needs is loaded by that
    try:
        serve(sys.stdin.buffer, answers)
    except (EOFError, BrokenPipeError):
        pass  # nobody is there any more
    except Exception as error:
        pickle.dump(error, answers)
        answers.flush()
    os._exit(0)  # whatever is still being loaded


if __name__ == "__main__":
    main()
