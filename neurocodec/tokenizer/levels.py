"""Residual LFQ with more than two levels: integers written as lookup-free bits.

A stage takes the next K channels of what is left, divides by a step and writes each as bits: zero
or not, sign, then magnitude planes, each the sign of an affine function of the value or magnitude.
As in :class:`~neurocodec.tokenizer.lfq.ResidualLFQ` there is no codebook to look up, a cell carries
as many stages as pay, and depth 0 means that the prediction is good enough. The step is the one
dial of quality. Why this beside plain signs: ``docs/decisions.md``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hidden_signs import hide
from .lfq import LAMBDA_PER_STEP2

MAX_LEVEL = 4095  # largest magnitude a token can carry
ROUNDING = 0.35  # a magnitude of n + 1 - ROUNDING or more rounds up to n + 1: a dead zone around 0
# Estimated bits of a level that is 0, of one that is not, and more for each doubling: for the depth
LEVEL_BITS = (0.25, 3.5, 1.5)
_TRANSFORM_BITS = 5.0  # that another transform than the usual one must save


class LevelLFQ(nn.Module):
    """D channels in S = D / K stages. A set of parameters for each kind of latent frame: by default
    two, for a GOP's first one and the others."""

    def __init__(
        self,
        latent_dim: int,
        bits: int,
        stages: int,
        kinds: int = 2,
        depth_bits: tuple[float, float] = (1.0, 2.0),
        noisy_rate: bool = False,
        transforms: Tensor | None = None,
    ) -> None:
        """depth_bits: taken for the cost of a cell's depth, and more where it is not 0. noisy_rate:
        whether the rate's gradient is that of a value with uniform noise (Balle et al., ICLR 2017)
        rather than that of the level; the quantized value then has no gradient at all. transforms:
        (n, D, D), orthonormal, of which a cell may have one; see :meth:`choose_transform`."""
        super().__init__()
        if latent_dim != bits * stages:
            raise ValueError("levels: latent_dim must be bits * stages")
        self.bits, self.stages, self.depth_bits = bits, stages, depth_bits
        self.noisy_rate = noisy_rate
        self.transforms: Tensor | None
        self.register_buffer("transforms", transforms, persistent=False)
        self.level_bits = LEVEL_BITS
        self.log_gain = nn.Parameter(torch.zeros(kinds, latent_dim))  # of the step, per channel
        self.shrink = nn.Parameter(torch.full((kinds, latent_dim), 0.03))  # of magnitudes, in steps
        # log scale of a Laplacian, linear in the logs of what the neighbours carry
        self.rate_weights = nn.Parameter(
            torch.tensor([0.0, 0.25, 0.2, 0.3]).repeat(kinds, latent_dim, 1).transpose(1, 2).clone()
        )

    def _levels(self, residual: Tensor, kind: int, step: Tensor) -> Tensor:
        y = residual / (step * self.log_gain[kind].exp())
        magnitude = (y.abs() + ROUNDING).floor().clamp(max=MAX_LEVEL)
        return torch.where(y < 0, -magnitude, magnitude)

    def _values(self, levels: Tensor, kind: int, step: Tensor) -> Tensor:
        magnitude = levels.abs()
        shrunk = (magnitude - self.shrink[kind]) * (magnitude > 0)
        return levels.sign() * shrunk * step * self.log_gain[kind].exp()

    @torch.no_grad()
    def choose_depth(
        self, residual: Tensor, levels: Tensor, kind: int, step: Tensor, thrift: float = 1.0
    ) -> Tensor:
        """(N, D) -> (N,) depth minimising squared error + thrift * lambda * approximate bits. The
        finer a channel's step, the more its error counts."""
        return self._saved(residual, levels, kind, step, thrift).argmax(1)

    def _saved(
        self, residual: Tensor, levels: Tensor, kind: int, step: Tensor, thrift: float
    ) -> Tensor:
        """What each depth saves, against 0: (N, S + 1)."""
        magnitude = levels.abs()
        zero, nonzero, octave = self.level_bits
        bits = thrift * torch.where(
            magnitude > 0, nonzero + octave * magnitude.log2().clamp(min=0), zero
        )
        saved = residual.square() - (residual - self._values(levels, kind, step)).square()
        saved = saved * (-2 * self.log_gain[kind]).exp()
        gain = saved - LAMBDA_PER_STEP2 * step**2 * bits
        total = gain.view(-1, self.stages, self.bits).sum(2).cumsum(1)
        if self.noisy_rate:
            total = total - thrift * (LAMBDA_PER_STEP2 * step**2 * self.depth_bits[1])
        return F.pad(total, (1, 0))  # depth 0 gains nothing

    @torch.no_grad()
    def choose_transform(self, residual: Tensor, kind: int, step: Tensor) -> Tensor:
        """Of each residual (N, D) the number of its best transform, (N,) int64; 0: none. step: a
        scalar or (N, 1)."""
        assert self.transforms is not None
        lowest = _TRANSFORM_BITS * LAMBDA_PER_STEP2 * step.square().flatten()
        best = torch.zeros(len(residual), dtype=torch.long, device=residual.device)
        most = self._saved(residual, self._levels(residual, kind, step), kind, step, 1.0).amax(1)
        for i, transform in enumerate(self.transforms):
            other = F.linear(residual, transform)
            saved = self._saved(other, self._levels(other, kind, step), kind, step, 1.0).amax(1)
            saved = saved - lowest
            best = torch.where(saved > most, i + 1, best)
            most = torch.maximum(most, saved)
        return best

    def transformed(self, residual: Tensor, transform: Tensor, back: bool = False) -> Tensor:
        """Residuals (N, D), each by the transform of its number (N,), or back from it."""
        assert self.transforms is not None
        out = residual
        for i, matrix in enumerate(self.transforms):
            turned = F.linear(residual, matrix.T if back else matrix)
            out = torch.where((transform == i + 1)[:, None], turned, out)
        return out

    @torch.no_grad()
    def quantize(
        self, residual: Tensor, kind: int, step: Tensor, thrift: float = 1.0, hidden: int = 0
    ) -> tuple[Tensor, Tensor]:
        """residual: (N, D), step: scalar or (N, 1). thrift: weight of bits in the choice of depths.
        hidden: of so many levels that are not 0 the last one's sign is to be told by the others, 0:
        none. Returns tokens (N, S, K) int64 in +-MAX_LEVEL, zero beyond the depth, and depth (N,)
        int64."""
        tokens = torch.zeros_like(residual, dtype=torch.long)
        depth = tokens.new_zeros(len(residual))
        y = residual / (step * self.log_gain[kind].exp())
        # the others have no level that is not 0, and are most of a picture
        some = (y.abs_().add_(ROUNDING) >= 1).any(1).nonzero()[:, 0]
        if len(some):
            residual, step = residual[some], step[some] if step.numel() > 1 else step
            levels = self._levels(residual, kind, step)
            chosen = self.choose_depth(residual, levels, kind, step, thrift)
            levels = (levels * self._coded(chosen)).long()
            if hidden:
                chosen = self._hide(residual, levels, chosen, kind, step, hidden)
            tokens[some], depth[some] = levels, chosen
        return tokens.view(-1, self.stages, self.bits), depth

    def _hide(
        self, residual: Tensor, levels: Tensor, depth: Tensor, kind: int, step: Tensor, every: int
    ) -> Tensor:
        """Change levels (N, D), in place, such that they tell hidden signs. Returns depths (N,)."""
        values = residual / (step * self.log_gain[kind].exp())
        found = levels.cpu().numpy()
        hide(
            found, values.cpu().numpy(), depth.cpu().numpy() * self.bits,
            self.shrink[kind].cpu().numpy(), self.level_bits, every, MAX_LEVEL,
        )  # fmt: skip
        levels.copy_(torch.from_numpy(found))
        some = levels.view(-1, self.stages, self.bits).any(2)
        return (some * torch.arange(1, self.stages + 1, device=levels.device)).amax(1)

    def dequantize(self, tokens: Tensor, depth: Tensor | None, kind: int, step: Tensor) -> Tensor:
        """tokens (N, S, K) -> quantized residual (N, D). The depth is implied by the tokens."""
        return self._values(tokens.flatten(1).to(self.shrink.dtype), kind, step)

    def _coded(self, depth: Tensor) -> Tensor:
        """(N,) -> (N, D): 1 for the channels of stages below the depth."""
        stage = torch.arange(self.stages, device=depth.device).repeat_interleave(self.bits)
        return (stage < depth[:, None]).float()

    def forward(
        self, residual: Tensor, kind: int, step: Tensor, grid: tuple[int, int, int], before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Differentiable quantization, straight-through, with a rate.

        residual: (N, D), step: (N, 1), grid: (B, h, w) with N = B h w, before: (N, D) levels of the
        latent frame before. Returns quantized (N, D), depth (N,), bits (N,), levels (N, D).
        """
        levels = self._levels(residual, kind, step).detach()
        depth = self.choose_depth(residual, levels, kind, step)
        coded = self._coded(depth)
        levels = levels * coded
        y = residual / (step * self.log_gain[kind].exp())
        if self.noisy_rate:
            noisy = y + torch.rand_like(y) - 0.5
            bits = self._noisy_rate(noisy, levels, kind, grid, before) * coded
            quantized = self._values(levels, kind, step)
        else:
            through = levels + (y - y.detach()) * coded  # value of levels, gradient of y
            bits = self._rate(through, levels, kind, grid, before) * coded
            quantized = self._values(levels, kind, step) + (residual - residual.detach()) * coded
        some, more = self.depth_bits
        return quantized, depth, bits.sum(1) + some + more * (depth > 0), levels

    def _log_scale(
        self, levels: Tensor, kind: int, grid: tuple[int, int, int], before: Tensor
    ) -> Tensor:
        """Log scale of a Laplacian for each level (N, D), from its causal neighbours."""
        magnitude = levels.abs()
        b, h, w = grid
        field = F.pad(magnitude.view(b, h, w, -1), (0, 0, 1, 0, 1, 0))
        near = ((field[:, 1:, :-1] + field[:, :-1, 1:]) / 2).reshape(magnitude.shape)
        stages = magnitude.view(-1, self.stages, self.bits).mean(2)
        lower = F.pad(stages, (1, 0), value=1.0)[:, :-1].repeat_interleave(self.bits, 1)
        weights = self.rate_weights[kind]
        return (
            weights[0]
            + weights[1] * (near + 0.1).log()
            + weights[2] * (before.abs() + 0.1).log()
            + weights[3] * (lower + 0.1).log()
        ).clamp(-4, 7)

    def _noisy_rate(
        self, noisy: Tensor, levels: Tensor, kind: int, grid: tuple[int, int, int], before: Tensor
    ) -> Tensor:
        """Bits of values with noise (N, D): of a unit interval around each, under the Laplacian."""
        inverse = (-self._log_scale(levels, kind, grid, before)).exp()
        t = noisy.abs()
        # P(t - 1/2 .. t + 1/2), in logs where both ends are on one side of 0
        outside = (
            math.log(2) + (t - 0.5).clamp_min(0) * inverse
            - torch.log1p(-(-inverse).exp() + 1e-9)
        )  # fmt: skip
        near = t.clamp(max=0.5)
        inside = 1 - ((-(0.5 - near) * inverse).exp() + (-(0.5 + near) * inverse).exp()) / 2
        return torch.where(t > 0.5, outside, -(inside + 1e-9).log()) / math.log(2)

    def _rate(
        self, through: Tensor, levels: Tensor, kind: int, grid: tuple[int, int, int], before: Tensor
    ) -> Tensor:
        """Bits of each level (N, D) under the Laplacian."""
        magnitude = levels.abs()
        inverse = (-self._log_scale(levels, kind, grid, before)).exp()
        t = through.abs()
        zero = -torch.log1p(-(-0.5 * inverse).exp() + 1e-9)
        more = math.log(2) + (t - 0.5) * inverse - torch.log1p(-(-inverse).exp() + 1e-9)
        return torch.where(magnitude > 0, more, zero) / math.log(2)
