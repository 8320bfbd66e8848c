"""The shape of a Matroska file's pixels, which PyAV has no way to hand to libav's writer.

libav is made to write a track name of no use, and its room is taken for the shape afterwards.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

PLACEHOLDER = "room for the shape of the pixels"  # name for the video track
OPTIONS = {"write_crc32": "0"}  # of the muxer: nobody else has to know of the change

_NAME, _VIDEO, _VOID = b"\x53\x6e", b"\xe0", b"\xec"
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_RATIO = b"\x03"  # display unit: width and height are an aspect ratio
_HEAD_BYTES = 1 << 20  # tracks are near the beginning


def set_aspect(path: Path, width: int, height: int, sample_aspect: Fraction) -> None:
    """Write the shape into a complete file whose video track is named PLACEHOLDER."""
    shape = Fraction(width, height) * sample_aspect
    if max(shape.numerator, shape.denominator) >> 32:
        return  # a shape that no picture has
    with path.open("r+b") as file:
        data = file.read(_HEAD_BYTES)
        name = _element(_NAME, PLACEHOLDER.encode())
        start = data.index(name)
        at = start + len(name)
        while True:  # what follows in the same track, up to its video settings
            key, begin, end = _parse(data, at)
            if key == _VIDEO:
                break
            at = end
        settings = _without_display(data[begin:end])
        settings += _element(_DISPLAY_WIDTH, shape.numerator.to_bytes(4, "big"))
        settings += _element(_DISPLAY_HEIGHT, shape.denominator.to_bytes(4, "big"))
        settings += _element(_DISPLAY_UNIT, _RATIO)
        new = data[start + len(name) : at] + _element(_VIDEO, settings)
        new += _element(_VOID, bytes(end - start - len(new) - 2))
        file.seek(start)
        file.write(new)


def _without_display(settings: bytes) -> bytes:
    kept, at = b"", 0
    while at < len(settings):
        key, _, end = _parse(settings, at)
        if key not in (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT):
            kept += settings[at:end]
        at = end
    return kept


def _parse(data: bytes, at: int) -> tuple[bytes, int, int]:
    """Id of the EBML element at a place, and where its payload begins and ends."""
    size_at = at + 9 - data[at].bit_length()  # leading zero bits tell a number's length
    begin = size_at + 9 - data[size_at].bit_length()
    size = int.from_bytes(data[size_at:begin], "big") & ((1 << 7 * (begin - size_at)) - 1)
    return data[at:size_at], begin, begin + size


def _element(key: bytes, payload: bytes) -> bytes:
    """For payloads of up to 126 bytes."""
    return key + (0x80 | len(payload)).to_bytes(1, "big") + payload
