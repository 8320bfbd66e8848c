"""Pictures of the ``motion`` family to tokens: an encoder's side of the closed loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..entropy.field import Field, MotionMemory
from ..entropy.loop_filter import LoopFilter
from ..entropy.signs import HIDDEN_EVERY
from ..entropy.structure import ANCHOR, Picture, mini_gop
from ..entropy.wiener import NEWEST, Wiener, group_of
from ..tokenizer.config import INTER
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.motion_model import cell_steps
from .effort import EFFORTS
from .frames import as_floats
from .loop_filter import choose
from .merging import merge
from .pictures import Box, PictureLoop, References, step_of
from .search import search
from .tokens import PictureTokens, kind_of
from .wavefront import Wavefront
from .wiener_choice import choose_wiener

# Of what a bit of motion must save, relative to a bit of tokens. The finer step of an anchor is for
# those that are predicted from it, which gain by its samples but not by its motion
_ANCHOR_PENALTY = 2.0
# Of an inter picture: its references, and the motion that is suggested
Known = tuple[References, NDArray[np.int16] | None]
Encoded = tuple[PictureTokens, Tensor]


class PictureEncoder(PictureLoop):
    """Makes tokens of pictures, in coding order, and keeps what a decoder will have."""

    effort = EFFORTS["medium"]
    hidden = HIDDEN_EVERY

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.memory = MotionMemory()
        self._wieners: dict[int, Wiener] = {}  # the last filters of each group of pictures

    def encode(self, picture: Picture, planes: Tensor) -> PictureTokens:
        """planes: (1, 6, H/2, W/2) in 0..1, of whole cells."""
        item, decoded = self._prepare(picture, planes)()
        self._take(item, decoded)
        return item

    def _prepare(self, picture: Picture, planes: Tensor) -> Callable[[], Encoded]:
        known, last = None, self._wieners.get(group_of(picture))
        if picture.refs:
            known = self.references(picture), self.memory.suggest(picture)
        return partial(self._encoded, picture, planes, known, last)

    def _take(self, item: PictureTokens, decoded: Tensor) -> None:
        self.pictures[item.picture.display] = decoded
        if item.motion is not None:
            self.memory.remember(item.picture, item.motion, self.pictures)
        if item.wiener is not None and item.picture.level <= NEWEST:
            group = group_of(item.picture)
            last = item.wiener.or_else(self._wieners.get(group, Wiener()))
            self._wieners = {**self._wieners, group: last}

    @torch.inference_mode()
    def _encoded(
        self, picture: Picture, planes: Tensor, known: Known | None, last: Wiener | None
    ) -> Encoded:
        """Tokens of a picture, and what a decoder makes of them. Several threads may ask at once.
        planes: uint8, or in 0..1. known: None of an intra picture. last: the Wiener filters before
        of its group."""
        planes = as_floats(planes)
        step, weight = step_of(self.step, self.scales, picture), self._weight(planes)
        penalty = LAMBDA_PER_STEP2 * step**2  # squared error that a bit must save
        motion: Field | None = None
        if known is None:
            decoded, parts = self._intra(picture, planes=planes)
        else:
            references, suggested = known
            dear = _ANCHOR_PENALTY if picture.level == ANCHOR else 1.0
            motion = self._search(planes, references, suggested, dear * penalty, weight)
            if self.large:  # a tenth less memory, for a fiftieth more time
                for reference in references:
                    reference.drop_luma()
            decoded, tokens = self.code(
                self.predicted(references, motion), kind_of(picture), step, planes=planes
            )
            parts = [tokens]
        loop_filter: LoopFilter | None = None
        wiener: Wiener | None = None
        if self.tokenizer.config.loop_filter:
            loop_filter, decoded = choose(
                decoded, planes, step, penalty, weight, not picture.refs, self.effort.smooth
            )
            wiener, decoded = choose_wiener(
                decoded, planes, last, picture.level <= NEWEST, penalty, weight
            )
        item = PictureTokens(picture, motion, parts, loop_filter=loop_filter, wiener=wiener)
        return item, decoded

    def _search(
        self, planes: Tensor, references: References, suggested: NDArray[np.int16] | None,
        penalty: float, weight: Tensor | None,
    ) -> Field:  # fmt: skip
        direct = None
        if suggested is not None:
            direct = torch.from_numpy(suggested.astype(np.int64))[None].to(self.device)
        found = search(planes, references, penalty, direct, self.effort, weight)
        found = merge(found, planes, references, penalty, direct, weight, self.effort.merges)
        return Field(
            found.mode[0].cpu().numpy().astype(np.uint8),
            found.fields[0].cpu().numpy().astype(np.int16),
        )

    def _weight(self, planes: Tensor) -> Tensor | None:
        """Of the error of cells: what masking would make of it."""
        if not self.masking:
            return None
        one = torch.ones(1, device=self.device)
        return cell_steps(one, INTER, (planes, planes), self.masking)[:, 0] ** -2

    def cropped(self, box: Box) -> PictureEncoder:
        """One that goes on from a part of what was decoded, and leaves this one as it is."""
        other = copy.copy(self)
        other.grid = (box.rows, box.columns)
        other.pictures = {display: box.of_planes(x) for display, x in self.pictures.items()}
        other._references = {}
        other.memory = self.memory.cropped(*box.slices)
        return other

    def mini_gops(
        self, anchors: tuple[int, int], group: list[Tensor], length: int
    ) -> Iterator[PictureTokens]:
        """Code a group of frames as mini-GOPs of a length, the last of which may be shorter.

        anchors: displays of the last two; group: planes of the frames after the last.
        """
        before, start = anchors
        for first in range(0, len(group), length):
            part = group[first : first + length]
            yield from self._mini_gop(list(mini_gop(before, start, len(part))), part, start + 1)
            before, start = start, start + len(part)
            self.forget((before, start))

    def _mini_gop(
        self, pictures: Sequence[Picture], part: list[Tensor], first: int
    ) -> Iterator[PictureTokens]:
        """In coding order. part: planes of the frames from display ``first`` on."""
        found: dict[int, PictureTokens] = {}

        def take(picture: Picture, of: Encoded) -> None:
            self._take(*of)
            found[picture.display] = of[0]

        front = Wavefront(self, self._prepare, take)
        for picture in pictures:
            front.add(picture, part[picture.display - first])
        try:
            order = [picture.display for picture in pictures]
            for display in order:
                front.proceed(partial(found.__contains__, display))
                yield found.pop(display)
        finally:
            front.close()
