"""Finding the sections of a file whose index is missing, or not true."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from ..errors import FormatError
from .payloads import IndexEntry, VideoGop, index_from_bytes
from .sections import SectionHead, SectionType, find_sync, read_payload

OF_GOPS = (SectionType.VIDEO, SectionType.TIMESTAMPS, SectionType.AUDIO)
_OF_FILES = (SectionType.HEADER, SectionType.INDEX, SectionType.END)


@dataclass
class Scan:
    """entries: the sections of GOPs, in order of offset; of damaged VIDEO sections frames and
    first_pts are 0. others: those of unknown types. index: the entries of an INDEX that was come
    across. cut: the section at which the file ends too early."""

    entries: list[IndexEntry] = field(default_factory=list)
    others: list[IndexEntry] = field(default_factory=list)
    index: list[IndexEntry] = field(default_factory=list)
    cut: SectionHead | None = None


def scan(file: BinaryIO, offset: int, size: int) -> Scan:
    """All sections from an offset on, see ``bitstream_spec.md``, 3.7. size: of the file."""
    found = Scan()
    while head := find_sync(file, offset):
        offset = head.end
        if head.end > size:
            found.cut = head  # a damaged length cannot pass its CRC, so the file ends here
            break
        if head.type == SectionType.INDEX:
            found.index = _index(file, head)
        elif head.type in OF_GOPS:
            found.entries.append(_entry(file, head))
        elif head.type not in _OF_FILES:
            found.others.append(IndexEntry(head.type, head.number, head.offset))
    return found


def _entry(file: BinaryIO, head: SectionHead) -> IndexEntry:
    frames = pts = 0
    if head.type == SectionType.VIDEO:
        payload = read_payload(file, head)
        try:
            gop = None if payload is None else VideoGop.from_bytes(payload)
        except FormatError:
            gop = None
        if gop is not None:
            frames, pts = gop.frames, gop.first_pts
    return IndexEntry(head.type, head.number, head.offset, frames, pts)


def _index(file: BinaryIO, head: SectionHead) -> list[IndexEntry]:
    payload = read_payload(file, head)
    try:
        return [] if payload is None else index_from_bytes(payload)
    except FormatError:
        return []
