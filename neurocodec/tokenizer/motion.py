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
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import SPATIAL_STRIDE
from .patch import luma, planes_of

# Luma pixels by which a picture is continued on each side by its edge. A window of 16 that lies
# outside of it, filter taps included, sees nothing but edge, and is the same wherever it lies.
MARGIN = 24
MAX_VECTOR = 1023  # quarter pixels, in each component
_BLOCK = SPATIAL_STRIDE  # of luma, a cell's
_CPU = torch.device("cpu")
# Modes of a cell: which references predict it. DIRECT is BOTH, with vectors that need not be coded
FIRST, SECOND, BOTH, DIRECT = 0, 1, 2, 3

LUMA_TAPS = torch.tensor(
    [[0, 0, 0, 64, 0, 0, 0, 0], [-1, 4, -10, 58, 17, -5, 1, 0],
     [-1, 4, -11, 40, 40, -11, 4, -1], [0, 1, -5, 17, 58, -10, 4, -1]]
) / 64.0  # fmt: skip
CHROMA_TAPS = (
    torch.tensor([[0, 64, 0, 0], [-4, 54, 16, -2], [-4, 36, 36, -4], [-2, 16, 54, -4]]) / 64.0
)


class Phases:
    """Samples of planes (B, H, W) at quarter pixels, with a margin of their edge around.

    There are 16 phases, moved by (y, x) quarters, y first. One is interpolated when a window first
    lies in it: a picture rarely needs all.
    """

    def __init__(self, planes: Tensor, taps: Tensor, margin: int, dtype: torch.dtype) -> None:
        before, after = taps.shape[1] // 2 - 1, taps.shape[1] // 2
        self._taps: list[list[float]] = taps.tolist()
        self._margin = margin
        self._source = F.pad(
            planes[:, None], (margin + before, margin + after) * 2, mode="replicate"
        )[:, 0]
        self._missing = set(range(16))
        b, h, w = planes.shape
        self._samples = planes.new_empty(b, 16, h + 2 * margin, w + 2 * margin, dtype=dtype)

    def fill_all(self) -> None:
        """Interpolate every phase in few operations, and without asking which are wanted: what is
        fast on a GPU."""
        taps = torch.tensor(self._taps, device=self._source.device)
        columns = _all_moved(self._source[:, None], taps[:, :, None, None], -1)
        samples = _all_moved(columns[:, None], taps[:, :, None, None, None], -2)
        self._samples.copy_(samples.flatten(1, 2))
        self._missing = set()

    def _fill(self, phases: Tensor) -> None:
        if phases.device.type != "cpu":
            self.fill_all()
            return
        seen = torch.zeros(16, dtype=torch.bool, device=phases.device)
        seen[phases.flatten()] = True
        wanted = self._missing.intersection(seen.nonzero().flatten().tolist())
        for x in {phase % 4 for phase in wanted}:
            columns = _moved(self._source, self._taps[x], -1)
            for phase in wanted & set(range(x, 16, 4)):
                self._samples[:, phase] = _moved(columns, self._taps[phase // 4], -2)
        self._missing -= wanted

    def windows(self, field: Tensor, stride: int, size: int) -> Tensor:
        """Windows of ``size`` around blocks of ``stride``, (B, h, w, size, size)."""
        b, _, height, width = self._samples.shape
        _, h, w, _ = field.shape
        whole, part = field >> 2, field & 3
        phase = part[..., 1] * 4 + part[..., 0]
        if self._missing:
            self._fill(phase)
        device = field.device
        clip = torch.arange(b, device=device)[:, None, None]
        row, column = torch.arange(h, device=device)[:, None], torch.arange(w, device=device)
        start = self._margin - (size - stride) // 2
        y = (row * stride + start + whole[..., 1]).clamp(0, height - size)
        x = (column * stride + start + whole[..., 0]).clamp(0, width - size)
        first = ((phase + 16 * clip) * height + y) * width + x
        # overlapping views, one at every sample: copying them whole is much faster than
        # gathering their samples
        last = (size - 1) * (width + 1)
        views = self._samples.as_strided((self._samples.numel() - last, size, size), (1, width, 1))
        return views.index_select(0, first.flatten()).float().view(*first.shape, size, size)


def _moved(x: Tensor, taps: list[float], dim: int) -> Tensor:
    """x filtered along ``dim``, shorter by taps - 1.

    A sum of shifted pictures: convolution with one channel is ten times slower on a CPU.
    """
    length = x.shape[dim] - len(taps) + 1
    terms = [(tap, x.narrow(dim, t, length)) for t, tap in enumerate(taps) if tap]
    out = terms[0][1] * terms[0][0]
    for tap, view in terms[1:]:
        out.add_(view, alpha=tap)
    return out


def _all_moved(x: Tensor, taps: Tensor, dim: int) -> Tensor:
    """x (B, 1, ..., H, W) by each of the filters (4, taps, 1, ...), (B, 4, ..., H', W')."""
    length = x.shape[dim] - taps.shape[1] + 1
    out = x.narrow(dim, 0, length) * taps[:, 0]
    for t in range(1, taps.shape[1]):
        out = out.addcmul_(x.narrow(dim, t, length), taps[:, t])
    return out


class Reference:
    """A decoded picture, interpolated to quarter pixels where it is looked at."""

    def __init__(self, planes: Tensor, dtype: torch.dtype = torch.float32) -> None:
        """planes: (B, 6, H/2, W/2) in 0..1. dtype: of the interpolated samples, to save memory."""
        samples = luma(planes)
        self.height, self.width = samples.shape[1:]
        self.luma = Phases(samples, LUMA_TAPS, MARGIN, dtype)
        self.chroma = [Phases(planes[:, k], CHROMA_TAPS, MARGIN // 2, dtype) for k in (4, 5)]


@functools.lru_cache(64)
@torch.inference_mode(False)  # kept, and perhaps trained with later
def window_line(block: int) -> Tensor:
    """A row of the window of blocks, (2 block,)."""
    n = torch.arange(2 * block) + 0.5
    return torch.sin(math.pi * n / (2 * block)).square()


def overlapped_window(
    h: int, w: int, block: int, device: torch.device = _CPU
) -> tuple[Tensor, Tensor]:
    """Raised cosine (2 block, 2 block), and one over the sum of windows at each pixel (H, W)."""
    line = window_line(block)
    window = torch.outer(line, line)
    total = overlap_add(window.expand(1, h, w, 2 * block, 2 * block))
    return window.to(device), (1 / total[0]).to(device)


def overlap_add(windows: Tensor) -> Tensor:
    """Add overlapping windows (B, h, w, 2n, 2n) at stride n -> (B, h n, w n)."""
    _, h, w, size, _ = windows.shape
    n = size // 2
    return overlap_whole(windows)[:, n // 2 : n // 2 + h * n, n // 2 : n // 2 + w * n]


def overlap_whole(windows: Tensor) -> Tensor:
    """As :func:`overlap_add`, with all that windows reach: (B, (h + 1) n, (w + 1) n)."""
    b, h, w, size, _ = windows.shape
    n = size // 2
    x = windows.reshape(b, h, w, 2, n, 2, n)
    out = windows.new_zeros(b, h + 1, n, w + 1, n)
    for i in (0, 1):
        for j in (0, 1):
            out[:, i : h + i, :, j : w + j] += x[:, :, :, i, :, j].transpose(2, 3)
    return out.view(b, (h + 1) * n, (w + 1) * n)


def compensate(reference: Reference, field: Tensor) -> Tensor:
    """The picture that a reference and a field (B, h, w, 2) predict: planes (B, 6, H/2, W/2)."""
    return _blended([windows[0] for windows in _windows([reference], [field])])


def predict(
    references: tuple[Reference, Reference], mode: Tensor, fields: Tensor
) -> tuple[Tensor, Tensor]:
    """Two predictions of a picture, each planes (B, 6, H/2, W/2); their mean is the usual one.

    mode: (B, h, w), fields: (B, 2, h, w, 2), of the first and the second reference. Where a cell
    has one reference the windows of both predictions come from it: a vector that is not used has
    no part in any.
    """
    alone = [(mode == one).flatten().nonzero()[:, 0] for one in (FIRST, SECOND)]
    pairs = list(_windows(references, fields.unbind(1)))
    for first, second in pairs:
        a, b = first.flatten(0, 2), second.flatten(0, 2)
        b.index_copy_(0, alone[0], a.index_select(0, alone[0]))
        a.index_copy_(0, alone[1], b.index_select(0, alone[1]))
    return _blended([pair[0] for pair in pairs]), _blended([pair[1] for pair in pairs])


def _windows(references: Sequence[Reference], fields: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Of luma, U and V in turn: the windows (B, h, w, 2n, 2n) of each reference's field."""
    yield [r.luma.windows(f, _BLOCK, 2 * _BLOCK) for r, f in zip(references, fields, strict=True)]
    fields = [(field + 1) >> 1 for field in fields]  # eighths of a chroma pixel to quarters
    for plane in (0, 1):
        pairs = zip(references, fields, strict=True)
        yield [r.chroma[plane].windows(f, _BLOCK // 2, _BLOCK) for r, f in pairs]


def _blended(windows: list[Tensor]) -> Tensor:
    """Windows of luma, U and V (B, h, w, 2n, 2n), which are lost, -> planes (B, 6, H/2, W/2)."""
    planes = []
    for plane in windows:
        _, h, w, size, _ = plane.shape
        window, norm = overlapped_window(h, w, size // 2, plane.device)
        planes.append(overlap_add(plane.mul_(window)) * norm)
    return planes_of(*planes)


def aligned(cells: Tensor, field: Tensor) -> Tensor:
    """What the reference's cells (B, h, w, ...) hold where vectors point, to the nearest cell."""
    b, h, w = cells.shape[:3]
    move = (field + 16) >> 5  # quarter pixels to cells
    y = (torch.arange(h, device=field.device)[:, None] + move[..., 1]).clamp(0, h - 1)
    x = (torch.arange(w, device=field.device) + move[..., 0]).clamp(0, w - 1)
    return cells[torch.arange(b, device=field.device)[:, None, None], y, x]
