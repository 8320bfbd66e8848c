"""Opening media files for reading, and saying why one cannot be read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.container import InputContainer

from ..errors import InputError

_GENERATE_PTS = 1  # libav's AVFMT_FLAG_GENPTS


def open_source(path: str | os.PathLike[str]) -> InputContainer:
    """A container on the regular file of exactly this name. Raises InputError.

    libav takes names for URLs ("http:x") and patterns ("a%03d.png"); here they are file names.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; write the stream to a file first")
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        container = av.open(
            f"file:{path}", container_options={"pattern_type": "none"}, metadata_errors="replace"
        )
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: not a video that can be read ({reason(error)})") from None
    # libav's invented timestamps go wrong for AVI; the reader makes its own where some are missing
    container.flags &= ~_GENERATE_PTS
    return container


def reason(error: av.FFmpegError | OSError) -> str:
    """libav's own words, fit for the middle of a sentence."""
    return (error.strerror or "unknown").lower()
