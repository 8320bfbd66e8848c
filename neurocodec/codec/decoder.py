""".nc file -> frames and sound."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from .. import models
from ..bitstream.limits import MAX_TIME
from ..bitstream.payloads import STEP_ONE, AudioPacket, Header, IndexEntry, VideoGop
from ..bitstream.reader import GopEntry, Reader
from ..device import choose_device
from ..media.cut import exact_seconds
from ..media.frame import Frame, MediaInfo, Planes
from ..threads import ahead
from .conceal import SEEN, Concealer, freeze, grey_frame
from .entropy_process import EntropyProcess, Setting
from .latents import GopSynthesizer
from .pictures import PictureLoop
from .plan import entropy_pays
from .synthesis import PictureSynthesizer
from .tokens import (
    EntropyModel,
    LatentTokens,
    PictureTokens,
    Tokens,
    decode_tokens,
    grid_of,
    picture_head,
)

_SKEW = 2  # seconds by which sound may be stored before or after its pictures


@dataclass(frozen=True)
class LostGop:
    pts: list[int]


Section = AudioPacket | LostGop | tuple[VideoGop, list[int]]
Decoded = tuple[Section, list[Planes] | None]


class Decoder:
    """Decodes an open :class:`Reader`. conceal: what makes frames of lost GOPs. Raises
    ModelMismatchError, ModelError."""

    def __init__(
        self,
        reader: Reader,
        model: str | None = None,
        device: str = "auto",
        conceal: Concealer = freeze,
    ) -> None:
        self.reader = reader
        header = reader.header
        self.bundle = models.find_for(header.model_hash, header.model_name, model)
        self._entropy = self.bundle.entropy(header.entropy_model)
        self.device = choose_device(device)
        self._beside = entropy_pays(header.width, header.height, reader.frames)
        self._conceal = conceal
        self._shown: deque[Planes] = deque(maxlen=SEEN)
        # decodes items of ``sections`` elsewhere; by default they are decoded here
        self.decode_gops: Callable[[Iterator[Section]], Iterator[Decoded]] | None = None

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return self.bundle.tokenizer().to(self.device)

    def frames(self, gops: list[GopEntry]) -> Iterator[Frame | AudioPacket]:
        """Frames of these GOPs, and the audio packets stored beside them. Lost GOPs are
        concealed."""
        if self.decode_gops is not None:
            for section, planes in self.decode_gops(self.sections(gops)):
                yield from self._show(section, planes)
            return
        items = ahead(self._tokens(gops), 4)
        try:
            yield from self._synthesize(items)
        finally:
            items.close()

    def _show(self, section: Section, planes: list[Planes] | None) -> Iterator[Frame | AudioPacket]:
        """Of a section, and its frames if it is a GOP."""
        if isinstance(section, AudioPacket):
            yield section
        elif isinstance(section, LostGop):
            yield from self._replace(section)
        else:
            for frame, at in zip(planes or (), section[1], strict=False):
                self._shown.append(frame)
                yield Frame(*frame, at)

    def _replace(self, lost: LostGop) -> Iterator[Frame]:
        header = self.reader.header
        before = list(self._shown) or [grey_frame(header.width, header.height)]
        frames = self._conceal(before, len(lost.pts))
        for planes, at in zip(frames, lost.pts, strict=True):
            self._shown.append(planes)
            yield Frame(*planes, at, concealed=True)

    def part(self, start: float, duration: float | None) -> Iterator[Frame | AudioPacket]:
        """What lies between two times of the clip, in seconds.

        Where the part does not begin with the clip, its first frame is moved to time 0.
        """
        header = self.reader.header
        begin, end = limits_of(self.reader, start, duration)
        shift = None if start else Fraction(0)
        waiting: list[AudioPacket] = []  # until the first frame is known
        for item in self.frames(with_sound_around(self.reader, begin, end)):
            base = header.time_base
            if isinstance(item, AudioPacket):
                base = header.tracks[item.track].time_base
            at = item.pts * base
            if (start and at < begin) or (end is not None and at >= end):
                continue
            if shift is None:
                if isinstance(item, AudioPacket):
                    waiting.append(item)
                    continue
                shift = at
                for early in waiting:
                    unit = header.tracks[early.track].time_base
                    if early.pts * unit >= shift:
                        yield replace(early, pts=early.pts - round(shift / unit))
            yield replace(item, pts=item.pts - round(shift / base))

    def _tokens(self, gops: list[GopEntry]) -> Iterator[Section | Tokens]:
        header = self.reader.header
        with EntropyProcess(Setting(self.bundle, header), self.reader.frames) as process:
            for section in self.sections(gops):
                yield section
                if isinstance(section, tuple) and self._beside:
                    yield from process.decode(section[0])
                elif isinstance(section, tuple):
                    yield from decode_tokens(header, section[0], self._entropy)

    def sections(self, gops: list[GopEntry]) -> Iterator[Section]:
        """What is stored of these GOPs: audio packets, and each GOP with the times of its
        frames."""
        last: int | None = None  # time of the frame before
        for i, entry in enumerate(gops):
            for packets in self.reader.audio_sections(entry):
                yield from packets
            found = self.reader.read_gop(entry)
            if found is None:
                follows = gops[i + 1].video if i + 1 < len(gops) else None
                pts = self._times_of_lost(entry.video, last, follows)
                if pts:
                    yield LostGop(pts)
            else:
                video, pts = found
                pts = self._after(pts, last, entry.number)
                if pts:
                    yield video, pts
            last = pts[-1] if pts else last

    def _times_of_lost(
        self, lost: IndexEntry | None, last: int | None, follows: IndexEntry | None
    ) -> list[int]:
        """As far as an index knows, and the frames around leave room."""
        if lost is None:
            return []
        low = last if last is not None else -MAX_TIME
        high = follows.first_pts if follows is not None and follows.frames else MAX_TIME
        pts = self.reader.spaced(lost.first_pts, lost.frames)
        return [at for at in pts if low < at < high]

    def _after(self, pts: list[int], last: int | None, number: int) -> list[int]:
        """The times of a GOP, moved where they do not come after the frame before, as those of a
        GOP of another file do not. None where there is no more time."""
        if last is None or pts[0] > last:
            return pts
        shift = last + self.reader.spaced(0, 2)[1] - pts[0]
        self.reader.damage.append(f"GOP {number}: its times are in those of the GOP before; moved")
        return [at + shift for at in pts] if pts[-1] + shift < MAX_TIME else []

    def _synthesize(self, items: Iterator[Section | Tokens]) -> Iterator[Frame | AudioPacket]:
        gop: GopSynthesizer | PictureSynthesizer | None = None
        pts: list[int] = []

        def timed(found: list[Planes]) -> Iterator[Frame]:
            for planes in found[: len(pts)]:  # the last group may be longer than what is left
                self._shown.append(planes)
                yield Frame(*planes, pts.pop(0))

        try:
            for item in items:
                if isinstance(item, AudioPacket):
                    yield item
                elif isinstance(item, LatentTokens | PictureTokens):
                    assert gop is not None
                    yield from timed(gop(item))  # type: ignore[arg-type]
                else:
                    if gop is not None:
                        yield from timed(gop.finish())
                    if isinstance(item, LostGop):
                        gop = None
                        yield from self._replace(item)
                    else:
                        gop, pts = self._synthesizer(item[0]), list(item[1])
            if gop is not None:
                yield from timed(gop.finish())
        finally:
            if gop is not None:
                gop.close()

    def _synthesizer(self, gop: VideoGop) -> GopSynthesizer | PictureSynthesizer:
        return synthesizer(self.bundle, self._tokenizer, self.device, self.reader.header, gop)


def synthesizer(
    bundle: models.Bundle, networks: Any, device: torch.device, header: Header, gop: VideoGop
) -> GopSynthesizer | PictureSynthesizer:
    """Makes frames of the tokens of a GOP. networks: of the bundle, on the device."""
    step, size = gop.step / STEP_ONE, (header.width, header.height)
    if not bundle.is_motion:
        return GopSynthesizer(networks, step, size, device)
    scales, masking = picture_head(gop)
    loop = PictureLoop(networks, grid_of(*size), step, scales, device, masking)
    return PictureSynthesizer(loop, size)


def decode_gop(
    bundle: models.Bundle, entropy: EntropyModel, networks: Any, device: torch.device,
    header: Header, gop: VideoGop,
) -> Iterator[Planes]:  # fmt: skip
    """The frames of one GOP, and perhaps some that fill its last group."""
    make = synthesizer(bundle, networks, device, header, gop)
    try:
        for item in decode_tokens(header, gop, entropy):
            yield from make(item)  # type: ignore[arg-type]
        yield from make.finish()
    finally:
        make.close()


def media_info(reader: Reader) -> MediaInfo:
    h = reader.header
    return MediaInfo(
        h.width, h.height, h.sample_aspect, h.frame_rate, h.time_base, h.colour, h.tracks
    )


def origin_of(reader: Reader) -> int:
    """pts of the clip's first frame."""
    return next((g.video.first_pts for g in reader.gops if g.video), 0)


def duration_of(reader: Reader) -> Fraction:
    """Seconds from the first frame to the end of the last."""
    header = reader.header
    last = next((gop for gop in reversed(reader.gops) if gop.video), None)
    if last is None:
        return Fraction(0)
    with reader.quietly():
        found = reader.read_gop(last)
    if found is None:
        return reader.frames / header.frame_rate
    return (found[1][-1] - origin_of(reader)) * header.time_base + 1 / header.frame_rate


def limits_of(
    reader: Reader, start: float, duration: float | None
) -> tuple[Fraction, Fraction | None]:
    """Where a part of the clip begins and ends, in seconds of the file's clock."""
    begin = origin_of(reader) * reader.header.time_base + exact_seconds(start)
    return begin, None if duration is None else begin + exact_seconds(duration)


def gops_between(reader: Reader, begin: Fraction, end: Fraction | None) -> list[GopEntry]:
    """The GOPs that hold any frame between two times, in seconds of the file's clock."""
    chosen: list[GopEntry] = []
    latest: Fraction | None = None  # times that do not rise, of a damaged file, tell nothing
    for gop in reader.gops:
        first = gop.video.first_pts * reader.header.time_base if gop.video else None
        if first is not None and end is not None and first >= end:
            break
        if first is not None and first <= begin and (latest is None or first > latest):
            chosen.clear()
            latest = first
        chosen.append(gop)
    return chosen


def with_sound_around(reader: Reader, begin: Fraction, end: Fraction | None) -> list[GopEntry]:
    """As ``gops_between``, and of those nearby the sound: it need not lie beside its pictures."""
    inside = gops_between(reader, begin, end)
    if not inside:
        return []
    gops, base = reader.gops, reader.header.time_base

    def at(gop: GopEntry) -> Fraction | None:
        return gop.video.first_pts * base if gop.video else None

    low, high = gops.index(inside[0]), gops.index(inside[-1]) + 1
    before, after = low, high
    while before > 0 and (at(gops[before]) or begin) > begin - _SKEW:
        before -= 1
    while after < len(gops) and end is not None and (at(gops[after]) or end) < end + _SKEW:
        after += 1
    return [
        *(GopEntry(gop.number, audio=gop.audio) for gop in gops[before:low]),
        *inside,
        *(GopEntry(gop.number, audio=gop.audio) for gop in gops[high:after]),
    ]
