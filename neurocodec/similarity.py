"""MS-SSIM (Wang et al. 2003), differentiable: what ``bench`` measures and training can aim at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UsageError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
WINDOW = 11  # pixels
_LEAST = 1e-4  # of a term: below 0 there is no power of it


def scales_of(width: int, height: int) -> int:
    """How many scales MS-SSIM has: 5 from 161 pixels on (the smaller side), then one less each
    time the window of 11 would not fit into the coarsest; 0 below 11."""
    side, scales = min(width, height), 0
    while scales < len(WEIGHTS) and side > (WINDOW - 1) << scales:
        scales += 1
    return scales


def ms_ssim(a: Tensor, b: Tensor, data_range: float = 1.0) -> Tensor:
    """(B, H, W) twice -> (B,), each scale by pytorch-msssim.

    With fewer than five scales: the finest ones, their weights scaled to a sum of 1, which with one
    scale is plain SSIM. Raises ValueError below 11 pixels, UsageError without pytorch-msssim.
    """
    try:
        import pytorch_msssim
    except ImportError:
        raise UsageError("MS-SSIM needs: pip install pytorch-msssim") from None
    scales = scales_of(a.shape[2], a.shape[1])
    if scales == 0:
        raise ValueError(f"MS-SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels")
    x, y = a[:, None], b[:, None]
    value = torch.ones(len(a), device=a.device)
    for scale in range(scales):
        last = scale == scales - 1
        # contrast and structure alone: a vast K1 makes the luminance term 1
        constants = (0.01, 0.03) if last else (1e6, 0.03)
        term = pytorch_msssim.ssim(x, y, data_range, size_average=False, K=constants)
        value = value * term.clamp_min(_LEAST) ** (WEIGHTS[scale] / sum(WEIGHTS[:scales]))
        if not last:
            padding = [side % 2 for side in x.shape[2:]]  # as pytorch-msssim has it
            x, y = (F.avg_pool2d(p, 2, padding=padding) for p in (x, y))
    return value
