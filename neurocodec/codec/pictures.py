"""Pictures of the ``motion`` family: the closed loop that encoder and decoder share.

Both sides keep the decoded pictures that others may be predicted from, predict with the same
motion, and make the same picture of the same tokens; the encoder alone has a picture to make tokens
of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..entropy.field import Field
from ..entropy.structure import Picture
from ..tokenizer.config import COARSE, COARSEST, INTRA, SPATIAL_STRIDE
from ..tokenizer.motion import predict
from ..tokenizer.motion_inference import Convolutions, FastPictureCodec, rounded, steps_of_cells
from ..tokenizer.motion_model import (
    MotionTokenizer,
    PictureCodec,
    base_of,
    enlarged,
)
from ..tokenizer.quarter_pixels import QuarterPixels, predicted
from .loop_filter import apply
from .tokens import (
    MASKING_ONE,
    SCALE_ONE,
    Grid,
    LatentTokens,
    PictureTokens,
    grids_of,
    kind_of,
    scale_place,
)
from .wiener import corrected

_REFERENCES = 3  # interpolated pictures held at once: they are 16 times as large
_LARGE = 16384  # cells of a picture of which only the two are held that are looked at
References = tuple[QuarterPixels, QuarterPixels]


def step_of(step: float, scales: tuple[int, ...], picture: Picture) -> float:
    return step * scales[scale_place(picture)] / SCALE_ONE


@dataclass(frozen=True)
class Box:
    """A part of pictures, in cells."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)

    def of_cells(self, x: NDArray[Any]) -> NDArray[Any]:
        """(h, w, ...) -> (rows, columns, ...)."""
        return x[self.slices]

    def of_planes(self, planes: Tensor) -> Tensor:
        """(1, 6, H/2, W/2) of the whole -> of the part."""
        side = SPATIAL_STRIDE // 2
        rows, columns = (slice(side * s.start, side * s.stop) for s in self.slices)
        return planes[:, :, rows, columns].contiguous()


class PictureLoop:
    """The pictures of one GOP, in coding order. Decoded pictures are planes (1, 6, H/2, W/2) in
    0..1, multiples of 1/255, of whole cells."""

    hidden = 0  # see LevelLFQ.quantize
    alone = False  # whether each picture is to be made before the next one is begun
    threads: int | None = None  # of the networks of a picture; None: as many as torch has

    def __init__(
        self, tokenizer: MotionTokenizer, grid: Grid, step: float, scales: tuple[int, ...],
        device: torch.device, masking: int = 0,
    ) -> None:  # fmt: skip
        """masking: in units of 1/MASKING_ONE, see ``cell_steps``."""
        self.tokenizer, self.grid, self.device = tokenizer, grid, device
        self.step, self.scales, self.masking = step, scales, masking / MASKING_ONE
        self.pictures: dict[int, Tensor] = {}  # decoded planes, by display
        self._references: dict[int, QuarterPixels] = {}  # of the pictures used last
        self._fast: dict[PictureCodec, FastPictureCodec] = {}
        self._convolutions: Convolutions | None = None

    @property
    def large(self) -> bool:
        """Whether pictures are such that memory is what there is too little of."""
        return self.grid[0] * self.grid[1] > _LARGE

    def references(self, picture: Picture) -> References:
        """The two that a picture is predicted from. Of the others as many are kept for those to
        come as there is room for, while these are made."""
        wanted = set(picture.pair)
        room = (2 if self.large else _REFERENCES) - len(wanted)
        others = [k for k in self._references if k not in wanted]
        for k in others[: max(0, len(others) - room)]:
            del self._references[k]
        for k in picture.pair:  # those used last come last
            reference = self._references.pop(k, None)
            self._references[k] = reference or QuarterPixels(self.pictures[k])
        first, second = picture.pair
        return self._references[first], self._references[second]

    def forget(self, keep: tuple[int, ...]) -> None:
        """Drop all pictures but these."""
        self.pictures = {k: v for k, v in self.pictures.items() if k in keep}
        self._references = {k: v for k, v in self._references.items() if k in keep}

    def predicted(self, references: References, motion: Field) -> tuple[Tensor, Tensor]:
        first, second = references
        if self.device.type == "cpu":
            return predicted((first, second), motion.mode, motion.mv)
        mode = torch.from_numpy(motion.mode.astype(np.int64))[None].to(self.device)
        fields = torch.from_numpy(motion.mv.astype(np.int64))[None].to(self.device)
        return predict((first.on_device, second.on_device), mode, fields)

    # -- one coded part: tokens to planes, or planes to tokens and planes -----------------------

    def code(
        self, predictions: tuple[Tensor, Tensor], kind: int, step: float,
        planes: Tensor | None = None, tokens: LatentTokens | None = None,
    ) -> tuple[Tensor, LatentTokens]:  # fmt: skip
        """The decoded planes of a part; an encoder gives ``planes``, a decoder ``tokens``."""
        nets = self._networks(kind)
        h, w = (side // (SPATIAL_STRIDE // 2) for side in predictions[0].shape[2:])
        t = torch.tensor([step], dtype=torch.float32, device=self.device)
        steps = steps_of_cells(t, kind, predictions, self.masking)
        condition = self.tokenizer.condition_of(kind, steps)
        steps = steps[0, 0, ..., None]
        each = steps.expand(h, w, 1).reshape(-1, 1)
        first, second = (p[0].permute(1, 2, 0) for p in predictions)
        prediction, context = nets.context(first, second, condition)
        del predictions, first, second  # which are large
        if tokens is None:
            assert planes is not None
            z = nets.encode(planes[0].permute(1, 2, 0), prediction)
            tokens = self.quantize(z, kind, each, (h, w))
        cells = tokens.depth.ravel().nonzero()[0]  # most of a picture has none
        levels = tokens.tokens.reshape(h * w, -1)[cells].astype(np.float32)
        at = torch.from_numpy(cells).to(self.device)
        q = self.tokenizer.lfq.dequantize(
            torch.from_numpy(levels).to(self.device), None, kind, each[at]
        )
        if tokens.transform is not None:
            transform = torch.from_numpy(tokens.transform.ravel()[cells]).to(self.device)
            q = self.tokenizer.lfq.transformed(q, transform, back=True)
        out = nets.decode(q, at, prediction, context, condition, steps)
        return rounded(out), tokens

    def _networks(self, kind: int) -> FastPictureCodec:
        slow = self.tokenizer.networks(kind)
        if self._convolutions is None:
            threads = self.threads or torch.get_num_threads()
            self._convolutions = Convolutions(self.device, threads)
        if slow not in self._fast:
            self._fast[slow] = FastPictureCodec(slow, self._convolutions)
        return self._fast[slow]

    def quantize(self, z: Tensor, kind: int, steps: Tensor, grid: Grid) -> LatentTokens:
        """z: (h w, D), steps: (h w, 1), of (h, w) cells."""
        lfq, transform = self.tokenizer.lfq, None
        if kind < self.tokenizer.config.transform_kinds:
            transform = lfq.choose_transform(z, kind, steps)
            z = lfq.transformed(z, transform)
        tokens, depth = lfq.quantize(z, kind, steps, hidden=self.hidden)
        found = LatentTokens(
            tokens.view(*grid, *tokens.shape[1:]).to(torch.int16).cpu().numpy(),
            depth.view(*grid).cpu().numpy(),
        )
        if transform is not None:
            found.transform = (transform * (depth > 0)).view(*grid).cpu().numpy()
        return found

    def decoding(self, item: PictureTokens) -> Callable[[], Tensor]:
        """What makes planes of the tokens of a picture whose references are there. Several may be
        called at once, by threads."""
        references = self.references(item.picture) if item.motion else None
        return partial(self._decoded, item, references)

    @torch.inference_mode()
    def _decoded(self, item: PictureTokens, references: References | None) -> Tensor:
        step = step_of(self.step, self.scales, item.picture)
        if item.motion is None or references is None:
            planes, _ = self._intra(item.picture, tokens=item.parts)
        else:
            planes, _ = self.code(
                self.predicted(references, item.motion), kind_of(item.picture), step,
                tokens=item.parts[0],
            )  # fmt: skip
        if item.loop_filter is not None:
            planes = apply(planes, item.loop_filter, step)
        if item.wiener is not None:
            planes = corrected(planes, item.wiener)
        return planes

    def _intra(
        self,
        picture: Picture,
        planes: Tensor | None = None,
        tokens: list[LatentTokens] | None = None,
    ) -> tuple[Tensor, list[LatentTokens]]:
        sources: list[Tensor | None] = [None] * 3
        if planes is not None:
            base = base_of(planes)
            sources = [base_of(base), base, planes]
        own = step_of(self.step, self.scales, picture)
        steps = [self.step * scale / SCALE_ONE for scale in self.scales[:2]] + [own]
        decoded: Tensor | None = None
        parts = []
        half = SPATIAL_STRIDE // 2
        for i, (h, w) in enumerate(grids_of(self.grid)):
            if decoded is None:
                prediction = torch.full((1, 6, h * half, w * half), 0.5, device=self.device)
            else:
                prediction = enlarged(decoded, (h * half, w * half))
            decoded, part = self.code(
                (prediction, prediction), (COARSEST, COARSE, INTRA)[i], steps[i], sources[i],
                tokens[i] if tokens else None,
            )  # fmt: skip
            parts.append(part)
        assert decoded is not None
        return decoded, parts
