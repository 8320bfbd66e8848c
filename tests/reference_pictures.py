"""Section 10 of ``bitstream_spec.md``: entropy models 1 and 4, and what 3 and 5 share with them.

Motion is in ``reference_motion.py``. A part of the reader in ``reference_reader.py``, which see.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from .reference_generator import Generator, GeneratorModel, Known, schedule_of
from .reference_motion import (
    Field,
    GeneratedMotion,
    Motion,
    Seen,
    Suggestion,
    pointed_cell,
    scaled,
)
from .reference_tokens import (
    Latent,
    Model,
    Place,
    RangeDecoder,
    Shape,
    Table,
    Tables,
    latent_bytes,
)


class Picture(NamedTuple):
    place: int
    references: tuple[int, ...]
    level: int


class Smoothed(NamedTuple):
    """10.7. strengths: of Y, U and V; blocks: by row, of each whether it is smoothed. sizes: of the
    blocks of Y, U and V that have offsets, and these by row."""

    strengths: list[int]
    wide: int
    blocks: list[list[int]]
    sizes: tuple[int, ...] = (0, 0, 0)
    offsets: tuple[list[list[int]], ...] = ((), (), ())  # type: ignore[assignment]


class LumaTaps(NamedTuple):
    """10.8. which: of each class the number of its filter; taps: of each filter; regions: by row,
    of each whether it is filtered."""

    which: list[int]
    taps: list[list[int]]
    regions: list[list[int]]


class Corrected(NamedTuple):
    """10.8. luma; taps of U and of V. None of a plane without."""

    luma: LumaTaps | None
    chroma: tuple[list[int] | None, list[int] | None]


class CodedPicture(NamedTuple):
    picture: Picture
    field: Field | None
    grids: list[Latent]
    smoothed: Smoothed | None = None
    corrected: Corrected | None = None


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
            room = len(self.kept) < 24
            if new and room and all(reference in self.kept for reference in references):
                picture = Picture(place, references, level)
        assert all(reference in self.kept for reference in picture.references)
        self.kept.add(picture.place)
        self.coded.add(picture.place)
        return picture


# 10.6


def enlarged(base: Latent, h: int, w: int, shape: Shape) -> Latent:
    before = Latent({}, {})
    for y in range(h):
        for x in range(w):
            point(before, (y, x), base, (y // 4, x // 4), shape)
    return before


def pointed_at(field: Field, references: list[Latent], h: int, w: int, shape: Shape) -> Latent:
    before = Latent({}, {})
    for cell, mode in field.modes.items():
        for r in (0, 1) if mode >= 2 else (mode,):
            place = pointed_cell(cell, field.vectors[r][cell], h, w)
            point(before, cell, references[r], place, shape)
    return before


def point(before: Latent, cell: Place, source: Latent, place: Place, shape: Shape) -> None:
    """Let ``before`` have at ``cell`` what ``source`` has at ``place``, where that is larger."""
    before.depth[cell] = max(before.depth.get(cell, 0), source.depth[place])
    for s in range(source.depth[place]):
        for j in range(shape.bits):
            magnitude = abs(source.tokens.get((place, s, j), 0))
            before.tokens[cell, s, j] = max(before.tokens.get((cell, s, j), 0), magnitude)


# 10.7


class Filters(Tables):
    def __init__(self, h: int, w: int, decoder: RangeDecoder) -> None:
        empty = [[[0, 0] for _ in range(12)] for _ in range(6)]
        tables = {"strength": empty, "wide": empty[:2], "smoothed": empty[:2]}
        names = ("offset_size", "offset", "offset_sign", "offset_more")
        super().__init__(tables | dict.fromkeys(names, empty[:3]), decoder)
        self.h, self.w = h, w
        self.rows, self.columns = (h + 3) // 4, (w + 3) // 4
        self.before = Smoothed([0, 0, 0], 0, [])

    def next(self, intra: bool) -> Smoothed:
        i = 0 if intra else 1
        strengths = []
        for p in range(3):
            n = 0
            context = 3 * self.before.strengths[p]
            while n < 3 and self.group("strength", 3 * i + p, [context + n])[0]:
                n += 1
            strengths.append(n)
        wide = 0
        if strengths[0]:
            last = self.before.wide if self.before.strengths[0] else 2
            (wide,) = self.group("wide", i, [last])
        blocks: list[list[int]] = []
        for y in range(self.rows if strengths[0] else 0):
            above = [0, *(blocks[-1] if blocks else [0] * self.columns), 0]
            contexts = []
            for x in range(self.columns):
                b = self.before.blocks[y][x] if self.before.strengths[0] else 2
                contexts.append(3 * sum(above[x : x + 3]) + b)
            blocks.append(self.group("smoothed", i, contexts))
        blocks = blocks or [[0] * self.columns for _ in range(self.rows)]
        found = [(0, []) if intra else self.offsets(p) for p in range(3)]
        sizes, offsets = zip(*found, strict=True)
        self.before = Smoothed(strengths, wide, blocks, sizes, offsets)
        return self.before

    def offsets(self, p: int) -> tuple[int, list[list[int]]]:
        size = 0
        while size < 2 and self.group("offset_size", p, [2 * self.before.sizes[p] + size])[0]:
            size += 1
        out: list[list[int]] = []
        side = 16 >> size
        columns = (self.w + side - 1) // side
        for _ in range((self.h + side - 1) // side if size else 0):
            above = [0, *(out[-1] if out else [0] * columns), 0]
            near = [above[x : x + 3] for x in range(columns)]
            contexts = [sum(v != 0 for v in three) + 4 * (size - 1) for three in near]
            some = self.group("offset", p, contexts)
            row = [x for x in range(columns) if some[x]]
            contexts = [(sum(near[x]) > 0) - (sum(near[x]) < 0) + 1 for x in row]
            signs = self.group("offset_sign", p, contexts)
            sizes = dict.fromkeys(row, 1)
            going = row
            for i in range(1, 15):
                more = self.group("offset_more", p, [min(i, 4) - 1] * len(going))
                going = [x for x, bit in zip(going, more, strict=True) if bit]
                for x in going:
                    sizes[x] += 1
            out.append([0] * columns)
            for x, sign in zip(row, signs, strict=True):
                out[-1][x] = -sizes[x] if sign else sizes[x]
        return size, out


# 10.8

DISTANCES = [1, 2, 3, 3, 2, 1, 2, 3, 3, 2, 3, 3]
OF_LUMA = [distance - 1 for distance in DISTANCES]
OF_CHROMA = [2 + distance for distance in (1, 2, 2, 1, 2, 2)] + [5] * 9


class Corrections(Tables):
    def __init__(self, h: int, w: int, decoder: RangeDecoder) -> None:
        empty = [[[0, 0] for _ in range(12)] for _ in range(9)]
        names = ("used", "new", "filtered", "alike", "digits")
        super().__init__(dict.fromkeys(names, empty), decoder)
        self.rows, self.columns = (h + 7) // 8, (w + 7) // 8
        self.luma = [([0] * 25, [[0] * 12]) for _ in range(3)]
        self.chroma = [[[0] * 15, [0] * 15] for _ in range(3)]
        self.before = [[2, 2, 2] for _ in range(3)]
        self.regions: list[list[list[int]]] = [[] for _ in range(3)]

    def next(self, g: int) -> Corrected:
        luma = None
        if self.has(g, 0):
            if self.group("new", 3 * g, [0])[0]:
                self.luma[g] = self.new_luma()
            luma = LumaTaps(*self.luma[g], self.filtered(g))
        self.before[g][0] = int(luma is not None)
        self.regions[g] = luma.regions if luma else []
        chroma: list[list[int] | None] = [None, None]
        for i in (0, 1):
            used = self.has(g, 1 + i)
            self.before[g][1 + i] = int(used)
            if used:
                if self.group("new", 3 * g + 1 + i, [0])[0]:
                    self.chroma[g][i] = [self.tap(block) for block in OF_CHROMA]
                chroma[i] = self.chroma[g][i]
        return Corrected(luma, (chroma[0], chroma[1]))

    def has(self, g: int, p: int) -> bool:
        return bool(self.group("used", 3 * g + p, [self.before[g][p]])[0])

    def filtered(self, g: int) -> list[list[int]]:
        known, regions = self.regions[g], []
        for y in range(self.rows):
            above = [0, *(regions[-1] if regions else [0] * self.columns), 0]
            contexts = [
                3 * sum(above[x : x + 3]) + (known[y][x] if known else 2)
                for x in range(self.columns)
            ]
            regions.append(self.group("filtered", g, contexts))
        return regions

    def new_luma(self) -> tuple[list[int], list[list[int]]]:
        count = min(self.decoder.number(5) + 1, 25)
        which: list[int] = []
        for i in range(25):
            last = which[-1] if i else 0
            if count == 1 or self.group("alike", 0, [0])[0]:
                which.append(last)
            else:
                which.append(min(self.decoder.number(len(f"{count - 1:b}")), count - 1))
        return which, [[self.tap(block) for block in OF_LUMA] for _ in range(count)]

    def tap(self, block: int) -> int:
        n = 0
        while n < 7 and self.group("digits", block, [n])[0]:
            n += 1
        if n == 0:
            return 0
        value = 2 ** (n - 1) + (self.decoder.number(n - 1) if n > 1 else 0)
        return -value if self.decoder.number(1) else value


class Gop:
    def __init__(
        self, shape: Shape, prior: dict[str, Table], width: int, height: int, frames: int,
        data: bytes, generator: Generator | None = None, step: int = 0, hides: bool = False,
    ) -> None:  # fmt: skip
        """step: VIDEO's, which a generator sees. hides: with entropy models 4 and 5."""
        self.scales = [max(scale, 1) for scale in data[:7]] + [1] * (7 - len(data[:7]))
        self.step, self.generator, self.generated_motion = step, None, None
        data = data[8:]  # masking: 11.1
        hidden = (data[0] if data else 0) if hides else 0
        data = data[1:] if hides else data
        decoder = RangeDecoder(data if generator is None else data[1:])
        if generator is not None:
            self.generator = GeneratorModel(shape, generator, decoder, schedule_of(data[:1]))
            self.generator.hidden = hidden
            if generator.motion:
                self.generated_motion = GeneratedMotion(generator, decoder)
        own = "motion_"
        motion = {k.removeprefix(own): v for k, v in prior.items() if k.startswith(own)}
        others = {k: v for k, v in prior.items() if not k.startswith(own)}
        self.shape, self.h, self.w = shape, (height + 7) // 8, (width + 7) // 8
        self.structure = Structure(frames, decoder)
        self.motion = Motion(motion, decoder)
        self.model = Model(shape, others, decoder, depths_by_kind=True)
        self.model.hidden = hidden
        self.filters = Filters(self.h, self.w, decoder) if shape.loop_filter else None
        self.corrections = None
        if shape.loop_filter and hides:
            self.corrections = Corrections(self.h, self.w, decoder)
        self.done: dict[int, CodedPicture] = {}  # by place, in coding order

    def picture(self) -> CodedPicture:
        picture = self.structure.picture()
        coded = self.predicted(picture) if picture.references else self.intra(picture)
        if self.filters:
            coded = coded._replace(smoothed=self.filters.next(not picture.references))
        if self.corrections:
            g = 0 if not picture.references else 1 if picture.level <= 1 else 2
            coded = coded._replace(corrected=self.corrections.next(g))
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
        first, last = picture.references[0], picture.references[-1]
        grids = [self.done[place].grids[-1] for place in (first, last)]
        distances, suggestion = self.distances(picture), self.suggestion(picture)
        if self.generated_motion is None:
            vectors = suggestion and suggestion.vectors
            field = self.motion.field(self.h, self.w, distances, vectors)
        else:
            t = self.step * self.scales[2 + min(picture.level, 4)]
            seen = Seen(distances, picture.level, t, suggestion, grids)
            field = self.generated_motion.field(self.h, self.w, seen)
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

    def suggestion(self, picture: Picture) -> Suggestion | None:
        distances = self.distances(picture)
        known = [p for p in self.done.values() if p.picture.place in picture.references and p.field]
        if distances[0] == distances[1] or not known:
            return None
        last, field = known[-1].picture, known[-1].field
        assert field is not None
        of = self.distances(last)
        found = Suggestion([{}, {}], field.modes)
        for i in (0, 1):
            for cell, mode in field.modes.items():
                r = int(mode == 1)
                found.vectors[i][cell] = scaled(field.vectors[r][cell], distances[i], of[r])
        return found


def decode_pictures(
    shape: Shape, prior: dict[str, Table], width: int, height: int, frames: int, data: bytes,
    generator: Generator | None = None, step: int = 0, hides: bool = False,
) -> list[CodedPicture]:  # fmt: skip
    gop = Gop(shape, prior, width, height, frames, data, generator, step, hides)
    return [gop.picture() for _ in range(frames)]


# 10.9


def hash_pictures(pictures: list[CodedPicture], shape: Shape) -> str:
    digest = hashlib.sha256()
    for (place, references, level), field, grids, smoothed, corrected in pictures:
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
        if smoothed:
            digest.update(bytes([*smoothed.strengths, smoothed.wide]))
            for row in smoothed.blocks:
                digest.update(bytes(row))
            for rows in smoothed.offsets:
                if rows:
                    digest.update(struct.pack("<HH", len(rows), len(rows[0])))
                    digest.update(bytes(v % 256 for row in rows for v in row))
        if corrected and corrected.luma:
            luma = corrected.luma
            for numbers in (luma.which, *luma.taps, *luma.regions):
                digest.update(bytes(v % 256 for v in numbers))
        for taps in corrected.chroma if corrected else ():
            if taps is not None:
                digest.update(bytes(v % 256 for v in taps))
    return digest.hexdigest()
