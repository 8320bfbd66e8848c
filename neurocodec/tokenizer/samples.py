"""Planes of networks, in 0..1, to samples of pictures, of 8 bits, and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import compiled_exactly
from .patch import luma, planes_of

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
_VALUES = (np.arange(256) / np.float32(255)).astype(np.float32)


def samples_of(planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Y (H, W), U and V (H/2, W/2), uint8, of planes (1, 6, H/2, W/2) in 0..1."""
    _, _, h, w = planes.shape
    if planes.device.type == "cpu" and planes.dtype == torch.float32:
        y = torch.empty(2 * h, 2 * w, dtype=torch.uint8)
        u, v = torch.empty(2, h, w, dtype=torch.uint8)
        _to_samples(planes[0].contiguous().numpy(), y.numpy(), u.numpy(), v.numpy())
        return y, u, v
    whole = (planes * 255).round_().byte()
    return luma(whole)[0], whole[0, 4], whole[0, 5]


def planes_from(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The inverse of :func:`samples_of`."""
    if y.device.type == "cpu":
        out = torch.empty(1, 6, *u.shape)
        given = [x.contiguous().numpy() for x in (y, u, v)]
        _to_planes(given[0], given[1], given[2], _VALUES, out[0].numpy())
        return out
    return planes_of(*(x[None].float().div_(255) for x in (y, u, v)))


@compiled_exactly
def _to_samples(planes: Floats, y: Bytes, u: Bytes, v: Bytes) -> None:
    _, h, w = planes.shape
    most, half = np.float32(255), np.float32(0.5)
    for i in range(h):
        for down in range(2):
            for j in range(w):
                for right in range(2):
                    y[2 * i + down, 2 * j + right] = planes[2 * down + right, i, j] * most + half
        for j in range(w):
            u[i, j] = planes[4, i, j] * most + half
            v[i, j] = planes[5, i, j] * most + half


@compiled_exactly
def _to_planes(y: Bytes, u: Bytes, v: Bytes, values: Floats, planes: Floats) -> None:
    _, h, w = planes.shape
    for i in range(h):
        for down in range(2):
            for right in range(2):
                for j in range(w):
                    planes[2 * down + right, i, j] = values[y[2 * i + down, 2 * j + right]]
        for j in range(w):
            planes[4, i, j] = values[u[i, j]]
            planes[5, i, j] = values[v[i, j]]
