"""The generator as entropy model: a masked network says in which context each bit is coded.

The network sees what is known of a latent frame - all of it that does not come from its tokens, and
the tokens of the cells coded in earlier steps of the schedule - and gives logits for the bits of a
cell. A logit, in classes of a quarter, is the context of adaptive counts, which start from what
training saw in that class: the network says where a bit stands, the counts say what that means.

Normative: ``bitstream_spec.md``, section "Entropy models with a generator". All arithmetic is in
integers; one traversal serves encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adaptive import (
    TRANSFORM_BITS,
    UNARY,
    Before,
    Prior,
    TokenShape,
    code_depth_values,
    code_magnitudes,
)
from .binary import BitCoder, Counts, Ints
from .field import Field
from .integer import (
    BUCKETS,
    MAX_ACTIVATION,
    MAX_INPUTS,
    ONE,
    Activations,
    Layer,
    added,
    distinct,
    layer,
    log2_sixteenths,
    log_activation,
    parts,
    windows,
)
from .motion_features import ACROSS, MODES, roughness
from .motion_generator import COUNT_LIMIT, COUNT_UNIT, MOTION_TABLES, motion_layers
from .schedule import steps_of
from .signs import code_signs, hidden_signs
from .structure import MAX_LEVEL as MAX_PICTURE_LEVEL

DEFAULT_STEPS = 4
TABLES = ("coded", "depth", "nonzero", "negative", "more")
REACH = 2  # cells around one whose depths are seen
_MOTION = MODES + 4  # features: mode, roughness, length, two distances
_MIDDLE_STEP = 308  # log2_sixteenths of a step of about 0.15
LOGITS = 4  # of a channel: not zero, negative, more than 1, more than what it is
NONZERO, NEGATIVE, MORE, STILL_MORE = range(LOGITS)


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator.

    channels: C, of a cell. seen: channels of the depths around it. hidden: H, of each stage's head.
    blocks: residual blocks of the trunk. motion: channels of the networks for motion; 0: none, for
    tokenizers without motion.
    """

    channels: int
    seen: int
    hidden: int
    blocks: int
    motion: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        sizes = (self.channels, self.seen, self.hidden)
        if not all(isinstance(n, int) and 1 <= n <= MAX_INPUTS for n in sizes):
            raise ValueError("a generator has 1 to 2048 channels")
        if not (isinstance(self.blocks, int) and 0 <= self.blocks <= 64):
            raise ValueError("a generator has at most 64 blocks")
        if not (isinstance(self.motion, int) and 0 <= self.motion <= MAX_INPUTS - ACROSS):
            raise ValueError("a generator has at most 2042 channels for motion")

    def to_dict(self) -> dict[str, int]:
        return asdict(self)

    def layers(self, shape: TokenShape) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of each layer."""
        c, d, s, k = self.channels, shape.stages * shape.bits, shape.stages, shape.bits
        t = transform_features(shape)
        sizes = {
            "static.0": (c, feature_count(shape)),
            "static.1": (c, 9 * c),
            "static.2": (c, 9 * c),
            "depth.seen": (self.seen, (3 + t) * (2 * REACH + 1) ** 2),
            "depth.0": (c, c + self.seen),
            "depth.1": (c, c),
            "depth.out": (1 << shape.tree_bits, c),
            "tokens.seen": (c, 4 + 2 * d + t),
            "tokens.trunk": (c, 10 * c),
        }
        for i in range(self.blocks):
            sizes[f"tokens.blocks.{i}.0"] = (2 * c, c)
            sizes[f"tokens.blocks.{i}.1"] = (c, 2 * c)
        sizes["tokens.hidden"] = (s * self.hidden, c + 2 * d + s + 1 + t)
        sizes["tokens.out"] = (s * LOGITS * k, self.hidden)
        return sizes | (motion_layers(self.motion) if self.motion else {})

    def table_shapes(self, shape: TokenShape) -> dict[str, tuple[int, int, int]]:
        """(blocks, contexts, 2) of each table of counts."""
        motion = MOTION_TABLES if self.motion else {}
        return motion | {
            "coded": (shape.kinds, BUCKETS, 2),
            "depth": (shape.kinds, BUCKETS << shape.tree_bits, 2),
            "nonzero": (shape.kinds * shape.stages, BUCKETS, 2),
            "negative": (shape.kinds, BUCKETS, 2),
            "more": (shape.kinds, UNARY * BUCKETS, 2),
        }


@dataclass(frozen=True)
class Generator:
    """A generator as a bundle holds it: layers in integers, and first counts."""

    config: GeneratorConfig
    layers: dict[str, Layer]
    prior: Prior

    @classmethod
    def from_arrays(
        cls, config: GeneratorConfig, shape: TokenShape, arrays: Mapping[str, NDArray[Any]],
        prior: Prior,
    ) -> Generator:  # fmt: skip
        """arrays: ``<layer>.weight``, ``.bias`` and ``.multiplier``. Raises ValueError, KeyError:
        arrays that are not those of this configuration."""
        layers = {}
        for name, size in config.layers(shape).items():
            weight, bias, scale = (
                arrays[f"{name}.{part}"] for part in ("weight", "bias", "multiplier")
            )
            if weight.shape != size or bias.shape != size[:1] or scale.shape != size[:1]:
                raise ValueError(f"layer {name} has the wrong shape")
            if weight.dtype != np.int8 or bias.dtype != np.int32 or scale.dtype != np.int32:
                raise ValueError(f"layer {name} has the wrong type")
            layers[name] = layer(weight, bias, scale)
        for name, expected in config.table_shapes(shape).items():
            if prior[name].shape != expected or prior[name].dtype != np.uint16:
                raise ValueError(f"first counts {name} have the wrong shape")
            if (prior[name].sum(-1, dtype=np.int64) > COUNT_LIMIT).any():
                raise ValueError(f"first counts {name} are too large")
        return cls(config, layers, prior)


@dataclass(frozen=True)
class Side:
    """What is known of a latent frame but for what its cells come from.

    step: of its quantizer, in units of 2^-22. level: of the picture, 0 to 5. motion: of a picture
    with references, and their distances, one or two.
    """

    step: int
    level: int = 0
    motion: Field | None = None
    distances: tuple[int, ...] = ()


def transform_features(shape: TokenShape) -> int:
    """Of :func:`_of_transforms`, in models where cells have any."""
    return (1 << TRANSFORM_BITS) - 1 if shape.transform_kinds else 0


def _of_transforms(shape: TokenShape, transform: Ints) -> Activations:
    """(N,) -> (N, transform_features), whether it is the first, the second, ..."""
    return (ONE * (transform[:, None] == 1 + np.arange(transform_features(shape)))).astype(np.int8)


def feature_count(shape: TokenShape) -> int:
    """Of :func:`features`."""
    return shape.kinds + MAX_PICTURE_LEVEL + 2 + _MOTION + 1 + shape.stages * shape.bits


def features(
    shape: TokenShape, grid: tuple[int, int], kind: int, before: Before | None, side: Side
) -> Activations:
    """What is known of each cell before its depth and tokens: (h w, F)."""
    h, w = grid
    d = shape.stages * shape.bits
    out = np.zeros((h, w, feature_count(shape)), np.int8)
    out[..., kind] = ONE
    at = shape.kinds
    out[..., at + side.level] = ONE
    at += MAX_PICTURE_LEVEL + 1
    out[..., at] = step_activation(side.step)
    at += 1
    if side.motion is not None:
        mv = side.motion.mv.astype(np.int64)
        out[..., at : at + MODES] = ONE * (side.motion.mode[..., None] == np.arange(MODES))
        out[..., at + MODES] = log_activation(np.add.reduce([roughness(v) for v in mv]))
        out[..., at + MODES + 1] = log_activation(np.abs(mv).sum((0, 3)))
        for i, distance in enumerate(side.distances):
            out[..., at + MODES + 2 + i] = min(ONE * abs(distance), MAX_ACTIVATION)
    at += _MOTION
    if before is not None:
        out[..., at] = log_activation(before.depth)
        out[..., at + 1 :] = log_activation(before.magnitude.reshape(h, w, d).astype(np.int64))
    return out.reshape(h * w, -1)


def step_activation(step: int) -> int:
    """Logarithm of a quantizer's step, in units of 2^-22, from that of about 0.15."""
    value = int(log2_sixteenths(np.array(max(step, 1), np.int64))) - _MIDDLE_STEP
    return min(max(value, -MAX_ACTIVATION), MAX_ACTIVATION)


class GeneratorModel:
    """State of the entropy model within one GOP: counts."""

    hidden = 0  # of so many levels of a cell that are not 0 the last one's sign is; 0: none

    def __init__(self, shape: TokenShape, generator: Generator, steps: int = DEFAULT_STEPS) -> None:
        """steps: of the schedule, 1 to 16."""
        self.shape, self.steps, self._layers = shape, steps, generator.layers
        self.tables = {
            name: Counts(generator.prior[name], COUNT_LIMIT, COUNT_UNIT) for name in TABLES
        }
        h, k = generator.config.hidden, LOGITS * shape.bits
        self._blocks = generator.config.blocks
        self._heads = [
            (self._layers["tokens.hidden"].rows(s * h, (s + 1) * h),
             self._layers["tokens.out"].rows(s * k, (s + 1) * k))
            for s in range(shape.stages)
        ]  # fmt: skip

    def code(
        self,
        coder: BitCoder,
        grid: tuple[int, int],
        kind: int,
        seen: Activations,
        tokens: NDArray[np.int16] | None = None,
        depth: Ints | None = None,
        transform: Ints | None = None,
    ) -> tuple[NDArray[np.int16], Ints, Ints]:
        """Code a latent frame of (h, w) cells: tokens (h, w, S, K) int16, depth and transform (h,
        w) int64.

        seen: (h w, F), see :func:`features`. A decoder takes none of them, and returns all. Tokens
        beyond a cell's depth are 0, and so are transforms of cells without tokens, and of kinds
        that have none.
        """
        (h, w), s, k = grid, self.shape.stages, self.shape.bits
        order = steps_of(h, w, self.steps).ravel()
        groups = [np.flatnonzero(order == i) for i in range(self.steps)]
        groups = [cells for cells in groups if len(cells)]
        static = self._static(grid, seen)
        depths, transforms = (
            np.zeros(h * w, np.int64) if x is None else x.ravel() for x in (depth, transform)
        )
        depths, transforms = self._code_depths(
            coder, grid, kind, static, groups, depths, transforms
        )
        levels = np.zeros((h * w, s, k), np.int16)
        if tokens is not None:
            levels[:] = tokens.reshape(h * w, s, k)
        self._code_tokens(coder, grid, kind, static, groups, depths, transforms, levels)
        return levels.reshape(h, w, s, k), depths.reshape(h, w), transforms.reshape(h, w)

    def _static(self, grid: tuple[int, int], x: Activations) -> Activations:
        """Features (h w, F) -> (h w, C), of 5x5 cells."""
        every = np.arange(len(x))
        first, which = distinct(x)  # cells that are alike are looked at once
        x = self._layers["static.0"].relu(x[first])[which]
        for name in ("static.1", "static.2"):
            seen, apply = _with_margin(x, grid, 1), self._layers[name].relu
            sorts = (which[:, None] + 1).astype(np.int32).view(np.int8)  # 0 is outside
            first, which = distinct(windows(_with_margin(sorts, grid, 1), every, 1))
            more = [apply(windows(seen, cells, 1)) for cells in parts(first)]
            x = added(x[first], np.concatenate(more))[which]
        return x

    def _code_depths(
        self, coder: BitCoder, grid: tuple[int, int], kind: int, static: Activations,
        groups: list[Ints], depths: Ints, transforms: Ints,
    ) -> tuple[Ints, Ints]:  # fmt: skip
        out, which = np.zeros_like(depths), np.zeros_like(depths)
        w = grid[1]
        size = 3 + transform_features(self.shape)
        seen = _with_margin(np.zeros((len(depths), size), np.int8), grid, REACH)
        layers = self._layers
        for cells in groups:
            near = windows(seen, cells, REACH)
            first, which_of = distinct(near)
            x = layers["depth.seen"].relu(near[first])[which_of]
            x = layers["depth.0"].relu(np.concatenate([static[cells], x], 1))
            x = added(x, layers["depth.1"].relu(x))
            contexts = layers["depth.out"].contexts(x)
            bits = (depths[cells] > 0).astype(np.int32)
            coded = self.tables["coded"].code(coder, bits, kind, contexts[:, 0])
            some = np.flatnonzero(coded)
            tree = self.shape.tree_bits
            nodes = np.arange(1 << tree) * BUCKETS + contexts[some]
            some = cells[some]
            out[some], which[some] = code_depth_values(
                coder, self.tables["depth"], kind, self.shape, kind, depths[some],
                transforms[some], nodes,
            )  # fmt: skip
            d = out[cells]
            known = np.stack([np.full_like(d, ONE), ONE * (d > 0), log_activation(d)], 1)
            known = np.concatenate([known, _of_transforms(self.shape, which[cells])], 1)
            seen[cells // w + REACH, cells % w + REACH] = known
        return out, which

    def _code_tokens(
        self, coder: BitCoder, grid: tuple[int, int], kind: int, static: Activations,
        groups: list[Ints], depths: Ints, transforms: Ints, levels: NDArray[np.int16],
    ) -> None:  # fmt: skip
        """Fill ``levels`` in place."""
        n, w, d = len(depths), grid[1], self.shape.stages * self.shape.bits
        layers = self._layers
        kinds = _of_transforms(self.shape, transforms)
        # what there is to see of each cell
        known = np.zeros((n, 4 + 2 * d + kinds.shape[1]), np.int8)
        known[:, 1] = ONE * (depths > 0)
        known[:, 2] = log_activation(depths)
        known[:, 4 + 2 * d :] = kinds

        def shown(cells: Ints) -> Activations:
            """Of cells (N,), (N, C): the same of all that have no tokens."""
            some = depths[cells] > 0
            first = np.flatnonzero(~some)[:1]
            rows = np.concatenate([first, np.flatnonzero(some)])
            out = layers["tokens.seen"].relu(known[cells[rows]])
            place = np.where(some, np.cumsum(some) - 1 + len(first), 0)
            return out[place]

        seen = _with_margin(shown(np.arange(n)), grid, 1)
        for group in groups:
            cells = group[depths[group] > 0]
            if len(cells):
                near = windows(seen, cells, 1)
                x = layers["tokens.trunk"].relu(np.concatenate([near, static[cells]], 1))
                for i in range(self._blocks):
                    inner = layers[f"tokens.blocks.{i}.0"].relu(x)
                    x = added(x, layers[f"tokens.blocks.{i}.1"](inner))
                x = np.maximum(x, 0)
                known[cells, 4 : 4 + 2 * d] = self._code_cells(
                    coder, kind, x, depths, kinds, levels, cells
                )
            known[group, 0] = ONE
            known[group, 3] = known[group, 2]
            seen[group // w + 1, group % w + 1] = shown(group)

    def _code_cells(
        self, coder: BitCoder, kind: int, x: Activations, depths: Ints, kinds: Activations,
        levels: NDArray[np.int16], cells: Ints,
    ) -> Activations:  # fmt: skip
        """Code the cells' tokens, stage by stage. kinds: of transforms, as features. Returns log
        magnitudes, then those with signs."""
        s, k = self.shape.stages, self.shape.bits
        d = s * k
        depth = depths[cells]
        own = np.zeros((len(cells), 2 * d), np.int8)
        which = (ONE * (depth[:, None] == np.arange(s + 1))).astype(np.int8)
        which = np.concatenate([which, kinds[cells]], 1)
        for stage in range(int(depth.max())):
            at = np.flatnonzero(depth > stage)
            hidden, out = self._heads[stage]
            inner = hidden.relu(np.concatenate([x[at], own[at], which[at]], 1))
            contexts = out.contexts(inner).reshape(len(at), LOGITS, k)
            level = self._code_levels(coder, kind, stage, levels, cells[at], contexts)
            levels[cells[at], stage] = level
            size = log_activation(np.abs(level))
            first = stage * k
            own[at, first : first + k] = size
            own[at, d + first : d + first + k] = size * np.sign(level)
        return own

    def _code_levels(
        self, coder: BitCoder, kind: int, stage: int, levels: NDArray[np.int16], cells: Ints,
        contexts: Ints,
    ) -> Ints:  # fmt: skip
        """Tokens (N, K) of one stage, each bit in the context (N, LOGITS, K) of its logit."""
        level = levels[cells, stage].astype(np.int64)
        size = np.ones_like(level)
        if self.shape.quantizer == "levels":
            bits = (level != 0).astype(np.int32).ravel()
            block = kind * self.shape.stages + stage
            found = self.tables["nonzero"].code(coder, bits, block, contexts[:, NONZERO].ravel())
            size = found.reshape(level.shape).astype(np.int64)
        table, negative, sign = self.tables["negative"], contexts[:, NEGATIVE], None
        if not self.hidden:
            sign = code_signs(coder, table, kind, level, size, negative)
        if self.shape.quantizer == "levels":
            at = np.nonzero(size)
            first, rest = contexts[:, MORE][at], contexts[:, STILL_MORE][at]
            step = np.arange(UNARY)
            more = step * BUCKETS + np.where(step == 0, first[:, None], rest[:, None])
            size[at] = code_magnitudes(coder, self.tables["more"], kind, np.abs(level[at]), more)
        if sign is None:
            hidden = hidden_signs(levels, cells, stage, size, self.hidden)
            sign = code_signs(coder, table, kind, level, size, negative, hidden)
        return size * sign


def _with_margin(x: Activations, grid: tuple[int, int], margin: int) -> Activations:
    """(h w, C) -> (h + 2 margin, w + 2 margin, C), zeros around."""
    h, w = grid
    out = np.zeros((h + 2 * margin, w + 2 * margin, x.shape[1]), x.dtype)
    out[margin : h + margin, margin : w + margin] = x.reshape(h, w, -1)
    return out
