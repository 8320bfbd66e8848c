"""Motion search: which blocks of two references predict a picture, at what rate.

Candidates for each block are optical flow (DIS, Kroeger et al., ECCV 2016), no motion, a given
field and what the neighbours chose; the best is refined down to quarter pixels. The choice is by
squared error + lambda * bits, for large blocks first, which small ones start from, all blocks of a
size at once; the bits are an estimate: what differs from its neighbours costs.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokenizer.motion import BOTH, DIRECT, FIRST, MARGIN, MAX_VECTOR, SECOND, Reference
from ..tokenizer.patch import luma
from .lookahead import optical_flow
from .temporal_filter import REACH

# Bits for each of a cell's four neighbours that moves otherwise, and for the size of the
# difference. A region that moves on its own then pays for its outline, whatever it gains inside.
EDGE_BITS = 1.0
EDGE_BITS_PER_OCTAVE = 0.35
# Error of a cell, in bits it is worth, above which its residual will be coded: from there on a
# doubling of the error costs no more distortion, but some bits.
CODED_BITS = 25.0
VECTOR_BASE = 4 * MAX_VECTOR  # of packed vectors
SIZES = (64, 32, 16, 8)  # of blocks
MODE_BITS = 4.5  # for each neighbour of another mode
_NEXT_TO = ((0, 1), (1, 0), (1, 2), (2, 1))  # neighbours in a padded grid, y and x


@dataclass(frozen=True)
class Effort:
    """How hard to look. coarse, fine: moves of the refinement in quarter pixels, of large blocks
    and of cells; rounds: how often blocks look at their neighbours; both: moves of pairs. trials:
    of every so many groups of frames one is tried in mini-GOPs of each length; 0: none. reach: of
    the temporal filter, in frames; 0: none. merges: sides, in cells, of the blocks that are offered
    in turn what their neighbours have, once all have something. smooth: whether decoded pictures
    may be, by the loop filter."""

    coarse: tuple[int, ...] = (16, 8, 4, 2, 1)
    fine: tuple[int, ...] = (4, 2, 1)
    rounds: int = 2
    both: tuple[int, ...] = (2, 1)
    trials: int = 0
    reach: int = REACH
    merges: tuple[int, ...] = (4, 2, 1, 1)
    smooth: bool = True


@dataclass(frozen=True)
class Motion:
    """mode (B, h, w), fields (B, 2, h, w, 2), both int64; see ``tokenizer/motion.py``."""

    mode: Tensor
    fields: Tensor


def _flow(current: Tensor, reference: Tensor) -> Tensor:
    """(B, H, W) in 0..1, twice -> mean of the flow in each cell, (B, 2, H/8, W/8) in pixels."""
    images = [(x.clamp(0, 1) * 255).round().byte().cpu().numpy() for x in (current, reference)]
    flows = np.stack([optical_flow(a, b) for a, b in zip(*images, strict=True)])
    flow = torch.from_numpy(flows).to(current.device).permute(0, 3, 1, 2)
    return F.avg_pool2d(flow.contiguous(), SIZES[-1])


def _blocks(x: Tensor, size: int) -> Tensor:
    """(B, H, W) -> (B, h, w, size, size)."""
    b, h, w = x.shape
    return x.view(b, h // size, size, w // size, size).transpose(2, 3)


def _whole(x: Tensor, unit: int) -> Tensor:
    """(B, H, W), continued by its edge right and below to multiples of a unit."""
    down, right = (-side % unit for side in x.shape[1:])
    return F.pad(x[:, None], (0, right, 0, down), mode="replicate")[:, 0]


def _grid(flow: Tensor, size: int) -> Tensor:
    """Mean of a flow of cells (B, 2, h, w) over blocks, in quarter pixels: int64, (B, ., ., 2)."""
    mean = F.avg_pool2d(flow, size // SIZES[-1], ceil_mode=True)
    return (mean.permute(0, 2, 3, 1) * 4).round().long()


def ringed(field: Tensor) -> Tensor:
    """A field (B, h, w, ...), continued by its edge by one cell on each side."""
    field = torch.cat([field[:, :1], field, field[:, -1:]], 1)
    return torch.cat([field[:, :, :1], field, field[:, :, -1:]], 2)


def neighbours(field: Tensor) -> list[Tensor]:
    """Of a field (B, h, w, ...) those of the neighbours left, above, below and right; edges see
    themselves."""
    h, w = field.shape[1:3]
    padded = ringed(field)
    return [padded[:, y : y + h, x : x + w] for y, x in _NEXT_TO]


def _chessboard(h: int, w: int, device: torch.device) -> Tensor:
    """(h, w) bool: the fields of one colour."""
    return (torch.arange(h)[:, None] + torch.arange(w)).to(device) % 2 == 0


@functools.lru_cache(16)
def _places(b: int, h: int, w: int, device: torch.device) -> Tensor:
    """Clip, row and column of each block of a grid, (b h w, 3)."""
    return torch.ones(b, h, w, device=device).nonzero()


def worth(error: Tensor, size: int, penalty: float) -> Tensor:
    """Squared error of blocks -> what it will cost, distortion + penalty * bits."""
    knee = CODED_BITS * penalty * (size / 8) ** 2
    return torch.where(error < knee, error, knee * (1 + (error.clamp_min(1e-9) / knee).log()))


def vector_bits(field: Tensor) -> Tensor:
    """Estimated bits of each vector (B, h, w), given its neighbours."""
    return _bits(field, neighbours(field))


def _bits(field: Tensor, neighbours: list[Tensor]) -> Tensor:
    around = torch.stack(neighbours)
    if field.dim() > neighbours[0].dim():  # several fields
        around = around[:, None]
    difference = (field - around).abs_()
    distance = difference[..., 0] + difference[..., 1]
    table = edge_bits(EDGE_BITS, EDGE_BITS_PER_OCTAVE, field.device)
    each = table.index_select(0, distance.flatten()).view(distance.shape)
    return each[0] + each[1] + each[2] + each[3]


def packed(field: Tensor) -> Tensor:
    """Vectors (..., 2) -> one number each (...)."""
    return field[..., 0] * VECTOR_BASE + field[..., 1]


@functools.lru_cache(4)
def edge_bits(edge: float, octave: float, device: torch.device) -> Tensor:
    """Bits of a neighbour, by its distance, the sum of the components' differences: ``edge`` where
    there is any, and ``octave`` for each doubling."""
    distance = torch.arange(4 * MAX_VECTOR + 1, device=device).float()
    return edge * (distance > 0) + octave * (distance + 1).log2()


class _Search:
    """Best vectors so far of all blocks of one size, to one reference."""

    field: Tensor  # (B, h, w, 2)
    error: Tensor  # (B, h, w), squared

    def __init__(
        self, target: Tensor, reference: Reference, size: int, penalty: float,
        other: Tensor | None = None, weight: Tensor | None = None,
    ) -> None:  # fmt: skip
        """target: (B, H, W); penalty: squared error a bit must save. other: blocks from another
        reference, of which and these the mean is to be the target. weight: of the error of cells
        (B, H/8, W/8)."""
        share = 1.0 if other is None else 0.25
        self._weight = None if weight is None else F.avg_pool2d(weight, size // 8)
        self._every = 1 if size == SIZES[-1] else 2  # samples of large blocks that are looked at
        self._target = _blocks(target, size)[..., :: self._every, :: self._every]
        self._reference, self._size, self._penalty = reference, size, penalty
        self._share = share
        if other is not None:
            self._target = 2 * self._target - other
        h, w = self._target.shape[1:3]
        self._target = self._target.contiguous()  # so that a list of its blocks is no copy
        self._board = _chessboard(h, w, target.device)
        self._places = _places(*self._target.shape[:3], target.device)
        zero = torch.zeros((*self._target.shape[:3], 2), dtype=torch.long, device=target.device)
        self.start_from(zero)

    def _of(self, field: Tensor, error: Tensor) -> Tensor:
        return worth(error * self._share, self._size, self._penalty) + self._rate(field)

    def _rate(self, field: Tensor) -> Tensor:
        return self._penalty * self._size / 8 * _bits(field, self._around)

    def look_around(self) -> None:
        """Offer each block what its neighbours have: to one colour of a chessboard, then the other,
        for blocks that changed places at once would never agree."""
        for colour in (self._board, ~self._board):
            self._around = neighbours(self.field)
            self._cost = self._of(self.field, self.error)
            self.offer(torch.stack(self._around), colour)
        self._around = neighbours(self.field)
        self._cost = self._of(self.field, self.error)

    def offer(self, fields: Tensor, where: Tensor | None = None, distinct: bool = False) -> None:
        """Take of each block the vector that costs least, of these fields or its own, where
        allowed. distinct: hardly any two of the fields agree anywhere, so that looking for those
        that do is not worth while."""
        offered = fields.clamp(-MAX_VECTOR, MAX_VECTOR)
        rate = self._rate(offered)
        # what would not pay even without any error need not be looked at, nor what was already
        wanted = rate < self._cost
        if not distinct:
            key = packed(offered)
            wanted &= key != packed(self.field)
            for i in range(1, len(fields)):
                wanted[i] &= (key[:i] != key[i]).all(0)
        if where is not None:
            wanted &= where
        # selecting by one index is much faster than by four
        wanted = wanted.flatten().nonzero()[:, 0]
        if not len(wanted):
            return
        cell = wanted % self.error.numel()
        chosen = offered.flatten(0, 3).index_select(0, wanted)
        at = self._places.index_select(0, cell)
        blocks = self._reference.luma_blocks(chosen, self._size, self._every, at)
        blocks -= self._target.flatten(0, 2).index_select(0, cell)
        found = blocks.square_().sum((1, 2)) * self._every**2
        if self._weight is not None:
            found *= self._weight.flatten().index_select(0, cell)
        cost = worth(found * self._share, self._size, self._penalty)
        cost += rate.flatten().index_select(0, wanted)
        errors = torch.cat([self.error[None], torch.zeros_like(rate)])
        costs = torch.cat([self._cost[None], torch.full_like(rate, math.inf)])
        place = wanted + self.error.numel()  # behind what blocks have already
        errors.view(-1).scatter_(0, place, found)
        costs.view(-1).scatter_(0, place, cost)
        cost, best = costs.min(0, keepdim=True)  # the first of equal ones
        self._cost = cost[0]
        self.error = errors.gather(0, best)[0]
        best = best[..., None].expand(*best.shape, 2)
        self.field = torch.cat([self.field[None], offered]).gather(0, best)[0]

    def start_from(self, field: Tensor) -> None:
        blocks = self._reference.luma_blocks(field, self._size, self._every)
        self.error = (blocks - self._target).square_().sum((3, 4)) * self._every**2
        if self._weight is not None:
            self.error = self.error * self._weight
        self.field = field
        self._around = neighbours(field)
        self._cost = self._of(field, self.error)

    def refine(self, steps: tuple[int, ...]) -> None:
        for step in steps:
            moves = [(dx, dy) for dy in (-step, 0, step) for dx in (-step, 0, step) if dx or dy]
            by = torch.tensor(moves, device=self.field.device)
            self.offer(self.field + by[:, None, None, None], distinct=True)


def _search(
    target: Tensor, reference: Reference, flow: Tensor, before: Tensor | None, penalty: float,
    effort: Effort, weight: Tensor | None,
) -> _Search:  # fmt: skip
    """before: a further candidate for every cell, (B, h, w, 2). weight: of their error."""
    field: Tensor | None = None
    for size in SIZES:
        if size > min(target.shape[1:]) + 2 * MARGIN:
            continue  # such a block would exceed the reference
        wide = None if weight is None else _whole(weight, size // 8)
        level = _Search(_whole(target, size), reference, size, penalty, weight=wide)
        h, w = level.field.shape[1:3]
        if field is not None:
            field = field.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :h, :w]
            level.start_from(field)
        candidates = [_grid(flow, size)[:, :h, :w]]
        if field is not None:
            candidates.insert(0, torch.zeros_like(field))
        if before is not None:
            candidates.append(before[:, :: size // 8, :: size // 8])
        level.offer(torch.stack(candidates))
        level.refine(effort.fine if size == SIZES[-1] else effort.coarse)
        for _ in range(effort.rounds):
            level.look_around()
        field = level.field
    return level


def search(
    planes: Tensor,
    references: tuple[Reference, Reference],
    reference_planes: tuple[Tensor, Tensor],
    penalty: float,
    direct: Tensor | None = None,
    effort: Effort = Effort(),
    weight: Tensor | None = None,
) -> Motion:
    """Modes and vectors for a picture.

    planes, reference_planes: (B, 6, H/2, W/2) in 0..1, of the picture and its references.
    penalty: squared error (of luma, in units of the range) that a bit must save.
    direct: fields (B, 2, h, w, 2) that cost next to nothing. weight: of the error of cells
    (B, h, w), 1 if None.
    """
    target = luma(planes)
    same = references[0] is references[1]
    found = []
    for i, reference in enumerate(references[:1] if same else references):
        flow = _flow(target, luma(reference_planes[i]))
        given = direct[:, i] if direct is not None else None
        found.append(_search(target, reference, flow, given, penalty, effort, weight))
    if same:
        field = found[0].field
        return Motion(
            torch.zeros_like(field[..., 0]), torch.stack([field, torch.zeros_like(field)], 1)
        )
    return _choose_modes(target, references, found, penalty, direct, effort, weight)


def _choose_modes(
    target: Tensor, references: tuple[Reference, Reference], found: list[_Search], penalty: float,
    direct: Tensor | None, effort: Effort, weight: Tensor | None,
) -> Motion:  # fmt: skip
    first, second = (s.field for s in found)
    if effort.both:  # with one vector kept, the other's best target is twice the picture less it
        for i in (1, 0):
            other = references[1 - i].luma_blocks(found[1 - i].field, 8)
            joint = _Search(target, references[i], 8, penalty, other, weight)
            joint.start_from(found[i].field)
            joint.look_around()
            joint.refine(effort.both)
            if i == 1:
                pair_second = joint.field
                found = [found[0], joint]
            else:
                pair_first = joint.field
        pair = (pair_first, pair_second)
    else:
        pair = (first, second)

    def seen(fields: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of each reference's field the blocks and the bits."""
        pairs = zip(references, fields, strict=True)
        return [(reference.luma_blocks(field, 8), vector_bits(field)) for reference, field in pairs]

    alone = seen((first, second))
    candidates = [alone[:1], alone[1:], seen(pair) if effort.both else alone]
    if direct is not None:
        free = torch.zeros_like(alone[0][1])
        pairs = zip(references, direct.unbind(1), strict=True)
        candidates.append([(reference.luma_blocks(field, 8), free) for reference, field in pairs])
    blocks = _blocks(target, 8)
    costs: list[Tensor] = []
    for candidate in candidates:
        predicted = sum(blocks for blocks, _ in candidate) / len(candidate)
        error = (predicted - blocks).square().sum((3, 4))
        if weight is not None:
            error = error * weight
        costs.append(worth(error, 8, penalty) + penalty * sum(bits for _, bits in candidate))
    cost = torch.stack(costs)
    mode = _smooth_labels(cost, penalty * MODE_BITS)
    fields = torch.stack([first, second], 1)
    fields = torch.where((mode == BOTH)[:, None, ..., None], torch.stack(pair, 1), fields)
    if direct is not None:
        fields = torch.where((mode == DIRECT)[:, None, ..., None], direct, fields)
    used = torch.stack([mode != SECOND, mode != FIRST], 1)
    return Motion(mode, fields * used[..., None])


def _smooth_labels(cost: Tensor, edge: float) -> Tensor:
    """Labels (B, h, w) of low cost (labels, B, h, w) + edge for each two neighbours that differ.

    Iterated conditional modes (Besag, J. R. Stat. Soc. B 48(3), 1986) of large blocks first, whose
    labels then start those of smaller ones.
    """
    labels, _, h, w = cost.shape
    out: Tensor | None = None
    for size in (8, 4, 2, 1):
        pad = (0, -w % size, 0, -h % size)
        pooled = F.avg_pool2d(F.pad(cost, pad, mode="replicate"), size) * size**2
        rows, columns = pooled.shape[2:]
        if out is None:
            out = pooled.min(0).indices
        else:
            out = out.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :rows, :columns]
        board = _chessboard(rows, columns, cost.device)
        for i in range(6):
            around = torch.stack(neighbours(out))
            differ = torch.stack([(around != label).float().sum(0) for label in range(labels)])
            better = (pooled + edge * size * differ).min(0).indices
            out = torch.where(~board if i % 2 else board, better, out)
    assert out is not None
    return out
