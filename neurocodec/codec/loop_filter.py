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

_FLAG_BITS = 0.8  # of what flags of blocks would take without neighbours
_STRENGTH_BITS = 2.0


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
        """Arguments of :func:`smoothed`."""
        return self.radius, self.near, 255 * step * self.alike * 2 ** (strength - 1)


_LUMA = _Shape(4, 3.0, 1 / 16, SPATIAL_STRIDE, True)
_CHROMA = _Shape(3, 2.0, 1 / 24, SPATIAL_STRIDE // 2, False)


def smoothed(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """The bilateral filter of samples (H, W) uint8. near, alike: standard deviations over distance,
    in samples, and over values, of 255."""
    if plane.device.type == "cpu":
        out = cv2.bilateralFilter(
            plane.numpy(), 2 * radius + 1, alike, near, borderType=cv2.BORDER_REPLICATE
        )
        return torch.from_numpy(out)
    return smoothed_by_shifts(plane, radius, near, alike)


def smoothed_by_shifts(plane: Tensor, radius: int, near: float, alike: float) -> Tensor:
    """As :func:`smoothed`, on any device."""
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
    return (total / weights).round_().byte()


def apply(planes: Tensor, by: LoopFilter, step: float) -> Tensor:
    """Planes (1, 6, H/2, W/2) in 0..1, multiples of 1/255, of a picture whose step is this."""
    if not any(by.strengths):
        return planes
    y, *chroma = _samples(planes)
    of_y, *strengths = by.strengths
    if of_y:
        blocks = torch.from_numpy(by.blocks).to(y.device)
        y = _in_blocks(blocks, smoothed(y, *_LUMA.of(of_y, step)), y)
    u, v = (
        smoothed(x, *_CHROMA.of(strength, step)) if strength else x
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
    by = LoopFilter((of_y[0], of_u[0], of_v[0]), of_y[2].cpu().numpy())
    return by, _planes(of_y[1], of_u[1], of_v[1]) if any(by.strengths) else planes


def _choose(
    x: Tensor, target: Tensor, shape: _Shape, step: float, penalty: float, weight: Tensor | None
) -> tuple[int, Tensor, Tensor]:
    """Strength for a plane, what becomes of it, and the blocks: two of the three strengths are
    tried."""
    before = _errors(x, target, shape, weight)

    def tried(strength: int) -> tuple[float, int, Tensor, Tensor]:
        plane = smoothed(x, *shape.of(strength, step))
        after = _errors(plane, target, shape, weight)
        if not shape.in_blocks:
            cost = float(after.sum()) + penalty * _STRENGTH_BITS
            return cost, strength, plane, torch.ones_like(before, dtype=torch.bool)
        use = after < before
        bits = _STRENGTH_BITS + _FLAG_BITS * _entropy(use)
        return float(torch.where(use, after, before).sum()) + penalty * bits, strength, plane, use

    none = float(before.sum()), 0, x, torch.zeros_like(before, dtype=torch.bool)
    middle = tried(2)
    other = tried(3 if middle[0] < none[0] else 1)
    _, strength, plane, use = min(none, middle, other, key=lambda one: one[0])
    return strength, _in_blocks(use, plane, x) if shape.in_blocks and strength else plane, use


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
