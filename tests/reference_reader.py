"""A slow, obvious reader of .nc files down to the tokens, written from ``bitstream_spec.md`` alone.

Pure Python, and independent of the package on purpose: where the two disagree, one of them or the
specification is wrong. Section numbers are the specification's.

    python tests/reference_reader.py MODEL.safetensors FILE.nc...      prints a hash for each GOP
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HEADER, VIDEO, TIMESTAMPS, AUDIO, INDEX, END = range(1, 7)


# 2 and 3: the file


class Section(NamedTuple):
    type: int
    number: int
    offset: int
    payload: bytes | None  # None: damaged


class Gop(NamedTuple):
    frames: int
    times: list[int]
    step: int
    tokens: bytes


class File(NamedTuple):
    width: int
    height: int
    gops: dict[int, Gop]
    audio: dict[int, list[tuple[int, int, int, bytes]]]  # (track, time, duration, data) by GOP
    tracks: int


class Fields:
    """Section 1."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def bytes(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("too short")
        self.at += size
        return self.data[self.at - size : self.at]

    def u(self, size: int) -> int:
        return int.from_bytes(self.bytes(size), "little")

    def i64(self) -> int:
        return int.from_bytes(self.bytes(8), "little", signed=True)

    def blob(self) -> bytes:
        return self.bytes(self.u(4))

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.u(1)
            number += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number // 2 if number % 2 == 0 else -(number + 1) // 2


def section_at(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """(type, number, length, CRC of the payload), or None where there is no head; 2.2."""
    head = data[offset : offset + 24]
    if len(head) < 24 or head[:4] != b"\xf5NCs":
        return None
    if zlib.crc32(head[:20]) != int.from_bytes(head[20:], "little"):
        return None
    type_, number, length, crc = struct.unpack_from("<B3xIII", head, 4)
    return (type_, number, length, crc) if length <= 2**28 else None


def read_section(data: bytes, offset: int) -> Section | None:
    head = section_at(data, offset)
    if head is None:
        return None
    type_, number, length, crc = head
    payload = data[offset + 24 : offset + 24 + length]
    whole = len(payload) == length and zlib.crc32(payload) == crc
    return Section(type_, number, offset, payload if whole else None)


def find_sections(data: bytes) -> list[Section]:
    """By the index, or by scanning where there is none; 3.6, 3.7."""
    end = read_section(data, len(data) - 44) if len(data) >= 44 else None
    if end and end.type == END and end.payload:
        index = read_section(data, int.from_bytes(end.payload[:8], "little"))
        if index and index.type == INDEX and index.payload is not None:
            fields = Fields(index.payload)
            found = []
            for _ in range(fields.u(4)):
                type_, number, offset = fields.u(1), fields.u(4), fields.u(8)
                fields.bytes(10)
                section = read_section(data, offset)
                if section and (section.type, section.number) == (type_, number):
                    found.append(section)
            return found
    header = section_at(data, 12)
    assert header is not None
    offset, found = 12 + 24 + header[2], []
    while offset < len(data):
        head = section_at(data, offset)
        if head is None:
            offset += 1
            continue
        if offset + 24 + head[2] > len(data):
            break
        found.append(read_section(data, offset))  # type: ignore[arg-type]
        offset += 24 + head[2]
    return found


def read_file(data: bytes) -> File:
    if data[:8] != b"\x89NCV\r\n\x1a\n" or int.from_bytes(data[8:10], "little") != 1:
        raise ValueError("not a .nc file of version 1")
    header = read_section(data, 12)
    if header is None or header.type != HEADER or header.payload is None:
        raise ValueError("the header is damaged")
    fields = Fields(header.payload)
    fields.bytes(32)
    fields.blob()
    width, height, _, _, entropy_model = (fields.u(size) for size in (4, 4, 2, 1, 1))
    fields.bytes(3 * 8 + 4)
    tracks = fields.u(2)
    assert entropy_model == 0
    sections = find_sections(data)
    gops, audio = {}, {}
    for number in {section.number for section in sections}:
        of_gop = [s for s in sections if s.number == number]
        audio[number] = [p for s in of_gop if s.type == AUDIO for p in read_audio(s.payload)]
        videos = [s.payload for s in of_gop if s.type == VIDEO]
        times = [s.payload for s in of_gop if s.type == TIMESTAMPS]
        if videos and videos[0] is not None:
            gops[number] = read_gop(videos[0], times[0] if times else None)
    return File(width, height, dict(sorted(gops.items())), audio, tracks)


def read_gop(payload: bytes, timestamps: bytes | None) -> Gop:
    """3.2 and 3.3."""
    fields = Fields(payload)
    frames, first, duration, step = fields.u(2), fields.i64(), fields.u(4), fields.u(4)
    times = [first + i * duration for i in range(frames)]
    if timestamps is not None:
        given = Fields(timestamps)
        if given.u(2) == frames:
            time = difference = 0
            for i in range(frames):
                difference += given.varint()
                time += difference
                times[i] = time
    return Gop(frames, times, step, payload[18:])


def read_audio(payload: bytes | None) -> list[tuple[int, int, int, bytes]]:
    """3.4."""
    if payload is None:
        return []
    fields = Fields(payload)
    return [(fields.u(2), fields.i64(), fields.u(4), fields.blob()) for _ in range(fields.u(4))]


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


# 5: entropy model 0

Place = tuple[int, int]  # (y, x)
Table = list[list[list[int]]]  # [block][context] -> [zeros, ones]

PASSES = [(0, 0), (1, 1), (0, 1), (1, 0)]
NEIGHBOURS = {
    (-1, 0): 2, (0, -1): 2, (0, 1): 2, (1, 0): 2, (-1, -1): 1, (-1, 1): 1, (1, -1): 1, (1, 1): 1,
}  # fmt: skip


class Shape(NamedTuple):
    """quantizer: "levels" or "signs"; stages: S; bits: K."""

    quantizer: str
    stages: int
    bits: int


class Latent(NamedTuple):
    """One latent frame: depth by place, tokens by (place, stage, channel); 0 where absent."""

    depth: dict[Place, int]
    tokens: dict[tuple[Place, int, int], int]


def bounds_class(value: int, bounds: list[int]) -> int:
    return sum(bound <= value for bound in bounds)


class Model:
    def __init__(self, shape: Shape, prior: dict[str, Table], h: int, w: int, data: bytes) -> None:
        self.shape, self.h, self.w = shape, h, w
        self.tables = {
            name: [[list(pair) for pair in block] for block in table]
            for name, table in prior.items()
        }
        self.decoder = RangeDecoder(data)
        self.before: Latent | None = None
        self.tree_bits = max(1, len(f"{shape.stages - 1:b}") if shape.stages > 1 else 0)

    def group(self, table: str, block: int, contexts: list[int]) -> list[int]:
        """5.2."""
        counts = self.tables[table][block]
        ks = []
        for context in contexts:
            zeros, ones = counts[context]
            k = ((2 * ones + 1) * 65536) // (2 * (zeros + ones) + 2)
            ks.append(min(max(k, 1), 65535))
        bits = self.decoder.group(ks)
        for context, bit in zip(contexts, bits, strict=True):
            counts[context][bit] += 1
        for context in contexts:
            while sum(counts[context]) > 1023:
                counts[context][:] = [(n + 1) // 2 for n in counts[context]]
        return bits

    def cells(self, parity: Place, wanted: Callable[[Place], bool]) -> list[Place]:
        """Cells of a pass, in raster order."""
        places = [(y, x) for y in range(self.h) for x in range(self.w)]
        return [p for p in places if (p[0] % 2, p[1] % 2) == parity and wanted(p)]

    def latent_frame(self) -> Latent:
        latent = Latent({}, {})
        self.depths(latent)
        for stage in range(max(latent.depth.values())):
            self.stage(latent, stage)
        self.before = latent
        return latent

    def depths(self, latent: Latent) -> None:
        """5.4."""
        depth = latent.depth
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
            coded = self.group("coded", 0, contexts)
            some = [i for i in range(len(cells)) if coded[i]]
            nodes = [1] * len(some)
            for _ in range(self.tree_bits):
                at = [2**self.tree_bits * contexts[i] + n for i, n in zip(some, nodes, strict=True)]
                bits = self.group("depth", 0, at)
                nodes = [2 * node + bit for node, bit in zip(nodes, bits, strict=True)]
            found = dict.fromkeys(cells, 0)
            for i, node in zip(some, nodes, strict=True):
                found[cells[i]] = min(node - 2**self.tree_bits + 1, self.shape.stages)
            depth.update(found)

    def stage(self, latent: Latent, s: int) -> None:
        """5.5."""
        block = (self.shape.stages if self.before else 0) + s
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
            negative = self.group("negative", block, [j for _, j in items])
            sizes = dict.fromkeys(items, 1)
            if self.shape.quantizer == "levels":
                self.magnitudes(sizes, around, block)
            for (place, j), sign in zip(items, negative, strict=True):
                size = sizes[place, j]
                latent.tokens[place, s, j] = -size if sign else size
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
        escaped = going
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


def decode_gop(
    shape: Shape, prior: dict[str, Table], width: int, height: int, frames: int, data: bytes
) -> list[Latent]:
    """5.1."""
    model = Model(shape, prior, (height + 7) // 8, (width + 7) // 8, data)
    return [model.latent_frame() for _ in range(1 + (frames - 1 + 3) // 4)]


def hash_latents(latents: list[Latent], shape: Shape) -> str:
    """5.6."""
    digest = hashlib.sha256()
    for latent in latents:
        places = sorted(latent.depth)
        for place in places:
            digest.update(struct.pack("<H", latent.depth[place]))
        for place in places:
            for s in range(shape.stages):
                for j in range(shape.bits):
                    digest.update(struct.pack("<h", latent.tokens.get((place, s, j), 0)))
    return digest.hexdigest()


# 8: model bundle


def read_bundle(data: bytes) -> tuple[Shape, dict[str, Table]]:
    """Of a safetensors file: the tokens' shape and the prior."""
    size = int.from_bytes(data[:8], "little")
    directory = json.loads(data[8 : 8 + size])
    config = json.loads(directory["__metadata__"]["neurocodec"])["tokenizer"]
    prior = {}
    for name in ("coded", "depth", "nonzero", "negative", "more"):
        entry = directory[f"prior.{name}"]
        assert entry["dtype"] == "U8"
        blocks, contexts, _ = entry["shape"]
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        values = list(data[begin:end])
        pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
        prior[name] = [pairs[b * contexts : (b + 1) * contexts] for b in range(blocks)]
    return Shape(config["quantizer"], config["stages"], config["bits"]), prior


def hashes(bundle: bytes, data: bytes) -> dict[str, str]:
    """GOP number -> hash of its tokens, of those GOPs that are undamaged."""
    shape, prior = read_bundle(bundle)
    file = read_file(data)
    return {
        str(number): hash_latents(
            decode_gop(shape, prior, file.width, file.height, gop.frames, gop.tokens), shape
        )
        for number, gop in file.gops.items()
    }


if __name__ == "__main__":
    for name in sys.argv[2:]:
        found = hashes(Path(sys.argv[1]).read_bytes(), Path(name).read_bytes())
        print(name, *found.values(), sep="\n    ")
