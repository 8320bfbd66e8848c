"""Sections: the frame around everything in a .nc file.

A section is 24 bytes of head and a payload. Head: sync marker, type, three reserved bytes, number,
payload length, CRC-32 of the payload, CRC-32 of the head up to here.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import FormatError, VersionError
from .limits import MAX_SECTION_BYTES

MAGIC = b"\x89NCV\r\n\x1a\n"
VERSION = 1  # changes when the decoded tokens would
SYNC = b"\xf5NCs"
_HEAD = struct.Struct("<4sB3xIII")
HEAD_BYTES = _HEAD.size + 4
PREAMBLE_BYTES = len(MAGIC) + 4


class SectionType(enum.IntEnum):
    HEADER = 1
    VIDEO = 2
    TIMESTAMPS = 3
    AUDIO = 4
    INDEX = 5
    END = 6


@dataclass(frozen=True)
class SectionHead:
    type: int  # a SectionType, or one that this version does not know
    number: int  # of the GOP it belongs to
    length: int  # of the payload, bytes
    crc: int  # CRC-32 of the payload
    offset: int  # of the head in the file

    @property
    def end(self) -> int:
        return self.offset + HEAD_BYTES + self.length


def preamble() -> bytes:
    """The first 12 bytes of a file: magic, version, two zero bytes."""
    return MAGIC + struct.pack("<HH", VERSION, 0)


def check_preamble(data: bytes) -> None:
    """Raises FormatError, VersionError."""
    if data[: len(MAGIC)] != MAGIC:
        if MAGIC.startswith(data[: len(MAGIC)]) and data:
            raise FormatError("the file ends within its first bytes")
        raise FormatError("not a .nc file")
    if len(data) < PREAMBLE_BYTES:
        raise FormatError("the file ends within its first bytes")
    version = struct.unpack_from("<H", data, len(MAGIC))[0]
    if version > VERSION:
        raise VersionError(f"format version {version}; this program reads up to {VERSION}")
    if version == 0:
        raise FormatError("format version 0 does not exist")


def section(type_: int, number: int, payload: bytes) -> bytes:
    if len(payload) > MAX_SECTION_BYTES:
        raise FormatError(f"a section of {len(payload)} bytes; the limit is {MAX_SECTION_BYTES}")
    head = _HEAD.pack(SYNC, type_, number, len(payload), zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def parse_head(data: bytes, offset: int) -> SectionHead | None:
    """The section head in 24 bytes, or None where there is none or it is damaged."""
    if len(data) < HEAD_BYTES or data[:4] != SYNC:
        return None
    head = data[: _HEAD.size]
    if struct.unpack_from("<I", data, _HEAD.size)[0] != zlib.crc32(head):
        return None
    _, type_, number, length, crc = _HEAD.unpack(head)
    if length > MAX_SECTION_BYTES:
        return None
    return SectionHead(type_, number, length, crc, offset)


def read_head(file: BinaryIO, offset: int) -> SectionHead | None:
    file.seek(offset)
    return parse_head(file.read(HEAD_BYTES), offset)


def read_payload(file: BinaryIO, head: SectionHead) -> bytes | None:
    """The payload, or None where it is cut off or fails its CRC."""
    file.seek(head.offset + HEAD_BYTES)
    data = file.read(head.length)
    return data if len(data) == head.length and zlib.crc32(data) == head.crc else None


def find_sync(file: BinaryIO, offset: int) -> SectionHead | None:
    """The first undamaged section head at or after ``offset``."""
    if head := read_head(file, offset):
        return head
    block = 1 << 8  # small at first: many heads may lie close by, each behind a little noise
    keep = b""
    file.seek(offset)
    at = offset  # file offset of keep
    while chunk := file.read(block):
        block = min(2 * block, 1 << 16)
        data = keep + chunk
        place = data.find(SYNC)
        while place >= 0:
            if place + HEAD_BYTES > len(data):
                break
            if head := parse_head(data[place : place + HEAD_BYTES], at + place):
                return head
            place = data.find(SYNC, place + 1)
        cut = max(0, len(data) - HEAD_BYTES + 1)
        if place >= 0:
            cut = min(cut, place)
        at += cut
        keep = data[cut:]
    return None
