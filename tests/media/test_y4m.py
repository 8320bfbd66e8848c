import io
from dataclasses import replace
from fractions import Fraction

import pytest

from neurocodec.bitstream.payloads import AudioPacket, Colour
from neurocodec.media.frame import MediaInfo
from neurocodec.media.y4m import Y4MWriter
from tests.conftest import moving_picture

INFO = MediaInfo(17, 13, Fraction(4, 3), Fraction(30000, 1001), Fraction(1, 90000), Colour())


def test_bytes(caplog: pytest.LogCaptureFixture) -> None:
    for full, name in ((False, b"LIMITED"), (True, b"FULL")):
        file = io.BytesIO()
        writer = Y4MWriter(file, replace(INFO, colour=Colour(full_range=full)))
        frames = [replace(f, pts=3003 * i) for i, f in enumerate(moving_picture(3, 17, 13))]
        for frame in frames:
            writer.write(frame)
            writer.audio(AudioPacket(0, 0, 0, b"not written"))
        writer.close()
        head, *rest = file.getvalue().split(b"FRAME\n")
        assert head == (
            b"YUV4MPEG2 W17 H13 F30000:1001 Ip A4:3 C420jpeg XYSCSS=420JPEG XCOLORRANGE="
            + name + b"\n"
        )  # fmt: skip
        assert rest == [b"".join(p.tobytes() for p in frame.planes) for frame in frames]
    assert not caplog.records


def test_lost_times_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    writer = Y4MWriter(io.BytesIO(), replace(INFO, frame_rate=Fraction(25), time_base=Fraction(1)))
    for i, frame in enumerate(moving_picture(4, 17, 13)):
        writer.write(replace(frame, pts=i * i))
    assert [r.getMessage() for r in caplog.records] == [
        "y4m has no timestamps: frames are 25 a second, not as in the clip"
    ]
