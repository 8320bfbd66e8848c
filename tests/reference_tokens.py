"""Sections 4, 5 and 10.6 of ``bitstream_spec.md``: bytes to bits, and bits to tokens.

A part of the reader in ``reference_reader.py``, which see.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import NamedTuple

# 4: range decoder

RAW = 32768  # k of a raw bit


class RangeDecoder:
    def __init__(self, data: bytes) -> None:
        self.words = list(struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4]))
        self.low, self.range = 0, 2**64 - 1
        self.point = 2**32 * self.next_word() + self.next_word()
        self.lost = False

    def next_word(self) -> int:
        return self.words.pop(0) if self.words else 0

    def group(self, ks: list[int]) -> list[int]:
        bits = [self.bit(k) for k in ks]
        return [0] * len(ks) if self.lost else bits

    def number(self, bits: int) -> int:
        """Section 10: raw bits, the most significant first."""
        return int("".join(map(str, self.group([RAW] * bits))), 2)

    def bit(self, k: int) -> int:
        if self.lost:
            return 0
        s = self.range // 2**24
        c = ((65536 - k) * (2**24 - 2)) // 65536 + 1
        q = (self.point - self.low) % 2**64 // s
        if q >= 2**24:
            self.lost = True
            return 0
        bit = int(q >= c)
        if bit:
            self.range = s * (2**24 - c)
            self.low = (self.low + s * c) % 2**64
        else:
            self.range = s * c
        if self.range < 2**32:
            self.range *= 2**32
            self.low = self.low * 2**32 % 2**64
            self.point = self.point * 2**32 % 2**64 + self.next_word()
        return bit


# 5: tokens

Place = tuple[int, int]  # (y, x)
Table = list[list[list[int]]]  # [block][context] -> [zeros, ones]

PASSES = [(0, 0), (1, 1), (0, 1), (1, 0)]
NEIGHBOURS = {
    (-1, 0): 2, (0, -1): 2, (0, 1): 2, (1, 0): 2, (-1, -1): 1, (-1, 1): 1, (1, -1): 1, (1, 1): 1,
}  # fmt: skip


class Shape(NamedTuple):
    """quantizer: "levels" or "signs"; stages: S; bits: K. transform_kinds: U.
    loop_filter: whether pictures have one."""

    quantizer: str
    stages: int
    bits: int
    transform_kinds: int = 0
    loop_filter: bool = False

    def depth_bits(self, kind: int) -> int:
        """Bits that say a depth, and of some kinds a transform."""
        bits = max(1, len(f"{self.stages - 1:b}") if self.stages > 1 else 0)
        return bits + 2 * int(kind < self.transform_kinds)


class Latent(NamedTuple):
    """One latent frame: depth by place, tokens by (place, stage, channel); 0 where absent.
    Transforms by place, of kinds that have them; 0 where absent."""

    depth: dict[Place, int]
    tokens: dict[tuple[Place, int, int], int]
    transform: dict[Place, int] | None = None


def tell(shape: Shape, kind: int, latent: Latent, cell: Place, node: int) -> None:
    """5.4 and 10.6: what the last node of a tree says of a cell."""
    value = node - 2 ** shape.depth_bits(kind)
    if latent.transform is not None:
        latent.transform[cell] = value % 4
        value //= 4
    latent.depth[cell] = min(value + 1, shape.stages)


def hidden_signs(
    shape: Shape, latent: Latent, s: int, sizes: dict[tuple[Place, int], int], every: int
) -> dict[tuple[Place, int], int]:
    """10.6: of stage s, 1 for a token that is negative. sizes: magnitudes that are not 0."""
    found: dict[tuple[Place, int], int] = {}
    for place in {place for place, _ in sizes} if every else ():
        tokens = [latent.tokens.get((place, t, j), 0) for t in range(s) for j in range(shape.bits)]
        run = [abs(token) for token in tokens if token]
        run = run[len(run) // every * every :]
        for j in range(shape.bits):
            if (place, j) in sizes:
                run.append(sizes[place, j])
                if len(run) == every:
                    found[place, j] = sum(run) % 2
                    run = []
    return found


def bounds_class(value: int, bounds: list[int]) -> int:
    return sum(bound <= value for bound in bounds)


class Tables:
    """Counts, and groups of bits that are coded with them; 5.2."""

    unit, limit = 1, 1023

    def __init__(self, prior: dict[str, Table], decoder: RangeDecoder) -> None:
        self.decoder = decoder
        self.tables = {
            name: [[list(pair) for pair in block] for block in table]
            for name, table in prior.items()
        }

    def group(self, table: str, block: int, contexts: list[int]) -> list[int]:
        counts = self.tables[table][block]
        ks = []
        for context in contexts:
            zeros, ones = counts[context]
            k = ((2 * ones + 1) * 65536) // (2 * (zeros + ones) + 2)
            ks.append(min(max(k, 1), 65535))
        bits = self.decoder.group(ks)
        for context, bit in zip(contexts, bits, strict=True):
            counts[context][bit] += self.unit
        for context in contexts:
            while sum(counts[context]) > self.limit:
                counts[context][:] = [(n + 1) // 2 for n in counts[context]]
        return bits

    def escapes(
        self, sizes: dict[tuple[Place, int], int], escaped: list[tuple[Place, int]]
    ) -> None:
        """5.5: the rest of magnitudes whose 14 bits were all 1, and the limit of all."""
        going = escaped
        length = dict.fromkeys(escaped, 0)
        for _ in range(12):
            bits = self.decoder.group([RAW] * len(going))
            going = [item for item, bit in zip(going, bits, strict=True) if bit]
            for item in going:
                length[item] += 1
        number = dict.fromkeys(escaped, 1)
        for i in range(11, -1, -1):
            going = [item for item in escaped if length[item] > i]
            for item, bit in zip(going, self.decoder.group([RAW] * len(going)), strict=True):
                number[item] = 2 * number[item] + bit
        for item in escaped:
            sizes[item] += number[item] - 1
        for item in sizes:
            sizes[item] = min(sizes[item], 4095)


class Model(Tables):
    """Codes grids of cells, one after the other."""

    h: int
    w: int
    kind: int
    before: Latent | None

    def __init__(
        self,
        shape: Shape,
        prior: dict[str, Table],
        decoder: RangeDecoder,
        depths_by_kind: bool = False,
    ) -> None:
        super().__init__(prior, decoder)
        self.shape, self.depths_by_kind = shape, depths_by_kind
        self.hidden = 0
        self.tree_bits = shape.depth_bits(0)

    def latent(self, h: int, w: int, kind: int, before: Latent | None) -> Latent:
        self.h, self.w, self.kind, self.before = h, w, kind, before
        latent = Latent({}, {}, {} if kind < self.shape.transform_kinds else None)
        self.depths(latent)
        for stage in range(max(latent.depth.values())):
            self.stage(latent, stage)
        return latent

    def cells(self, parity: Place, wanted: Callable[[Place], bool]) -> list[Place]:
        """Cells of a pass, in raster order."""
        places = [(y, x) for y in range(self.h) for x in range(self.w)]
        return [p for p in places if (p[0] % 2, p[1] % 2) == parity and wanted(p)]

    def depths(self, latent: Latent) -> None:
        """5.4."""
        depth, block = latent.depth, self.kind if self.depths_by_kind else 0
        for parity in PASSES:
            cells = self.cells(parity, lambda place: True)
            contexts = []
            for y, x in cells:
                total = weight = 0
                for (dy, dx), share in NEIGHBOURS.items():
                    if (y + dy, x + dx) in depth:
                        total += share * depth[y + dy, x + dx]
                        weight += share
                near = 7
                if weight:
                    near = bounds_class(4 * total // weight, [1, 5, 9, 17, 33, 65])
                before = 5
                if self.before:
                    before = bounds_class(self.before.depth[y, x], [1, 3, 6, 12])
                contexts.append(6 * near + before)
            coded = self.group("coded", block, contexts)
            some = [i for i in range(len(cells)) if coded[i]]
            nodes = [1] * len(some)
            for _ in range(self.shape.depth_bits(self.kind)):
                at = [2**self.tree_bits * contexts[i] + n for i, n in zip(some, nodes, strict=True)]
                bits = self.group("depth", block, at)
                nodes = [2 * node + bit for node, bit in zip(nodes, bits, strict=True)]
            depth.update(dict.fromkeys(cells, 0))
            for i, node in zip(some, nodes, strict=True):
                tell(self.shape, self.kind, latent, cells[i], node)

    def stage(self, latent: Latent, s: int) -> None:
        """5.5."""
        block = self.kind * self.shape.stages + s
        known = {place for place, depth in latent.depth.items() if depth <= s}
        for parity in PASSES:
            cells = self.cells(parity, lambda place: latent.depth[place] > s)
            items = [(place, j) for place in cells for j in range(self.shape.bits)]
            around = {item: self.around(latent, known, s, *item) for item in items}
            if self.shape.quantizer == "levels":
                lower = {place: self.lower(latent, place, s) for place in cells}
                contexts = [
                    ((9 * j + around[place, j]) * 6 + lower[place]) * 2
                    + int(latent.depth[place] == s + 1)
                    for place, j in items
                ]
                flags = self.group("nonzero", block, contexts)
                items = [item for item, flag in zip(items, flags, strict=True) if flag]
            sizes = dict.fromkeys(items, 1)
            if self.hidden:
                self.magnitudes(sizes, around, block)
            signs = hidden_signs(self.shape, latent, s, sizes, self.hidden)
            told = [item for item in items if item not in signs]
            negative = self.group("negative", block, [j for _, j in told])
            signs |= dict(zip(told, negative, strict=True))
            if self.shape.quantizer == "levels" and not self.hidden:
                self.magnitudes(sizes, around, block)
            for (place, j), size in sizes.items():
                latent.tokens[place, s, j] = -size if signs[place, j] else size
            known |= set(cells)

    def around(self, latent: Latent, known: set[Place], s: int, place: Place, j: int) -> int:
        y, x = place
        total = weight = 0
        for (dy, dx), share in NEIGHBOURS.items():
            near = (y + dy, x + dx)
            if near in known:
                total += share * abs(latent.tokens.get((near, s, j), 0))
                weight += share
        if self.before:
            total += 3 * abs(self.before.tokens.get((place, s, j), 0))
            weight += 3
        return bounds_class(16 * total // weight, [1, 4, 8, 13, 19, 29, 45]) if weight else 8

    def lower(self, latent: Latent, place: Place, s: int) -> int:
        def carried(stage: int) -> int:
            return sum(abs(latent.tokens.get((place, stage, j), 0)) for j in range(self.shape.bits))

        return bounds_class(2 * carried(s - 1) + carried(s - 2), [1, 3, 5, 9, 17])

    def magnitudes(
        self, sizes: dict[tuple[Place, int], int], around: dict[tuple[Place, int], int], block: int
    ) -> None:
        going = list(sizes)
        for u in range(14):
            bits = self.group("more", block, [14 * around[item] + u for item in going])
            going = [item for item, bit in zip(going, bits, strict=True) if bit]
            for item in going:
                sizes[item] += 1
        self.escapes(sizes, going)


def decode_latents(
    shape: Shape, prior: dict[str, Table], width: int, height: int, frames: int, data: bytes
) -> list[Latent]:
    """5.1."""
    model = Model(shape, prior, RangeDecoder(data))
    latents: list[Latent] = []
    for _ in range(1 + (frames - 1 + 3) // 4):
        before = latents[-1] if latents else None
        latent = model.latent((height + 7) // 8, (width + 7) // 8, int(bool(latents)), before)
        latents.append(latent)
    return latents


def hash_latents(latents: list[Latent], shape: Shape) -> str:
    """5.6."""
    return hashlib.sha256(b"".join(latent_bytes(latent, shape) for latent in latents)).hexdigest()


def latent_bytes(latent: Latent, shape: Shape) -> bytes:
    places = sorted(latent.depth)
    values = [struct.pack("<H", latent.depth[place]) for place in places]
    if latent.transform is not None:
        values += [bytes([latent.transform.get(place, 0)]) for place in places]
    for place in places:
        for s in range(shape.stages):
            for j in range(shape.bits):
                values.append(struct.pack("<h", latent.tokens.get((place, s, j), 0)))
    return b"".join(values)
