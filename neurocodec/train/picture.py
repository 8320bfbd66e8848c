"""Pictures for looking at: source, decoded and depth map side by side."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def rgb(planes: Tensor) -> Tensor:
    """One frame of planes (6, h, w), BT.601 full range -> (3, 2h, 2w), both in 0..1."""
    y = F.pixel_shuffle(planes[None, :4], 2)[0, 0]
    u, v = F.interpolate(planes[None, 4:], scale_factor=2, mode="bilinear")[0] - 0.5
    return torch.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u]).clamp(0, 1)


def comparison(rows: list[tuple[Tensor, Tensor, Tensor]]) -> Image.Image:
    """Rows of source and decoded planes (6, h, w) and depth map (h/4, w/4), all in 0..1."""
    strips = []
    for source, decoded, depth in rows:
        depth = depth.float().repeat_interleave(8, 0).repeat_interleave(8, 1)
        strips.append(torch.cat([rgb(source), rgb(decoded), depth[None].expand(3, -1, -1)], 2))
    array = (torch.cat(strips, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(array))
