"""Loops in Python that numba compiles to machine code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import event

F = TypeVar("F", bound=Callable[..., object])
logger = logging.getLogger(__name__)


class Notice(event.Listener):
    """Tells whoever waits at a terminal, once, that something is being compiled."""

    def __init__(self) -> None:
        self.given = False

    def on_start(self, _: object) -> None:
        self.give()

    def on_end(self, _: object) -> None:
        pass

    def give(self) -> None:
        if not self.given and logging.getLogger("neurocodec").handlers:
            self.given = True
            logger.warning("compiling for this machine: up to a minute, the first time only")


notice = Notice()
event.register("numba:compile", notice)


def compiled(function: F) -> F:
    """A function of numbers and numpy arrays, compiled at its first call and kept on disk from then
    on, where there is a folder that may be written to. Sums may be taken in any order."""
    return _compiled(function, fast=True)


def compiled_exactly(function: F) -> F:
    """The same, each operation as it is written: what all machines must agree about."""
    return _compiled(function, fast=False)


def _compiled(function: F, fast: bool) -> F:
    made: Any
    try:
        made = numba.njit(cache=True, nogil=True, fastmath=fast, error_model="numpy")(function)
    except RuntimeError:  # no such folder
        made = numba.njit(nogil=True, fastmath=fast, error_model="numpy")(function)
    return made
