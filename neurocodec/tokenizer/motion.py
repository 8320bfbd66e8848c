"""Motion compensation: blocks of a reference picture, moved by quarter pixels and overlapped.

Every 8x8 cell has a vector for each of two references. The prediction of a cell is read from a
16x16 window around it, and windows are blended with raised cosines (overlapped block motion
compensation, Orchard and Sullivan, IEEE Trans. Image Processing 3(5), 1994). Samples between pixels
come from the eight-tap (luma) and four-tap (chroma) filters of HEVC (ITU-T H.265, 8.5.3.3.3),
unrounded.

Pictures are planes (B, 6, H/2, W/2), see ``patch.py``; fields are int64 (B, h, w, 2), x then y, in
quarters of a luma pixel: the cell's block in the reference lies that much right and down.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import SPATIAL_STRIDE

# Luma pixels by which a picture is continued on each side by its edge. A window of 16 that lies
# outside of it, filter taps included, sees nothing but edge, and is the same wherever it lies.
MARGIN = 24
MAX_VECTOR = 1023  # quarter pixels, in each component
# Modes of a cell: which references predict it. DIRECT is BOTH, with vectors that need not be coded
FIRST, SECOND, BOTH, DIRECT = 0, 1, 2, 3

_LUMA_TAPS = torch.tensor(
    [[0, 0, 0, 64, 0, 0, 0, 0], [-1, 4, -10, 58, 17, -5, 1, 0],
     [-1, 4, -11, 40, 40, -11, 4, -1], [0, 1, -5, 17, 58, -10, 4, -1]]
) / 64.0  # fmt: skip
_CHROMA_TAPS = (
    torch.tensor([[0, 64, 0, 0], [-4, 54, 16, -2], [-4, 36, 36, -4], [-2, 16, 54, -4]]) / 64.0
)


def _quarters(x: Tensor, taps: Tensor, dim: int) -> Tensor:
    """(N, ..., L + taps - 1, ...) -> (N, 4, ..., L, ...): moved along ``dim`` by 0 to 3 quarters.

    Sums of shifted pictures: convolution with one channel is ten times slower on a CPU.
    """
    count = taps.shape[1]
    length = x.shape[dim] - count + 1
    views = [x.narrow(dim, t, length) for t in range(count)]
    out = x.new_empty(x.shape[0], 4, *views[0].shape[1:])
    for phase, row in enumerate(taps.tolist()):
        terms = [(tap, view) for tap, view in zip(row, views, strict=True) if tap]
        torch.mul(terms[0][1], terms[0][0], out=out[:, phase])
        for tap, view in terms[1:]:
            out[:, phase].add_(view, alpha=tap)
    return out


def _phases(x: Tensor, taps: Tensor, margin: int) -> Tensor:
    """(N, H, W) -> (N, 16, H + 2 margin, W + 2 margin): moved by (y, x) quarter pixels, y first."""
    before, after = taps.shape[1] // 2 - 1, taps.shape[1] // 2
    x = F.pad(x[:, None], (margin + before, margin + after) * 2, mode="replicate")[:, 0]
    x = _quarters(x, taps, -1)  # (N, 4, H + taps - 1, W)
    x = _quarters(x.flatten(0, 1), taps, -2)  # (4 N, 4, H, W): x, y
    return x.unflatten(0, (-1, 4)).transpose(1, 2).flatten(1, 2)


class Reference:
    """A decoded picture, interpolated to quarter pixels."""

    def __init__(self, planes: Tensor, dtype: torch.dtype = torch.float32) -> None:
        """planes: (B, 6, H/2, W/2) in 0..1. dtype: of the interpolated samples, to save memory."""
        luma = F.pixel_shuffle(planes[:, :4], 2)[:, 0]
        self.height, self.width = luma.shape[1:]
        self.luma = _phases(luma, _LUMA_TAPS.to(planes), MARGIN).to(dtype)
        chroma = planes[:, 4:]
        self.chroma = (
            _phases(chroma.flatten(0, 1), _CHROMA_TAPS.to(planes), MARGIN // 2)
            .unflatten(0, chroma.shape[:2])
            .to(dtype)
        )

    def luma_blocks(self, field: Tensor, block: int, every: int = 1) -> Tensor:
        """Blocks at the grid of ``field`` (B, H/block, W/block, 2), not overlapped, and of each row
        and column of them every n-th sample: (B, h, w, block/every, block/every)."""
        return _gather(self.luma, field, block, block, MARGIN, every)


def _gather(
    phases: Tensor, field: Tensor, stride: int, size: int, margin: int, every: int = 1
) -> Tensor:
    """phases (B, 16, H, W) -> windows of ``size`` around blocks of ``stride``, and of each row and
    column of them every n-th sample: (B, h, w, size/every, size/every)."""
    b, _, height, width = phases.shape
    _, h, w, _ = field.shape
    whole, part = field >> 2, field & 3
    start = margin - (size - stride) // 2
    device = field.device
    y = (torch.arange(h, device=device)[:, None] * stride + start + whole[..., 1]).clamp(
        0, height - size
    )
    x = (torch.arange(w, device=device) * stride + start + whole[..., 0]).clamp(0, width - size)
    phase = part[..., 1] * 4 + part[..., 0] + 16 * torch.arange(b, device=device)[:, None, None]
    at = (phase * height + y) * width + x
    line = torch.arange(0, size, every, device=device)
    inside = line[:, None] * width + line
    return phases.reshape(-1).take(at[..., None, None] + inside).float()


@functools.lru_cache(64)
def _window(h: int, w: int, block: int) -> tuple[Tensor, Tensor]:
    """Raised cosine (2 block, 2 block), and one over the sum of windows at each pixel (H, W)."""
    n = torch.arange(2 * block) + 0.5
    line = torch.sin(math.pi * n / (2 * block)).square()
    window = torch.outer(line, line)
    total = _overlap(window.expand(1, h, w, 2 * block, 2 * block))
    return window, 1 / total[0]


def _overlap(windows: Tensor) -> Tensor:
    """Add overlapping windows (B, h, w, 2n, 2n) at stride n -> (B, h n, w n)."""
    b, h, w, size, _ = windows.shape
    n = size // 2
    x = windows.reshape(b, h, w, 2, n, 2, n)
    out = windows.new_zeros(b, h + 1, n, w + 1, n)
    for i in (0, 1):
        for j in (0, 1):
            out[:, i : h + i, :, j : w + j] += x[:, :, :, i, :, j].transpose(2, 3)
    out = out.view(b, (h + 1) * n, (w + 1) * n)
    return out[:, n // 2 : n // 2 + h * n, n // 2 : n // 2 + w * n]


def compensate(reference: Reference, field: Tensor) -> Tensor:
    """The picture that a reference and a field (B, h, w, 2) predict: planes (B, 6, H/2, W/2)."""
    _, h, w, _ = field.shape
    block = SPATIAL_STRIDE
    window, norm = _window(h, w, block)
    luma = _gather(reference.luma, field, block, 2 * block, MARGIN)
    luma = _overlap(luma * window.to(luma)) * norm.to(luma)
    block //= 2
    window, norm = _window(h, w, block)
    field = (field + 1) >> 1  # eighths of a chroma pixel to quarters
    planes = [F.pixel_unshuffle(luma[:, None], 2)]
    for k in (0, 1):
        chroma = _gather(reference.chroma[:, k], field, block, 2 * block, MARGIN // 2)
        planes.append(_overlap(chroma * window.to(chroma))[:, None] * norm.to(chroma))
    return torch.cat(planes, 1)


def predict(
    references: tuple[Reference, Reference], mode: Tensor, fields: Tensor
) -> tuple[Tensor, Tensor]:
    """Two predictions of a picture, each planes (B, 6, H/2, W/2); their mean is the usual one.

    mode: (B, h, w), fields: (B, 2, h, w, 2), of the first and the second reference. Where a cell
    has one reference both predictions come from it.
    """
    first, second = (compensate(r, fields[:, i]) for i, r in enumerate(references))
    one = _spread(mode == SECOND)  # weight of the second reference in the first prediction
    two = _spread(mode == FIRST)
    return first + one * (second - first), second + two * (first - second)


def _spread(mask: Tensor) -> Tensor:
    """Mask of cells (B, h, w) -> weights of half-resolution pixels (B, 1, H/2, W/2), blended as
    blocks are."""
    h, w = mask.shape[1:]
    block = SPATIAL_STRIDE // 2
    window, norm = _window(h, w, block)
    window, norm = window.to(mask.device), norm.to(mask.device)
    return (_overlap(mask.float()[..., None, None] * window) * norm)[:, None]


def aligned(cells: Tensor, field: Tensor) -> Tensor:
    """What the reference's cells (B, h, w, ...) hold where vectors point, to the nearest cell."""
    b, h, w = cells.shape[:3]
    move = (field + 16) >> 5  # quarter pixels to cells
    y = (torch.arange(h, device=field.device)[:, None] + move[..., 1]).clamp(0, h - 1)
    x = (torch.arange(w, device=field.device) + move[..., 0]).clamp(0, w - 1)
    return cells[torch.arange(b, device=field.device)[:, None, None], y, x]
