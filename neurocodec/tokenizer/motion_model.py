"""The ``motion`` tokenizer: pictures predicted from other pictures, and tokens for what is new.

An inter picture is predicted from two decoded pictures by motion (``motion.py``). An intra picture
is predicted from itself at a quarter of its size, which is coded before it in the same way, and
that one from itself at a sixteenth, which is predicted as grey. What follows is the same for all: a
context network improves the prediction, the encoder turns the difference into a latent of one
vector a cell, the quantizer makes tokens of it, and the decoder adds what they say, smooths, and
restores.

At step 0 of training all networks give nothing, and what remains is a block transform codec with
overlapped motion compensation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import (
    BASE_SCALE,
    BETWEEN,
    COARSE,
    COARSEST,
    INTER,
    KINDS,
    SPATIAL_STRIDE,
    MotionConfig,
)
from .levels import LevelLFQ
from .patch import block_transforms, group_basis, luma, planes_of

DEPTH_BITS = (0.15, 4.0)  # most cells are skipped, and their neighbours say so
_PLANES = 6
_CONDITION = 1 + KINDS  # log step and kind, as planes
_CELL = 4  # half-resolution pixels along a cell
_PATCH = _PLANES * 4  # channels of planes at 1/4 resolution
# Of masking: variances of luma (0..1) that are added to all, that have the picture's own step, and
# the largest factor
_STILL, _RESTLESS, _MOST_MASKING = 58 / 255**2, 400 / 255**2, 3.0


class ResBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), zero-initialised. No normalisation: it must not depend on what
    the picture holds elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = _zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.silu(self.conv1(F.silu(x))))
        return x + y


class Context(nn.Module):
    """Two predictions -> a better one, and features for encoder and decoder."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        c = config.context
        self.stem = nn.Conv2d(2 * _PATCH + _CONDITION, c, 3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(c) for _ in range(config.context_blocks)))
        self.out = _zero(nn.Conv2d(c, _PATCH, 3, padding=1))

    def forward(self, first: Tensor, second: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Planes (B, 6, 2h, 2w) twice, condition (B, _CONDITION, h, w) -> planes, (B, C, h, w)."""
        mean, half = (first + second) / 2, (first - second) / 2
        x = torch.cat(
            [F.pixel_unshuffle(mean - 0.5, 2), F.pixel_unshuffle(4 * half, 2), condition], 1
        )
        x = self.blocks(self.stem(x))
        return mean + F.pixel_shuffle(self.out(F.silu(x)).float(), 2), x


class Encoder(nn.Module):
    """Picture and prediction -> latent (B, D, H/8, W/8): the DCT of their difference.

    A network here has not helped so far: see docs/decisions.md, "an encoder without a network".
    """

    analysis: Tensor

    def __init__(self, analysis: Tensor) -> None:
        super().__init__()
        self.register_buffer("analysis", analysis, persistent=False)

    def forward(self, planes: Tensor, prediction: Tensor) -> Tensor:
        return _map(self.analysis, F.pixel_unshuffle(planes - prediction, _CELL))


class Decoder(nn.Module):
    """Quantized latent and prediction -> picture."""

    synthesis: Tensor

    def __init__(self, config: MotionConfig, synthesis: Tensor) -> None:
        super().__init__()
        self.register_buffer("synthesis", synthesis, persistent=False)
        self.correction = nn.Parameter(torch.zeros_like(synthesis))
        c, w = config.context, config.width
        self.stem = nn.Conv2d(config.latent_dim + 4 * c + _CONDITION, w, 1)
        self.blocks = nn.Sequential(*(ResBlock(w) for _ in range(config.decoder_blocks)))
        self.up = nn.Conv2d(w, 4 * c, 1)
        self.refine1 = nn.Conv2d(2 * c + 2 * _PATCH + _CONDITION, c, 3, padding=1)
        self.refine2 = nn.Conv2d(c, c, 3, padding=1)
        self.out = _zero(nn.Conv2d(c, _PATCH, 3, padding=1))

    def forward(
        self, q: Tensor, prediction: Tensor, context: Tensor, condition: Tensor, step: Tensor
    ) -> Tensor:
        """step: of each cell, (B, 1, h, w)."""
        linear = F.pixel_shuffle(_map(self.synthesis + self.correction, q), _CELL)
        seen = [torch.asinh(q / step), F.pixel_unshuffle(context, 2), condition[:, :, ::2, ::2]]
        step = spread(step, _CELL)
        x = self.blocks(self.stem(torch.cat(seen, 1)))
        x = F.pixel_shuffle(self.up(F.silu(x)), 2)
        planes = prediction + linear
        seen = [x, context, F.pixel_unshuffle(planes - 0.5, 2)]
        seen += [F.pixel_unshuffle(torch.asinh(linear / step), 2), condition]
        x = F.silu(self.refine2(F.silu(self.refine1(torch.cat(seen, 1)))))
        return planes + step * F.pixel_shuffle(self.out(x).float(), 2)


class PictureCodec(nn.Module):
    """Context, encoder and decoder of one set of kinds."""

    def __init__(self, config: MotionConfig, analysis: Tensor, synthesis: Tensor) -> None:
        super().__init__()
        self.config = config
        self.context = Context(config)
        self.encoder = Encoder(analysis)
        self.decoder = Decoder(config, synthesis)


@dataclass
class CodedPicture:
    """What training sees of one picture."""

    planes: Tensor  # (B, 6, H/2, W/2)
    depth: Tensor  # (B, h, w)
    bits: Tensor  # (B,), differentiable
    levels: Tensor  # (B, h, w, D)
    steps: Tensor  # of cells, (B, 1, h, w) or (B, 1, 1, 1)


class MotionTokenizer(nn.Module):
    """Networks for intra and for inter pictures, and the quantizer."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        analysis, synthesis = group_basis(config.latent_dim, 1)
        self.intra = PictureCodec(config, analysis, synthesis)
        self.inter = PictureCodec(config.inter, analysis, synthesis)
        transforms = block_transforms() if config.transform_kinds else None
        self.lfq = LevelLFQ(
            config.latent_dim, config.bits, config.stages, KINDS, DEPTH_BITS, True, transforms
        )
        self.lfq.log_gain.requires_grad_(
            False
        )  # nothing but the error of the picture would tell it

    def networks(self, kind: int) -> PictureCodec:
        return self.inter if kind in (INTER, BETWEEN) else self.intra

    def condition(self, kind: int, step: Tensor, like: Tensor) -> Tensor:
        """step (B, 1, h, w) and kind as planes at 1/4 resolution of planes ``like``."""
        b, _, h, w = like.shape
        out = like.new_zeros(b, _CONDITION, h // 2, w // 2)
        out[:, :1] = spread(step.log() / 2 + 1, _CELL // 2)
        out[:, 1 + kind] = 1
        return out

    @staticmethod
    def condition_of(kind: int, steps: Tensor) -> Tensor:
        """The condition of each cell, (h, w, _CONDITION), from steps (1, 1, h, w)."""
        out = steps.new_zeros(*steps.shape[2:], _CONDITION)
        out[..., 0] = steps[0, 0].log() / 2 + 1
        out[..., 1 + kind] = 1
        return out

    def forward(
        self,
        planes: Tensor,
        predictions: tuple[Tensor, Tensor],
        kind: int,
        step: Tensor,
        before: Tensor,
        masking: float = 0.0,
    ) -> CodedPicture:
        """Differentiable pass over one picture of each clip.

        planes, predictions: (B, 6, H/2, W/2); step: (B,); before: (B, h, w, D) levels of where the
        prediction comes from, which tell the rate. masking: see :func:`cell_steps`.
        """
        steps = cell_steps(step, kind, predictions, masking)
        nets, condition = self.networks(kind), self.condition(kind, steps, planes)
        prediction, context = nets.context(*predictions, condition)
        z = nets.encoder(planes, prediction)
        b, d, h, w = z.shape
        cells = z.permute(0, 2, 3, 1).flatten(0, 2)
        cell_step = steps.expand(b, 1, h, w).reshape(-1, 1)
        transform = None
        if kind < self.config.transform_kinds:
            transform = self.lfq.choose_transform(cells.detach(), kind, cell_step)
            cells = self.lfq.transformed(cells, transform)
        q, depth, bits, levels = self.lfq(cells, kind, cell_step, (b, h, w), before.flatten(0, 2))
        if transform is not None:
            q = self.lfq.transformed(q, transform, back=True)
        q = q.view(b, h, w, d).permute(0, 3, 1, 2)
        out = nets.decoder(q, prediction, context, condition, steps)
        return CodedPicture(
            out, depth.view(b, h, w), bits.view(b, -1).sum(1), levels.view(b, h, w, d), steps
        )


def grey(like: Tensor) -> Tensor:
    """The prediction of a picture that has none."""
    return torch.full_like(like, 0.5)


def base_of(planes: Tensor) -> Tensor:
    """A picture at 1/BASE_SCALE of its size, continued by its edge to whole cells."""
    unit = _CELL * BASE_SCALE
    h, w = planes.shape[2:]
    planes = F.pad(planes, (0, -w % unit, 0, -h % unit), mode="replicate")
    y, uv = F.avg_pool2d(luma(planes), BASE_SCALE), F.avg_pool2d(planes[:, 4:], BASE_SCALE)
    return planes_of(y, *uv.unbind(1))


def enlarged_cells(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """What a base's cells (B, h, w, ...) hold, for the cells of the picture: (B, *grid, ...)."""
    h, w = grid
    return cells.repeat_interleave(BASE_SCALE, 1).repeat_interleave(BASE_SCALE, 2)[:, :h, :w]


def enlarged(base: Tensor, size: tuple[int, int]) -> Tensor:
    """The prediction from a base, bicubic. size: (H/2, W/2) of the planes, cut at the top left."""
    h, w = size
    y = F.pixel_shuffle(base[:, :4], 2)
    y, uv = (F.interpolate(x, scale_factor=BASE_SCALE, mode="bicubic") for x in (y, base[:, 4:]))
    return torch.cat([F.pixel_unshuffle(y[..., : 2 * h, : 2 * w], 2), uv[..., :h, :w]], 1)


def cell_steps(
    step: Tensor, kind: int, predictions: tuple[Tensor, Tensor], masking: float
) -> Tensor:
    """Steps of cells (B, 1, h, w), or (B, 1, 1, 1) where all are the same, from a picture's (B,).

    What is restless hides error: the step is multiplied by a power, ``masking``, of the variance of
    the prediction's luma there. Bases of pictures are not masked.
    """
    if not masking or kind in (COARSEST, COARSE):
        return step.view(-1, 1, 1, 1)
    first, second = predictions
    samples = luma((first + second)[:, :4].float() / 2)[:, None]
    mean = F.avg_pool2d(samples, SPATIAL_STRIDE)
    variance = (F.avg_pool2d(samples.square(), SPATIAL_STRIDE) - mean.square()).clamp_min(0)
    return masked_steps(step, variance, masking)


def masked_steps(step: Tensor, variance: Tensor, masking: float) -> Tensor:
    """Of cells, from the variance in each, (B, 1, h, w)."""
    variance = F.avg_pool2d(F.pad(variance, (1, 1, 1, 1), mode="replicate"), 3, 1)
    factor = ((variance + _STILL) / _RESTLESS).pow(masking)
    return step.view(-1, 1, 1, 1) * factor.clamp(1 / _MOST_MASKING, _MOST_MASKING)


def spread(cells: Tensor, n: int) -> Tensor:
    """Each of (B, C, h, w) n x n times; one value for all stays one."""
    if cells.shape[2:] == (1, 1):
        return cells
    return cells.repeat_interleave(n, 2).repeat_interleave(n, 3)


def _map(matrix: Tensor, x: Tensor) -> Tensor:
    """Matrix over the channels of (B, C, h, w), in float32: bf16 is coarser than a step."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x.float(), matrix[:, :, None, None])


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
