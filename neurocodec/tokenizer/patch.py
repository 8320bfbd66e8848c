"""Patch transforms: 4:2:0 frames to 8x8 patches, and the DCT they start from.

A frame travels through the network as ``planes``: (B, 6, T, H/2, W/2) floats in 0..1, the four
phases of Y followed by U and V, so that the source's own 4:2:0 samples are used as they are.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .causal import per_clip, per_frame
from .config import PATCH_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE

# Weight of a chroma sample's squared error against a luma sample's. For the (6Y+U+V)/8 average of
# PSNRs the best weight is 2/3 of the ratio of luma to chroma error, which is about 3 in practice.
CHROMA_WEIGHT = 2.0
_HALF = SPATIAL_STRIDE // 2


def planes_from_yuv(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> Tensor:
    """uint8 planes (T, H, W), (T, H/2, W/2) twice -> (6, T, H/2, W/2) uint8. H and W are even."""
    phases = [y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return torch.from_numpy(np.stack([*phases, u, v]))


def yuv_from_planes(planes: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(6, T, h, w) uint8 -> Y (T, 2h, 2w), U and V (T, h, w), uint8."""
    array = planes.cpu().numpy()
    _, t, h, w = array.shape
    y = np.empty((t, 2 * h, 2 * w), np.uint8)
    for k, (i, j) in enumerate((i, j) for i in (0, 1) for j in (0, 1)):
        y[:, i::2, j::2] = array[k]
    return y, array[4], array[5]


def luma(planes: Tensor) -> Tensor:
    """planes (B, 6, H/2, W/2), or their first four alone -> (B, H, W)."""
    b, _, h, w = planes.shape  # what F.pixel_shuffle does, in a third of its time on a CPU
    return planes[:, :4].view(b, 2, 2, h, w).permute(0, 3, 1, 4, 2).reshape(b, 2 * h, 2 * w)


def planes_of(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Luma (B, H, W), chroma (B, H/2, W/2) twice -> planes (B, 6, H/2, W/2)."""
    b, h, w = u.shape
    out = y.new_empty(b, 6, h, w)
    # what F.pixel_unshuffle does, in half of its time on a CPU
    out[:, :4].unflatten(1, (2, 2)).copy_(y.view(b, h, 2, w, 2).permute(0, 2, 4, 1, 3))
    out[:, 4], out[:, 5] = u, v
    return out


def unshuffle(planes: Tensor, factor: int = _HALF) -> Tensor:
    """Space to depth, (B, C, T, f h, f w) -> (B, C f^2, T, h, w); planes to patches by default."""
    return per_clip(F.pixel_unshuffle(per_frame(planes), factor), planes.shape[0])


def shuffle(patches: Tensor, factor: int = _HALF) -> Tensor:
    """Depth to space, the inverse of :func:`unshuffle`."""
    return per_clip(F.pixel_shuffle(per_frame(patches), factor), patches.shape[0])


def dct_matrix(n: int) -> Tensor:
    """Orthonormal DCT-II, (n, n), one basis function a row."""
    k = torch.arange(n, dtype=torch.float64)
    m = torch.cos(math.pi * (k[None] + 0.5) * k[:, None] / n) * math.sqrt(2 / n)
    m[0] /= math.sqrt(2)
    return m


def group_basis(latent_dim: int, frames: int = TEMPORAL_STRIDE) -> tuple[Tensor, Tensor]:
    """The 3D DCT of a group of ``frames`` patches, lowest frequencies first.

    Returns analysis (D, 96 frames) and synthesis (96 frames, D). Chroma is scaled by the square
    root of CHROMA_WEIGHT, so that squared error in the latent is weighted squared error in the
    picture.
    """
    d8, d4 = dct_matrix(SPATIAL_STRIDE), dct_matrix(_HALF)
    spatial: list[Tensor] = []
    keys: list[float] = []
    gains: list[float] = []
    for i in range(SPATIAL_STRIDE):
        for j in range(SPATIAL_STRIDE):
            spatial.append(_vector(torch.outer(d8[i], d8[j])))
            keys.append(i + j)
            gains.append(1.0)
    for plane in (4, 5):
        for i in range(_HALF):
            for j in range(_HALF):
                b = torch.zeros(6, _HALF, _HALF, dtype=torch.float64)
                b[plane] = torch.outer(d4[i], d4[j])
                spatial.append(b.flatten())
                keys.append(2.0 * (i + j) + 2.0)
                gains.append(math.sqrt(CHROMA_WEIGHT))
    dt = dct_matrix(frames)
    rows = [
        (keys[s] + 2.5 * k, torch.outer(dt[k], spatial[s]).flatten(), gains[s])
        for k in range(frames)
        for s in range(PATCH_CHANNELS)
    ]
    rows.sort(key=lambda row: row[0])
    rows = rows[:latent_dim]
    analysis = torch.stack([basis * gain for _, basis, gain in rows])
    synthesis = torch.stack([basis / gain for _, basis, gain in rows], 1)
    return analysis.float(), synthesis.float()


def _vector(block: Tensor) -> Tensor:
    """Luma of a cell (8, 8) -> a patch without chroma, (96,)."""
    planes = torch.zeros(6, _HALF, _HALF, dtype=block.dtype)
    planes[:4] = F.pixel_unshuffle(block[None, None], 2)[0]
    return planes.flatten()


TRANSFORMS = ((8, 4), (4, 8), (4, 4))  # height and width of blocks of luma, but for 8x8


def block_transforms() -> Tensor:
    """From the latent of a cell, its 8x8 DCT as in ``group_basis``, to those of smaller blocks:
    (3, 96, 96), orthonormal. Chroma's channels stay as they are, and luma's take the places of
    luma, lowest frequencies first, those of all blocks together."""
    analysis, synthesis = group_basis(PATCH_CHANNELS, 1)
    of_luma = analysis[:, : 4 * _HALF**2].abs().amax(1) > 1e-6
    out = []
    for height, width in TRANSFORMS:
        down, across = dct_matrix(height), dct_matrix(width)
        tops, lefts = range(0, SPATIAL_STRIDE, height), range(0, SPATIAL_STRIDE, width)
        rows: list[tuple[tuple[float, int, int, int], Tensor]] = []
        for i, j, top, left in itertools.product(range(height), range(width), tops, lefts):
            block = torch.zeros(SPATIAL_STRIDE, SPATIAL_STRIDE, dtype=torch.float64)
            block[top : top + height, left : left + width] = torch.outer(down[i], across[j])
            frequency = SPATIAL_STRIDE * (i / height + j / width)
            rows.append(((frequency, i, top, left), _vector(block)))
        rows.sort(key=lambda row: row[0])
        basis = analysis.double()
        basis[of_luma] = torch.stack([row for _, row in rows])
        out.append(basis @ synthesis.double())
    return torch.stack(out).float()


def repeat_last_frame(analysis: Tensor, synthesis: Tensor) -> Tensor:
    """(D, D): the latent of four copies of a group's last frame, from that group's latent."""
    last = synthesis[-PATCH_CHANNELS:]  # (96, D)
    return analysis @ last.repeat(TEMPORAL_STRIDE, 1)


def weighted_error(a: Tensor, b: Tensor, luma: float = 1.0) -> Tensor:
    """Squared error between planes (B, 6, ..., h, w), that of chroma weighted: (B,). luma: the
    weight of its own."""
    error = (a - b).square().sum(tuple(range(2, a.dim())))  # (B, 6)
    return luma * error[:, :4].sum(1) + CHROMA_WEIGHT * error[:, 4:].sum(1)


def psnr(a: Tensor, b: Tensor) -> tuple[float, float, float, float]:
    """PSNR in dB of Y, U, V and (6 Y + U + V) / 8 between planes (..., 6, T, h, w) in 0..1.

    Each is the mean over frames of the frame's PSNR; 100 stands for identical planes.
    """
    error = (a - b).square().mean((-2, -1))  # (..., 6, T)
    error = torch.stack([error[..., :4, :].mean(-2), error[..., 4, :], error[..., 5, :]])
    y, u, v = (-10 * error.clamp_min(1e-10).log10()).flatten(1).mean(1).tolist()
    return y, u, v, (6 * y + u + v) / 8
