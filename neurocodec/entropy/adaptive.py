"""The adaptive context model: depth and tokens of latent frames, bit by bit.

Normative: ``bitstream_spec.md``, sections "Entropy model 0" and "Entropy model 1". A latent frame
is coded as all its depths, then stage by stage the tokens of the cells that carry the stage. Cells
are visited in four passes by the parity of (y, x): later passes see their neighbours' values. One
traversal serves encoder and decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .binary import BitCoder, Bits, Counts, Ints, code_raw
from .signs import code_signs, hidden_signs

MAX_LEVEL = 4095  # largest magnitude of a level; what damaged data says beyond it is cut to it
PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))  # parity of (y, x)
# neighbours (dy, dx, weight) whose magnitudes tell about a cell's
NEIGHBOURS = (
    (-1, 0, 2), (0, -1, 2), (0, 1, 2), (1, 0, 2), (-1, -1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, 1),
)  # fmt: skip
BEFORE_WEIGHT = 3  # of the same cell in the latent frame before
AROUND_BOUNDS = np.array([1, 4, 8, 13, 19, 29, 45])  # of a mean magnitude in sixteenths
LOWER_BOUNDS = np.array([1, 3, 5, 9, 17])  # of 2 * (sum over stage s-1) + (sum over stage s-2)
NEAR_BOUNDS = np.array([1, 5, 9, 17, 33, 65])  # of a mean depth in quarters
DEPTH_BOUNDS = np.array([1, 3, 6, 12])  # of a depth
TRANSFORM_BITS = 2  # of the number of a transform
UNARY = 14  # magnitudes above 1 + UNARY go on in Exp-Golomb code
_AROUND, _LOWER, _NEAR, _BEFORE = 9, 6, 8, 6  # how many classes each; "unknown" is the last
_ESCAPE_BITS = 12


@dataclass(frozen=True)
class TokenShape:
    """What the model must know of the tokenizer: quantizer "signs" or "levels", S, K, and kinds.

    kinds: of latent frames, numbered from 0, each with counts of its own for tokens, and with
    ``depths_by_kind`` for depths too. transform_kinds: of so many of them, from 0 on, each cell
    with tokens has one of four transforms, which is said with its depth. loop_filter: whether
    pictures have one.
    """

    quantizer: str
    stages: int
    bits: int
    kinds: int = 2
    depths_by_kind: bool = False
    transform_kinds: int = 0
    loop_filter: bool = False

    @property
    def depth_bits(self) -> int:
        """Of a depth less 1."""
        return max(1, (self.stages - 1).bit_length())

    @property
    def tree_bits(self) -> int:
        """Of a depth less 1, and of a transform behind it where there is one: the most."""
        return self.depth_bits + (TRANSFORM_BITS if self.transform_kinds else 0)

    def transform_bits(self, kind: int) -> int:
        return TRANSFORM_BITS if kind < self.transform_kinds else 0

    def table_shapes(self) -> dict[str, tuple[int, int, int]]:
        """(blocks, contexts, 2) of each table of counts."""
        s, k = self.stages, self.bits
        depth_kinds = self.kinds if self.depths_by_kind else 1
        return {
            "coded": (depth_kinds, _NEAR * _BEFORE, 2),
            "depth": (depth_kinds, _NEAR * _BEFORE << self.tree_bits, 2),
            "nonzero": (self.kinds * s, k * _AROUND * _LOWER * 2, 2),
            "negative": (self.kinds * s, k, 2),
            "more": (self.kinds * s, _AROUND * UNARY, 2),
        }


Prior = dict[str, NDArray[np.integer]]  # by table name


def empty_prior(shape: TokenShape) -> Prior:
    return {name: np.zeros(size, np.uint8) for name, size in shape.table_shapes().items()}


@dataclass(frozen=True)
class Before:
    """What is known of cells before they are coded: of some coded earlier that look like them."""

    depth: Ints  # (h, w)
    magnitude: NDArray[np.int16]  # (h, w, S, K), of tokens


def enlarge_before(base: Before, grid: tuple[int, int]) -> Before:
    """Each cell of a base repeated 4x4, cut to a grid of (h, w) cells."""
    h, w = grid
    y, x = np.arange(h)[:, None] // 4, np.arange(w) // 4
    return Before(base.depth[y, x], base.magnitude[y, x])


class _Grid:
    """Places of the cells of an h x w grid in flat arrays that have a margin of one cell."""

    def __init__(self, h: int, w: int) -> None:
        self.size = (h + 2) * (w + 2)
        padded = np.arange(self.size).reshape(h + 2, w + 2)[1:-1, 1:-1]
        self.inside = padded.ravel()
        self.passes = [padded[y::2, x::2].ravel() for y, x in PASSES]
        self.offsets = [dy * (w + 2) + dx for dy, dx, _ in NEIGHBOURS]
        self.plain = np.zeros(self.size, np.int64)  # place in the grid without a margin
        self.plain[self.inside] = np.arange(h * w)


_places = lru_cache(maxsize=8)(_Grid)


@dataclass
class _Latent:
    """A latent frame while it is coded; flat arrays over the cells of ``grid``."""

    grid: _Grid
    kind: int
    depth: Ints
    transform: Ints
    tokens: NDArray[np.int16]  # (cells, S, K)
    magnitude: NDArray[np.int16]  # of tokens that are known
    depth_before: Ints | None  # both without a margin
    magnitude_before: NDArray[np.int16] | None


class TokenModel:
    """State of the model within one GOP: counts."""

    hidden = 0  # of so many levels of a cell that are not 0 the last one's sign is; 0: none

    def __init__(self, shape: TokenShape, prior: Prior) -> None:
        self.shape = shape
        self.tables = {name: Counts(prior[name]) for name in shape.table_shapes()}

    def code(
        self,
        coder: BitCoder,
        grid: tuple[int, int],
        kind: int,
        before: Before | None = None,
        tokens: NDArray[np.int16] | None = None,
        depth: Ints | None = None,
        transform: Ints | None = None,
    ) -> tuple[NDArray[np.int16], Ints, Ints]:
        """Code a latent frame of (h, w) cells: tokens (h, w, S, K) int16, depth and transform (h,
        w) int64.

        A decoder takes none of them and returns all. Tokens beyond a cell's depth are 0, and so are
        transforms of cells without tokens, and of kinds that have none.
        """
        (h, w), s, k = grid, self.shape.stages, self.shape.bits
        places = _places(h, w)
        latent = _Latent(
            places,
            kind,
            np.zeros(places.size, np.int64),
            np.zeros(places.size, np.int64),
            np.zeros((places.size, s, k), np.int16),
            np.zeros((places.size, s, k), np.int16),
            None if before is None else before.depth.ravel(),
            None if before is None else before.magnitude.reshape(-1, s, k),
        )
        if tokens is not None and depth is not None:
            latent.depth[places.inside] = depth.ravel()
            latent.tokens[places.inside] = tokens.reshape(-1, s, k)
        if transform is not None:
            latent.transform[places.inside] = transform.ravel()
        self._code_depths(coder, latent)
        for stage in range(int(latent.depth.max())):
            self._code_stage(coder, stage, latent)
        return (
            latent.tokens[places.inside].reshape(h, w, s, k),
            latent.depth[places.inside].reshape(h, w),
            latent.transform[places.inside].reshape(h, w),
        )

    def _code_depths(self, coder: BitCoder, latent: _Latent) -> None:
        """Fill ``latent.depth`` and ``latent.transform`` in place when decoding."""
        grid, depth = latent.grid, latent.depth
        block = latent.kind if self.shape.depths_by_kind else 0
        known = np.zeros_like(depth)
        values = np.zeros_like(depth)  # of known cells
        for cells in grid.passes:
            plain = grid.plain[cells]
            total, weight = _around(grid, values, known, cells)
            mean = 4 * total // np.maximum(weight, 1)
            near = np.where(weight > 0, np.searchsorted(NEAR_BOUNDS, mean, "right"), _NEAR - 1)
            before = np.full(len(cells), _BEFORE - 1)
            if latent.depth_before is not None:
                before = np.searchsorted(DEPTH_BOUNDS, latent.depth_before[plain], "right")
            context = near * _BEFORE + before
            d = depth[cells]
            coded = self.tables["coded"].code(coder, (d > 0).astype(np.int32), block, context)
            some = np.flatnonzero(coded)
            tree = self.shape.tree_bits
            nodes = (context[some, None] << tree) + np.arange(1 << tree)
            d[some], latent.transform[cells[some]] = code_depth_values(
                coder, self.tables["depth"], block, self.shape, latent.kind,
                d[some], latent.transform[cells[some]], nodes,
            )  # fmt: skip
            d[coded == 0] = 0
            depth[cells] = values[cells] = d
            known[cells] = 1

    def _code_stage(self, coder: BitCoder, stage: int, latent: _Latent) -> None:
        """Fill one stage of the latent's tokens and magnitudes, in place."""
        grid, depth, magnitude = latent.grid, latent.depth, latent.magnitude
        block = latent.kind * self.shape.stages + stage
        known = np.zeros_like(depth)
        known[grid.inside] = depth[grid.inside] <= stage  # those are 0
        values = np.zeros((grid.size, self.shape.bits), np.int64)
        channel = np.arange(self.shape.bits)
        for cells in grid.passes:
            cells = cells[depth[cells] > stage]
            if len(cells) == 0:
                continue
            around = _around_class(latent, values, known, cells, stage)  # (N, K)
            level = latent.tokens[cells, stage].astype(np.int64)
            size = np.ones_like(level)
            if self.shape.quantizer == "levels":
                lower = _lower_class(magnitude, cells, stage)[:, None]
                last = (depth[cells] == stage + 1)[:, None]
                context = ((channel * _AROUND + around) * _LOWER + lower) * 2 + last
                flags = self.tables["nonzero"].code(
                    coder, (level != 0).astype(np.int32).ravel(), block, context.ravel()
                )
                size = flags.reshape(level.shape).astype(np.int64)
            table, sign = self.tables["negative"], None
            contexts = np.broadcast_to(channel, level.shape)
            if not self.hidden:
                sign = code_signs(coder, table, block, level, size, contexts)
            if self.shape.quantizer == "levels":
                at = np.nonzero(size)
                more = around[at][:, None] * UNARY + np.arange(UNARY)
                size[at] = code_magnitudes(
                    coder, self.tables["more"], block, np.abs(level[at]), more
                )
            if sign is None:
                hidden = hidden_signs(latent.tokens, cells, stage, size, self.hidden)
                sign = code_signs(coder, table, block, level, size, contexts, hidden)
            latent.tokens[cells, stage] = size * sign
            magnitude[cells, stage] = size
            values[cells] = size
            known[cells] = 1


def _around(grid: _Grid, values: Ints, known: Ints, cells: Ints) -> tuple[Ints, Ints]:
    """Weighted sum of the known neighbours' values (N, ...) and of their weights (N,)."""
    total = np.zeros((len(cells), *values.shape[1:]), np.int64)
    weight = np.zeros(len(cells), np.int64)
    for offset, (*_, w) in zip(grid.offsets, NEIGHBOURS, strict=True):
        total += w * values[cells + offset]
        weight += w * known[cells + offset]
    return total, weight


def _around_class(latent: _Latent, values: Ints, known: Ints, cells: Ints, stage: int) -> Ints:
    """Class of the mean magnitude of known neighbours and the cell before; (N, K)."""
    total, weight = _around(latent.grid, values, known, cells)
    if latent.magnitude_before is not None:
        total += BEFORE_WEIGHT * latent.magnitude_before[latent.grid.plain[cells], stage]
        weight += BEFORE_WEIGHT
    mean = 16 * total // np.maximum(weight, 1)[:, None]
    classes = np.searchsorted(AROUND_BOUNDS, mean, "right")
    return np.where(weight[:, None] > 0, classes, _AROUND - 1)


def _lower_class(magnitude: NDArray[np.int16], cells: Ints, stage: int) -> Ints:
    """Class of what the two stages below carry in the same cell; (N,)."""
    total = np.zeros(len(cells), np.int64)
    for back, weight in ((1, 2), (2, 1)):
        if stage >= back:
            total += weight * magnitude[cells, stage - back].sum(1, dtype=np.int64)
    return np.searchsorted(LOWER_BOUNDS, total, "right")


class ContextModel(TokenModel):
    """Entropy model 0: what is known before of a latent frame is the one before it of the GOP."""

    def __init__(self, shape: TokenShape, prior: Prior, grid: tuple[int, int]) -> None:
        """grid: (h, w) cells."""
        super().__init__(shape, prior)
        self.grid = grid
        self._before: Before | None = None

    def code_frame(
        self, coder: BitCoder, tokens: NDArray[np.int16] | None = None, depth: Ints | None = None
    ) -> tuple[NDArray[np.int16], Ints]:
        """Code the next latent frame as :meth:`code` does: kind 0 for the first, 1 for others."""
        kind = 0 if self._before is None else 1
        found = self.code(coder, self.grid, kind, self._before, tokens=tokens, depth=depth)
        tokens, depth, _ = found
        self._before = Before(depth, np.abs(tokens))
        return tokens, depth


def code_depth_values(
    coder: BitCoder, table: Counts, block: int, shape: TokenShape, kind: int, depth: Ints,
    transform: Ints, contexts: Ints,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Depths (N,) that are not 0, and transforms (N,) of kinds that have them.

    contexts: (N, 2^tree_bits), of the nodes of a tree of depths, and of transforms behind them."""
    bits = shape.transform_bits(kind)
    value = ((depth - 1) << bits) + (transform if bits else 0)
    value = code_tree(coder, table, block, value, shape.depth_bits + bits, contexts)
    return np.minimum((value >> bits) + 1, shape.stages), value & ((1 << bits) - 1)


def code_tree(
    coder: BitCoder, table: Counts, block: int, value: Ints, digits: int,
    contexts: Ints,
) -> Ints:  # fmt: skip
    """Numbers (N,) below 2^digits, most significant bit first, each bit given those before.

    contexts: (N, 2^digits), of the nodes of the tree."""
    node, every = np.ones_like(value), np.arange(len(value))
    for shift in range(digits - 1, -1, -1):
        bits = ((value >> shift) & 1).astype(np.int32)
        node = 2 * node + table.code(coder, bits, block, contexts[every, node])
    return node - (1 << digits)


def code_magnitudes(coder: BitCoder, table: Counts, block: int, size: Ints, contexts: Ints) -> Ints:
    """Magnitudes of nonzero levels (N,): unary with contexts, then Exp-Golomb.

    contexts: (N, UNARY), of the bits that say there is more."""
    out = np.ones_like(size)
    going = np.arange(len(size))
    for m in range(UNARY):
        bits = (size[going] > m + 1).astype(np.int32)
        going = going[table.code(coder, bits, block, contexts[going, m]) != 0]
        out[going] += 1
        if len(going) == 0:
            return out
    out[going] += code_escape(coder, size[going] - (UNARY + 1))
    return np.minimum(out, MAX_LEVEL)


def code_escape(coder: BitCoder, value: Ints) -> Ints:
    """Exp-Golomb code of order 0 of numbers >= 0, with at most _ESCAPE_BITS suffix bits."""
    length = np.zeros_like(value)  # of the suffix
    wanted = np.frexp((value + 1).astype(np.float64))[1] - 1
    going = np.arange(len(value))
    for n in range(_ESCAPE_BITS):
        going = going[code_raw(coder, (wanted[going] > n).astype(np.int32)) != 0]
        length[going] += 1
    number = np.ones_like(value)
    for n in range(_ESCAPE_BITS - 1, -1, -1):
        going = np.flatnonzero(length > n)
        bits: Bits = (((value[going] + 1) >> n) & 1).astype(np.int32)
        number[going] = 2 * number[going] + code_raw(coder, bits)
    return number - 1


def trained_prior(tables: dict[str, Counts], confidence: int) -> Prior:
    """Counts of a model that has coded much, scaled to add up to at most ``confidence``."""
    prior = {}
    for name, table in tables.items():
        total = table.counts.sum(-1, keepdims=True)
        scale = np.minimum(1.0, confidence / np.maximum(total, 1))
        prior[name] = np.round(table.counts * scale).astype(np.uint8)
    return prior
