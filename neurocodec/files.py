"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STDOUT = "-"
_OWN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


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


def same_file(src: str | os.PathLike[str], dst: str | os.PathLike[str]) -> bool:
    """Whether both are there and one file, perhaps by two names."""
    if os.fspath(dst) == STDOUT:
        return False
    return os.path.exists(src) and os.path.exists(dst) and os.path.samefile(src, dst)


@contextlib.contextmanager
def replacing(
    target: str | os.PathLike[str], overwrite: bool, key: str | None = None, keep: bool = False
) -> Iterator[Path]:
    """A path beside ``target`` to write to; renamed on success, removed on any exception.

    What killed processes left there for the same target is removed first. key: names what is being
    written, so that it can be found again. keep: with the same key, what was left is given instead
    of removed, and left again on an exception. A device or pipe is given as it is.
    Raises OutputError.
    """
    check_output(target, overwrite)
    path = _resolve(target)
    if _is_device(path):
        yield path
        return
    prefix = f".neurocodec-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}-"
    part = path.with_name(f"{prefix}{key or secrets.token_hex(8)}.part")
    done = False
    try:
        for stale in path.parent.glob(f"{prefix}*.part"):
            if not keep or stale != part:
                _remove_stale(stale)
        lock = _create(part)
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror}") from None
    if lock is None:
        raise OutputError(f"{target}: another process is writing it")
    try:
        yield part
        try:
            os.fsync(lock)  # or a power cut might leave a name without its bytes
            _publish(part, path, overwrite)
            done = True
        except FileExistsError:
            raise OutputError(f"{target}: exists already; give -y to overwrite it") from None
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror}") from None
    finally:
        if done or not keep:
            with contextlib.suppress(OSError):
                part.unlink()
        os.close(lock)


def _create(part: Path) -> int | None:
    """The descriptor of a file of this name, made if need be, that is locked as long as it is open;
    None where another process has it."""
    while True:
        lock = os.open(part, os.O_RDWR | os.O_CREAT | _OWN, 0o666)
        if not _lock(lock):
            os.close(lock)
            return None
        if _is_still(lock, part):
            return lock
        os.close(lock)  # removed between being made and being locked


def _remove_stale(part: Path) -> None:
    """Unless another process is writing it."""
    with contextlib.suppress(OSError):
        lock = os.open(part, os.O_RDWR | _OWN)
        try:
            if fcntl is not None and _lock(lock) and _is_still(lock, part):
                part.unlink()
        finally:
            os.close(lock)


def _lock(descriptor: int) -> bool:
    """Where files cannot be locked, all are taken for free, and none for stale."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_uid == os.geteuid()  # not one laid out by somebody else


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Whoever enters waits until all others have left. Nobody does where files cannot be locked."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDWR | os.O_CREAT | _OWN, 0o666)
            stack.callback(os.close, lock)
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether an open file has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


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
def writing(
    target: str | os.PathLike[str], overwrite: bool, key: str | None = None, keep: bool = False
) -> Iterator[BinaryIO]:
    """``target``, or standard output for "-", opened for bytes, and complete or not there.

    key, keep: as of ``replacing``; with ``keep`` the file may have bytes in it, and can be read.
    Raises OutputError, also for an OSError inside.
    """
    try:
        if os.fspath(target) == STDOUT:
            stream = binary_stdout()
            yield stream
            stream.flush()
        else:
            mode = "r+b" if keep else "wb"
            with replacing(target, overwrite, key, keep) as part, part.open(mode) as file:
                yield cast(BinaryIO, file)
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
