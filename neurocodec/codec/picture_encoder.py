"""Frames -> tokens of the ``motion`` family, GOP by GOP.

A GOP is coded a mini-GOP at a time: its last picture first, then those between by bisection. Scene
cuts start a new GOP. Where motion does not reach far, mini-GOPs are shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..bitstream.payloads import AudioPacket
from ..entropy.motion import Field, MotionMemory
from ..entropy.structure import ANCHOR, Picture, mini_gop
from ..media.frame import Frame
from ..tokenizer.config import INTER
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.motion_model import MotionTokenizer, cell_steps
from .frames import GopEnd, pad_planes
from .lookahead import LONG, CutFinder, Thumbnail, mini_gop_length, thumbnail
from .pictures import PictureLoop, step_of
from .search import Effort, search
from .tokens import DEFAULT_SCALES, PictureTokens, grid_of, kind_of

EFFORTS = {
    "fast": Effort(coarse=(16, 4), fine=(2, 1), rounds=1, both=()),
    "medium": Effort(),
    "slow": Effort(coarse=(16, 8, 4, 2, 1), fine=(4, 2, 1), rounds=4, both=(2, 1)),
}

# Masking of pictures, in units of 1/MASKING_ONE, by what a file is tuned for. The default gives up
# next to no PSNR
TUNES = {"psnr": 0, "balanced": 16, "ms-ssim": 45}
DEFAULT_TUNE = "balanced"

# Of what a bit of motion must save, relative to a bit of tokens. The finer step of an anchor is for
# those that are predicted from it, which gain by its samples but not by its motion
_ANCHOR_PENALTY = 2.0


class PictureEncoder(PictureLoop):
    """Makes tokens of pictures, in coding order, and keeps what a decoder will have."""

    effort = EFFORTS["medium"]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._memory = MotionMemory()

    @torch.inference_mode()
    def encode(self, picture: Picture, planes: Tensor) -> PictureTokens:
        """planes: (1, 6, H/2, W/2) in 0..1, of whole cells."""
        if not picture.refs:
            decoded, parts = self._intra(picture, planes=planes)
            self.pictures[picture.display] = decoded
            return PictureTokens(picture, None, parts)
        step = step_of(self.step, self.scales, picture)
        penalty = LAMBDA_PER_STEP2 * step**2
        if picture.level == ANCHOR:
            penalty *= _ANCHOR_PENALTY
        motion = self._search(picture, planes, penalty)
        decoded, tokens = self.code(
            self.predictions(picture, motion), kind_of(picture), step, planes=planes
        )
        self.pictures[picture.display] = decoded
        return PictureTokens(picture, motion, [tokens])

    def _search(self, picture: Picture, planes: Tensor, penalty: float) -> Field:
        first, second = picture.pair
        suggested = self._memory.suggest(picture)
        direct = None
        if suggested is not None:
            direct = torch.from_numpy(suggested.astype(np.int64))[None].to(self.device)
        found = search(
            planes,
            (self.reference(first), self.reference(second)),
            (self.pictures[first], self.pictures[second]),
            penalty,
            direct,
            self.effort,
            self._weight(planes),
        )
        field = Field(
            found.mode[0].cpu().numpy().astype(np.uint8),
            found.fields[0].cpu().numpy().astype(np.int16),
        )
        self._memory.remember(picture, field, self.pictures)
        return field

    def _weight(self, planes: Tensor) -> Tensor | None:
        """Of the error of cells: what masking would make of it."""
        if not self.masking:
            return None
        one = torch.ones(1, device=self.device)
        return cell_steps(one, INTER, (planes, planes), self.masking)[:, 0] ** -2


class GopStream:
    """Frames of one GOP as they come, to tokens in coding order."""

    def __init__(self, loop: PictureEncoder) -> None:
        self._loop = loop
        self._before = self._anchor = 0  # displays of the last two anchors
        self._anchor_small: Thumbnail | None = None
        self._waiting: list[tuple[Tensor, Thumbnail]] = []

    def add(self, planes: Tensor, small: Thumbnail) -> Iterator[PictureTokens]:
        if self._anchor_small is None:
            self._anchor_small = small
            yield self._loop.encode(Picture(0, (), 0), planes)
            return
        self._waiting.append((planes, small))
        if len(self._waiting) == LONG:
            yield from self.flush()

    def flush(self) -> Iterator[PictureTokens]:
        """Code the frames that wait, as mini-GOPs of one length."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        assert self._anchor_small is not None
        length = mini_gop_length(self._anchor_small, [small for _, small in waiting])
        self._anchor_small = waiting[-1][1]
        for first in range(0, len(waiting), length):
            yield from self._mini_gop([planes for planes, _ in waiting[first : first + length]])

    def _mini_gop(self, planes: list[Tensor]) -> Iterator[PictureTokens]:
        start = self._anchor
        for picture in mini_gop(self._before, start, len(planes)):
            yield self._loop.encode(picture, planes[picture.display - start - 1])
        self._before, self._anchor = start, start + len(planes)
        self._loop.forget((self._before, self._anchor))


def tokenize_pictures(
    events: Iterable[Frame | AudioPacket],
    tokenizer: MotionTokenizer,
    step: float,
    gop_frames: int,
    device: torch.device,
    effort: str = "medium",
    find_cuts: bool = True,
    scales: tuple[int, ...] = DEFAULT_SCALES,
    masking: int = 0,
    skip: int = 0,
) -> Iterator[PictureTokens | GopEnd | AudioPacket]:
    """Tokens of each picture in coding order, a GopEnd after those of each GOP, and the audio
    packets as they come. find_cuts: begin a GOP at every scene cut. skip: frames at the beginning,
    of whole GOPs, that are coded already."""
    gop: GopStream | None = None
    pts: list[int] = []
    cuts = CutFinder()
    for event in events:
        if isinstance(event, AudioPacket):
            yield event
            continue
        small = thumbnail(event.y)
        cut = find_cuts and cuts.is_cut(small)
        if skip:
            skip -= 1
            continue
        if gop is not None and (cut or len(pts) == gop_frames):
            yield from gop.flush()
            yield GopEnd(pts)
            gop, pts = None, []
        if gop is None:
            height, width = event.y.shape
            grid = grid_of(width, height)
            loop = PictureEncoder(tokenizer, grid, step, scales, device, masking)
            loop.effort = EFFORTS[effort]
            gop = GopStream(loop)
        pts.append(event.pts)
        planes = pad_planes([event])[:, :, 0].to(device)
        yield from gop.add(planes, small)
    if gop is not None:
        yield from gop.flush()
        yield GopEnd(pts)
