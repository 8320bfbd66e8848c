"""The last step of the search for motion: blocks that may as well move as their neighbours do.

Blocks are searched each on its own, but a picture is predicted by windows of twice a cell's side
that overlap (``tokenizer/motion.py``), and what modes and vectors cost depends on which their
neighbours have at last. So blocks of several cells, then cells, are offered the motion of their
neighbours once more, and blocks that of their own corners, with the error of the picture as it will
be predicted, all other cells given (iterated as in Orchard and Sullivan, IEEE Trans. Image
Processing 3(5), 1994). A block at once can go where none of its cells would alone. Windows of every
second block of every second row have no sample in common: a quarter of all blocks is asked at once.
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
from .search import Motion, edge_bits, worth

# Bits for each two neighbours of different modes, and vectors, and for the size of the difference
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
    sides: tuple[int, ...] = (1,),
) -> Motion:
    """Motion of a picture with blocks merged. Arguments are those of ``search``; sides: of the
    blocks, in cells, that are asked in turn."""
    merging = _Merging(motion, luma(planes), references, penalty, direct, weight)
    h, w = merging.mode.shape[1:]
    for turn, side in enumerate(sides):
        # whole blocks alone: counted from the top left, then from the bottom right
        rows, columns = (h % side, w % side) if turn % 2 else (0, 0)
        for row in (rows, rows + side):
            for column in (columns, columns + side):
                if row + side <= h and column + side <= w:
                    merging.ask(side, row, column)
    return Motion(merging.mode, merging.fields)


class _Merging:
    """Vectors of blocks and of what lies around them are (..., 2, 2, rows, columns) here: by
    reference, then x and y."""

    def __init__(
        self, motion: Motion, target: Tensor, references: tuple[Reference, Reference],
        penalty: float, direct: Tensor | None, weight: Tensor | None,
    ) -> None:  # fmt: skip
        self.mode, self.fields = motion.mode.clone(), motion.fields.clone()
        self._references, self._penalty = references, penalty
        self._direct = None if direct is None else _by_component(direct)
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

    def _worth(self, errors: Tensor, weight: Tensor) -> Tensor:
        """Of the errors of the cells of blocks and those around (N, side + 2, side + 2)."""
        return worth(errors * weight, _CELL, self._penalty).sum((1, 2))

    def ask(self, side: int, row: int, column: int) -> None:
        """Offer every second block of every second row of blocks, from the one at a cell on, what
        its neighbours have."""

        def tiles(x: Tensor, unit: int, size: int) -> Tensor:
            """Of x with so many samples a cell: what belongs to each of those blocks, a view."""
            return _tiles(x[..., unit * row :, unit * column :], size, 2 * side * unit)

        mode_tiles = tiles(_ringed(self.mode), 1, side + 2)
        vector_tiles = tiles(_ringed(_by_component(self.fields)), 1, side + 2)
        differ = (mode_tiles != mode_tiles[..., 1:2, 1:2]).flatten(-2)
        others = (vector_tiles != vector_tiles[..., 1:2, 1:2]).any(2).any(1).flatten(-2)
        at = ((differ | others) & _cross(side, differ.device)).any(-1).nonzero()
        if not len(at):
            return
        clip, i, j = at.unbind(1)
        first = at * at.new_tensor([1, 2 * side, 2 * side]) + at.new_tensor([0, row, column])
        near_mode, near = mode_tiles[clip, i, j], vector_tiles[clip, :, :, i, j]
        inner = slice(1, side + 1)
        own_mode, own = near_mode[:, inner, inner], near[..., inner, inner]
        modes, vectors = _offers(near_mode, near, side)
        if self._direct is not None:
            direct = tiles(self._direct, 1, side)[clip, :, :, i, j]
            vectors = torch.where((modes == DIRECT)[:, :, None, None], direct, vectors)
        rate = self._rate(modes, vectors, near_mode, near, first)
        own_rate = self._rate(own_mode[None], own[None], near_mode, near, first)[0]

        # errors of the block's cells and those around, whose samples outside of its windows stay
        parts = F.avg_pool2d(self._left.square()[:, None], _PART)[:, 0] * _PART**2
        cells = F.pad(F.avg_pool2d(parts[:, None, 1:-1, 1:-1], 2) * 4, (1, 1, 1, 1))[:, 0]
        around = tiles(cells, 1, side + 2)[clip, i, j]
        rest = (around - _by_cell(tiles(parts, 2, 2 * side + 2)[clip, i, j])).clamp_min(0)
        weight = tiles(F.pad(self._weight, (1, 1, 1, 1)), 1, side + 2)[clip, i, j]
        cost = self._worth(around, weight) + own_rate

        wanted = _differ(modes, vectors, own_mode, own)
        for k in range(1, len(modes)):
            wanted[k] &= _differ(modes[:k], vectors[:k], modes[k], vectors[k]).all(0)
        # without any error in its windows, too, a block would cost this much
        wanted &= rate + self._worth(rest, weight) < cost
        which, block = wanted.nonzero().unbind(1)
        if not len(block):
            return
        mode, vector = modes[which, block], vectors[which, block].permute(0, 3, 4, 1, 2)
        offset = torch.arange(side, device=at.device)
        clips, ys, xs = first[block][:, :, None, None].unbind(1)
        places = torch.broadcast_tensors(clips, ys + offset[:, None], xs + offset)
        change, found = self._change(places, mode, vector)
        left_tiles = tiles(self._left, _CELL, (side + 1) * _CELL)
        left = left_tiles[tuple(at[block].unbind(1))] + change
        parts = F.avg_pool2d(left.square()[:, None], _PART)[:, 0] * _PART**2
        costs = torch.full_like(rate, torch.inf)
        errors = rest[block] + _by_cell(parts)
        costs[which, block] = self._worth(errors, weight[block]) + rate[which, block]
        best_cost, best = costs.min(0)
        taken = (best_cost < cost)[block] & (best[block] == which)
        here = tuple(place[taken] for place in places)
        self.mode[here] = mode[taken]
        self.fields.movedim(1, 3)[here] = vector[taken]
        self._blocks[here] = found[taken]
        left_tiles[tuple(at[block[taken]].unbind(1))] = left[taken]

    def _change(
        self, places: tuple[Tensor, ...], mode: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What is left of blocks gains by modes (N, side, side) and vectors (N, side, side, 2, 2)
        of their cells at places, clip, row and column: (N, 8 side + 8, 8 side + 8). And windows."""
        n, side, _ = mode.shape
        h, w = self.mode.shape[1:]
        clip, y, x = places
        flat = (y * w + x).flatten()  # selecting by one index is fast
        window = self._window.view(-1, _SIDE, _SIDE).index_select(0, flat)
        flat = (clip * (h * w)).flatten() + flat
        change = self._blocks.view(-1, _SIDE, _SIDE).index_select(0, flat)
        at = torch.stack(places, -1).flatten(0, 2)
        found = self._look(at, mode.flatten(), vectors.flatten(0, 2))
        change = ((change - found) * window).view(n, side, side, 2, _CELL, 2, _CELL)
        out = change.new_zeros(n, side + 1, _CELL, side + 1, _CELL)
        for i in (0, 1):
            for j in (0, 1):
                out[:, i : side + i, :, j : side + j] += change[:, :, :, i, :, j].transpose(2, 3)
        return out.flatten(3).flatten(1, 2), found.view(n, side, side, _SIDE, _SIDE)

    def _rate(
        self, modes: Tensor, vectors: Tensor, near_mode: Tensor, near: Tensor, first: Tensor
    ) -> Tensor:
        """Squared error that must be saved for modes (K, N, side, side) and vectors (K, N, 2, 2,
        side, side) of blocks at cells (N, 3), with what they and those around have (N, side + 2,
        side + 2) and (N, 2, 2, side + 2, side + 2): (K, N)."""
        side = modes.shape[-1]
        h, w = self.mode.shape[1:]
        bits = torch.zeros(modes.shape[:2], device=modes.device)
        for dim, at, length in ((-2, first[:, 1], h), (-1, first[:, 2], w)):
            across = -3 - dim
            for line, there in ((0, at > 0), (-1, at + side < length)):
                own = (x.select(dim, line) for x in (modes, vectors))
                beside = (x.narrow(across, 1, side).select(dim, line) for x in (near_mode, near))
                bits += _edge(*own, *beside) * there
            if side > 1:  # inside of the block either side of an edge may have to be coded
                before = [x.narrow(dim, 0, side - 1).flatten(-2) for x in (modes, vectors)]
                after = [x.narrow(dim, 1, side - 1).flatten(-2) for x in (modes, vectors)]
                bits += (_edge(*before, *after) + _edge(*after, *before)) / 2
        return self._penalty * bits


def _offers(near_mode: Tensor, near: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Of blocks and what lies around them, see ``_rate``: modes (K, N, side, side) and vectors (K,
    N, 2, 2, side, side) that they may have throughout."""
    places = [(0, 1), (1, 0), (1, side + 1), (side + 1, 1)]
    if side > 1:
        places[2:] = [(side, side + 1), (side + 1, side)]
        places += [(1, 1), (1, side), (side, 1), (side, side)]
    modes = torch.stack([near_mode[:, y, x] for y, x in places])
    vectors = torch.stack([near[..., y, x] for y, x in places])
    wide = (*vectors.shape, side, side)
    return modes[..., None, None].expand(wide[:2] + wide[4:]), vectors[..., None, None].expand(wide)


def _edge(mode: Tensor, vectors: Tensor, other_mode: Tensor, other: Tensor) -> Tensor:
    """Bits of a line of cells, modes (..., L) and vectors (..., 2, 2, L), next to another."""
    table = edge_bits(_EDGE_BITS, _EDGE_BITS_PER_OCTAVE, mode.device)
    bits = _MODE_BITS * (other_mode != mode)
    each = table[(vectors - other).abs().sum(-2)]
    for i, unused in ((0, SECOND), (1, FIRST)):
        coded = (mode != unused) & (mode != DIRECT) & (other_mode != unused)
        bits = bits + each[..., i, :] * coded
    return bits.sum(-1)


def _differ(modes: Tensor, vectors: Tensor, mode: Tensor, vector: Tensor) -> Tensor:
    """Whether the motion of blocks (K, N, side, side), (K, N, 2, 2, side, side) differs from that
    of others anywhere: (K, N)."""
    return (modes != mode).flatten(2).any(2) | (vectors != vector).flatten(2).any(2)


def _by_component(fields: Tensor) -> Tensor:
    """(B, 2, h, w, 2) -> (B, 2, 2, h, w), a view."""
    return fields.movedim(-1, 2)


def _ringed(x: Tensor) -> Tensor:
    """(..., h, w), continued by its edge by one cell on each side."""
    x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], -2)
    return torch.cat([x[..., :1], x, x[..., -1:]], -1)


@functools.lru_cache(8)
def _cross(side: int, device: torch.device) -> Tensor:
    """Which of (side + 2)^2 cells are a block's or next to it, flat: all but the corners."""
    out = torch.ones(side + 2, side + 2, dtype=torch.bool, device=device)
    out[:: side + 1, :: side + 1] = False
    return out.flatten()


@functools.lru_cache(8)
def _weights(h: int, w: int, device: torch.device) -> Tensor:
    """Of the samples of each cell's window in the prediction: (h, w, side, side)."""
    window, norm = overlapped_window(h, w, _CELL)
    return (_tiles(F.pad(norm, (_PART,) * 4), _SIDE, _CELL) * window).contiguous().to(device)


def _tiles(x: Tensor, side: int, every: int) -> Tensor:
    """(..., H, W) -> (..., h, w, side, side), a view."""
    return x.unfold(-2, side, every).unfold(-2, side, every)


def _by_cell(parts: Tensor) -> Tensor:
    """Sums over the parts of blocks' windows (N, 2 n + 2, 2 n + 2) -> over those of each of (n +
    2)^2 cells."""
    for dim in (1, 2):
        inner = parts.narrow(dim, 1, parts.shape[dim] - 2).unflatten(dim, (-1, 2)).sum(dim + 1)
        ends = parts.narrow(dim, 0, 1), parts.narrow(dim, parts.shape[dim] - 1, 1)
        parts = torch.cat([ends[0], inner, ends[1]], dim)
    return parts
