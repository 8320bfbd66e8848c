"""Frames of GOPs; frames to planes of whole cells, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..bitstream.payloads import AudioPacket
from ..media.frame import Frame, Planes
from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.patch import planes_from_yuv, yuv_from_planes
from .lookahead import CutFinder, thumbnail
from .tokens import grid_of


@dataclass(frozen=True)
class GopEnd:
    """Stands behind the tokens of a GOP. pts: of its frames.

    Under rate control it stands alone: step, in units of 1 / STEP_ONE, and data, the coded tokens.
    """

    pts: list[int]
    step: int | None = None
    data: bytes | None = None


def gop_starts(
    events: Iterable[Frame | AudioPacket], gop_frames: int, find_cuts: bool, skip: int = 0
) -> Iterator[tuple[Frame, bool] | AudioPacket]:
    """Each frame and whether it begins a GOP, and the audio packets as they come. find_cuts: begin
    one at every scene cut. skip: frames at the beginning, of whole GOPs, that are left out."""
    cuts, count = CutFinder(), 0
    for event in events:
        if isinstance(event, AudioPacket):
            yield event
            continue
        cut = find_cuts and cuts.is_cut(thumbnail(event.y))
        if skip:
            skip -= 1
            continue
        begins = cut or count in (0, gop_frames)
        count = 1 if begins else count + 1
        yield event, begins


def pad_planes(frames: list[Frame]) -> Tensor:
    """Frames -> planes (1, 6, T, h, w) in 0..1, padded to whole cells by repeating the edge."""
    return as_floats(padded(frames))


def as_floats(planes: Tensor) -> Tensor:
    """Planes in 0..1, of bytes or as they are."""
    return planes.float().div_(255) if planes.dtype == torch.uint8 else planes


def padded(frames: list[Frame]) -> Tensor:
    """As :func:`pad_planes`, uint8: a quarter of the memory."""
    height, width = frames[0].y.shape
    rows, columns = (n * SPATIAL_STRIDE for n in grid_of(width, height))
    stacks = []
    for i, half in enumerate((1, 2, 2)):
        stack = np.stack([frame.planes[i] for frame in frames])
        below, right = rows // half - stack.shape[1], columns // half - stack.shape[2]
        stacks.append(np.pad(stack, ((0, 0), (0, below), (0, right)), "edge"))
    return planes_from_yuv(*stacks)[None]


def crop_planes(planes: Tensor, size: tuple[int, int]) -> list[Planes]:
    """planes (1, 6, T, H/2, W/2) in 0..1 -> each frame, cut to size: (width, height)."""
    y, u, v = yuv_from_planes((planes[0].float().clamp(0, 1) * 255).round().byte())
    return [cropped((y[t], u[t], v[t]), size) for t in range(len(y))]


def cropped(samples: Planes, size: tuple[int, int]) -> Planes:
    """y, u, v, cut to size: (width, height)."""
    y, u, v = samples
    w, h = size
    half = slice((h + 1) // 2), slice((w + 1) // 2)
    return y[:h, :w], u[half], v[half]
