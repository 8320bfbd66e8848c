"""Section 10 of ``bitstream_spec.md``: entropy model 1, and entropy model 3 as far as it is that.

A part of the reader in ``reference_reader.py``, which see.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from .reference_generator import Generator, GeneratorModel, Known, schedule_of
from .reference_tokens import (
    RAW,
    Latent,
    Model,
    Place,
    RangeDecoder,
    Shape,
    Table,
    Tables,
    bounds_class,
    latent_bytes,
)

Vector = tuple[int, int]  # (x, y)


class Picture(NamedTuple):
    place: int
    references: tuple[int, ...]
    level: int


class Field(NamedTuple):
    """Modes, and the vectors over each reference; none where it is not used."""

    modes: dict[Place, int]
    vectors: tuple[dict[Place, Vector], dict[Place, Vector]]


class CodedPicture(NamedTuple):
    picture: Picture
    field: Field | None
    grids: list[Latent]


# 10.1


def between(low: int, high: int, level: int) -> list[Picture]:
    middle = (low + high) // 2
    if middle == low:
        return []
    deeper = min(level + 1, 5)
    return [
        Picture(middle, (low, high), level),
        *between(low, middle, deeper),
        *between(middle, high, deeper),
    ]


class Structure(Tables):
    def __init__(self, frames: int, decoder: RangeDecoder) -> None:
        super().__init__({"change": [[[0, 0]]], "irregular": [[[0, 0]]]}, decoder)
        self.frames = frames
        self.length, self.a, self.b = 8, 0, 0
        self.to_come = [Picture(0, (), 0)]
        self.kept: set[int] = set()
        self.coded: set[int] = set()

    def picture(self) -> Picture:
        self.to_come = [p for p in self.to_come if p.place not in self.coded]
        while not self.to_come:
            if self.group("change", 0, [0])[0]:
                self.length = 1 + self.decoder.number(4)
            end = self.a + min(self.length, max(self.frames - 1 - self.a, 1))
            regular = [Picture(end, (self.a, self.b), 1), *between(self.a, end, 2)]
            self.to_come = [p for p in regular if p.place not in self.coded]
            self.kept = {place for place in self.kept if place == self.b or place >= self.a}
            self.a, self.b = end, self.a
        picture = self.to_come[0]
        if self.group("irregular", 0, [0])[0]:
            place = self.decoder.number(10)
            count = min(self.decoder.number(2), 2)
            references = tuple(self.decoder.number(10) for _ in range(count))
            level = min(self.decoder.number(3), 5)
            new = place < self.frames and place not in self.coded
            if new and all(reference in self.kept for reference in references):
                picture = Picture(place, references, level)
        assert all(reference in self.kept for reference in picture.references)
        self.kept.add(picture.place)
        self.coded.add(picture.place)
        return picture


# 10.2 to 10.5


class Pass(NamedTuple):
    lattice: int
    diagonal: int
    cells: list[Place]
    neighbours: dict[Place, list[Place]]  # four, or none in the first pass


def cells_at(h: int, w: int, top: int, left: int, pitch: int) -> list[Place]:
    return [(y, x) for y in range(top, h, pitch) for x in range(left, w, pitch)]


def passes(h: int, w: int) -> list[Pass]:
    first = cells_at(h, w, 0, 0, 32)
    found = [Pass(2, 1, first, {cell: [] for cell in first})]
    for p in (16, 8, 4, 2, 1):
        diagonal = [((p, p), [(-1, -1), (1, 1), (-1, 1), (1, -1)])]
        straight = [
            ((0, p), [(0, -1), (1, 0), (-1, 0), (0, 1)]),
            ((p, 0), [(-1, 0), (0, 1), (0, -1), (1, 0)]),
        ]
        for parts in (diagonal, straight):
            cells: list[Place] = []
            neighbours = {}
            for (top, left), around in parts:
                part = cells_at(h, w, top, left, 2 * p)
                cells += part
                for y, x in part:
                    neighbours[y, x] = [(y + dy * p, x + dx * p) for dy, dx in around]
            found.append(Pass({1: 0, 2: 1}.get(p, 2), int(parts is diagonal), cells, neighbours))
    return found


def limited(value: int) -> int:
    return min(max(value, -1023), 1023)


def scaled(vector: Vector, t: int, o: int) -> Vector:
    if o < 0:
        t, o = -t, -o
    x, y = (limited((2 * t * v + o) // (2 * o)) for v in vector)
    return x, y


def guess_of(vectors: list[Vector]) -> Vector:
    if not vectors:
        return 0, 0
    votes = [vectors.count(v) for v in vectors]
    if len(vectors) >= 3 and max(votes) == 1:
        n = len(vectors)
        x, y = (
            (ordered[(n - 1) // 2] + ordered[n // 2]) // 2
            for ordered in (sorted(v[component] for v in vectors) for component in (0, 1))
        )
        return x, y
    return vectors[votes.index(max(votes))]


class Asked(NamedTuple):
    """What is known of a cell before its vector is coded; vectors by number of the neighbour."""

    valid: dict[int, Vector]
    guess: Vector
    mirror: Vector | None
    pattern: int
    second: Vector | None


class Motion(Tables):
    def field(
        self,
        h: int,
        w: int,
        distances: tuple[int, int],
        suggested: list[dict[Place, Vector]] | None,
    ) -> Field:
        modes: dict[Place, int] = {}
        vectors: tuple[dict[Place, Vector], dict[Place, Vector]] = ({}, {})
        sides = int(distances[0] * distances[1] < 0)
        for part in passes(h, w):
            found = dict.fromkeys(part.cells, 0)
            if distances[0] != distances[1]:
                found = self.modes(part, sides, modes, suggested is not None)
            for cell in part.cells:
                if found[cell] == 3:
                    assert suggested is not None
                    for r in (0, 1):
                        vectors[r][cell] = suggested[r][cell]
            for r in (0, 1):
                cells = [cell for cell in part.cells if found[cell] in (r, 2)]
                both = {cell for cell in cells if found[cell] == 2}
                mirrors = {}
                if r == 1:
                    mirrors = {c: scaled(vectors[0][c], distances[1], distances[0]) for c in both}
                asked = {c: self.asked(part, c, vectors[r], mirrors.get(c)) for c in cells}
                vectors[r].update(self.vectors(part, 2 * sides + r, asked))
            modes.update(found)
        return Field(modes, vectors)

    def modes(
        self, part: Pass, sides: int, known: dict[Place, int], direct: bool
    ) -> dict[Place, int]:
        """10.3."""
        found: dict[Place, int] = {}
        near = {}
        for cell in part.cells:
            near[cell] = [known.get(place) for place in part.neighbours[cell] or [(-1, -1)] * 4]
        if direct:
            contexts = []
            for cell in part.cells:
                q = [2 if m is None else int(m == 3) for m in near[cell]]
                contexts.append(((3 * part.lattice + q[0]) * 3 + q[1]) * 3 + q[2:].count(1))
            bits = self.group("direct", sides, contexts)
            found = {c: 3 for c, bit in zip(part.cells, bits, strict=True) if bit}
        left = [cell for cell in part.cells if cell not in found]
        c, contexts = {}, []
        for cell in left:
            m = [3 if mode is None else min(mode, 2) for mode in near[cell]]
            c[cell] = 16 * part.lattice + 4 * m[0] + m[1]
            contexts.append(3 * c[cell] + m[2:].count(2))
        bits = self.group("both", sides, contexts)
        found |= {cell: 2 for cell, bit in zip(left, bits, strict=True) if bit}
        left = [cell for cell in left if cell not in found]
        bits = self.group("second", sides, [c[cell] for cell in left])
        return found | dict(zip(left, bits, strict=True))

    def asked(
        self, part: Pass, cell: Place, known: dict[Place, Vector], mirror: Vector | None
    ) -> Asked:
        """10.4, 1 to 3 and what 5 compares."""
        near = enumerate(part.neighbours[cell])
        valid = {i: known[place] for i, place in near if place in known}
        guess = guess_of(list(valid.values()))
        if mirror is not None and not valid:
            guess = mirror
        s = [0 if i not in valid else 2 if valid[i] == guess else 1 for i in range(4)]
        pattern = 27 * s[0] + 9 * s[1] + 3 * s[2] + s[3]
        second = valid[s.index(1)] if 1 in s else None
        return Asked(valid, guess, mirror, pattern, second)

    def vectors(self, part: Pass, block: int, asked: dict[Place, Asked]) -> dict[Place, Vector]:
        """10.4."""
        found: dict[Place, Vector] = {}
        contexts = []
        for a in asked.values():
            m = 0 if a.mirror is None else 2 if a.mirror == a.guess else 1
            contexts.append(((2 * part.lattice + part.diagonal) * 81 + a.pattern) * 3 + m)
        bits = self.group("same", block, contexts)
        found |= {c: asked[c].guess for c, bit in zip(asked, bits, strict=True) if bit}

        mirrors = {c: a.mirror for c, a in asked.items() if a.mirror not in (None, a.guess)}
        seconds = {c: a.second for c, a in asked.items() if a.second not in (None, a.mirror)}
        for base, candidates in ((0, mirrors), (81, seconds)):
            some = [cell for cell in candidates if cell not in found]
            bits = self.group("other", block, [base + asked[cell].pattern for cell in some])
            for cell, bit in zip(some, bits, strict=True):
                candidate = candidates[cell]
                if bit and candidate is not None:
                    found[cell] = candidate

        left = [cell for cell in asked if cell not in found]
        differences = self.differences(block, [asked[cell] for cell in left])
        for cell, difference in zip(left, differences, strict=True):
            (gx, gy), (dx, dy) = asked[cell].guess, difference
            found[cell] = limited(gx + dx), limited(gy + dy)
        return found

    def differences(self, block: int, cells: list[Asked]) -> list[Vector]:
        """10.5."""
        items = [(component, i) for component in (0, 1) for i in range(len(cells))]
        spread, side = {}, {}
        for component, i in items:
            a = cells[i]
            towards = [[v[k] - a.guess[k] for v in a.valid.values()] for k in (0, 1)]
            total = sum(abs(d) for ds in towards for d in ds)
            spread[component, i] = bounds_class(total, [1, 3, 7, 17, 33])
            way = sum(towards[component])
            side[component, i] = 1 + (way > 0) - (way < 0)
        n, e = dict.fromkeys(items, 0), dict.fromkeys(items, 1)
        going = items
        for u in range(11):
            contexts = [(6 * item[0] + spread[item]) * 11 + u for item in going]
            bits = self.group("prefix", block, contexts)
            going = [item for item, bit in zip(going, bits, strict=True) if bit]
            for item in going:
                n[item] += 1
        for i in range(11):
            going = [item for item in items if n[item] > i]
            if i == 0:
                contexts = [11 * item[0] + n[item] - 1 for item in going]
                bits = self.group("suffix", block, contexts)
            else:
                bits = self.decoder.group([RAW] * len(going))
            for item, bit in zip(going, bits, strict=True):
                e[item] = 2 * e[item] + bit
        some = [item for item in items if e[item] > 1]
        bits = self.group("negative", block, [3 * item[0] + side[item] for item in some])
        value = {item: e[item] - 1 for item in items}
        for item, bit in zip(some, bits, strict=True):
            value[item] *= 1 - 2 * bit
        return [(value[0, i], value[1, i]) for i in range(len(cells))]


# 10.6


def enlarged(base: Latent, h: int, w: int, shape: Shape) -> Latent:
    before = Latent({}, {})
    for y in range(h):
        for x in range(w):
            point(before, (y, x), base, (y // 4, x // 4), shape)
    return before


def pointed_at(field: Field, references: list[Latent], h: int, w: int, shape: Shape) -> Latent:
    before = Latent({}, {})
    for (y, x), mode in field.modes.items():
        for r in (0, 1) if mode >= 2 else (mode,):
            mx, my = field.vectors[r][y, x]
            place = (
                min(max(y + (my + 16) // 32, 0), h - 1),
                min(max(x + (mx + 16) // 32, 0), w - 1),
            )
            point(before, (y, x), references[r], place, shape)
    return before


def point(before: Latent, cell: Place, source: Latent, place: Place, shape: Shape) -> None:
    """Let ``before`` have at ``cell`` what ``source`` has at ``place``, where that is larger."""
    before.depth[cell] = max(before.depth.get(cell, 0), source.depth[place])
    for s in range(source.depth[place]):
        for j in range(shape.bits):
            magnitude = abs(source.tokens.get((place, s, j), 0))
            before.tokens[cell, s, j] = max(before.tokens.get((cell, s, j), 0), magnitude)


class Gop:
    def __init__(
        self, shape: Shape, prior: dict[str, Table], width: int, height: int, frames: int,
        data: bytes, generator: Generator | None = None, step: int = 0,
    ) -> None:  # fmt: skip
        """step: VIDEO's, which a generator sees."""
        self.scales = [max(scale, 1) for scale in data[:7]] + [1] * (7 - len(data[:7]))
        self.step, self.generator = step, None
        decoder = RangeDecoder(data[7:] if generator is None else data[8:])
        if generator is not None:
            self.generator = GeneratorModel(shape, generator, decoder, schedule_of(data[7:8]))
        own = "motion_"
        motion = {k.removeprefix(own): v for k, v in prior.items() if k.startswith(own)}
        others = {k: v for k, v in prior.items() if not k.startswith(own)}
        self.shape, self.h, self.w = shape, (height + 7) // 8, (width + 7) // 8
        self.structure = Structure(frames, decoder)
        self.motion = Motion(motion, decoder)
        self.model = Model(shape, others, decoder, depths_by_kind=True)
        self.done: dict[int, CodedPicture] = {}  # by place, in coding order

    def picture(self) -> CodedPicture:
        picture = self.structure.picture()
        coded = self.predicted(picture) if picture.references else self.intra(picture)
        self.done[picture.place] = coded
        return coded

    def intra(self, picture: Picture) -> CodedPicture:
        sizes = [(self.h, self.w)]
        for _ in range(2):
            h, w = sizes[0]
            sizes.insert(0, ((h + 3) // 4, (w + 3) // 4))
        grids: list[Latent] = []
        for kind, (h, w) in enumerate(sizes):
            before = enlarged(grids[-1], h, w, self.shape) if grids else None
            grids.append(self.grid(h, w, kind, before, picture))
        return CodedPicture(picture, None, grids)

    def predicted(self, picture: Picture) -> CodedPicture:
        references = [self.done[place] for place in picture.references]
        distances = self.distances(picture)
        field = self.motion.field(self.h, self.w, distances, self.suggested(picture))
        grids = [reference.grids[-1] for reference in references]
        before = pointed_at(field, grids, self.h, self.w, self.shape)
        kind = 4 if max(picture.references) > picture.place else 3
        grid = self.grid(self.h, self.w, kind, before, picture, field)
        return CodedPicture(picture, field, [grid])

    def grid(
        self, h: int, w: int, kind: int, before: Latent | None, picture: Picture,
        field: Field | None = None,
    ) -> Latent:  # fmt: skip
        if self.generator is None:
            return self.model.latent(h, w, kind, before)
        scale = self.scales[kind if kind < 2 else 2 + min(picture.level, 4)]
        known = Known(5, kind, picture.level, self.step * scale, before)
        if field is not None:
            known = known._replace(
                modes=field.modes, vectors=field.vectors, distances=self.distances(picture)
            )
        return self.generator.latent(h, w, known)

    def distances(self, picture: Picture) -> tuple[int, int]:
        first, second = picture.references[0], picture.references[-1]
        return first - picture.place, second - picture.place

    def suggested(self, picture: Picture) -> list[dict[Place, Vector]] | None:
        distances = self.distances(picture)
        known = [p for p in self.done.values() if p.picture.place in picture.references and p.field]
        if distances[0] == distances[1] or not known:
            return None
        last, field = known[-1].picture, known[-1].field
        assert field is not None
        of = self.distances(last)
        found: list[dict[Place, Vector]] = [{}, {}]
        for i in (0, 1):
            for cell, mode in field.modes.items():
                r = int(mode == 1)
                found[i][cell] = scaled(field.vectors[r][cell], distances[i], of[r])
        return found


def decode_pictures(
    shape: Shape, prior: dict[str, Table], width: int, height: int, frames: int, data: bytes,
    generator: Generator | None = None, step: int = 0,
) -> list[CodedPicture]:  # fmt: skip
    gop = Gop(shape, prior, width, height, frames, data, generator, step)
    return [gop.picture() for _ in range(frames)]


# 10.7


def hash_pictures(pictures: list[CodedPicture], shape: Shape) -> str:
    digest = hashlib.sha256()
    for (place, references, level), field, grids in pictures:
        for number in (place, *references, level):
            digest.update(struct.pack("<H", number))
        if field is not None:
            cells = sorted(field.modes)
            digest.update(bytes(field.modes[cell] for cell in cells))
            for vectors in field.vectors:
                for cell in cells:
                    digest.update(struct.pack("<2h", *vectors.get(cell, (0, 0))))
        for latent in grids:
            digest.update(latent_bytes(latent, shape))
    return digest.hexdigest()
