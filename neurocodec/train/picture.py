"""Pictures for looking at: source, decoded and depth map side by side."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def rgb(planes: Tensor) -> Tensor:
    """One frame of planes (6, h, w), BT.601 full range -> (3, 2h, 2w), both in 0..1."""
    return (rgb_clips(planes[None, :, None])[0, :, 0] / 2 + 0.5).clamp(0, 1)


def rgb_clips(planes: Tensor) -> Tensor:
    """Clips of planes (B, 6, T, h, w) in 0..1, BT.601 full range -> RGB (B, 3, T, 2h, 2w) in -1..1,
    or beyond where YCbCr is."""
    batch, x = planes.shape[0], planes.transpose(1, 2).flatten(0, 1)
    y = F.pixel_shuffle(x[:, :4], 2)[:, 0]
    u, v = (F.interpolate(x[:, 4:], scale_factor=2, mode="bilinear") - 0.5).unbind(1)
    rgb = torch.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], 1)
    return (2 * rgb - 1).unflatten(0, (batch, -1)).transpose(1, 2)


def comparison(rows: list[tuple[Tensor, Tensor, Tensor]]) -> Image.Image:
    """Rows of source and decoded planes (6, h, w) and depth map (h/4, w/4), all in 0..1."""
    strips = []
    for source, decoded, depth in rows:
        depth = depth.float().repeat_interleave(8, 0).repeat_interleave(8, 1)
        strips.append(torch.cat([rgb(source), rgb(decoded), depth[None].expand(3, -1, -1)], 2))
    array = (torch.cat(strips, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(array))
