"""Processes of ours beside this one, which answer what they are sent.

Requests and answers are pickles, ours alone. Nothing is loaded here that takes long, so that a
process can be started, and load what it needs, while we load torch. It ends when its standard input
does, however we ended.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, NoReturn

from ..errors import Error
from ..threads import QUIET


class Child:
    """A process, from its start on."""

    def __init__(self, *command: str) -> None:
        """command: a module of ours that calls :func:`serve`, and what it is told."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
            start_new_session=True,  # an interrupt is for us alone
        )  # fmt: skip

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def send(self, request: Any) -> None:
        """Raises Error, or what the process ended by."""
        to, _ = self._pipes
        try:
            pickle.dump(request, to, pickle.HIGHEST_PROTOCOL)
            to.flush()
        except BrokenPipeError:
            self.receive()  # raises what it ended by
            raise self._ended() from None

    def receive(self) -> Any:
        """Raises as :meth:`send`."""
        try:
            answer = pickle.load(self._pipes[1])
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> Error:
        self.end()
        return Error("a process beside this one ended by itself; out of memory, perhaps")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """May be called by any thread: whoever waits for an answer gets an Error."""
        self._process.kill()

    def end(self) -> None:
        """Not while another thread sends or receives."""
        self.kill()
        self._process.wait()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # there may be something to send yet
                pipe.close()


def environment() -> dict[str, str]:
    """For a Python that is to find this very package."""
    path = os.environ.get("PYTHONPATH")
    parent = str(Path(__file__).parents[2])
    here = {"PYTHONPATH": os.pathsep.join([parent, path] if path else [parent])}
    return QUIET | os.environ | here


_waiting: dict[tuple[str, ...], list[Child]] = {}  # started early, by command


def start_early(command: tuple[str, ...]) -> None:
    """Start one for the next who asks for it."""
    _waiting.setdefault(command, []).append(Child(*command))


def early(command: tuple[str, ...]) -> Child | None:
    """One that has been started early, if any is left."""
    waiting = _waiting.get(command)
    return waiting.pop() if waiting else None


def dismiss() -> None:
    """End those that nobody has asked for."""
    for command in _waiting:
        while (child := early(command)) is not None:
            child.end()


def serve(make: Callable[[Any], Callable[[Any], Iterable[Any]]]) -> NoReturn:
    """Answer until there are no more requests. make: of the first one, what answers the others,
    each by any number of answers."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer

    def answer(value: Any) -> None:
        pickle.dump(value, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()

    try:
        answers_of = make(pickle.load(requests))
        while True:
            for value in answers_of(pickle.load(requests)):
                answer(value)
    except (EOFError, BrokenPipeError):
        pass  # nobody is there any more
    except Exception as error:
        answer(error)
    os._exit(0)  # whatever is still being loaded
