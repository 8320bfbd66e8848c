"""A slow, obvious reader of .nc files down to the tokens, written from ``bitstream_spec.md`` alone.

Pure Python, and independent of the package on purpose: where the two disagree, one of them or the
specification is wrong. Section numbers are the specification's. This module reads the file, and
``reference_tokens.py``, ``reference_pictures.py``, ``reference_motion.py`` and
``reference_generator.py`` what is in the tokens.

    python -m tests.reference_reader MODEL.safetensors FILE.nc...      prints a hash for each GOP
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .reference_generator import Generator, Layer, decode_generated_latents
from .reference_pictures import decode_pictures, hash_pictures
from .reference_tokens import Shape, Table, decode_latents, hash_latents

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
    entropy_model: int
    gops: dict[int, Gop]
    audio: dict[int, list[tuple[int, int, int, bytes]]]  # (track, time, duration, data) by GOP
    tracks: int


class Fields:
    """Section 1."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("too short")
        self.at += size
        return self.data[self.at - size : self.at]

    def u(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def i64(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def blob(self) -> bytes:
        return self.take(self.u(4))

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
                fields.take(10)
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
    fields.take(32)
    fields.blob()
    width, height, _, _, entropy_model = (fields.u(size) for size in (4, 4, 2, 1, 1))
    fields.take(3 * 8 + 4)
    tracks = fields.u(2)
    sections = find_sections(data)
    gops, audio = {}, {}
    for number in {section.number for section in sections}:
        of_gop = [s for s in sections if s.number == number]
        audio[number] = [p for s in of_gop if s.type == AUDIO for p in read_audio(s.payload)]
        videos = [s.payload for s in of_gop if s.type == VIDEO]
        times = [s.payload for s in of_gop if s.type == TIMESTAMPS]
        if videos and videos[0] is not None:
            gops[number] = read_gop(videos[0], times[0] if times else None)
    return File(width, height, entropy_model, dict(sorted(gops.items())), audio, tracks)


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


# 8: model bundle


def read_bundle(data: bytes) -> tuple[Shape, dict[str, Table], Generator | None]:
    """Of a safetensors file: the tokens' shape, the prior, and the generator if there is one."""
    size = int.from_bytes(data[:8], "little")
    directory = json.loads(data[8 : 8 + size])
    description = json.loads(directory["__metadata__"]["neurocodec"])
    formats = {"U8": ("prior.", "<u1"), "U16": ("generator.prior.", "<u2"),
               "I8": ("generator.", "<i1"), "I32": ("generator.", "<i4")}  # fmt: skip
    found: dict[str, np.ndarray] = {}
    for key, entry in directory.items():
        if key.startswith(("prior.", "generator.")):
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            prefix, format_ = formats[entry["dtype"]]
            assert key.startswith(prefix)
            found[key] = np.frombuffer(data[begin:end], format_).reshape(entry["shape"])

    def tables(prefix: str) -> dict[str, Table]:
        return {
            k.removeprefix(prefix): v.tolist() for k, v in found.items() if k.startswith(prefix)
        }

    generator = None
    if "generator" in description:
        layers = {}
        for key, weights in found.items():
            if key.endswith(".weight"):
                name = key.removesuffix("weight")
                biases, multipliers = (found[name + part] for part in ("bias", "multiplier"))
                layers[name.removeprefix("generator.").removesuffix(".")] = Layer(
                    weights.astype(np.int64), biases.tolist(), multipliers.tolist()
                )
        config = description["generator"]
        prior = tables("generator.prior.")
        motion = config.get("motion", 0)
        generator = Generator(config["hidden"], config["blocks"], motion, layers, prior)
    config = description["tokenizer"]
    kinds, smooth = config.get("transform_kinds", 0), bool(config.get("loop_filter", 0))
    shape = Shape(config["quantizer"], config["stages"], config["bits"], kinds, smooth)
    return shape, tables("prior."), generator


def hashes(bundle: bytes, data: bytes) -> dict[str, str]:
    """GOP number -> hash of its tokens, of those GOPs that are undamaged."""
    shape, prior, generator = read_bundle(bundle)
    file = read_file(data)
    found = {}
    for number, gop in file.gops.items():
        size = (file.width, file.height, gop.frames)
        if file.entropy_model == 0:
            latents = decode_latents(shape, prior, *size, gop.tokens)
            found[str(number)] = hash_latents(latents, shape)
        elif file.entropy_model == 2:
            assert generator is not None
            latents = decode_generated_latents(shape, generator, *size, gop.step, gop.tokens)
            found[str(number)] = hash_latents(latents, shape)
        else:
            assert file.entropy_model in (1, 3, 4, 5)
            of_generator = generator if file.entropy_model in (3, 5) else None
            hides = file.entropy_model in (4, 5)
            pictures = decode_pictures(
                shape, prior, *size, gop.tokens, of_generator, gop.step, hides
            )
            found[str(number)] = hash_pictures(pictures, shape)
    return found


if __name__ == "__main__":
    for name in sys.argv[2:]:
        found = hashes(Path(sys.argv[1]).read_bytes(), Path(name).read_bytes())
        print(name, *found.values(), sep="\n    ")
