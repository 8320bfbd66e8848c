"""Sections 10.2 to 10.5 and 12.8 of ``bitstream_spec.md``: motion, without and with a generator.

A part of the reader in ``reference_reader.py``, which see.
"""

from __future__ import annotations

from typing import NamedTuple

from .reference_generator import Generator, act, bucket, lim, log, one_of, relu
from .reference_tokens import RAW, Latent, Place, RangeDecoder, Tables, bounds_class

Vector = tuple[int, int]  # (x, y)
Vectors = dict[Place, Vector]


class Field(NamedTuple):
    """Modes, and the vectors over each reference; none where it is not used."""

    modes: dict[Place, int]
    vectors: tuple[Vectors, Vectors]


# 10.2 to 10.5


class Pass(NamedTuple):
    pitch: int
    lattice: int
    diagonal: int
    cells: list[Place]
    neighbours: dict[Place, list[Place]]  # four, or none in the first pass


def cells_at(h: int, w: int, top: int, left: int, pitch: int) -> list[Place]:
    return [(y, x) for y in range(top, h, pitch) for x in range(left, w, pitch)]


def passes(h: int, w: int) -> list[Pass]:
    first = cells_at(h, w, 0, 0, 32)
    found = [Pass(32, 2, 1, first, {cell: [] for cell in first})]
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
            lattice = {1: 0, 2: 1}.get(p, 2)
            found.append(Pass(p, lattice, int(parts is diagonal), cells, neighbours))
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


def pointed_cell(cell: Place, vector: Vector, h: int, w: int) -> Place:
    (y, x), (mx, my) = cell, vector
    return min(max(y + (my + 16) // 32, 0), h - 1), min(max(x + (mx + 16) // 32, 0), w - 1)


# 12.8


class Suggestion(NamedTuple):
    """Suggested vectors over each reference, and the modes of the picture that they come from."""

    vectors: list[Vectors]
    modes: dict[Place, int]


class Seen(NamedTuple):
    """What is known of a picture before its motion. t: VIDEO's step times the picture's scale."""

    distances: tuple[int, int]
    level: int
    t: int
    suggestion: Suggestion | None
    references: list[Latent]  # two


AROUND = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
NEAR = [i for i, (dy, dx) in enumerate(AROUND) if dy in (-1, 0, 1) and dx in (-1, 0, 1)]


def flag(fact: bool) -> int:
    return 16 if fact else 0


def slog(v: int) -> int:
    return act(v) if v >= 0 else -act(-v)


def slogs(v: Vector) -> list[int]:
    return [slog(v[0]), slog(v[1])]


def less(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1]


def length(v: Vector) -> int:
    return abs(v[0]) + abs(v[1])


class Target(NamedTuple):
    """A cell whose vector over a reference is to be coded: what is known of it."""

    x: list[int]
    guess: Vector
    candidates: list[Vector | None]


class GeneratedMotion(Tables):
    unit, limit = 16, 16383

    def __init__(self, generator: Generator, decoder: RangeDecoder) -> None:
        own = {k: v for k, v in generator.prior.items() if k.startswith("motion_")}
        super().__init__(own, decoder)
        self.generator = generator

    def field(self, h: int, w: int, seen: Seen) -> Field:
        self.h, self.w, self.seen = h, w, seen
        self.sizes: list[dict[Place, int]] = [{}, {}]  # sums of magnitudes, by reference
        for r in (0, 1):
            for (place, _, _), token in seen.references[r].tokens.items():
                self.sizes[r][place] = self.sizes[r].get(place, 0) + abs(token)
        one, two = seen.distances
        self.sides = int(one * two < 0)
        self.suggestion = seen.suggestion if one != two else None
        self.known = Field({}, ({}, {}))
        for part in passes(h, w):
            pitch = part.pitch
            self.around = {
                (y, x): [(y + dy * pitch, x + dx * pitch) for dy, dx in AROUND]
                for y, x in part.cells
            }
            self.place = self.of_pass(part)
            found = Field(dict.fromkeys(part.cells, 0), ({}, {}))
            if one != two:
                self.modes(part, found)
            guesses: Vectors = {}
            for r in (0, 1) if one != two else (0,):
                self.vectors(part, r, found, guesses)
            self.known.modes.update(found.modes)
            for r in (0, 1):
                self.known.vectors[r].update(found.vectors[r])
        return self.known

    # what is seen

    def of_pass(self, part: Pass) -> list[int]:
        """P."""
        seen = self.seen
        found = [*one_of(3, part.lattice), 16 * part.diagonal, 16 * self.sides]
        found += one_of(6, seen.level) + lim([log(seen.t) - 308])
        found += [min(16 * abs(distance), 127) for distance in seen.distances]
        return [*found, flag(self.suggestion is not None)]

    def t(self, r: int, cell: Place) -> Vector:
        return self.suggestion.vectors[r][cell] if self.suggestion else (0, 0)

    def rough(self, r: int, cell: Place) -> int:
        y, x = cell
        total = 0
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near[0] < self.h and 0 <= near[1] < self.w:
                total += length(less(self.t(r, near), self.t(r, cell)))
        return act(total)

    def carried(self, r: int, cell: Place, v: Vector) -> list[int]:
        place = pointed_cell(cell, v, self.h, self.w)
        depth = self.seen.references[r].depth[place]
        return [act(depth), act(self.sizes[r].get(place, 0))]

    def network(self, name: str, x: list[int]) -> list[int]:
        """Q."""
        x = relu(self.generator.layer(f"motion.{name}.0", x))
        return relu(self.generator.layer(f"motion.{name}.1", x))

    def contexts(self, layer: str, q: list[int]) -> list[int]:
        return [bucket(v) for v in self.generator.layer(f"motion.{layer}", q)]

    # modes

    def modes(self, part: Pass, found: Field) -> None:
        c = {}
        for cell in part.cells:
            q = self.network("modes", self.seen_for_modes(cell))
            c[cell] = self.contexts("modes.out", q)

        def decide(decision: int, cells: list[Place]) -> dict[Place, int]:
            contexts = [64 * decision + c[cell][decision] for cell in cells]
            bits = self.group("motion_modes", self.sides, contexts)
            return dict(zip(cells, bits, strict=True))

        left = part.cells
        if self.suggestion is not None:
            direct = decide(0, left)
            for cell in left:
                if direct[cell]:
                    found.modes[cell] = 3
                    for r in (0, 1):
                        found.vectors[r][cell] = self.t(r, cell)
            left = [cell for cell in left if not direct[cell]]
        both = decide(1, left)
        found.modes.update({cell: 2 for cell in left if both[cell]})
        found.modes.update(decide(2, [cell for cell in left if not both[cell]]))

    def seen_for_modes(self, cell: Place) -> list[int]:
        around, known = self.around[cell], self.known
        x = list(self.place)
        for near in around:
            x += one_of(4, known.modes.get(near, -1))
        x += one_of(4, self.suggestion.modes[cell] if self.suggestion else -1)
        x += [self.rough(0, cell), self.rough(1, cell)]
        for r in (0, 1):
            vectors = known.vectors[r]
            near_by = [around[i] for i in NEAR]
            x += [flag(near in vectors) for near in near_by]
            for near in near_by:
                x.append(
                    act(length(less(vectors[near], self.t(r, near)))) if near in vectors else 0
                )
        for r in (0, 1):
            x += self.carried(r, cell, self.t(r, cell))
        return x

    # vectors

    def vectors(self, part: Pass, r: int, found: Field, guesses: Vectors) -> None:
        """guesses: of the vectors over the first reference."""
        one, two = self.seen.distances
        known = self.known.vectors[r]
        targets = {}
        for cell in [cell for cell in part.cells if found.modes[cell] in (r, 2)]:
            neighbours = part.neighbours[cell] or [(-1, -1)] * 4
            valid = [known[place] for place in neighbours if place in known]
            guess, mirror, off = guess_of(valid), None, (0, 0)
            if r == 1 and found.modes[cell] == 2:
                own = found.vectors[0][cell]
                mirror = scaled(own, two, one)
                off = scaled(less(own, guesses[cell]), two, one)
                if not valid:
                    guess = mirror
            if r == 0:
                guesses[cell] = guess
            x = self.seen_for_vectors(cell, r, found.modes[cell] == 2, guess, mirror, off)
            candidates = [guess, mirror, *(known.get(place) for place in neighbours)]
            targets[cell] = Target(x, guess, candidates)
        found.vectors[r].update(self.values(2 * self.sides + r, targets))

    def seen_for_vectors(
        self, cell: Place, r: int, both: bool, guess: Vector, mirror: Vector | None, off: Vector
    ) -> list[int]:
        around, known = self.around[cell], self.known.vectors[r]
        x = [*self.place, 16 * r, flag(both)]
        x += [flag(near in known) for near in around]
        x += [flag(known.get(near) == guess) for near in around]
        for near in around:
            x += slogs(less(known[near], guess)) if near in known else [0, 0]
        near_by = [around[i] for i in NEAR]
        some = [near in known and self.suggestion is not None for near in near_by]
        for near, there in zip(near_by, some, strict=True):
            x += slogs(less(known[near], self.t(r, near))) if there else [0, 0]
        for near, there in zip(near_by, some, strict=True):
            x.append(flag(there and known[near] == self.t(r, near)))
        x += [*slogs(guess), flag(guess == (0, 0))]
        if mirror is None:
            x += [0, 0, 0, 0]
        else:
            x += [16, *slogs(less(mirror, guess)), flag(mirror == guess)]
        x += slogs(off)
        if self.suggestion is None:
            x += [0, 0, 0]
        else:
            toward = self.t(r, cell)
            x += [*slogs(less(toward, guess)), flag(toward == guess)]
        return [*x, self.rough(r, cell), *self.carried(r, cell, guess)]

    def values(self, block: int, targets: dict[Place, Target]) -> Vectors:
        c = {
            cell: self.contexts("candidates.out", self.network("candidates", target.x))
            for cell, target in targets.items()
        }
        found: Vectors = {}
        for i in range(6):
            asked = []
            for cell, (_, _, candidates) in targets.items():
                new = candidates[i] is not None and candidates[i] not in candidates[:i]
                if cell not in found and new:
                    asked.append(cell)
            contexts = [64 * i + c[cell][i] for cell in asked]
            bits = self.group("motion_candidates", block, contexts)
            for cell, bit in zip(asked, bits, strict=True):
                candidate = targets[cell].candidates[i]
                if bit and candidate is not None:
                    found[cell] = candidate
        left = [cell for cell in targets if cell not in found]
        q = [self.network("difference", targets[cell].x) for cell in left]
        across = self.numbers("motion_x", block, [self.contexts("difference.x", v) for v in q])
        below_contexts = []
        for v, d in zip(q, across, strict=True):
            y = [16 if d > 0 else -16 if d < 0 else 0, flag(d == 0), slog(d), act(abs(d))]
            y += [flag(abs(d) == 1), flag(abs(d) == 2)]
            inner = relu(self.generator.layer("motion.difference.2", v + y))
            below_contexts.append(self.contexts("difference.y", inner))
        below = self.numbers("motion_y", block, below_contexts)
        for cell, dx, dy in zip(left, across, below, strict=True):
            gx, gy = targets[cell].guess
            found[cell] = limited(gx + dx), limited(gy + dy)
        return found

    def numbers(self, table: str, block: int, c: list[list[int]]) -> list[int]:
        """Differences of one component."""

        def decide(cells: list[int], decisions: list[int]) -> list[int]:
            pairs = zip(cells, decisions, strict=True)
            return self.group(table, block, [64 * d + c[cell][d] for cell, d in pairs])

        every = list(range(len(c)))
        bits = decide(every, [0] * len(c))
        some = [cell for cell in every if bits[cell]]
        g = dict(zip(some, decide(some, [1] * len(some)), strict=True))
        n, e, b = dict.fromkeys(some, 0), dict.fromkeys(some, 1), dict.fromkeys(some, 0)
        going = some
        for u in range(11):
            bits = decide(going, [2 + 11 * g[cell] + u for cell in going])
            going = [cell for cell, bit in zip(going, bits, strict=True) if bit]
            for cell in going:
                n[cell] += 1
        for i in range(11):
            going = [cell for cell in some if n[cell] > i]
            if i == 0:
                bits = decide(going, [24 + 11 * g[cell] + n[cell] - 1 for cell in going])
                b |= dict(zip(going, bits, strict=True))
            elif i == 1:
                bits = decide(
                    going, [46 + 22 * b[cell] + 11 * g[cell] + n[cell] - 1 for cell in going]
                )
            else:
                bits = self.decoder.group([RAW] * len(going))
            for cell, bit in zip(going, bits, strict=True):
                e[cell] = 2 * e[cell] + bit
        return [0 if cell not in g else -e[cell] if g[cell] else e[cell] for cell in every]
