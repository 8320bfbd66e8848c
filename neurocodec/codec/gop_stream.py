"""Frames -> tokens of the ``motion`` family, GOP by GOP.

A GOP is coded a mini-GOP at a time: its last picture first, then those between by bisection. Scene
cuts start a new GOP. Where motion does not reach far, mini-GOPs are shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..bitstream.payloads import AudioPacket
from ..entropy.generator import DEFAULT_STEPS
from ..entropy.structure import ANCHOR, Picture
from ..media.frame import Frame
from ..threads import ahead
from ..tokenizer.motion_model import MotionTokenizer
from .effort import EFFORTS, Effort
from .frames import GopEnd, gop_starts, padded
from .lookahead import LONG, Thumbnail, is_still, mini_gop_length, thumbnail
from .picture_encoder import PictureEncoder
from .temporal_filter import Given, TemporalFilter
from .tokens import DEFAULT_SCALES, EntropyModel, LatentTokens, PictureTokens, before_of, grid_of
from .trial import best_length


class GopStream:
    """Frames of one GOP as they come, to tokens in coding order."""

    def __init__(
        self, loop: PictureEncoder, entropy: EntropyModel | None = None, steps: int = DEFAULT_STEPS
    ) -> None:
        """entropy: for trial encodes, as often as the encoder's effort says; none without it.
        steps: of its schedule."""
        self._loop, self._entropy, self._steps = loop, entropy, steps
        self._trials = 0 if entropy is None else loop.effort.trials
        self._anchors = (0, 0)  # displays of the last two
        self._anchor_tokens: dict[int, LatentTokens] = {}
        self._anchor_small: Thumbnail | None = None
        self._length_before = LONG  # of the last mini-GOPs
        self._waiting: list[tuple[Tensor, Thumbnail, int | None]] = []
        self._tried: int | None = None  # what the last trial chose
        self._since = 0  # groups since then

    def add(
        self, planes: Tensor, small: Thumbnail, length: int | None = None
    ) -> Iterator[PictureTokens]:
        """length: of the mini-GOPs that end with this frame, where it has been found."""
        if self._anchor_small is None:
            self._anchor_small = small
            item = self._loop.encode(Picture(0, (), 0), planes)
            self._anchor_tokens[0] = item.parts[-1]
            yield item
            return
        self._waiting.append((planes, small, length))
        if len(self._waiting) == LONG:
            yield from self.flush()

    def flush(self) -> Iterator[PictureTokens]:
        """Code the frames that wait, as mini-GOPs of one length."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        assert self._anchor_small is not None
        small = [self._anchor_small, *(small for _, small, _ in waiting)]
        group = [planes for planes, _, _ in waiting]
        length = self._length_before = self._length(small, group, waiting[-1][2])
        for item in self._loop.mini_gops(self._anchors, group, length):
            if item.picture.level == ANCHOR:
                self._anchors = self._anchors[1], item.picture.display
                self._anchor_tokens[item.picture.display] = item.parts[-1]
            yield item
        self._anchor_tokens = {k: self._anchor_tokens[k] for k in self._anchors}
        self._anchor_small = small[-1]

    def _length(self, small: list[Thumbnail], group: list[Tensor], known: int | None) -> int:
        """Of mini-GOPs. A trial is made where there is something to choose, and not in every group:
        what it found is taken to hold for a while."""
        if not self._trials:
            return known or self._estimated_length(small)
        if is_still(small):
            return LONG
        self._since += 1
        if self._tried is None or self._since >= self._trials:
            if len(group) < LONG:
                return self._tried or self._estimated_length(small)
            assert self._entropy is not None
            before = {k: before_of(tokens) for k, tokens in self._anchor_tokens.items()}
            self._tried = best_length(
                self._loop, self._entropy, self._anchors, before, group, self._steps
            )
            self._since = 0
        return self._tried

    def _estimated_length(self, small: list[Thumbnail]) -> int:
        return mini_gop_length(small[0], small[1:], self._loop.step, self._length_before)


def _filtered(
    events: Iterable[Frame | AudioPacket],
    step: float,
    reach: int,
    gop_frames: int,
    find_cuts: bool,
    skip: int,
) -> Iterator[Given | GopEnd | AudioPacket]:
    """Frames of each GOP, filtered, a GopEnd after them, and the audio packets as they come.
    Arguments as of ``tokenize_pictures`` and ``TemporalFilter``."""
    gop: TemporalFilter | None = None
    pts: list[int] = []
    for item in gop_starts(events, gop_frames, find_cuts, skip):
        if isinstance(item, AudioPacket):
            yield item
            continue
        frame, begins = item
        if gop is not None and begins:
            yield from gop.flush()
            yield GopEnd(pts)
            gop = None
        if gop is None:
            gop, pts = TemporalFilter(step, reach), []
        pts.append(frame.pts)
        yield from gop.add(frame)
    if gop is not None:
        yield from gop.flush()
        yield GopEnd(pts)


def tokenize_pictures(
    events: Iterable[Frame | AudioPacket],
    tokenizer: MotionTokenizer,
    step: float,
    gop_frames: int,
    device: torch.device,
    effort: Effort = EFFORTS["medium"],
    find_cuts: bool = True,
    scales: tuple[int, ...] = DEFAULT_SCALES,
    masking: int = 0,
    skip: int = 0,
    entropy: EntropyModel | None = None,
    steps: int = DEFAULT_STEPS,
) -> Iterator[PictureTokens | GopEnd | AudioPacket]:
    """Tokens of each picture in coding order, a GopEnd after those of each GOP, and the audio
    packets as they come. find_cuts: begin a GOP at every scene cut. skip: frames at the beginning,
    of whole GOPs, that are coded already. entropy: what the tokens will be coded by, in so many
    steps; without it no trial encodes are made."""
    gop: GopStream | None = None
    for item in ahead(_filtered(events, step, effort.reach, gop_frames, find_cuts, skip), LONG):
        if isinstance(item, AudioPacket):
            yield item
            continue
        if isinstance(item, GopEnd):
            assert gop is not None
            yield from gop.flush()
            yield item
            gop = None
            continue
        frame, length = item
        if gop is None:
            height, width = frame.y.shape
            grid = grid_of(width, height)
            loop = PictureEncoder(tokenizer, grid, step, scales, device, masking)
            loop.effort = effort
            gop = GopStream(loop, entropy, steps)
        planes = padded([frame])[:, :, 0].to(device)
        yield from gop.add(planes, thumbnail(frame.y), length)
