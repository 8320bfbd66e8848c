"""Every codec as it is really run, on a small clip."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from neurocodec.bench.anchors import CODECS, Codec, Setting, make_codec
from neurocodec.bench.ffmpeg import Ffmpeg
from neurocodec.bench.y4m import Y4m, open_y4m, write_y4m
from neurocodec.errors import UsageError
from tests.bench.conftest import planes

VIDEO = ("x264", "x265", "svt-av1", "vvenc")
STILL = ("jpeg", "webp", "avif")
FAST = {"x264": "ultrafast", "x265": "ultrafast", "svt-av1": "10", "vvenc": "faster", "avif": "8"}


def codec(name: str, ffmpeg: Ffmpeg, **changes: str) -> Codec:
    return make_codec(Setting(name, FAST.get(name), **changes), ffmpeg, 16, None)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def there_and_back(made: Codec, folder: Path, frames: int, value: float) -> tuple[Y4m, bytes]:
    source, stream, out = folder / "in.y4m", folder / f"stream{made.suffix}", folder / "out.y4m"
    write_y4m(source, planes(frames, 64, 48), Fraction(25))
    run(made.encode(source, value, stream))
    run(made.decode(stream, out))
    return open_y4m(out), stream.read_bytes()


@pytest.mark.parametrize("name", [*VIDEO, *STILL])
def test_samples_come_back(name: str, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    """At the fine end of the dial nothing but small errors: no conversion of range or matrix, no
    frame lost, and no text about the encoder."""
    made = codec(name, ffmpeg)
    count = 1 if made.still else 5
    assert made.missing() is None
    decoded, stream = there_and_back(made, tmp_path, count, made.dial.fine)
    assert decoded.count == count
    for a, b in zip(planes(count, 64, 48), decoded, strict=True):
        for x, y in zip(a, b, strict=True):
            difference = y.astype(float) - x
            assert abs(difference.mean()) < 0.5
            assert np.sqrt(np.square(difference).mean()) < 4
    assert b"x264" not in stream
    assert b"x265" not in stream


@pytest.mark.parametrize("name", VIDEO)
def test_matched_gop(name: str, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    matched = codec(name, ffmpeg, gop="matched")
    source, stream = tmp_path / "in.y4m", tmp_path / f"stream{matched.suffix}"
    write_y4m(source, planes(49, 64, 48), Fraction(25))
    run(matched.encode(source, 40, stream))
    with av.open(str(stream)) as container:
        if name == "vvenc":  # libav marks the wrong frames of VVC, but the right packets
            keys = [i for i, p in enumerate(container.demux(video=0)) if p.size and p.is_keyframe]
        else:  # packets of HEVC are far from the order of frames
            keys = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys[:3] == [0, 16, 32]


@pytest.mark.parametrize("name", [*VIDEO, *STILL])
def test_rate_follows_the_dial(name: str, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    made = codec(name, ffmpeg)
    frames = 1 if made.still else 5
    sizes = [len(there_and_back(made, tmp_path, frames, v)[1]) for v in made.dial.probes]
    assert sizes[0] < sizes[1]


def test_tuning_for_psnr_changes_the_command(ffmpeg: Ffmpeg) -> None:
    for name, words in (("x264", "-tune psnr"), ("x265", "-tune psnr"), ("vvenc", "-qpa 0")):
        command = codec(name, ffmpeg, tune="psnr").encode(Path("a"), 30, Path("b"))
        assert words in " ".join(command)
        assert words not in " ".join(codec(name, ffmpeg).encode(Path("a"), 30, Path("b")))


def test_what_is_missing_is_said(ffmpeg: Ffmpeg) -> None:
    class Bare(Ffmpeg):
        encoders = {"libx264"}  # noqa: RUF012

    bare = Bare()
    assert codec("x264", bare).missing() is None
    assert codec("vvenc", bare).missing() == f"ffmpeg {ffmpeg.version} has no libvvenc"
    ours = make_codec(Setting("neurocodec"), ffmpeg, 16, "no-such-model")
    assert "unknown model" in str(ours.missing())


def test_every_codec_says_what_decides_its_result(ffmpeg: Ffmpeg, tiny: Path) -> None:
    for name in CODECS:
        identity = make_codec(Setting(name), ffmpeg, 16, str(tiny)).identity()
        assert identity
        assert all(identity.values())


def test_another_ffmpeg(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory; give another with --ffmpeg"):
        Ffmpeg(tmp_path / "ffmpeg")
    with pytest.raises(UsageError, match="not an ffmpeg"):
        Ffmpeg("/bin/true")
