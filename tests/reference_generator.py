"""Section 12 of ``bitstream_spec.md``: entropy models with a generator.

A part of the reader in ``reference_reader.py``, which see. Cell by cell, in whole numbers; numpy is
used for the sums of a layer alone, in int64, which holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .reference_tokens import (
    Latent,
    Place,
    RangeDecoder,
    Shape,
    Table,
    Tables,
    hidden_signs,
    tell,
)

Vector = tuple[int, int]


class Layer(NamedTuple):
    weights: np.ndarray  # (outputs, inputs), int64
    biases: list[int]
    multipliers: list[int]


class Generator(NamedTuple):
    """As in a bundle."""

    hidden: int
    blocks: int
    motion: int
    layers: dict[str, Layer]
    prior: dict[str, Table]

    def layer(self, name: str, x: list[int], first: int = 0, last: int | None = None) -> list[int]:
        """12.1, of its outputs ``first`` to ``last`` - 1."""
        weights, biases, multipliers = self.layers[name]
        every = range(len(biases))[first:last]
        sums = weights[first:last] @ np.array(x, np.int64)
        return [
            ((int(total) + biases[i]) * multipliers[i] + 2**19) // 2**20
            for i, total in zip(every, sums, strict=True)
        ]


class Known(NamedTuple):
    """What is known of a grid: modes and vectors as in a field of motion, if there is one."""

    kinds: int
    kind: int
    level: int
    t: int  # VIDEO's step times a scale
    before: Latent | None
    modes: dict[Place, int] | None = None
    vectors: tuple[dict[Place, Vector], dict[Place, Vector]] = ({}, {})
    distances: tuple[int, int] = (0, 0)


# 12.1


def relu(values: list[int]) -> list[int]:
    return [min(max(v, 0), 127) for v in values]


def lim(values: list[int]) -> list[int]:
    return [min(max(v, -127), 127) for v in values]


def log(x: int) -> int:
    e = 0
    while 2 ** (e + 1) <= x:
        e += 1
    return 16 * (e - 1) + 16 * x // 2**e


def act(x: int) -> int:
    return min(log(x + 1), 127)


def bucket(v: int) -> int:
    return min(max(v, -32), 31) + 32


def added(a: list[int], b: list[int]) -> list[int]:
    return [x + y for x, y in zip(a, b, strict=True)]


def one_of(count: int, which: int) -> list[int]:
    return [16 if i == which else 0 for i in range(count)]


# 12.3

ORDER = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]


class GeneratorModel(Tables):
    """Codes grids of cells, one after the other; 12.2."""

    unit, limit = 16, 16383

    def __init__(
        self, shape: Shape, generator: Generator, decoder: RangeDecoder, schedule: int
    ) -> None:
        super().__init__(generator.prior, decoder)
        self.shape, self.generator, self.schedule = shape, generator, schedule
        self.hidden = 0
        self.layer = generator.layer

    def latent(self, h: int, w: int, known: Known) -> Latent:
        self.h, self.w, self.known = h, w, known
        self.places = [(y, x) for y in range(h) for x in range(w)]
        self.steps = [
            [(y, x) for y, x in self.places if self.schedule * ORDER[y % 4][x % 4] // 16 == step]
            for step in range(self.schedule)
        ]
        self.static = self.static_part()
        latent = Latent({}, {}, {} if known.kind < self.shape.transform_kinds else None)
        for cells in self.steps:
            self.depths(latent, dict(latent.depth), cells)
        coded: set[Place] = set()
        for cells in self.steps:
            self.tokens(latent, coded, cells)
            coded |= set(cells)
        return latent

    def window(self, r: int, f: Callable[[Place], list[int]], cell: Place, size: int) -> list[int]:
        """size: of the list of a cell."""
        found = []
        for y in range(cell[0] - r, cell[0] + r + 1):
            for x in range(cell[1] - r, cell[1] + r + 1):
                inside = 0 <= y < self.h and 0 <= x < self.w
                found += f((y, x)) if inside else [0] * size
        return found

    # 12.4

    def features(self, cell: Place) -> list[int]:
        known = self.known
        motion = [0] * 8
        if known.modes is not None:
            y, x = cell
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            rough = length = 0
            for vectors in known.vectors:
                own = vectors.get(cell, (0, 0))
                length += abs(own[0]) + abs(own[1])
                for near in around:
                    if near in known.modes:
                        other = vectors.get(near, (0, 0))
                        rough += abs(other[0] - own[0]) + abs(other[1] - own[1])
            motion = [*one_of(4, known.modes[cell]), act(rough), act(length)]
            motion += [min(16 * abs(distance), 127) for distance in known.distances]
        channels = [(s, j) for s in range(self.shape.stages) for j in range(self.shape.bits)]
        before = [0] * (1 + len(channels))
        if known.before is not None:
            tokens = [abs(known.before.tokens.get((cell, s, j), 0)) for s, j in channels]
            before = [act(known.before.depth[cell])] + [act(token) for token in tokens]
        step = lim([log(known.t) - 308])
        return one_of(known.kinds, known.kind) + one_of(6, known.level) + step + motion + before

    # 12.5

    def static_part(self) -> dict[Place, list[int]]:
        a = {cell: relu(self.layer("static.0", self.features(cell))) for cell in self.places}
        size = len(self.generator.layers["static.0"].biases)
        for name in ("static.1", "static.2"):
            seen = a
            a = {
                cell: lim(
                    added(
                        seen[cell],
                        relu(self.layer(name, self.window(1, seen.__getitem__, cell, size))),
                    )
                )
                for cell in self.places
            }
        return a

    # 12.6

    def transform(self, latent: Latent, cell: Place) -> list[int]:
        """Which transform a cell has, in models with any."""
        if not self.shape.transform_kinds:
            return []
        return one_of(3, (latent.transform or {}).get(cell, 0) - 1)

    def depths(self, latent: Latent, known: dict[Place, int], cells: list[Place]) -> None:
        size = 3 + len(self.transform(latent, (0, 0)))

        def f(place: Place) -> list[int]:
            if place not in known:
                return [0] * size
            own = [16, 16 if known[place] else 0, act(known[place])]
            return own + self.transform(latent, place)

        c = []
        for cell in cells:
            around = relu(self.layer("depth.seen", self.window(2, f, cell, size)))
            z = relu(self.layer("depth.0", self.static[cell] + around))
            z = lim(added(z, relu(self.layer("depth.1", z))))
            c.append([bucket(v) for v in self.layer("depth.out", z)])
        kind = self.known.kind
        coded = self.group("coded", kind, [contexts[0] for contexts in c])
        some = [i for i in range(len(cells)) if coded[i]]
        nodes = dict.fromkeys(some, 1)
        for _ in range(self.shape.depth_bits(kind)):
            bits = self.group("depth", kind, [64 * nodes[i] + c[i][nodes[i]] for i in some])
            for i, bit in zip(some, bits, strict=True):
                nodes[i] = 2 * nodes[i] + bit
        latent.depth.update(dict.fromkeys(cells, 0))
        for i in some:
            tell(self.shape, kind, latent, cells[i], nodes[i])

    # 12.7

    def shown(self, latent: Latent, cell: Place, stages: int) -> list[int]:
        """M, of tokens in stages below ``stages``, and M with signs."""
        sizes, signed = [], []
        for s in range(self.shape.stages):
            for j in range(self.shape.bits):
                token = latent.tokens.get((cell, s, j), 0) if s < stages else 0
                sizes.append(act(abs(token)))
                signed.append(act(abs(token)) * (1 if token > 0 else -1))
        return sizes + signed

    def tokens(self, latent: Latent, coded: set[Place], step: list[Place]) -> None:
        depth = latent.depth
        cells = [cell for cell in step if depth[cell] > 0]
        if not cells:
            return
        found: dict[Place, list[int]] = {}

        def f(place: Place) -> list[int]:
            if place not in found:
                known = 16 if place in coded else 0
                d = act(depth[place])
                g = [known, 16 if depth[place] else 0, d, d if known else 0]
                g += self.shown(latent, place, self.shape.stages if known else 0)
                g += self.transform(latent, place)
                found[place] = relu(self.layer("tokens.seen", g))
            return found[place]

        z = {}
        size = len(self.generator.layers["tokens.seen"].biases)
        for cell in cells:
            near = self.window(1, f, cell, size)
            v = relu(self.layer("tokens.trunk", near + self.static[cell]))
            for i in range(self.generator.blocks):
                inner = relu(self.layer(f"tokens.blocks.{i}.0", v))
                v = lim(added(v, self.layer(f"tokens.blocks.{i}.1", inner)))
            z[cell] = relu(v)
        for s in range(max(depth[cell] for cell in cells)):
            self.stage(latent, s, [cell for cell in cells if depth[cell] > s], z)

    def stage(self, latent: Latent, s: int, cells: list[Place], z: dict[Place, list[int]]) -> None:
        h, k, kind = self.generator.hidden, self.shape.bits, self.known.kind
        c: dict[tuple[int, Place, int], int] = {}
        for cell in cells:
            x = z[cell] + self.shown(latent, cell, s)
            x += one_of(self.shape.stages + 1, latent.depth[cell]) + self.transform(latent, cell)
            y = relu(self.layer("tokens.hidden", x, h * s, h * s + h))
            logits = self.layer("tokens.out", y, 4 * k * s, 4 * k * s + 4 * k)
            for q in range(4):
                for j in range(k):
                    c[q, cell, j] = bucket(logits[k * q + j])
        items = [(cell, j) for cell in cells for j in range(k)]
        levels = self.shape.quantizer == "levels"
        if levels:
            block = kind * self.shape.stages + s
            flags = self.group("nonzero", block, [c[0, *item] for item in items])
            items = [item for item, flag in zip(items, flags, strict=True) if flag]
        sizes = dict.fromkeys(items, 1)

        def magnitudes() -> None:
            going = items
            for u in range(14):
                q = 2 if u == 0 else 3
                bits = self.group("more", kind, [64 * u + c[q, *item] for item in going])
                going = [item for item, bit in zip(going, bits, strict=True) if bit]
                for item in going:
                    sizes[item] += 1
            self.escapes(sizes, going)

        if self.hidden:
            magnitudes()
        signs = hidden_signs(self.shape, latent, s, sizes, self.hidden)
        told = [item for item in items if item not in signs]
        negative = self.group("negative", kind, [c[1, *item] for item in told])
        signs |= dict(zip(told, negative, strict=True))
        if levels and not self.hidden:
            magnitudes()
        for (cell, j), size in sizes.items():
            latent.tokens[cell, s, j] = -size if signs[cell, j] else size


def schedule_of(byte: bytes) -> int:
    """3.2: of the byte, or of none."""
    return min(max(byte[0] if byte else 1, 1), 16)


def decode_generated_latents(
    shape: Shape, generator: Generator, width: int, height: int, frames: int, step: int,
    data: bytes,
) -> list[Latent]:  # fmt: skip
    """Entropy model 2."""
    decoder = RangeDecoder(data[1:])
    model = GeneratorModel(shape, generator, decoder, schedule_of(data[:1]))
    latents: list[Latent] = []
    for _ in range(1 + (frames - 1 + 3) // 4):
        before = latents[-1] if latents else None
        known = Known(2, int(bool(latents)), 0, 64 * step, before)
        latents.append(model.latent((height + 7) // 8, (width + 7) // 8, known))
    return latents
