"""The loop filter: decoded pictures are smoothed where that brings them nearer to the source.

What quantization and blocks of motion leave in flat ground is small, costs more to take back than
it is worth in any one picture, and is carried on by those predicted from it. A bilateral filter
(Tomasi and Manduchi, ICCV 1998; in the loop of a codec: Ström et al., PCS 2016) takes it away and
leaves edges. The encoder says for each block whether luma is smoothed, and how strongly planes are.

Normative: ``bitstream_spec.md``, section 11.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from ..entropy.loop_filter import BLOCK, LoopFilter
from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.patch import luma, planes_of

QUARTER = 4
_FLAG_BITS = 0.8  # of what flags of blocks would take without neighbours
_STRENGTH_BITS = 2.0
_WIDE_WORTH = 0.97  # of the cost without: what little more it takes from one picture others miss


@dataclass(frozen=True)
class _Shape:
    """Of the filter of a plane. radius: of its window; near: standard deviation over distance, in
    samples; alike: that over values, in steps, of strength 1, and twice as much of each that
    follows; cell: side of a cell; in_blocks: whether blocks are told apart."""

    radius: int
    near: float
    alike: float
    cell: int
    in_blocks: bool

    def of(self, strength: int, step: float) -> tuple[int, float, float]:
        """Arguments of :func:`bilateral`."""
        return self.radius, self.near, 255 * step * self.alike * 2 ** (strength - 1)


_LUMA = _Shape(4, 3.0, 1 / 16, SPATIAL_STRIDE, True)
_CHROMA = _Shape(3, 2.0, 1 / 24, SPATIAL_STRIDE // 2, False)


def bilateral(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """The filter of samples (H, W), uint8 or float32, to as many of the same. near, alike: standard
    deviations over distance, in samples, and over values."""
    if plane.device.type == "cpu":
        out = cv2.bilateralFilter(
            plane.numpy(), 2 * radius + 1, alike, near, borderType=cv2.BORDER_REPLICATE
        )
        return torch.from_numpy(out)
    return bilateral_by_shifts(plane, radius, near, alike)


def bilateral_by_shifts(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """As :func:`bilateral`, on any device."""
    h, w = plane.shape
    x = plane.float()
    wide = F.pad(x[None, None], (radius,) * 4, mode="replicate")[0, 0]
    total, weights = torch.zeros_like(x), torch.zeros_like(x)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            square = dy * dy + dx * dx
            if square > radius * radius:
                continue
            there = wide[radius + dy : radius + dy + h, radius + dx : radius + dx + w]
            distance = (there - x).square_().mul_(-0.5 / alike**2).sub_(0.5 * square / near**2)
            weight = distance.exp_()
            total += weight * there
            weights += weight
    found = total / weights
    return found.round_().byte() if plane.dtype == torch.uint8 else found


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
    if not any(by.strengths):
        return planes
    y, *chroma = _samples(planes)
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
    return _planes(y, u, v)


def choose(
    planes: Tensor, source: Tensor, step: float, penalty: float, weight: Tensor | None = None
) -> tuple[LoopFilter, Tensor]:
    """The filter that brings a decoded picture nearest to its source, and what it makes of it.

    planes, source: (1, 6, H/2, W/2) in 0..1. penalty: squared error that a bit must save. weight:
    of the error of cells (1, h, w), 1 if None.
    """
    pairs = zip(_samples(planes), _samples(source), (_LUMA, _CHROMA, _CHROMA), strict=True)
    of_y, of_u, of_v = (
        _choose(x, target, shape, step, penalty * 255**2, weight) for x, target, shape in pairs
    )
    strengths = of_y.strength, of_u.strength, of_v.strength
    by = LoopFilter(strengths, of_y.blocks.cpu().numpy(), of_y.wide)
    return by, _planes(of_y.used, of_u.used, of_v.used) if any(strengths) else planes


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
    x: Tensor, target: Tensor, shape: _Shape, step: float, penalty: float, weight: Tensor | None
) -> _Try:
    """The best of what is tried: two of the three strengths, and luma's better one wide."""
    before = _errors(x, target, shape, weight)

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
    middle = narrow(2)
    for other in (middle, narrow(3 if middle.cost < best.cost else 1)):
        best = min(best, other, key=lambda one: one.cost)
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


def _samples(planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Y (H, W), U and V (H/2, W/2) of planes (1, 6, H/2, W/2) in 0..1: uint8."""
    whole = (planes * 255).round_().byte()
    return luma(whole)[0], whole[0, 4], whole[0, 5]


def _planes(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The inverse of :func:`_samples`."""
    return planes_of(*(x[None].float().div_(255) for x in (y, u, v)))
