"""Going on with a file whose writing was broken off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from ..errors import FormatError
from .payloads import Header
from .reader import Reader
from .writer import Writer


@dataclass
class Begun:
    """A writer, and what it has written: whole GOPs. first, last: pts of the first and last frame;
    packets: of sound."""

    writer: Writer
    gops: int = 0
    frames: int = 0
    packets: int = 0
    first: int | None = None
    last: int = 0


class _DiffersError(Exception):
    pass


class _Comparing:
    """Takes what the file has already, from its beginning on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)

    def write(self, data: bytes, /) -> None:
        if self._file.read(len(data)) != data:
            raise _DiffersError


def begin(file: BinaryIO, header: Header) -> Begun | None:
    """Go on after the last whole GOP of a file that a :class:`Writer` began with this header.

    file: open for reading and writing, by its own name. It is cut off there, and what is written
    next follows. None where not even the header is there; the file is empty then.
    """
    try:
        with Reader(file.name) as reader:
            begun = _replay(reader, file, header)
    except (FormatError, _DiffersError):
        begun = None
    file.seek(0 if begun is None else begun.writer.bytes_written)
    file.truncate()
    return begun


def _replay(reader: Reader, file: BinaryIO, header: Header) -> Begun | None:
    """Write what the reader finds once more, onto itself, as long as that gives the same bytes."""
    if reader.header_bytes != header.to_bytes():
        return None
    begun = Begun(writer := Writer(_Comparing(file)))
    writer.header(header)
    for gop in reader.gops:
        found = reader.read_gop(gop)
        if found is None:
            break
        for packets in reader.audio_sections(gop):
            writer.audio(packets)
            begun.packets += len(packets)
        writer.gop(*found)
        pts = found[1]
        begun.gops, begun.frames = begun.gops + 1, begun.frames + len(pts)
        begun.first = pts[0] if begun.first is None else begun.first
        begun.last = pts[-1]
    writer.redirect(file)
    return begun
