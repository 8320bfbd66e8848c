"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError


def check_output(target: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises OutputError where ``target`` exists or could not be created."""
    path = Path(target)
    if path.is_dir():
        raise OutputError(f"{path}: is a directory")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; give -y to overwrite it")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent}: cannot be written to")


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """A path beside ``target`` to write to; renamed on success, removed on any exception.

    Raises OutputError, also for an OSError inside that names the temporary file or the disk.
    """
    check_output(target, overwrite)
    path = Path(target)
    part = path.with_name(f".{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        with part.open("xb"):
            pass
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from None
    try:
        yield part
        try:
            if overwrite:
                os.replace(part, path)
            else:
                os.link(part, path)  # unlike rename, fails where the target has appeared meanwhile
        except FileExistsError:
            raise OutputError(f"{path}: exists already; give -y to overwrite it") from None
        except OSError:
            os.replace(part, path)  # a file system without hard links
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
