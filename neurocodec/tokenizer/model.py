"""The ``magvit2`` tokenizer: causal 3D encoder, predictive residual LFQ, depth-to-space decoder.

After MAGVIT-v2 (arXiv 2310.05737): spatial stride 8, temporal stride 4, the first frame alone.
Beside each network runs the 3D DCT of the same patches, and the networks' last layers start at
zero: an untrained tokenizer is a plain transform codec, and training only improves it. A latent
frame is quantized as its difference from a prediction by the one before, so a cell that has not
changed needs no stage at all.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .causal import Cache, CausalConv3d, FrameNorm, ResBlock, group_frames, ungroup_frames
from .config import CODES_STEP, SPATIAL_STRIDE, TEMPORAL_STRIDE, TokenizerConfig
from .levels import LevelLFQ
from .lfq import LAMBDA_PER_STEP2, CodeLFQ, ResidualLFQ
from .patch import group_basis, repeat_last_frame, shuffle, unshuffle

_CONDITION = 64  # width of what conditions the decoder's norms
_QUANTIZERS = {"levels": LevelLFQ, "signs": ResidualLFQ, "codes": CodeLFQ}


class Encoder(nn.Module):
    """Planes (B, 6, T, H/2, W/2) in 0..1 -> latent (B, D, T', H/8, W/8)."""

    analysis: Tensor

    def __init__(self, config: TokenizerConfig, analysis: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("analysis", analysis, persistent=False)
        self.correction = nn.Parameter(torch.zeros_like(analysis))
        widths = config.channels
        self.patch = SPATIAL_STRIDE // 2 >> (len(widths) - 1)  # of half-resolution planes
        self.stem = CausalConv3d(6 * self.patch**2 + 1, widths[0], (1, 1, 1))
        self.levels = nn.ModuleList()
        self.downs = nn.ModuleList()
        for i, width in enumerate(widths):
            self.levels.append(_blocks(config.frame_blocks_encoder, width, config.full_kernels))
            if i + 1 < len(widths):
                self.downs.append(CausalConv3d(width, widths[i + 1], (1, 3, 3), spatial_stride=2))
        top = widths[-1]
        self.temporal_down = CausalConv3d(TEMPORAL_STRIDE * top, top, (1, 1, 1))
        self.latent_blocks = _blocks(config.latent_blocks_encoder, top, config.full_kernels)
        self.norm = FrameNorm(top)
        self.out = _zero(CausalConv3d(top, config.latent_dim, (1, 1, 1)))

    def forward(
        self, planes: Tensor, step: Tensor, cache: Cache | None = None, started: bool = False
    ) -> Tensor:
        """step: (B,), the dial of quality."""
        step = _step_of(self.config, step)
        planes = planes - 0.5
        patches = group_frames(unshuffle(planes), started)
        linear = _map(self.analysis + self.correction, patches)
        x = 2 * unshuffle(planes, self.patch)
        x = self.stem(torch.cat([x, _plane_of(_log(step), x)], 1))
        for i, level in enumerate(self.levels):
            for block in level:  # type: ignore[attr-defined]
                x = block(x, cache)
            if i < len(self.downs):
                x = self.downs[i](x)
        x = self.temporal_down(group_frames(x, started))
        for block in self.latent_blocks:
            x = block(x, cache)
        return linear + step.view(-1, 1, 1, 1, 1) * self.out(F.silu(self.norm(x)))


class Decoder(nn.Module):
    """Quantized latent (B, D, T', h, w) and depth (B, T', h, w) -> planes (B, 6, T, 4h, 4w)."""

    synthesis: Tensor

    def __init__(self, config: TokenizerConfig, synthesis: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("synthesis", synthesis, persistent=False)
        self.correction = nn.Parameter(torch.zeros_like(synthesis))
        self.stages = config.stages
        widths = config.channels[::-1]
        self.condition = CausalConv3d(config.latent_dim + 3, _CONDITION, (1, 1, 1))
        self.stem = CausalConv3d(config.latent_dim + 3, widths[0], (1, 1, 1))
        full = config.full_kernels
        self.latent_blocks = _blocks(config.latent_blocks_decoder, widths[0], full, _CONDITION)
        self.temporal_up = CausalConv3d(widths[0], TEMPORAL_STRIDE * widths[0], (1, 1, 1))
        self.levels = nn.ModuleList()
        self.ups = nn.ModuleList()
        for i, width in enumerate(widths):
            # the condition lives at 1/8 resolution: finer levels go without
            condition = _CONDITION if i == 0 else 0
            self.levels.append(_blocks(config.frame_blocks_decoder, width, full, condition))
            if i + 1 < len(widths):
                self.ups.append(CausalConv3d(width, 4 * widths[i + 1], (1, 3, 3)))
        self.patch = SPATIAL_STRIDE // 2 >> (len(widths) - 1)
        refine = config.refine_channels
        self.norm = FrameNorm(widths[-1])
        self.out = CausalConv3d(widths[-1], refine * self.patch**2, (1, 1, 1))
        self.refine = CausalConv3d(refine + 6, refine, (1, 3, 3))
        self.refine_out = _zero(CausalConv3d(refine, 6, (1, 3, 3)))

    def forward(
        self,
        q: Tensor,
        depth: Tensor,
        step: Tensor,
        cache: Cache | None = None,
        started: bool = False,
    ) -> Tensor:
        """step: (B,), the dial of quality."""
        step = _step_of(self.config, step)
        linear = _map(self.synthesis + self.correction, q)
        planes = shuffle(ungroup_frames(linear, started))
        depth = depth[:, None].to(q.dtype)
        x = torch.cat([q, depth / self.stages, depth.clamp(max=1), _plane_of(_log(step), depth)], 1)
        condition = F.silu(self.condition(x))
        x = self.stem(x)
        for block in self.latent_blocks:
            x = block(x, cache, condition)
        x = ungroup_frames(self.temporal_up(x), started)
        per_frame_condition = ungroup_frames(condition.repeat(1, TEMPORAL_STRIDE, 1, 1, 1), started)
        for i, level in enumerate(self.levels):
            for block in level:  # type: ignore[attr-defined]
                x = block(x, cache, per_frame_condition if i == 0 else None)
            if i < len(self.ups):
                x = shuffle(self.ups[i](x), 2)
        x = shuffle(self.out(F.silu(self.norm(x))), self.patch)
        x = F.silu(self.refine(torch.cat([x, planes], 1)))
        return planes + step.view(-1, 1, 1, 1, 1) * self.refine_out(x) + 0.5


class Predictor(nn.Module):
    """What a latent frame will be, from the quantized one before it; (B, D, h, w) -> same.

    Starts as four repetitions of the group's last frame.
    """

    start: Tensor

    def __init__(self, config: TokenizerConfig, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start, persistent=False)
        self.correction = nn.Parameter(torch.zeros_like(start))
        self.inner = nn.Conv2d(config.latent_dim, _CONDITION, 3, padding=1)
        self.outer = nn.Conv2d(_CONDITION, config.latent_dim, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)  # type: ignore[arg-type]

    def forward(self, q: Tensor) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):  # errors would add up over a GOP
            linear = _map(self.start + self.correction, q[:, :, None])[:, :, 0]
            return linear + self.outer(F.silu(self.inner(q)))


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder. Frames in and out are planes, see ``patch.py``.

    All calls work on whole clips or on chunks: a first chunk of 1 + 4n frames with
    ``started=False``, then chunks of 4n frames with ``started=True`` and the same caches.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        analysis, synthesis = group_basis(config.latent_dim)
        self.encoder = Encoder(config, analysis)
        self.decoder = Decoder(config, synthesis)
        self.predictor = Predictor(config, repeat_last_frame(analysis, synthesis))
        self.lfq = _QUANTIZERS[config.quantizer](config.latent_dim, config.bits, config.stages)

    def predict(self, previous: Tensor | None, like: Tensor) -> Tensor:
        """Prediction of a latent frame (B, D, h, w) from the quantized one before, if any."""
        if previous is None or isinstance(self.lfq, CodeLFQ):
            return torch.zeros_like(like)
        return self.predictor(previous)

    @torch.no_grad()
    def quantize(
        self, latent: Tensor, previous: Tensor | None, step: Tensor, thrift: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One latent frame (1, D, h, w) -> tokens (h, w, S, K), depth (h, w), quantized latent.
        thrift: weight of bits in the choice of depths."""
        prediction = self.predict(previous, latent)
        _, _, h, w = latent.shape
        kind = int(previous is not None)
        tokens, depth = self.lfq.quantize(_cells(latent - prediction), kind, step, thrift)
        tokens, depth = tokens.view(h, w, *tokens.shape[1:]), depth.view(h, w)
        return tokens, depth, self.dequantize(tokens, depth, previous, step)

    @torch.no_grad()
    def dequantize(
        self, tokens: Tensor, depth: Tensor, previous: Tensor | None, step: Tensor
    ) -> Tensor:
        """tokens (h, w, S, K), depth (h, w) -> quantized latent frame (1, D, h, w)."""
        h, w = depth.shape
        kind = int(previous is not None)
        q = self.lfq.dequantize(tokens.flatten(0, 1), depth.flatten(), kind, step)
        q = _latent(q, (1, h, w))
        return q + self.predict(previous, q)

    @torch.no_grad()
    def init_stages(self, planes: Tensor, steps: tuple[float, float]) -> None:
        """Start the stages of a "signs" or "codes" quantizer from clips (B, 6, 1 + 4n, H/2, W/2).

        steps: smallest and largest that will be used. Does nothing with "levels".
        """
        if not isinstance(self.lfq, ResidualLFQ):
            return
        low, high = (LAMBDA_PER_STEP2 * step**2 for step in steps)
        z = self.encoder(planes, planes.new_full((len(planes),), math.sqrt(steps[0] * steps[1])))
        first, rest = z[:, :, 0], z[:, :, 1:].float()
        self.lfq.init_stages(0, _cells(first.float()), (low, high))
        if rest.shape[2]:
            frames = [z[:, :, t].float() for t in range(z.shape[2])]
            pairs = itertools.pairwise(frames)
            residuals = [_cells(frame - self.predict(before, frame)) for before, frame in pairs]
            self.lfq.init_stages(1, torch.cat(residuals), (low, high))

    def forward(self, planes: Tensor, step: Tensor) -> TrainingOutput:
        """Differentiable pass over whole clips. planes: (B, 6, 1 + 4n, H/2, W/2), step: (B,)."""
        z = self.encoder(planes, step).float()
        b, _, t, h, w = z.shape
        cell_step = step.repeat_interleave(h * w)[:, None]
        previous: Tensor | None = None
        levels = torch.zeros_like(_cells(z[:, :, 0]))
        quantized, depths, projections = [], [], []
        bits, commitment = z.new_zeros(b), z.new_zeros(())
        for i in range(t):
            prediction = self.predict(previous, z[:, :, i])
            residual, kind = _cells(z[:, :, i] - prediction), min(i, 1)
            if isinstance(self.lfq, LevelLFQ):
                q, depth, cell_bits, levels = self.lfq(residual, kind, cell_step, (b, h, w), levels)
            else:
                q, depth, us = self.lfq(residual, kind, cell_step)
                projections.append(us)
                cell_bits = (depth * self.config.bits).float()
            bits = bits + cell_bits.view(b, -1).sum(1)
            coded = (depth > 0)[:, None]
            commitment = commitment + ((residual - q.detach()) * coded).square().sum(1).mean()
            previous = _latent(q, (b, h, w)) + prediction
            quantized.append(previous)
            depths.append(depth.view(b, h, w))
        depth = torch.stack(depths, 1)
        out = self.decoder(torch.stack(quantized, 2), depth, step).float()
        return TrainingOutput(out, depth, bits, commitment / t, projections)


@dataclass
class TrainingOutput:
    planes: Tensor  # (B, 6, T, H/2, W/2)
    depth: Tensor  # (B, T', h, w)
    bits: Tensor  # (B,), differentiable with levels, a count with signs
    commitment: Tensor  # scalar
    projections: list[list[Tensor]]  # per latent frame and stage, (N_s, K); empty with levels


def _cells(latent: Tensor) -> Tensor:
    """(B, D, h, w) -> (B h w, D)."""
    return latent.permute(0, 2, 3, 1).flatten(0, 2)


def _latent(cells: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Inverse of :func:`_cells`; grid: (B, h, w)."""
    return cells.view(*grid, -1).permute(0, 3, 1, 2)


def _map(matrix: Tensor, x: Tensor) -> Tensor:
    """Matrix over the channels of (B, C, T, H, W), in float32: bf16 is coarser than a step."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv3d(x.float(), matrix[:, :, None, None, None])


def _blocks(n: int, width: int, full_kernels: bool, condition: int = 0) -> nn.ModuleList:
    return nn.ModuleList(ResBlock(width, full_kernels, condition) for _ in range(n))


def _step_of(config: TokenizerConfig, step: Tensor) -> Tensor:
    return torch.full_like(step, CODES_STEP) if config.quantizer == "codes" else step


def _log(step: Tensor) -> Tensor:
    """Steps, 0.01 to 1, to numbers around zero."""
    return step.log() / 2 + 1


def _plane_of(value: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, T, H, W) as ``like``."""
    return value.view(-1, 1, 1, 1, 1).expand(-1, 1, *like.shape[2:])


def _zero(conv: CausalConv3d) -> CausalConv3d:
    nn.init.zeros_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)  # type: ignore[arg-type]
    return conv
