"""What is whole of a damaged file, as a file that is whole."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from .payloads import IndexEntry
from .reader import Reader
from .writer import Writable, Writer


@dataclass(frozen=True)
class Repaired:
    """What was written. damage: one line for each thing that was wrong."""

    gops: int
    frames: int
    bytes: int
    damage: tuple[str, ...]
    lost: bool  # whether anything but the index

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def repair(path: str | os.PathLike[str], file: Writable) -> Repaired:
    """Copy the undamaged sections of a .nc file, in the order of the format, with a new index.

    GOPs are numbered anew; frames keep their times, so a lost GOP leaves a gap in time. Sections of
    unknown types are copied. Raises InputError, FormatError.
    """
    gops = frames = 0
    with Reader(path) as reader:
        writer = Writer(file)
        writer.header_payload(reader.header_bytes)
        others: defaultdict[int, list[IndexEntry]] = defaultdict(list)
        for entry in reader.scan().others:
            others[entry.number].append(entry)
        for gop in reader.gops:
            for packets in reader.audio_sections(gop):
                writer.audio(packets)
            _copy(reader, writer, others.pop(gop.number, []))
            found = reader.read_gop(gop)
            if found is not None:
                writer.gop(*found)
                gops, frames = gops + 1, frames + found[0].frames
        for entries in others.values():
            _copy(reader, writer, entries)
        writer.finish()
        damage = tuple(reader.damage)
        return Repaired(gops, frames, writer.bytes_written, damage, reader.lost)


def _copy(reader: Reader, writer: Writer, entries: list[IndexEntry]) -> None:
    for entry in entries:
        payload = reader.read_other(entry)
        if payload is not None:
            writer.other(entry.type, payload)
