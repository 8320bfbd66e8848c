"""Writing .nc files to anything that has ``write``; nothing is ever sought back to."""

from __future__ import annotations

from typing import Protocol

from ..errors import FormatError
from .limits import MAX_HEADER_BYTES
from .payloads import (
    AudioPacket,
    End,
    Header,
    IndexEntry,
    VideoGop,
    audio_to_bytes,
    index_to_bytes,
    timestamps_to_bytes,
)
from .sections import SectionType, preamble, section


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Writer:
    """Call :meth:`header` once, then audio and GOPs in order, then :meth:`finish`."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self.bytes_written = 0
        self.video_bytes = 0  # of video and timestamps sections
        self.audio_bytes = 0
        self._index: list[IndexEntry] = []
        self._gops = 0
        self._frames = 0

    def redirect(self, file: Writable) -> None:
        """Write to another file from now on, which has what was written so far."""
        self._file = file

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes_written += len(data)

    def header(self, header: Header) -> None:
        """Raises FormatError where a field exceeds the limits."""
        payload = header.to_bytes()
        if len(payload) > MAX_HEADER_BYTES:
            raise FormatError(f"a header of {len(payload)} bytes; the limit is {MAX_HEADER_BYTES}")
        Header.from_bytes(payload)  # what no reader would take is not written
        self.header_payload(payload)

    def header_payload(self, payload: bytes) -> None:
        """Instead of ``header``: as another file has it."""
        self._write(preamble() + section(SectionType.HEADER, 0, payload))

    def gop(self, gop: VideoGop, pts: list[int]) -> None:
        """The next GOP; pts of its frames go into a section of their own where irregular."""
        before = self.bytes_written
        if pts != gop.regular_times():
            self._section(SectionType.TIMESTAMPS, timestamps_to_bytes(pts))
        self._section(SectionType.VIDEO, gop.to_bytes(), gop.frames, gop.first_pts)
        self.video_bytes += self.bytes_written - before
        self._gops += 1
        self._frames += gop.frames

    def audio(self, packets: list[AudioPacket]) -> None:
        """Packets that belong beside the GOP written next."""
        if packets:
            before = self.bytes_written
            self._section(SectionType.AUDIO, audio_to_bytes(packets))
            self.audio_bytes += self.bytes_written - before

    def other(self, type_: int, payload: bytes) -> None:
        """A section of a type that this program does not know, beside the GOP written next."""
        self._write(section(type_, self._gops, payload))

    def _section(self, type_: SectionType, payload: bytes, frames: int = 0, pts: int = 0) -> None:
        self._index.append(IndexEntry(type_, self._gops, self.bytes_written, frames, pts))
        self._write(section(type_, self._gops, payload))

    def finish(self) -> None:
        offset = self.bytes_written
        self._write(section(SectionType.INDEX, 0, index_to_bytes(self._index)))
        self._write(section(SectionType.END, 0, End(offset, self._gops, self._frames).to_bytes()))
