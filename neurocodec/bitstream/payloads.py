"""What is inside the sections: dataclasses to bytes and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from ..errors import FormatError
from .fields import FieldReader, FieldWriter
from .limits import (
    MAX_GOP_FRAMES,
    MAX_GOPS,
    MAX_METADATA,
    MAX_PACKETS,
    MAX_PIXELS,
    MAX_SECTION_BYTES,
    MAX_SIDE,
    MAX_TERM,
    MAX_TEXT_BYTES,
    MAX_TRACK_BYTES,
    MAX_TRACKS,
)

STEP_ONE = 1 << 16  # a quantizer step of 1.0


@dataclass(frozen=True)
class Colour:
    """Code points of ITU-T H.273; 2 is "unspecified"."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = False


@dataclass(frozen=True)
class AudioTrack:
    """description: a Matroska file with the track's parameters and first packet, see the spec."""

    codec: str
    time_base: Fraction
    sample_rate: int
    channels: int
    language: str
    description: bytes


@dataclass(frozen=True)
class Header:
    """Geometry is of the frame as shown, before padding to whole cells."""

    model_hash: bytes  # SHA-256 of the model bundle
    model_name: str
    width: int
    height: int
    sample_aspect: Fraction
    frame_rate: Fraction  # nominal
    time_base: Fraction
    colour: Colour
    gop_frames: int
    quality: int
    tracks: tuple[AudioTrack, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    entropy_model: int = 0

    def to_bytes(self) -> bytes:
        w = FieldWriter()
        w.data += self.model_hash
        w.text(self.model_name)
        w.pack("IIHBB", self.width, self.height, self.gop_frames, self.quality, self.entropy_model)
        for value in (self.sample_aspect, self.frame_rate, self.time_base):
            w.rational(value)
        c = self.colour
        w.pack("BBBB", c.primaries, c.transfer, c.matrix, c.full_range)
        w.pack("H", len(self.tracks))
        for track in self.tracks:
            w.text(track.codec)
            w.rational(track.time_base)
            w.pack("IH", track.sample_rate, track.channels)
            w.text(track.language)
            w.blob(track.description)
        w.pack("H", len(self.metadata))
        for key, entry in self.metadata.items():
            w.text(key)
            w.text(entry)
        return bytes(w.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Raises FormatError. Bytes after the last known field are ignored."""
        r = FieldReader(data, "the header")
        model_hash, model_name = r.take(32), r.text(MAX_TEXT_BYTES)
        width, height, gop_frames, quality, entropy_model = r.unpack("IIHBB")
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
            raise FormatError(f"the header gives a frame of {width}x{height}")
        if not 0 < gop_frames <= MAX_GOP_FRAMES:
            raise FormatError(f"the header gives GOPs of {gop_frames} frames")
        sample_aspect, frame_rate, time_base = r.rational(), r.rational(), r.rational()
        primaries, transfer, matrix, full = r.unpack("BBBB")
        tracks = []
        for _ in range(_count(r, MAX_TRACKS, "audio tracks")):
            codec, track_base = r.text(MAX_TEXT_BYTES), r.rational()
            rate, channels = r.unpack("IH")
            if not 0 < rate <= MAX_TERM:
                raise FormatError(f"an audio track of {rate} samples per second")
            language, description = r.text(MAX_TEXT_BYTES), r.blob(MAX_TRACK_BYTES)
            tracks.append(AudioTrack(codec, track_base, rate, channels, language, description))
        metadata = {
            r.text(MAX_TEXT_BYTES): r.text(MAX_TEXT_BYTES)
            for _ in range(_count(r, MAX_METADATA, "metadata entries"))
        }
        return cls(
            model_hash, model_name, width, height, sample_aspect, frame_rate, time_base,
            Colour(primaries, transfer, matrix, bool(full & 1)), gop_frames, quality,
            tuple(tracks), metadata, entropy_model,
        )  # fmt: skip


def _count(r: FieldReader, limit: int, what: str) -> int:
    count = r.number("H")
    if count > limit:
        raise FormatError(f"the header has {count} {what}, more than {limit}")
    return count


@dataclass(frozen=True)
class VideoGop:
    """A video section. Times are in units of the header's time base."""

    frames: int
    first_pts: int
    frame_duration: int  # between frames where no timestamps section says otherwise
    step: int  # quantizer step, in units of 1 / STEP_ONE
    tokens: bytes  # arithmetic-coded

    def to_bytes(self) -> bytes:
        w = FieldWriter()
        w.pack("HqII", self.frames, self.first_pts, self.frame_duration, self.step)
        return bytes(w.data) + self.tokens

    @classmethod
    def from_bytes(cls, data: bytes) -> VideoGop:
        r = FieldReader(data, "a video section")
        frames, first, duration, step = r.unpack("HqII")
        if not 0 < frames <= MAX_GOP_FRAMES:
            raise FormatError(f"a GOP of {frames} frames")
        if not 0 < step <= 16 * STEP_ONE:
            raise FormatError(f"a quantizer step of {step}/65536")
        return cls(frames, r.time(first), duration, step, r.rest())

    def regular_times(self) -> list[int]:
        return [self.first_pts + i * self.frame_duration for i in range(self.frames)]


def timestamps_to_bytes(pts: list[int]) -> bytes:
    """Count, then second differences as signed varints."""
    w = FieldWriter()
    w.pack("H", len(pts))
    before, delta = 0, 0
    for value in pts:
        w.varint(value - before - delta)
        before, delta = value, value - before
    return bytes(w.data)


def timestamps_from_bytes(data: bytes) -> list[int]:
    r = FieldReader(data, "a timestamps section")
    count = r.number("H")
    if count > MAX_GOP_FRAMES:
        raise FormatError(f"timestamps of {count} frames in one GOP")
    pts: list[int] = []
    before, delta = 0, 0
    for _ in range(count):
        delta += r.varint()
        before = r.time(before + delta)
        pts.append(before)
    return pts


@dataclass(frozen=True)
class AudioPacket:
    """One packet of the audio codec. Times in units of the track's time base."""

    track: int
    pts: int
    duration: int
    data: bytes


def audio_to_bytes(packets: list[AudioPacket]) -> bytes:
    w = FieldWriter()
    w.pack("I", len(packets))
    for p in packets:
        w.pack("HqI", p.track, p.pts, p.duration)
        w.blob(p.data)
    return bytes(w.data)


def audio_from_bytes(data: bytes, tracks: int) -> list[AudioPacket]:
    r = FieldReader(data, "an audio section")
    count = r.number("I")
    if count > MAX_PACKETS:
        raise FormatError(f"an audio section of {count} packets")
    packets = []
    for _ in range(count):
        track, pts, duration = r.unpack("HqI")
        if track >= tracks:
            raise FormatError(f"an audio packet of track {track}, which does not exist")
        packets.append(AudioPacket(track, r.time(pts), duration, r.blob(MAX_SECTION_BYTES)))
    return packets


@dataclass(frozen=True, slots=True)  # there may be very many
class IndexEntry:
    """Where a section of a GOP begins. Frames and first_pts are of video sections, else 0."""

    type: int
    number: int
    offset: int
    frames: int = 0
    first_pts: int = 0


_ENTRY = "BIQHq"


def index_to_bytes(entries: list[IndexEntry]) -> bytes:
    w = FieldWriter()
    w.pack("I", len(entries))
    for e in entries:
        w.pack(_ENTRY, e.type, e.number, e.offset, e.frames, e.first_pts)
    return bytes(w.data)


def index_from_bytes(data: bytes) -> list[IndexEntry]:
    r = FieldReader(data, "the index")
    count = r.number("I")
    if count > 3 * MAX_GOPS:
        raise FormatError(f"an index of {count} entries")
    entries = []
    for _ in range(count):
        type_, number, offset, frames, first = r.unpack(_ENTRY)
        if frames > MAX_GOP_FRAMES:
            raise FormatError(f"an index with a GOP of {frames} frames")
        entries.append(IndexEntry(type_, number, offset, frames, r.time(first)))
    return entries


@dataclass(frozen=True)
class End:
    """The last section, of fixed size: the trailer by which a reader finds the index."""

    index_offset: int
    gops: int
    frames: int

    def to_bytes(self) -> bytes:
        w = FieldWriter()
        w.pack("QIQ", self.index_offset, self.gops, self.frames)
        return bytes(w.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> End:
        return cls(*FieldReader(data, "the end section").unpack("QIQ"))


END_BYTES = 20  # of an End payload
