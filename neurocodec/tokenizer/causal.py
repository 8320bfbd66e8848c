"""Causal 3D convolution parts with explicit caches.

Tensors are (B, C, T, H, W). Every part that looks back in time takes a :class:`Cache`; a clip
given in chunks with one cache yields the same result as the whole clip given at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import TEMPORAL_STRIDE


class Cache(dict[nn.Module, Tensor]):
    """What the parts of a network remember of the frames they have seen."""


class CausalConv3d(nn.Module):
    """3D convolution whose output frame sees no later input frame.

    The first frame is repeated to stand for the past, so that an image is a one-frame video.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int, int], spatial_stride: int = 1
    ) -> None:
        super().__init__()
        kt, kh, kw = kernel
        self.past = kt - 1
        self.conv = nn.Conv3d(
            c_in,
            c_out,
            kernel,
            stride=(1, spatial_stride, spatial_stride),
            padding=(0, kh // 2, kw // 2),
        )

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        if self.past:
            if cache is not None and self in cache:
                past = cache[self]
            else:
                past = x[:, :, :1].expand(-1, -1, self.past, -1, -1)
            x = torch.cat([past, x], 2)
            if cache is not None:
                cache[self] = x[:, :, -self.past :].clone()
        return self.conv(x)


def group_frames(x: Tensor, started: bool) -> Tensor:
    """(B, C, T, H, W) -> (B, 4C, T', H, W): groups of four frames, the clip's first frame alone.

    The first frame is repeated to fill a group. T is 1 + 4n at the start of a clip, else 4n.
    """
    if not started:
        x = torch.cat([x[:, :, :1].expand(-1, -1, TEMPORAL_STRIDE - 1, -1, -1), x], 2)
    b, c, t, h, w = x.shape
    if t % TEMPORAL_STRIDE:
        raise ValueError(f"{t} frames do not make whole groups of {TEMPORAL_STRIDE}")
    x = x.view(b, c, t // TEMPORAL_STRIDE, TEMPORAL_STRIDE, h, w)
    return x.permute(0, 3, 1, 2, 4, 5).reshape(b, TEMPORAL_STRIDE * c, -1, h, w)


def ungroup_frames(x: Tensor, started: bool) -> Tensor:
    """Inverse of :func:`group_frames` (depth to space, in time)."""
    b, c, t, h, w = x.shape
    x = x.view(b, TEMPORAL_STRIDE, c // TEMPORAL_STRIDE, t, h, w)
    x = x.permute(0, 2, 3, 1, 4, 5).reshape(b, c // TEMPORAL_STRIDE, -1, h, w)
    return x if started else x[:, :, TEMPORAL_STRIDE - 1 :]


def per_frame(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def per_clip(x: Tensor, batch: int) -> Tensor:
    """(B T, C, H, W) -> (B, C, T, H, W)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


class FrameNorm(nn.Module):
    """Group normalisation with the statistics of one frame at a time.

    Statistics that span time would let a frame see the future, and chunked would differ from whole.
    With ``condition`` channels it is adaptive: scale and shift are linear in a conditioning tensor.
    """

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.groups = max(1, channels // 8)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.modulation: nn.Conv3d | None = None
        if condition:
            self.modulation = nn.Conv3d(condition, 2 * channels, 1)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = per_clip(F.group_norm(per_frame(x), self.groups, self.weight, self.bias), x.shape[0])
        if self.modulation is not None and condition is not None:
            scale, shift = self.modulation(condition).chunk(2, 1)
            y = y * (1 + scale) + shift
        return y


class ResBlock(nn.Module):
    """Pre-activation residual block, zero-initialised; space first, then time, or both at once.

    ``recompute``: whether backward passes compute what is inside again instead of remembering it.
    """

    recompute = False

    def __init__(self, channels: int, full_kernels: bool, condition: int = 0) -> None:
        super().__init__()
        first, second = ((3, 3, 3), (3, 3, 3)) if full_kernels else ((1, 3, 3), (3, 1, 1))
        self.norm1 = FrameNorm(channels, condition)
        self.conv1 = CausalConv3d(channels, channels, first)
        self.norm2 = FrameNorm(channels, condition)
        self.conv2 = CausalConv3d(channels, channels, second)
        nn.init.zeros_(self.conv2.conv.weight)
        nn.init.zeros_(self.conv2.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, cache: Cache | None = None, condition: Tensor | None = None
    ) -> Tensor:
        if self.recompute and cache is None and torch.is_grad_enabled():
            y: Tensor = checkpoint(self._forward, x, None, condition, use_reentrant=False)
            return y
        return self._forward(x, cache, condition)

    def _forward(self, x: Tensor, cache: Cache | None, condition: Tensor | None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, condition)), cache)
        y = self.conv2(F.silu(self.norm2(y, condition)), cache)
        return x + y
