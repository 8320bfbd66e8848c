"""Reading .nc files: header, index, and sections with their damage reported."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import FormatError, InputError
from .limits import MAX_DURATION, MAX_HEADER_BYTES
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
from .scan import OF_GOPS, Scan, scan
from .sections import (
    HEAD_BYTES,
    PREAMBLE_BYTES,
    SectionType,
    check_preamble,
    read_head,
    read_payload,
)


@dataclass
class GopEntry:
    """Where the parts of one GOP are. None or empty: lost."""

    number: int
    video: IndexEntry | None = None
    timestamps: IndexEntry | None = None
    audio: list[IndexEntry] = field(default_factory=list)


class Reader:
    """An open .nc file.

    ``damage`` lists, one line each, what was found wrong so far; ``lost`` tells whether that was
    more than the index.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises InputError, FormatError, VersionError."""
        self.path = Path(path)
        self.damage: list[str] = []
        self.lost = False
        try:
            self._file: BinaryIO = self.path.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
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
        self.header_bytes = payload
        self.header = Header.from_bytes(payload)
        self._first = head.end
        self._told_moved = False
        self._moved: dict[tuple[int, int, int], IndexEntry] | None = None
        entries = self._read_index()
        self.complete = entries is not None  # whether index and trailer are there
        found = Scan()
        if entries is None:
            self.damage.append("no index at the end (cut off or damaged); rebuilt by scanning")
            found = self.scan()
            entries = found.entries + self._lost(found)
        # no section reaches into the next one: else a small file could claim any number of times
        # to have a large one
        self._offsets = sorted({*(entry.offset for entry in entries), self._index_offset})
        self.gops = self._group(entries)
        self._known = [g.video for g in self.gops if g.video and g.video.frames]
        self._report_gaps()
        if found.cut is not None and found.cut.type in OF_GOPS:
            self._tell(found.cut.number, "cut off at the end of the file")

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

    def scan(self) -> Scan:
        """The sections as they stand in the file, whatever an index says. Reads all of it."""
        return scan(self._file, self._first, self.size)

    # -- what is where --------------------------------------------------------------------------

    def _read_index(self) -> list[IndexEntry] | None:
        self._index_offset = self.size
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
            entries = None if payload is None else index_from_bytes(payload)
        except FormatError:
            return None
        self._index_offset = head.offset
        return entries

    def _lost(self, found: Scan) -> list[IndexEntry]:
        """VIDEO sections that an index knew and scanning did not find: nowhere, but of known
        times."""
        there = {entry.number for entry in found.entries if entry.type == SectionType.VIDEO}
        return [
            replace(entry, offset=self.size)
            for entry in found.index
            if entry.type == SectionType.VIDEO and entry.number not in there
        ]

    def _group(self, entries: list[IndexEntry]) -> list[GopEntry]:
        gops: dict[int, GopEntry] = {}
        seen: set[tuple[int, int, int]] = set()
        for entry in entries:
            key = (entry.type, entry.number, entry.offset)
            if entry.type not in OF_GOPS or key in seen:
                continue
            seen.add(key)
            gop = gops.setdefault(entry.number, GopEntry(entry.number))
            if entry.type == SectionType.AUDIO:
                gop.audio.append(entry)
                continue
            what = "video" if entry.type == SectionType.VIDEO else "timestamps"
            if getattr(gop, what) is None:
                setattr(gop, what, entry)
            else:
                self.damage.append(f"GOP {entry.number}: a second {what} section is ignored")
        return [gops[number] for number in sorted(gops)]

    def _report_gaps(self) -> None:
        expected = 0
        for gop in self.gops:
            if gop.video is None and gop is self.gops[-1]:
                break  # sound after the last frame
            if gop.video is None:
                continue
            if gop.number > expected:
                several = gop.number > expected + 1
                name = f"GOPs {expected} to {gop.number - 1}" if several else f"GOP {expected}"
                self._report(f"{name}{self._span(expected)}: missing")
            expected = gop.number + 1

    # -- damage ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """What is found wrong meanwhile is not reported: it will be when it is decoded."""
        known, lost, told = len(self.damage), self.lost, self._told_moved
        yield
        del self.damage[known:]
        self.lost, self._told_moved = lost, told

    def _tell(self, number: int, text: str) -> None:
        self._report(f"GOP {number}{self._span(number)}: {text}")

    def _report(self, line: str) -> None:
        self.damage.append(line)
        self.lost = True

    def _span(self, number: int) -> str:
        """When the frames of a GOP are to be seen, in seconds from the first frame, as far as it or
        those around it are known."""
        base, known = self.header.time_base, self._known
        if not known:
            return ""
        at = bisect.bisect_left(known, number, key=lambda video: video.number)
        own = known[at] if at < len(known) and known[at].number == number else None
        after = at + (own is not None)
        origin = known[0].first_pts

        def seconds(pts: int) -> Fraction:
            return (pts - origin) * base

        def end(video: IndexEntry) -> Fraction:
            return seconds(video.first_pts) + video.frames / self.header.frame_rate

        begin = Fraction(0)
        if own is not None:
            begin = seconds(own.first_pts)
        elif at > 0:
            begin = end(known[at - 1])
        if after < len(known):
            finish = f"{float(seconds(known[after].first_pts)):.2f} s"
        else:
            finish = "the end" if own is None else f"{float(end(own)):.2f} s"
        return f" ({float(begin):.2f} s to {finish})"

    # -- sections -------------------------------------------------------------------------------

    def _payload(self, entry: IndexEntry, what: str) -> bytes | None:
        key = (entry.type, entry.number)
        head = read_head(self._file, entry.offset) if entry.offset < self.size else None
        if head is None or (head.type, head.number) != key or head.end > self._limit(entry.offset):
            moved = self._find(entry)
            head = None if moved is None else read_head(self._file, moved.offset)
        if head is None:
            self._tell(entry.number, f"{what} section is missing")
            return None
        payload = read_payload(self._file, head)
        if payload is None:
            self._tell(entry.number, f"{what} section is damaged")
        return payload

    def _limit(self, offset: int) -> int:
        """Where a section at an offset ends at the latest."""
        at = bisect.bisect_right(self._offsets, offset)
        return self._offsets[at] if at < len(self._offsets) else self.size

    def _find(self, entry: IndexEntry) -> IndexEntry | None:
        """Where a section is that is not where the index says."""
        if not self.complete:
            return None
        if self._moved is None:
            self._moved = {}
            there: dict[tuple[int, int], list[IndexEntry]] = {}
            for found in self.scan().entries:
                there.setdefault((found.type, found.number), []).append(found)
            for gop in self.gops:
                for indexed in ([gop.video], [gop.timestamps], gop.audio):
                    places = [e for e in indexed if e is not None]
                    found_here = there.get((places[0].type, gop.number), []) if places else []
                    if len(places) == len(found_here):
                        for place, found in zip(places, found_here, strict=True):
                            if place.offset != found.offset:
                                self._moved[place.type, place.number, place.offset] = found
        moved = self._moved.get((entry.type, entry.number, entry.offset))
        if moved is not None and not self._told_moved:
            self._told_moved = True
            self.damage.append("sections are not where the index says; found by scanning")
        return moved

    def read_other(self, entry: IndexEntry) -> bytes | None:
        """The payload of a section of a type that this program does not know."""
        return self._payload(entry, f"type {entry.type}")

    def read_gop(self, gop: GopEntry) -> tuple[VideoGop, list[int]] | None:
        """A GOP and its frames' pts, which rise, or None (and a line in ``damage``) where it is
        damaged."""
        if gop.video is None:
            return None
        payload = self._payload(gop.video, "video")
        try:
            video = None if payload is None else VideoGop.from_bytes(payload)
        except FormatError as error:
            self._tell(gop.number, str(error))
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
                self._tell(gop.number, str(error))
        if any(later <= earlier for earlier, later in itertools.pairwise(pts)):
            self._tell(gop.number, "its times do not rise; frames are spaced evenly")
            pts = self.spaced(video.first_pts, video.frames)
        return video, pts

    def spaced(self, first: int, frames: int) -> list[int]:
        """Times of frames at the nominal rate, but never two at the same."""
        duration = 1 / (self.header.frame_rate * self.header.time_base)
        duration = min(max(duration, Fraction(1)), Fraction(MAX_DURATION))
        return [first + round(i * duration) for i in range(frames)]

    def audio_sections(self, gop: GopEntry) -> Iterator[list[AudioPacket]]:
        """As :meth:`read_audio`, a section at a time: a still picture may have hours of sound."""
        for section in gop.audio:
            yield self.read_audio(GopEntry(gop.number, audio=[section]))

    def read_audio(self, gop: GopEntry) -> list[AudioPacket]:
        """The audio packets stored before a GOP; damaged sections are left out and reported."""
        packets = []
        for entry in gop.audio:
            payload = self._payload(entry, "audio")
            try:
                if payload is not None:
                    packets += audio_from_bytes(payload, len(self.header.tracks))
            except FormatError as error:
                self._tell(gop.number, str(error))
        return packets
