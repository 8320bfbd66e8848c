"""Little-endian fields of section payloads, read and written with every length checked."""

from __future__ import annotations

import struct
from fractions import Fraction

from ..errors import FormatError
from .limits import MAX_TERM, MAX_TIME


class FieldWriter:
    def __init__(self) -> None:
        self.data = bytearray()

    def pack(self, layout: str, *values: int) -> None:
        """layout: a ``struct`` format without the byte order. Raises FormatError out of range."""
        try:
            self.data += struct.pack("<" + layout, *values)
        except struct.error as error:
            raise FormatError(f"a value does not fit the format: {error}") from None

    def rational(self, value: Fraction) -> None:
        if value <= 0 or max(value.numerator, value.denominator) > MAX_TERM:
            raise FormatError(f"the fraction {value} does not fit the format")
        self.pack("II", value.numerator, value.denominator)

    def text(self, value: str) -> None:
        self.blob(value.encode("utf-8", "replace"))

    def blob(self, value: bytes) -> None:
        self.pack("I", len(value))
        self.data += value

    def varint(self, value: int) -> None:
        """Signed, zigzag, then seven bits a byte, least significant first."""
        value = value * 2 if value >= 0 else -value * 2 - 1
        while value >= 0x80:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)


class FieldReader:
    """Raises FormatError wherever the bytes end too early or make no sense."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.at, self.what = data, 0, what

    def take(self, size: int) -> bytes:
        if size < 0 or size > len(self.data) - self.at:
            raise FormatError(f"{self.what} is too short")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def number(self, layout: str) -> int:
        return self.unpack(layout)[0]

    def rational(self) -> Fraction:
        numerator, denominator = self.unpack("II")
        if not (0 < numerator <= MAX_TERM and 0 < denominator <= MAX_TERM):
            raise FormatError(f"{self.what} has a fraction {numerator}/{denominator}")
        return Fraction(numerator, denominator)

    def time(self, value: int) -> int:
        """A timestamp, checked to be in range."""
        if not -MAX_TIME < value < MAX_TIME:
            raise FormatError(f"{self.what} has a timestamp that is out of range")
        return value

    def text(self, limit: int) -> str:
        return self.blob(limit).decode("utf-8", "replace")

    def blob(self, limit: int) -> bytes:
        size = self.number("I")
        if size > limit:
            raise FormatError(f"{self.what} has a field of {size} bytes, more than {limit}")
        return self.take(size)

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value >> 1 if value % 2 == 0 else -(value >> 1) - 1
        raise FormatError(f"{self.what} has a number that is too long")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)
