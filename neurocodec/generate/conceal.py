"""Lost frames imagined from those before them, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec.frames import crop_planes
from ..media.frame import Planes
from ..tokenizer.patch import planes_from_yuv
from .clips import extend
from .model import Generative

MOST = 64  # frames that are imagined in a row; then the last one stays


class Imagining:
    """A concealer, see ``codec/conceal.py``: cuts frames of any size into tiles of the size that
    the model knows, each of which goes on by itself, window after window.

    A model sees the last 1 + 4 n frames; where fewer were decoded, the first one of them is taken
    to have been there before.
    """

    def __init__(self, model: Generative, steps: int = 8, seed: int = 0) -> None:
        self._model, self._how = model, {"steps": steps, "seed": seed}
        self._given = model.given

    def __call__(self, before: Sequence[Planes], count: int) -> Iterator[Planes]:
        given = self._given
        shown = [before[0]] * (given - len(before)) + list(before[-given:])
        height, width = shown[0][0].shape
        tiles, grid = self._tiles(shown)
        labels = torch.full((len(tiles),), self._model.label(None))
        end = given + min(count, MOST)
        found = extend(self._model, tiles, labels, end, given, **self._how)
        frames = crop_planes(self._joined(found[:, :, given:end], grid), (width, height))
        yield from frames
        yield from [frames[-1]] * (count - MOST)

    def _tiles(self, frames: list[Planes]) -> tuple[Tensor, tuple[int, int]]:
        """-> (N, 6, T, h, w) of whole tiles, the edge repeated, and how many rows and columns."""
        even = [[np.pad(p, _to_even(p.shape, i == 0), "edge") for i, p in enumerate(f)]
                for f in frames]  # fmt: skip
        y, u, v = (np.stack(plane) for plane in zip(*even, strict=True))
        planes = planes_from_yuv(y, u, v).float() / 255
        w, h = (side // 2 for side in self._model.size)
        below, right = -planes.shape[2] % h, -planes.shape[3] % w
        planes = F.pad(planes, (0, right, 0, below), "replicate")
        rows, columns = planes.shape[2] // h, planes.shape[3] // w
        tiles = planes.unflatten(3, (columns, w)).unflatten(2, (rows, h))  # (6, T, R, h, C, w)
        return tiles.permute(2, 4, 0, 1, 3, 5).flatten(0, 1), (rows, columns)

    @staticmethod
    def _joined(tiles: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tiles (N, 6, T, h, w) -> (1, 6, T, H/2, W/2)."""
        x = tiles.unflatten(0, grid).permute(2, 3, 0, 4, 1, 5)  # (6, T, R, h, C, w)
        return x.flatten(4, 5).flatten(2, 3)[None]


def _to_even(shape: tuple[int, ...], luma: bool) -> list[tuple[int, int]]:
    return [(0, side % 2 if luma else 0) for side in shape]
