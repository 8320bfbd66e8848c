"""The last step of the search for motion: cells that may as well move as their neighbours do.

Blocks are searched each on its own, but a picture is predicted by windows of twice their side that
overlap (``tokenizer/motion.py``), and what modes and vectors cost depends on which their neighbours
have at last. So each cell is offered the motion of its neighbours once more, with the error of the
picture as it will be predicted, all other cells given (iterated as in Orchard and Sullivan, IEEE
Trans. Image Processing 3(5), 1994). Windows of every second cell of every second row have no sample
in common: a quarter of all cells is asked at once.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokenizer.config import SPATIAL_STRIDE
from ..tokenizer.motion import (
    BOTH,
    DIRECT,
    FIRST,
    SECOND,
    Reference,
    overlap_add,
    overlapped_window,
)
from ..tokenizer.patch import luma
from .search import Motion, edge_bits, neighbours, worth

# Bits for each neighbour of another mode, and of another vector, and for the size of the difference
_MODE_BITS, _EDGE_BITS, _EDGE_BITS_PER_OCTAVE = 4.0, 2.0, 0.3
_CELL = SPATIAL_STRIDE
_SIDE = 2 * _CELL  # of a window
_PART = _CELL // 2  # cells and windows are whole numbers of parts of this side


def merge(
    motion: Motion,
    planes: Tensor,
    references: tuple[Reference, Reference],
    penalty: float,
    direct: Tensor | None = None,
    weight: Tensor | None = None,
    rounds: int = 1,
) -> Motion:
    """Motion of a picture with cells merged. Arguments are those of ``search``; rounds: how often
    each cell is asked."""
    merging = _Merging(motion, luma(planes), references, penalty, direct, weight)
    for turn in range(4 * rounds):
        merging.ask(turn // 2 % 2, turn % 2)
    return Motion(merging.mode, merging.fields)


class _Merging:
    def __init__(
        self, motion: Motion, target: Tensor, references: tuple[Reference, Reference],
        penalty: float, direct: Tensor | None, weight: Tensor | None,
    ) -> None:  # fmt: skip
        self.mode, self.fields = motion.mode.clone(), motion.fields.clone()
        self._references, self._penalty, self._direct = references, penalty, direct
        b, h, w = self.mode.shape
        self._weight = torch.ones(b, h, w, device=target.device) if weight is None else weight
        self._window = _weights(h, w, target.device)
        at = torch.ones_like(self.mode).nonzero()
        vectors = self.fields.movedim(1, 3).reshape(-1, 2, 2)
        self._blocks = self._look(at, self.mode.flatten(), vectors).view(b, h, w, _SIDE, _SIDE)
        predicted = overlap_add(self._blocks * self._window)
        self._left = F.pad(target - predicted, (_PART,) * 4)  # (B, 8 h + 8, 8 w + 8)

    def _look(self, at: Tensor, mode: Tensor, vectors: Tensor) -> Tensor:
        """Windows (N, side, side) that cells at (N, 3) have with modes (N), vectors (N, 2, 2)."""
        out = torch.zeros(len(at), _SIDE, _SIDE, device=at.device)
        for i, other in ((0, SECOND), (1, FIRST)):
            used = (mode != other).nonzero()[:, 0]
            if len(used):
                luma_of = self._references[i].luma
                windows = luma_of.windows(vectors[used, i], _CELL, _SIDE, at=at[used])
                out.index_add_(0, used, windows)
        return out * torch.where(mode >= BOTH, 0.5, 1.0)[:, None, None]

    def _rate(self, mode: Tensor, vectors: Tensor, modes: Tensor, around: Tensor) -> Tensor:
        """Squared error that must be saved for modes (..., N) and vectors (..., N, 2, 2) of cells,
        with those of their neighbours (4, N) and (4, N, 2, 2)."""
        table = edge_bits(_EDGE_BITS, _EDGE_BITS_PER_OCTAVE, mode.device)
        mode, vectors = mode[..., None, :], vectors[..., None, :, :, :]
        bits = _MODE_BITS * (modes != mode)
        for i, other in ((0, SECOND), (1, FIRST)):
            distance = (vectors[..., i, :] - around[..., i, :]).abs().sum(-1)
            coded = (mode != other) & (mode != DIRECT) & (modes != other)
            bits = bits + table[distance] * coded
        return self._penalty * bits.sum(-2)

    def _worth(self, errors: Tensor, weight: Tensor) -> Tensor:
        """Of the errors of cells and those around (N, 3, 3)."""
        return worth(errors * weight, _CELL, self._penalty).sum((1, 2))

    def ask(self, row: int, column: int) -> None:
        """Offer every second cell of every second row, from one on, what its neighbours have."""
        fields = self.fields.movedim(1, 3)
        near_mode, near = (
            torch.stack([x[:, row::2, column::2] for x in neighbours(what)])
            for what in (self.mode, fields)
        )
        own_mode, own = self.mode[:, row::2, column::2], fields[:, row::2, column::2]
        differ = (near_mode != own_mode).any(0) | (near != own).flatten(4).any(4).any(0)
        tile = differ.nonzero()
        if not len(tile):
            return
        at = tile * tile.new_tensor([1, 2, 2]) + tile.new_tensor([0, row, column])
        clip, y, x = at.unbind(1)
        _, down, across = tile.unbind(1)
        own_mode, own = own_mode[clip, down, across], own[clip, down, across]
        modes, vectors = near_mode[:, clip, down, across], near[:, clip, down, across]
        offered = vectors
        if self._direct is not None:
            direct = self._direct[clip, :, y, x]
            offered = torch.where((modes == DIRECT)[..., None, None], direct, vectors)
        rate = self._rate(modes, offered, modes, vectors)

        # errors of the cell and those around, whose samples outside of the window stay
        error = self._left.square()
        parts = F.avg_pool2d(error[:, None], _PART)[:, 0] * _PART**2
        cells = F.pad(F.avg_pool2d(parts[:, None, 1:-1, 1:-1], 2) * 4, (1, 1, 1, 1))[:, 0]
        nine = _tiles(cells, 3, 1)[clip, y, x]
        rest = (nine - _by_cell(_tiles(parts, 4, 2)[clip, y, x])).clamp_min(0)
        weight = _tiles(F.pad(self._weight, (1, 1, 1, 1)), 3, 1)[clip, y, x]
        cost = self._worth(nine, weight) + self._rate(own_mode, own, modes, vectors)

        wanted = (modes != own_mode) | (offered != own).flatten(2).any(2)
        for i in range(1, len(modes)):
            same = (modes[:i] == modes[i]) & (offered[:i] == offered[i]).flatten(2).all(2)
            wanted[i] &= ~same.any(0)
        # without any error in its window, too, a cell would cost this much
        wanted &= rate + self._worth(rest, weight) < cost
        which, cell = wanted.nonzero().unbind(1)
        if not len(cell):
            return
        h, w = self.mode.shape[1:]
        place = at[cell]
        flat = (place * place.new_tensor([h * w, w, 1])).sum(1)  # selecting by one index is fast
        window = self._window.view(-1, _SIDE, _SIDE).index_select(0, flat % (h * w))
        block = self._blocks.view(-1, _SIDE, _SIDE).index_select(0, flat)
        found = self._look(place, modes[which, cell], offered[which, cell])
        tiles = self._tiles_of(row, column)
        left = tiles[tuple(tile[cell].unbind(1))] + (block - found) * window
        parts = F.avg_pool2d(left.square()[:, None], _PART)[:, 0] * _PART**2
        costs = torch.full_like(rate, torch.inf)
        errors = rest[cell] + _by_cell(parts)
        costs[which, cell] = self._worth(errors, weight[cell]) + rate[which, cell]
        best_cost, best = costs.min(0)
        taken = (best_cost < cost)[cell] & (best[cell] == which)
        which, cell = which[taken], cell[taken]
        here = tuple(at[cell].unbind(1))
        self.mode[here] = modes[which, cell]
        fields[here] = offered[which, cell]
        self._blocks[here] = found[taken]
        tiles[tuple(tile[cell].unbind(1))] = left[taken]

    def _tiles_of(self, row: int, column: int) -> Tensor:
        """A view of what is left, by windows of the cells that are asked: (B, h, w, side, side)."""
        h, w = self.mode.shape[1:]
        rows, columns = (h - row + 1) // 2, (w - column + 1) // 2
        left = self._left[:, _CELL * row :, _CELL * column :]
        left = left[:, : _SIDE * rows, : _SIDE * columns]
        return left.unflatten(1, (rows, _SIDE)).unflatten(3, (columns, _SIDE)).transpose(2, 3)


@functools.lru_cache(8)
def _weights(h: int, w: int, device: torch.device) -> Tensor:
    """Of the samples of each cell's window in the prediction: (h, w, side, side)."""
    window, norm = overlapped_window(h, w, _CELL)
    return (_tiles(F.pad(norm, (_PART,) * 4), _SIDE, _CELL) * window).contiguous().to(device)


def _tiles(x: Tensor, side: int, every: int) -> Tensor:
    """(..., H, W) -> (..., h, w, side, side), a view."""
    return x.unfold(-2, side, every).unfold(-2, side, every)


def _by_cell(parts: Tensor) -> Tensor:
    """Sums over the parts of a window (N, 4, 4) -> over those of each of nine cells (N, 3, 3)."""
    rows = torch.stack([parts[:, 0], parts[:, 1] + parts[:, 2], parts[:, 3]], 1)
    return torch.stack([rows[..., 0], rows[..., 1] + rows[..., 2], rows[..., 3]], 2)
