"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError

STDOUT = "-"


def check_output(target: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises OutputError where ``target`` exists or could not be created."""
    try:
        path = _resolve(target)
        if path.is_dir():
            raise OutputError(f"{target}: is a directory")
        if _is_device(path):
            return
        if path.exists() and not overwrite:
            raise OutputError(f"{target}: exists already; give -y to overwrite it")
        if not path.parent.is_dir():
            raise OutputError(f"{path.parent}: no such folder")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path.parent}: cannot be written to")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise OutputError(f"{target}: {getattr(error, 'strerror', None) or error}") from None


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """A path beside ``target`` to write to; renamed on success, removed on any exception.

    A device or pipe is given as it is. Raises OutputError.
    """
    check_output(target, overwrite)
    path = _resolve(target)
    if _is_device(path):
        yield path
        return
    part = path.with_name(f".neurocodec-{secrets.token_hex(8)}.part")
    try:
        with part.open("xb"):
            pass
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror}") from None
    try:
        yield part
        try:
            _publish(part, path, overwrite)
        except FileExistsError:
            raise OutputError(f"{target}: exists already; give -y to overwrite it") from None
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _publish(part: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(part, path)  # unlike rename, fails where the target has appeared meanwhile
            return
        except FileExistsError:
            raise
        except OSError:
            pass  # a file system without hard links
    os.replace(part, path)


def _resolve(target: str | os.PathLike[str]) -> Path:
    """Where a link leads: what it names is replaced, and the link stays."""
    path = Path(target)
    return path if _is_device(path) else Path(os.path.realpath(path))


def _is_device(path: Path) -> bool:
    """Whether it is something that must not be replaced: /dev/null, a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())


@contextlib.contextmanager
def writing(target: str | os.PathLike[str], overwrite: bool) -> Iterator[BinaryIO]:
    """``target``, or standard output for "-", opened for bytes, and complete or not there.

    Raises OutputError, also for an OSError inside.
    """
    try:
        if os.fspath(target) == STDOUT:
            yield (file := binary_stdout())
            file.flush()
        else:
            with replacing(target, overwrite) as part, part.open("wb") as file:
                yield file
    except BrokenPipeError:
        raise OutputError(f"{target}: closed by its reader") from None
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror or error}") from None


def binary_stdout() -> BinaryIO:
    """Raises OutputError where standard output is closed or a terminal."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    if sys.stdout.isatty():
        raise OutputError("standard output is a terminal; redirect it to a file or a pipe")
    return sys.stdout.buffer
