"""Hostile files: mutations of whole ones that keep, or mend, what would stop them at the door.

Half of a mutated file's checksums and its index are made anew, so that the damage reaches the
parsers of payloads and the decoder instead of being found by a CRC.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from neurocodec.bitstream.payloads import End, IndexEntry, index_to_bytes
from neurocodec.bitstream.sections import HEAD_BYTES, PREAMBLE_BYTES, SYNC, parse_head, preamble

HEADER, VIDEO, TIMESTAMPS, AUDIO, INDEX, END = range(1, 7)
_TYPES = (HEADER, VIDEO, TIMESTAMPS, AUDIO, INDEX, END, 0, 7, 77, 255)
_NUMBERS = (0, 1, 2, 3, 5, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_MAX_PAYLOAD = 1 << 16  # bytes, of what mutations make longer


@dataclass(frozen=True)
class Piece:
    """A section. length and crc: what its head says where that is not so."""

    type: int
    number: int
    payload: bytes
    length: int | None = None
    crc: int | None = None

    def to_bytes(self) -> bytes:
        length = len(self.payload) if self.length is None else self.length
        crc = zlib.crc32(self.payload) if self.crc is None else self.crc
        head = struct.pack("<4sB3xIII", SYNC, self.type, self.number, length, crc)
        return head + struct.pack("<I", zlib.crc32(head)) + self.payload


def pieces_of(data: bytes) -> list[Piece]:
    """The sections of a file that is whole."""
    out, at = [], PREAMBLE_BYTES
    while head := parse_head(data[at : at + HEAD_BYTES], at):
        out.append(Piece(head.type, head.number, data[at + HEAD_BYTES : head.end]))
        at = head.end
    return out


def assemble(pieces: Sequence[Piece], indexed: bool = True) -> bytes:
    """A file of these sections; indexed: with an index and an end that fit them, not their own."""
    out = bytearray(preamble())
    entries = []
    for piece in pieces:
        if indexed and piece.type in (INDEX, END):
            continue
        frames = first = 0
        if piece.type == VIDEO and len(piece.payload) >= 10:
            frames, first = struct.unpack_from("<Hq", piece.payload)
        if piece.type in (VIDEO, TIMESTAMPS, AUDIO):
            entries.append(IndexEntry(piece.type, piece.number, len(out), frames, first))
        out += piece.to_bytes()
    if indexed:
        end = End(len(out), len({e.number for e in entries}), sum(e.frames for e in entries))
        out += Piece(INDEX, 0, index_to_bytes(entries)).to_bytes()
        out += Piece(END, 0, end.to_bytes()).to_bytes()
    return bytes(out)


def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """A hostile version of a whole file. others: whole files to take sections from."""
    if random.random() < 0.2:
        return _mutate_bytes(data, random)
    pieces = pieces_of(data)
    foreign = [piece for other in others for piece in pieces_of(other)]
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        if pieces:
            random.choice(_OF_FILES)(pieces, foreign, random)
    out = assemble(pieces, indexed=random.random() < 0.6)
    return _mutate_bytes(out, random) if random.random() < 0.05 else out


def _mutate_bytes(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(out) + 1)
        size = random.choice((1, 1, 2, 4, 24, 100, 1000))
        kind = random.randrange(6)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = random.randbytes(size)
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            out[at:at] = SYNC
        elif at < len(out):
            out[at] ^= 1 << random.randrange(8)
    return bytes(out)


def _payload(piece: Piece, random: Random) -> bytes:
    """A payload with one thing wrong in it."""
    data = bytearray(piece.payload)
    kind = random.randrange(8)
    if kind == 0:
        return bytes(data[: random.randrange(len(data) + 1)])
    if kind == 1:
        data += random.randbytes(random.choice((1, 3, 4, 100, 5000)))
    elif kind == 2 and len(data) < _MAX_PAYLOAD:
        data *= 2
    elif kind == 3 and data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == 4 and data:
        at = random.randrange(len(data))
        data[at:] = random.randbytes(len(data) - at)
    elif data:
        _overwrite(data, _fields_of(piece), random)
    return bytes(data)


def _overwrite(data: bytearray, fields: list[tuple[int, int]], random: Random) -> None:
    """An integer at a field, or anywhere, becomes one of those that programs stumble over."""
    at, size = random.randrange(len(data)), random.choice((1, 2, 4, 8))
    if fields and random.random() < 0.7:
        at, size = random.choice(fields)
    top = 1 << 8 * size
    value = random.choice(
        (0, 1, 2, 3, 17, 255, 1024, 1025, top - 1, top // 2, top // 2 - 1, random.randrange(top))
    )
    data[at : at + size] = (value % top).to_bytes(size, "little")[: len(data) - at]


def _fields_of(piece: Piece) -> list[tuple[int, int]]:
    """Where a payload has integers: offset, bytes."""
    data = piece.payload
    if piece.type == HEADER and len(data) > 36:
        start = 36 + struct.unpack_from("<I", data, 32)[0]
        sizes = [4, 4, 2, 1, 1, *[4] * 6, 1, 1, 1, 1, 2]
    elif piece.type == VIDEO:
        start, sizes = 0, [2, 8, 4, 4, *[1] * 8]
    elif piece.type == TIMESTAMPS:
        start, sizes = 0, [2, *[1] * 16]
    elif piece.type == AUDIO:
        start, sizes = 0, [4, 2, 8, 4, 4]
    elif piece.type == INDEX:
        start, sizes = 0, [4, *[1, 4, 8, 2, 8] * min(20, len(data) // 23)]
    elif piece.type == END:
        start, sizes = 0, [8, 4, 8]
    else:
        return []
    out = []
    for size in sizes:
        out.append((start, size))
        start += size
    return [(at, size) for at, size in out if at + size <= len(data)]


Operation = Callable[[list[Piece], list[Piece], Random], None]


def _spoil(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    at = random.randrange(len(pieces))
    pieces[at] = replace(pieces[at], payload=_payload(pieces[at], random))


def _spoil_header(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    data = bytearray(pieces[0].payload)
    if data:
        _overwrite(data, _fields_of(pieces[0]), random)
        pieces[0] = replace(pieces[0], payload=bytes(data))


def _drop(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    del pieces[random.randrange(len(pieces))]


def _repeat(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    piece = random.choice(pieces)
    for _ in range(random.choice((1, 1, 3, 40))):
        pieces.insert(random.randrange(1, len(pieces) + 1), piece)


def _swap(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    a, b = random.randrange(len(pieces)), random.randrange(len(pieces))
    pieces[a], pieces[b] = pieces[b], pieces[a]


def _renumber(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    at = random.randrange(len(pieces))
    pieces[at] = replace(pieces[at], number=random.choice(_NUMBERS))


def _retype(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    at = random.randrange(len(pieces))
    pieces[at] = replace(pieces[at], type=random.choice(_TYPES))


def _lie_about(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    at = random.randrange(len(pieces))
    size = len(pieces[at].payload)
    length = random.choice((0, size + 1, max(0, size - 1), 2 * size, 1 << 28, (1 << 28) + 1))
    pieces[at] = replace(pieces[at], length=length)


def _damage(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    at = random.randrange(len(pieces))
    pieces[at] = replace(pieces[at], crc=random.randrange(1 << 32))


def _take_in(pieces: list[Piece], foreign: list[Piece], random: Random) -> None:
    if foreign:
        pieces.insert(random.randrange(len(pieces) + 1), random.choice(foreign))


_OF_FILES: tuple[Operation, ...] = (
    _spoil, _spoil, _spoil, _spoil_header, _drop, _repeat, _swap, _renumber, _retype, _lie_about,
    _damage, _take_in,
)  # fmt: skip


_SIZES: tuple[Any, ...] = (
    0, 1, 2, 7, 16, 17, 64, 255, 256, 1024, 2048, 4096, 1 << 20, 1 << 31, 1 << 62, -1, 0.5, 1e300,
    True, None, "8", [], [16], [16, 16], [2048] * 3, [1] * 1000, {},
)  # fmt: skip
_DTYPES = ("BF16", "F16", "F32", "F64", "I8", "U8", "I32", "BOOL", "F8_E4M3", "C64", "X")


def mutate_bundle(data: bytes, random: Random) -> bytes:
    """A hostile version of a model bundle: mostly of what its head says, sometimes of any byte."""
    if random.random() < 0.1:
        return _mutate_bytes(data, random)
    size = int.from_bytes(data[:8], "little")
    head, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    for _ in range(random.choice((1, 1, 2, 3))):
        kind = random.randrange(10)
        if kind < 6:
            _spoil_description(head["__metadata__"], random)
        elif kind < 9:
            _spoil_tensor(head, random)
        elif body:
            at = random.randrange(len(body))
            body[at : at + 256] = random.randbytes(len(body[at : at + 256]))
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def _spoil_description(metadata: dict[str, str], random: Random) -> None:
    """A size of a network becomes one of those that programs stumble over."""
    try:
        description = json.loads(metadata["neurocodec"])
        part = random.choice([k for k in ("tokenizer", "generator", "name") if k in description])
        sizes = description if part == "name" else description[part]
        key = random.choice(sorted(sizes))
        if random.random() < 0.1:
            del sizes[key]
        else:
            sizes[key] = random.choice((*_SIZES, *sizes.values()))
        metadata["neurocodec"] = json.dumps(description)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError):  # spoiled
        metadata["neurocodec"] = random.choice(("[" * 100_000, "[]", "{}", "1" * 10_000, "\0"))


def _spoil_tensor(head: dict[str, Any], random: Random) -> None:
    name = random.choice(sorted(set(head) - {"__metadata__"}))
    tensor, kind = head[name], random.randrange(5)
    if kind == 0:
        del head[name]
    elif kind == 1:
        tensor["dtype"] = random.choice(_DTYPES)
    elif kind == 2:
        tensor["shape"] = random.choice((tensor["shape"][::-1], [1 << 40, 1 << 40], [], [0]))
    elif kind == 3:
        tensor["data_offsets"] = [random.choice((0, 1, 1 << 40, 1 << 63)) for _ in range(2)]
    else:
        head[random.choice(sorted(head))] = head.pop(name)
