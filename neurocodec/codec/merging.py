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
    overlap_whole,
    overlapped_window,
)
from ..tokenizer.patch import luma
from .search import VECTOR_BASE, Motion, edge_bits, packed, ringed, worth

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
        self._direct = None if direct is None else direct.movedim(-1, 2)
        b, h, w = self.mode.shape
        self._weight = torch.ones(b, h, w, device=target.device) if weight is None else weight
        self._window = _weights(h, w, target.device)
        at = torch.ones_like(self.mode).nonzero()
        vectors = self.fields.movedim(1, 3).reshape(-1, 2, 2)
        self._blocks = self._look(at, self.mode.flatten(), vectors).view(b, h, w, _SIDE, _SIDE)
        predicted = overlap_add(self._blocks * self._window)
        self._left = F.pad(target - predicted, (_PART,) * 4)  # (B, 8 h + 8, 8 w + 8)
        self._parts = _errors(self._left)

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

        # one number for the motion of each cell
        keys = tiles(ringed(_keys(self.mode, self.fields)), 1, side + 2)
        y, x = _offers(side, keys.device)
        inner = slice(1, side + 1)
        offers = keys[..., y, x].movedim(-1, 0)
        wanted = (offers[..., None, None] != keys[..., inner, inner]).flatten(-2).any(-1)
        for k in range(1, len(offers)):
            wanted[k] &= (offers[:k] != offers[k]).all(0)
        at = wanted.any(0).nonzero()
        if not len(at):
            return
        clip, i, j = at.unbind(1)
        wanted = wanted[:, clip, i, j]
        which, block = wanted.nonzero().unbind(1)

        first = at * at.new_tensor([1, 2 * side, 2 * side]) + at.new_tensor([0, row, column])
        near_mode = tiles(ringed(self.mode), 1, side + 2)[clip, i, j]
        fields = ringed(self.fields.movedim(1, 3)).movedim((3, 4), (1, 2))
        near = tiles(fields, 1, side + 2)[clip, :, :, i, j]
        # errors of the block's cells and those around, whose samples outside of its windows stay
        cells = F.pad(F.avg_pool2d(self._parts[:, None, 1:-1, 1:-1], 2) * 4, (1, 1, 1, 1))[:, 0]
        around = tiles(cells, 1, side + 2)[clip, i, j]
        part_tiles = tiles(self._parts, 2, 2 * side + 2)
        rest = (around - _by_cell(part_tiles[clip, i, j])).clamp_min(0)
        weight = tiles(F.pad(self._weight, (1, 1, 1, 1)), 1, side + 2)[clip, i, j]
        cost = self._worth(around, weight) + self._rate(near_mode, near, first)
        least = self._worth(rest, weight)  # without any error in its windows

        y, x = y[which], x[which]
        mode, vectors = near_mode[block], near[block]
        rows = torch.arange(len(y), device=y.device)
        offered, vector = mode[rows, y, x], vectors[rows, :, :, y, x]
        mode[:, inner, inner] = offered[:, None, None]
        vectors[..., inner, inner] = vector[..., None, None]
        if self._direct is not None:
            direct = (offered == DIRECT).nonzero()[:, 0]
            of = block[direct]
            theirs = tiles(self._direct, 1, side)[clip[of], :, :, i[of], j[of]]
            vectors[direct, ..., inner, inner] = theirs
        rate = self._rate(mode, vectors, first[block])
        kept = (rate + least[block] < cost[block]).nonzero()[:, 0]
        if not len(kept):
            return
        which, block, rate = which[kept], block[kept], rate[kept]
        mode = mode[kept][:, inner, inner]
        vectors = vectors[kept][..., inner, inner].permute(0, 3, 4, 1, 2)
        offset = torch.arange(side, device=at.device)
        clips, ys, xs = first[block][:, :, None, None].unbind(1)
        places = torch.broadcast_tensors(clips, ys + offset[:, None], xs + offset)
        change, found = self._change(places, mode, vectors)
        left_tiles = tiles(self._left, _CELL, (side + 1) * _CELL)
        left = left_tiles[tuple(at[block].unbind(1))] + change
        parts = _errors(left)
        costs = cost.new_full(wanted.shape, torch.inf)
        costs[which, block] = self._worth(rest[block] + _by_cell(parts), weight[block]) + rate
        best_cost, best = costs.min(0)
        taken = (best_cost < cost)[block] & (best[block] == which)
        here = tuple(place[taken] for place in places)
        self.mode[here] = mode[taken]
        self.fields.movedim(1, 3)[here] = vectors[taken]
        self._blocks[here] = found[taken]
        there = tuple(at[block[taken]].unbind(1))
        left_tiles[there], part_tiles[there] = left[taken], parts[taken]

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
        change = ((change - found) * window).view(n, side, side, _SIDE, _SIDE)
        return overlap_whole(change), found.view_as(change)

    def _rate(self, mode: Tensor, vectors: Tensor, first: Tensor) -> Tensor:
        """Squared error that must be saved for the edges of blocks at cells (N, 3), by modes (N,
        side + 2, side + 2) and vectors (N, 2, 2, side + 2, side + 2) in them and around: (N)."""
        h, w = self.mode.shape[1:]
        side = mode.shape[-1] - 2
        own, other, share, border = _edges(side, mode.device)
        _, y, x = first.unbind(1)
        there = torch.stack([y > 0, x > 0, y + side < h, x + side < w, y >= 0])
        mode, beside = (mode.flatten(1).index_select(1, at) for at in (own, other))
        one, two = (vectors.flatten(3).index_select(3, at) for at in (own, other))
        table = edge_bits(_EDGE_BITS, _EDGE_BITS_PER_OCTAVE, mode.device)
        each = table[(one - two).abs().sum(2)]
        bits = _MODE_BITS * (mode != beside)
        for i, unused in ((0, SECOND), (1, FIRST)):
            coded = (mode != unused) & (mode != DIRECT) & (beside != unused)
            bits = bits + each[:, i] * coded
        return self._penalty * (bits * there[border].t() * share).sum(1)


@functools.lru_cache(8)
def _edges(side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges of a block: of the (side + 2)^2 cells of it and around it the one that has to be coded
    and the one beside it, which share of the edge that is, and whether what is beside it is above
    (0), left, below, right or in the block, where either of them may have to be coded (4)."""
    wide = side + 2
    edges: list[tuple[int, int, int]] = []
    for y in range(1, side + 1):
        for x in range(1, side + 1):
            for border, (down, right) in enumerate(((-1, 0), (0, -1), (1, 0), (0, 1))):
                inside = 1 <= y + down <= side and 1 <= x + right <= side
                beside = (y + down) * wide + x + right
                edges.append((y * wide + x, beside, 4 if inside else border))
    own, other, borders = torch.tensor(edges, device=device).unbind(1)
    return own, other, torch.where(borders == 4, 0.5, 1.0), borders


@functools.lru_cache(8)
def _offers(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of the (side + 2)^2 cells of a block and those around it the rows and columns of those whose
    motion it is offered."""
    end = side + 1
    places = [(0, 1), (1, 0), (side, end), (end, side)]
    if side > 1:
        places += [(1, 1), (1, side), (side, 1), (side, side)]
    y, x = torch.tensor(places, device=device).unbind(1)
    return y, x


def _keys(mode: Tensor, fields: Tensor) -> Tensor:
    """Modes (B, h, w) and fields (B, 2, h, w, 2) as one number each (B, h, w). Direct motion is
    the same whatever its vectors."""
    first, second = packed(fields.masked_fill((mode == DIRECT)[:, None, ..., None], 0)).unbind(1)
    return (mode * VECTOR_BASE**2 + first) * VECTOR_BASE**2 + second


def _errors(left: Tensor) -> Tensor:
    """Squared error (..., H, W) of parts (..., H/4, W/4)."""
    return F.avg_pool2d(left.square()[:, None], _PART)[:, 0] * _PART**2


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
