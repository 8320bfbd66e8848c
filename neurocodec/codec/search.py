"""Motion search: which blocks of two references predict a picture, at what rate.

Candidates for each block are optical flow (DIS, Kroeger et al., ECCV 2016), no motion, a given
field and what the neighbours have; the best is refined down to quarter pixels. The choice is by
squared error + lambda * bits, for large blocks first, which small ones start from, one after the
other; the bits are an estimate: what differs from its neighbours costs. The loops are in
``block_search.py``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..threads import side_by_side
from ..tokenizer.motion import (
    BOTH,
    DIRECT,
    FIRST,
    MARGIN,
    MAX_VECTOR,
    SECOND,
)
from ..tokenizer.patch import luma
from ..tokenizer.quarter_pixels import UNIT, Floats, QuarterPixels, Samples
from .block_search import (
    Vectors,
    costs,
    field_bits,
    mean_errors,
    picture_of,
    search_blocks,
    smooth_labels,
)
from .effort import EFFORTS, Effort
from .lookahead import optical_flow

# Bits for each of a cell's four neighbours that moves otherwise, and for the size of the
# difference. A region that moves on its own then pays for its outline, whatever it gains inside.
EDGE_BITS = 1.0
EDGE_BITS_PER_OCTAVE = 0.35
# Error of a cell, in bits it is worth, above which its residual will be coded: from there on a
# doubling of the error costs no more distortion, but some bits.
CODED_BITS = 25.0
SIZES = (64, 32, 16, 8)  # of blocks
MODE_BITS = 4.5  # for each neighbour of another mode
_UNIT_BITS = UNIT.bit_length() - 1
SCALE = (255 * UNIT) ** 2  # squared error of samples in 0..1 to that of ``block_search``


@dataclass(frozen=True)
class Motion:
    """mode (B, h, w), fields (B, 2, h, w, 2), both int64; see ``tokenizer/motion.py``."""

    mode: Tensor
    fields: Tensor


def levels(y: Tensor) -> Samples:
    """Luma (B, H, W) in 0..1 as samples of the search."""
    return (y * (255 * UNIT)).round().short().cpu().numpy()


@functools.lru_cache(8)
def edge_bits(edge: float, octave: float) -> Floats:
    """Bits of a neighbour, by its distance, the sum of the components' differences: ``edge`` where
    there is any, and ``octave`` for each doubling."""
    distance = np.arange(4 * MAX_VECTOR + 1, dtype=np.float32)
    bits = edge * (distance > 0) + octave * np.log2(distance + 1)
    return bits.astype(np.float32)


def _flow(target: Samples, samples: Samples) -> Floats:
    """Optical flow to a reference, mean of each cell, in quarter pixels: (h, w, 2)."""
    of = samples[0, MARGIN:-MARGIN, MARGIN:-MARGIN]
    frame, reference = (
        ((x + UNIT // 2) >> _UNIT_BITS).clip(0, 255).astype(np.uint8) for x in (target, of)
    )
    h, w = target.shape
    flow = optical_flow(frame, reference)
    mean = cv2.resize(flow, (w // 8, h // 8), interpolation=cv2.INTER_AREA)
    return np.asarray(4 * mean, np.float32)


def _pooled(x: Floats, side: int) -> Floats:
    """Means over blocks of so many cells (h, w, ...)."""
    down, right = (-length % side for length in x.shape[:2])
    whole = cv2.copyMakeBorder(x, 0, down, 0, right, cv2.BORDER_REPLICATE)
    size = (whole.shape[1] // side, whole.shape[0] // side)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)


@dataclass
class _Search:
    """The search for one picture."""

    target: Samples  # (H, W)
    weight: Floats  # of the error of cells (h, w)
    penalty: float  # in samples' units
    effort: Effort

    def __post_init__(self) -> None:
        self.table = edge_bits(EDGE_BITS, EDGE_BITS_PER_OCTAVE)
        down, right = (-side % SIZES[0] for side in self.target.shape)
        self.whole = np.pad(self.target, ((0, down), (0, right)), "edge")

    def to(self, samples: Samples, before: Vectors | None) -> tuple[Vectors, Floats]:
        """The field of one reference, and the squared error of cells. before: a further candidate
        for every cell, (h, w, 2)."""
        field: Vectors | None = None
        flow = _flow(self.target, samples)
        for size in SIZES:
            if size > min(self.target.shape) + 2 * MARGIN:
                continue  # such a block would exceed the reference
            h, w = (-(-side // size) for side in self.target.shape)
            given = [
                _pooled(flow, size // 8).round().astype(np.int32),
                np.zeros((h, w, 2), np.int32),
            ]
            if before is not None:
                given.append(before[:: size // 8, :: size // 8])
            if field is None:
                field = np.zeros((h, w, 2), np.int32)
            else:
                field = field.repeat(2, 0).repeat(2, 1)[:h, :w].copy()
            steps = self.effort.fine if size == SIZES[-1] else self.effort.coarse
            errors = self._improve(samples, self.whole, size, field, np.stack(given), steps)
        assert field is not None
        return field, errors

    def pair(self, samples: Samples, other: Samples, field: Vectors) -> tuple[Vectors, Floats]:
        """A field of one reference that goes with the picture that the other one gives, and the
        squared error of cells of their mean."""
        field = field.copy()
        target = 2 * self.target - other
        none = np.zeros((0, *field.shape), np.int32)
        return field, self._improve(samples, target, 8, field, none, self.effort.both, 0.25)

    def _improve(
        self, samples: Samples, target: Samples, size: int, field: Vectors, given: Vectors,
        steps: tuple[int, ...], share: float = 1.0,
    ) -> Floats:  # fmt: skip
        return share * search_blocks(
            samples, target, size, field, given, _pooled(self.weight, size // 8), share,
            np.array(steps, np.int64), self.effort.rounds, self.penalty, CODED_BITS, self.table,
        )  # fmt: skip


def search(
    planes: Tensor,
    references: tuple[QuarterPixels, QuarterPixels],
    penalty: float,
    direct: Tensor | None = None,
    effort: Effort = EFFORTS["medium"],
    weight: Tensor | None = None,
) -> Motion:
    """Modes and vectors for a picture.

    planes: (B, 6, H/2, W/2) in 0..1.
    penalty: squared error (of luma, in units of the range) that a bit must save.
    direct: fields (B, 2, h, w, 2) that cost next to nothing. weight: of the error of cells
    (B, h, w), 1 if None.
    """
    target = luma(planes)
    same = references[0] is references[1]
    used = references[:1] if same else references
    h, w = target.shape[1:]
    found = []
    for k, samples in enumerate(zip(*(r.luma for r in used), strict=True)):
        weights = np.ones((h // 8, w // 8), np.float32)
        if weight is not None:
            weights = weight[k].float().cpu().numpy()
        one = _Search(levels(target[k]), weights, penalty * SCALE, effort)
        free = None if direct is None else direct[k].int().cpu().numpy()
        alone = side_by_side(
            *(
                partial(one.to, of, free if free is None else free[i])
                for i, of in enumerate(samples)
            )
        )
        if same:
            field, mode = alone[0][0], np.zeros(weights.shape, np.uint8)
            found.append((mode, np.stack([field, np.zeros_like(field)])))
        else:
            found.append(_choose_modes(one, samples, alone, free))
    both = zip(*found, strict=True)
    return Motion(*(torch.from_numpy(np.stack(x)).long().to(planes.device) for x in both))


def _choose_modes(
    one: _Search, samples: tuple[Samples, ...], alone: list[tuple[Vectors, Floats]],
    direct: Vectors | None,
) -> tuple[NDArray[np.uint8], Vectors]:  # fmt: skip
    """Modes (h, w), and fields (2, h, w, 2) whose unused vectors are 0. alone: of each reference,
    what ``to`` found."""

    def pictures(fields: list[Vectors] | Vectors) -> list[Samples]:
        return [picture_of(of, field) for of, field in zip(samples, fields, strict=True)]

    def bits(*fields: Vectors) -> Floats:
        return np.sum([field_bits(field, one.table) for field in fields], 0)

    fields, errors = [field for field, _ in alone], [error for _, error in alone]
    first, second = pair = fields
    if one.effort.both:  # with one vector kept, the other's target is twice the picture less it
        second, _ = one.pair(samples[1], picture_of(samples[0], first), second)
        first, both = one.pair(samples[0], picture_of(samples[1], second), first)
        pair = [first, second]
        errors.append(both)
    else:
        errors.append(mean_errors(one.target, *pictures(fields)))
    rates = [bits(fields[0]), bits(fields[1]), bits(*pair)]
    if direct is not None:
        errors.append(mean_errors(one.target, *pictures(direct)))
        rates.append(np.zeros_like(rates[0]))
    cost = costs(np.stack(errors), one.weight, np.stack(rates), one.penalty, CODED_BITS)
    mode = smooth_labels(cost, one.penalty * MODE_BITS)
    out = np.stack(fields)
    out[:, mode == BOTH] = np.stack(pair)[:, mode == BOTH]
    if direct is not None:
        out[:, mode == DIRECT] = direct[:, mode == DIRECT]
    out[0, mode == SECOND] = 0
    out[1, mode == FIRST] = 0
    return mode, out
