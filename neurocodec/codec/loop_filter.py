"""The loop filter: decoded pictures are moved and smoothed where that brings them nearer to the
source.

What changes slowly, as light does, is in no one cell worth a token, and the more so in chroma. Each
plane may have offsets, one for each block of many cells, between which they are interpolated.

What quantization and blocks of motion leave in flat ground is small, costs more to take back than
it is worth in any one picture, and is carried on by those predicted from it. A bilateral filter
(Tomasi and Manduchi, ICCV 1998; in the loop of a codec: Ström et al., PCS 2016) takes it away and
leaves edges. The encoder says for each block whether luma is smoothed, and how strongly planes are.
It comes after the offsets.

Normative: ``bitstream_spec.md``, section 11.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..entropy.loop_filter import BLOCK, MAX_OFFSET, OFFSET_BLOCKS, LoopFilter, Offsets, blocks_of
from ..threads import side_by_side
from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.patch import CHROMA_WEIGHT
from ..tokenizer.samples import planes_from, samples_of
from .bilateral import bilateral

QUARTER = 4
OFFSET_STEPS = 1 / 64  # unit of offsets, in steps
_FLAG_BITS = 0.8  # of what flags of blocks would take without neighbours
_STRENGTH_BITS = 2.0
_OFFSET_DEAR = 2.0  # of what their bits cost: their counts begin with nothing
_WIDE_WORTH = 0.97  # of the cost without: what little more it takes from one picture others miss


@dataclass(frozen=True)
class _Shape:
    """Of the filter of a plane. radius: of its window; near: standard deviation over distance, in
    samples; alike: that over values, in steps, of strength 1, and twice as much of each that
    follows; cell: side of a cell; in_blocks: whether blocks are told apart; worth: of squared
    error, where offsets are weighed."""

    radius: int
    near: float
    alike: float
    cell: int
    in_blocks: bool
    worth: float

    def of(self, strength: int, step: float) -> tuple[int, float, float]:
        """Arguments of :func:`bilateral`."""
        return self.radius, self.near, 255 * step * self.alike * 2 ** (strength - 1)


_LUMA = _Shape(4, 3.0, 1 / 16, SPATIAL_STRIDE, True, 1.0)
_CHROMA = _Shape(3, 2.0, 1 / 24, SPATIAL_STRIDE // 2, False, CHROMA_WEIGHT)
_SHAPES = (_LUMA, _CHROMA, _CHROMA)


def widened(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """Samples (H, W) uint8 that are smoothed already, smoothed at a quarter of their size, too: by
    what the filter with a quarter of ``alike`` changes there, enlarged."""
    whole = plane[None, None].float()
    mean = F.avg_pool2d(whole, QUARTER)[0, 0]
    change = bilateral(mean, radius, near, alike / QUARTER) - mean
    change = F.interpolate(change[None, None], scale_factor=QUARTER, mode="bilinear")
    return (whole + change).round_().clamp_(0, 255).byte()[0, 0]


def apply(planes: Tensor, by: LoopFilter, step: float) -> Tensor:
    """Planes (1, 6, H/2, W/2) in 0..1, multiples of 1/255, of a picture whose step is this."""
    if not by.changes:
        return planes
    y, *chroma = (
        x if offsets is None else moved(x, offsets, shape, step)
        for x, offsets, shape in zip(samples_of(planes), by.offsets, _SHAPES, strict=True)
    )
    of_y, *strengths = by.strengths
    if of_y:
        blocks = torch.from_numpy(by.blocks).to(y.device)
        how = _LUMA.of(of_y, step)
        smooth = bilateral(y, *how)
        y = _in_blocks(blocks, widened(smooth, *how) if by.wide else smooth, y)
    u, v = (
        bilateral(x, *_CHROMA.of(strength, step)) if strength else x
        for x, strength in zip(chroma, strengths, strict=True)
    )
    return planes_from(y, u, v)


def moved(plane: Tensor, offsets: Offsets, shape: _Shape, step: float) -> Tensor:
    """Samples (H, W) uint8 of a plane with offsets (rows, columns) of blocks added, linear between
    their centres."""
    h, w = plane.shape
    cells = h // shape.cell, w // shape.cell
    side = next(n for n in OFFSET_BLOCKS if blocks_of(cells, n) == offsets.shape) * shape.cell
    change = torch.from_numpy(offsets).to(plane.device).float().mul_(255 * step * OFFSET_STEPS)
    change = F.interpolate(change[None, None], scale_factor=side, mode="bilinear")[0, 0, :h, :w]
    return (plane.float() + change).round_().clamp_(0, 255).byte()


def choose(
    planes: Tensor, source: Tensor, step: float, penalty: float, weight: Tensor | None = None,
    intra: bool = False, smooth: int = 2,
) -> tuple[LoopFilter, Tensor]:  # fmt: skip
    """The filter that brings a decoded picture nearest to its source, and what it makes of it.

    planes, source: (1, 6, H/2, W/2) in 0..1. penalty: squared error that a bit must save. weight:
    of the error of cells (1, h, w), 1 if None. intra: whether it is an intra picture, which has no
    offsets. smooth: how many strengths are tried, up to two.
    """
    penalty *= 255**2

    @torch.inference_mode()  # of each thread
    def of_plane(x: Tensor, target: Tensor, shape: _Shape) -> tuple[Offsets | None, _Try]:
        offset, before = None, _errors(x, target, shape, weight)
        if not intra:
            offset, x, before = _choose_offsets(x, before, target, shape, step, penalty, weight)
        return offset, _choose(x, before, target, shape, step, penalty, weight, smooth)

    given = zip(samples_of(planes), samples_of(source), _SHAPES, strict=True)
    offsets, found = zip(*side_by_side(*(partial(of_plane, *one) for one in given)), strict=True)
    of_y, of_u, of_v = found
    strengths = of_y.strength, of_u.strength, of_v.strength
    by = LoopFilter(
        strengths, of_y.blocks.cpu().numpy(), of_y.wide, (offsets[0], offsets[1], offsets[2])
    )
    return by, planes_from(of_y.used, of_u.used, of_v.used) if by.changes else planes


def _choose_offsets(
    x: Tensor, before: Tensor, target: Tensor, shape: _Shape, step: float, penalty: float,
    weight: Tensor | None,
) -> tuple[Offsets | None, Tensor, Tensor]:  # fmt: skip
    """Those of the size of blocks that is best, if any is better than none, and the plane with
    them and its errors, which are ``before`` without."""
    h, w = (side // shape.cell for side in x.shape)
    mean = F.avg_pool2d((target.float() - x.float())[None, None], shape.cell)  # of cells
    worth = torch.ones_like(mean) if weight is None else weight[None]
    worth = worth * (shape.worth * shape.cell**2)
    unit, dear = 255 * step * OFFSET_STEPS, _OFFSET_DEAR * penalty
    best: tuple[Offsets | None, Tensor, Tensor] = None, x, before
    least = shape.worth * float(before.sum())
    for n in OFFSET_BLOCKS:
        rows, columns = blocks_of((h, w), n)
        margin = (0, columns * n - w, 0, rows * n - h)
        total = F.avg_pool2d(F.pad(worth, margin), n)[0, 0]
        value = F.avg_pool2d(F.pad(worth * mean, margin), n)[0, 0] / (total * unit)
        lower = value.abs().floor()
        sizes = torch.stack([torch.zeros_like(lower), lower, lower + 1])
        cost = total * (n * unit) ** 2 * (sizes - value.abs()).square()
        cost += dear * _offset_bits(sizes, lower > 0)
        size = sizes.gather(0, cost.argmin(0)[None])[0].clamp_max_(MAX_OFFSET)
        if not size.any():
            continue
        offsets = (size * value.sign()).long().cpu().numpy()
        plane = moved(x, offsets, shape, step)
        errors = _errors(plane, target, shape, weight)
        found = shape.worth * float(errors.sum()) + dear * float(_offset_bits(size, size > 0).sum())
        if found < least:
            best, least = (offsets, plane, errors), found
    return best


def _offset_bits(size: Tensor, some: Tensor) -> Tensor:
    """Of offsets of these sizes, about, where so many of a plane are not 0."""
    share = min(max(float(some.float().mean()), 0.02), 0.98)
    return torch.where(size > 0, 0.5 - math.log2(share) + 0.8 * size, -math.log2(1 - share))


@dataclass(frozen=True)
class _Try:
    """What a filter makes of a plane. cost: squared error and bits; blocks: where it is used."""

    cost: float
    strength: int
    wide: bool
    plane: Tensor  # smoothed everywhere
    blocks: Tensor
    used: Tensor


def _choose(
    x: Tensor, before: Tensor, target: Tensor, shape: _Shape, step: float, penalty: float,
    weight: Tensor | None, smooth: int,
) -> _Try:  # fmt: skip
    """The best of what is tried: the middle one of the three strengths, then another, and luma's
    better one wide. before: errors of the plane."""

    def tried(strength: int, plane: Tensor, wide: bool = False) -> _Try:
        after = _errors(plane, target, shape, weight)
        if not shape.in_blocks:
            cost = float(after.sum()) + penalty * _STRENGTH_BITS
            return _Try(cost, strength, wide, plane, before > 0, plane)
        use = after < before
        bits = _STRENGTH_BITS + _FLAG_BITS * _entropy(use)
        cost = float(torch.where(use, after, before).sum()) + penalty * bits
        return _Try(cost, strength, wide, plane, use, _in_blocks(use, plane, x))

    def narrow(strength: int) -> _Try:
        return tried(strength, bilateral(x, *shape.of(strength, step)))

    best = _Try(float(before.sum()), 0, False, x, torch.zeros_like(before > 0), x)
    if not smooth:
        return best
    tries = [narrow(2)]
    if smooth > 1:
        tries.append(narrow(3 if tries[0].cost < best.cost else 1))
    best = min(best, *tries, key=lambda one: one.cost)
    if best.strength and shape.in_blocks:
        plane = widened(best.plane, *shape.of(best.strength, step))
        wide = tried(best.strength, plane, True)
        if wide.cost < _WIDE_WORTH * best.cost:
            best = wide
    return best


def _errors(x: Tensor, target: Tensor, shape: _Shape, weight: Tensor | None) -> Tensor:
    """Squared error of samples (H, W) uint8 in each block (rows, columns), of 255."""
    square = (x.float() - target.float()).square_()
    cells = F.avg_pool2d(square[None, None], shape.cell)[0] * shape.cell**2
    if weight is not None:
        cells = cells * weight
    h, w = cells.shape[1:]
    return F.avg_pool2d(F.pad(cells, (0, -w % BLOCK, 0, -h % BLOCK)), BLOCK)[0] * BLOCK**2


def _entropy(use: Tensor) -> float:
    """Bits of flags, without their neighbours."""
    p = min(max(float(use.float().mean()), 0.01), 0.99)
    return -use.numel() * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def _in_blocks(blocks: Tensor, smooth: Tensor, plain: Tensor) -> Tensor:
    """Luma (H, W) smoothed in blocks (rows, columns)."""
    side, (h, w) = BLOCK * SPATIAL_STRIDE, plain.shape
    where = blocks.repeat_interleave(side, 0).repeat_interleave(side, 1)[:h, :w]
    return torch.where(where, smooth, plain)
