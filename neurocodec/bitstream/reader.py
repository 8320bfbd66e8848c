"""Reading .nc files: header, index, and sections with their damage reported."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import FormatError, InputError
from .limits import MAX_HEADER_BYTES
from .payloads import (
    END_BYTES,
    AudioPacket,
    End,
    Header,
    IndexEntry,
    VideoGop,
    audio_from_bytes,
    index_from_bytes,
    timestamps_from_bytes,
)
from .sections import (
    HEAD_BYTES,
    PREAMBLE_BYTES,
    SectionType,
    check_preamble,
    find_sync,
    read_head,
    read_payload,
)

_OF_GOPS = (SectionType.VIDEO, SectionType.TIMESTAMPS, SectionType.AUDIO)


@dataclass
class GopEntry:
    """Where the parts of one GOP are. None or empty: lost."""

    number: int
    video: IndexEntry | None = None
    timestamps: IndexEntry | None = None
    audio: list[IndexEntry] = field(default_factory=list)


class Reader:
    """An open .nc file. ``damage`` lists, one line each, what was found wrong so far."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises InputError, FormatError, VersionError."""
        self.path = Path(path)
        self.damage: list[str] = []
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        try:
            self._start()
        except FormatError as error:
            self._file.close()
            raise type(error)(f"{path}: {error}") from None
        except OSError as error:  # a pipe, which cannot seek, or a disk that fails
            self._file.close()
            raise InputError(f"{path}: {error.strerror or error}") from None
        except BaseException:
            self._file.close()
            raise

    def _start(self) -> None:
        self.size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        check_preamble(self._file.read(PREAMBLE_BYTES))
        head = read_head(self._file, PREAMBLE_BYTES)
        if head is None or head.type != SectionType.HEADER or head.length > MAX_HEADER_BYTES:
            raise FormatError("the header is damaged")
        payload = read_payload(self._file, head)
        if payload is None:
            raise FormatError("the header is damaged or cut off")
        self.header = Header.from_bytes(payload)
        self._first = head.end
        entries = self._read_index()
        self.complete = entries is not None  # whether index and trailer are there
        if entries is None:
            self.damage.append("no index at the end (cut off or damaged); rebuilt by scanning")
            entries = self._scan()
        self.gops = self._group(entries)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def frames(self) -> int:
        return sum(gop.video.frames for gop in self.gops if gop.video)

    def _read_index(self) -> list[IndexEntry] | None:
        trailer = read_head(self._file, max(0, self.size - HEAD_BYTES - END_BYTES))
        if trailer is None or trailer.type != SectionType.END:
            return None
        payload = read_payload(self._file, trailer)
        if payload is None or len(payload) != END_BYTES:
            return None
        head = read_head(self._file, min(End.from_bytes(payload).index_offset, self.size))
        if head is None or head.type != SectionType.INDEX:
            return None
        payload = read_payload(self._file, head)
        try:
            return None if payload is None else index_from_bytes(payload)
        except FormatError:
            return None

    def _scan(self) -> list[IndexEntry]:
        entries = []
        offset = self._first
        while head := find_sync(self._file, offset):
            offset = head.end
            if head.end > self.size:
                if head.type in _OF_GOPS:
                    self.damage.append(f"GOP {head.number}: cut off at the end of the file")
                # a damaged length cannot pass its CRC, so the file ends here
                break
            frames = pts = 0
            if head.type == SectionType.VIDEO:
                payload = read_payload(self._file, head)
                try:
                    gop = None if payload is None else VideoGop.from_bytes(payload)
                except FormatError:
                    gop = None
                if gop is not None:
                    frames, pts = gop.frames, gop.first_pts
            entries.append(IndexEntry(head.type, head.number, head.offset, frames, pts))
        return entries

    def _group(self, entries: list[IndexEntry]) -> list[GopEntry]:
        gops: dict[int, GopEntry] = {}
        for entry in entries:
            if entry.type == SectionType.VIDEO:
                gop = gops.setdefault(entry.number, GopEntry(entry.number))
                gop.video = gop.video or entry
            elif entry.type == SectionType.TIMESTAMPS:
                gop = gops.setdefault(entry.number, GopEntry(entry.number))
                gop.timestamps = gop.timestamps or entry
            elif entry.type == SectionType.AUDIO:
                gops.setdefault(entry.number, GopEntry(entry.number)).audio.append(entry)
        return [gops[number] for number in sorted(gops)]

    def _payload(self, entry: IndexEntry, what: str) -> bytes | None:
        head = read_head(self._file, entry.offset) if entry.offset < self.size else None
        if head is None or (head.type, head.number) != (entry.type, entry.number):
            self.damage.append(f"GOP {entry.number}: {what} section is missing")
            return None
        payload = read_payload(self._file, head)
        if payload is None:
            self.damage.append(f"GOP {entry.number}: {what} section is damaged")
        return payload

    def read_gop(self, gop: GopEntry) -> tuple[VideoGop, list[int]] | None:
        """A GOP and its frames' pts, or None (and a line in ``damage``) where it is damaged."""
        if gop.video is None:
            return None
        payload = self._payload(gop.video, "video")
        try:
            video = None if payload is None else VideoGop.from_bytes(payload)
        except FormatError as error:
            self.damage.append(f"GOP {gop.number}: {error}")
            return None
        if video is None:
            return None
        pts = video.regular_times()
        if gop.timestamps is not None:
            payload = self._payload(gop.timestamps, "timestamps")
            try:
                given = pts if payload is None else timestamps_from_bytes(payload)
                if len(given) != video.frames:
                    raise FormatError("timestamps and frames differ in number")
                pts = given
            except FormatError as error:
                self.damage.append(f"GOP {gop.number}: {error}")
        return video, pts

    def read_audio(self, gop: GopEntry) -> list[AudioPacket]:
        """The audio packets stored before a GOP; damaged sections are left out and reported."""
        packets = []
        for entry in gop.audio:
            payload = self._payload(entry, "audio")
            try:
                if payload is not None:
                    packets += audio_from_bytes(payload, len(self.header.tracks))
            except FormatError as error:
                self.damage.append(f"GOP {gop.number}: {error}")
        return packets
