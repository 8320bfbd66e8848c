"""How good a run of the ``motion`` tokenizer is: windows of held-out clips, in closed loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..similarity import ms_ssim
from ..tokenizer.config import step_of_quality
from ..tokenizer.lfq import LAMBDA_PER_STEP2
from ..tokenizer.patch import luma, psnr, weighted_error
from .picture import comparison
from .windows import WindowBatch, search_window

if TYPE_CHECKING:
    from .motion_run import MotionRun

QUALITIES = (10, 50, 90)
LENGTH = 8  # frames of the mini-GOP


def validation_windows(clips: dict[str, Tensor], motion: bool) -> dict[str, list[WindowBatch]]:
    """Of each clip (6, T, H/2, W/2) uint8 a batch of one at each quality, with motion if wanted."""
    out: dict[str, list[WindowBatch]] = {}
    for name, clip in clips.items():
        x = clip.transpose(0, 1)[None].float() / 255
        out[name] = []
        for step in map(step_of_quality, QUALITIES):
            mode, fields = search_window(x, LENGTH, step) if motion else (x[:0], x[:0])
            window = WindowBatch(x, LENGTH, torch.tensor([step]), mode.long(), fields.long())
            out[name].append(window)
    return out


def validate(run: MotionRun, windows: dict[str, list[WindowBatch]]) -> None:
    """Log, with averaged weights, D / lambda + R (D squared error) at the window's step, PSNR-YUV
    (6:1:1), estimated bits per pixel and, where it is aimed at, MS-SSIM; and save a picture of the
    first window's last frames."""
    rows = []
    with run.averaged():
        for i, quality in enumerate(QUALITIES):
            figures = []
            for name, of_clip in windows.items():
                source, decoded, depth, bpp = _decode(run, of_clip[i])
                error = weighted_error(source, decoded).mean().item() / (source[0, 0].numel() * 4)
                cost = error / (LAMBDA_PER_STEP2 * of_clip[i].step.item() ** 2) + bpp
                quality_db = psnr(source.transpose(0, 1), decoded.transpose(0, 1))[3]
                figures.append([cost, quality_db, bpp])
                if run.similarity:
                    figures[-1].append(ms_ssim(luma(source), luma(decoded)).mean().item())
                _log(run, name, quality, figures[-1])
                if len(figures) == 1:
                    rows.append((source[-1], decoded[-1], depth.float() / run.shape.stages))
            _log(run, "mean", quality, np.mean(figures, 0).tolist())
    run.show(comparison(rows))


def _decode(run: MotionRun, window: WindowBatch) -> tuple[Tensor, Tensor, Tensor, float]:
    """Source and decoded planes (T, 6, H/2, W/2), depth (h, w) of the last, mean bits per pixel."""
    coded = run.code_window(window)
    source = window.x[0, : len(coded)].to(run.device)
    bpp = float(np.mean([picture.bpp for picture in coded]))
    return source, torch.cat([picture.planes for picture in coded]), coded[-1].depth[0], bpp


def _log(run: MotionRun, name: str, quality: int, figures: Sequence[float]) -> None:
    values = dict(zip(("cost", "psnr", "bpp", "ms_ssim"), figures, strict=False))
    run.log({"val": name, "step": run.done, "q": quality, **values})
