"""Long, large, small and odd videos through compress and decompress.

    python -m scripts.extremes long [--minutes 60] [--rate 5] [--model BUNDLE]
    python -m scripts.extremes sizes [--model BUNDLE]
    python -m scripts.extremes odd [--model BUNDLE]

long: 320x240, at a tenth of the length and at all of it, to tell whether memory grows. sizes: the
largest and smallest pictures, and the shortest and longest times between them. odd: what sources do
to readers. Videos are generated, the model is the default one. Both programs run as processes; of
each the seconds of CPU and the largest resident set are taken, what it started included: the sum
for seconds, the largest process for memory. The decoded video has to have every frame at its time.
Exit status 1 where it has not, or memory grew by more than GROWTH.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from neurocodec.media.frame import Frame
from neurocodec.media.reader import MediaReader
from tests.media.clips import picture_of

RUN = [sys.executable, "-m", "neurocodec"]
GROWTH = 1.15  # of memory, from a tenth of the length to all of it
WORST = 24.0  # dB of luma that no frame of a whole round trip may fall below


@dataclass
class Case:
    """step: units of base between frames."""

    name: str
    size: tuple[int, int] = (64, 48)
    frames: int = 10
    base: Fraction = Fraction(1, 25)
    step: int = 1
    suffix: str = ".mp4"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)


SIZES = [
    Case("4K", (3840, 2160), 5),
    Case("16x16", (16, 16), 50),
    Case("1x1", (1, 1), 20, suffix=".mkv", codec="ffv1"),
    Case("8192x32", (8192, 32), 10),
    Case("32x8192", (32, 8192), 10),
    Case("one frame", frames=1),
    Case("1000 frames a second", frames=300, base=Fraction(1, 1000)),
    Case("time base 1001/30000", frames=60, base=Fraction(1, 30000), step=1001),
    Case("time base 1/1001", frames=60, base=Fraction(1, 1001), step=40),
    Case("a frame an hour", frames=10, base=Fraction(1, 10), step=36000),
]


def pictures(frames: int, width: int, height: int) -> Iterator[av.VideoFrame]:
    """A texture that drifts, so that nothing but motion and rounding is new in a picture."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    texture = 128 + 50 * np.sin(x / 9) * np.cos(y / 7) + 30 * np.sin((x + 2 * y) / 23)
    texture = texture.clip(0, 255).astype(np.uint8)
    chroma = [np.full(((height + 1) // 2, (width + 1) // 2), n, np.uint8) for n in (110, 150)]
    for t in range(frames):
        turned = np.roll(texture, (t // 2, t), (0, 1))
        turned[: height // 4, : width // 4] = 60 + t % 128  # and a lamp that brightens
        yield picture_of([turned, *chroma])


def write(path: Path, case: Case) -> Path:
    """The source of a case, as good as lossless."""
    with av.open(str(path), "w") as container:
        rate = 1 / (case.base * case.step)
        stream = cast(av.VideoStream, container.add_stream(case.codec, rate))
        stream.width, stream.height = case.size
        stream.pix_fmt = "yuv420p"
        if case.codec == "libx264":
            stream.options = {"crf": "12", "preset": "ultrafast"} | case.options
        stream.codec_context.time_base = stream.time_base = case.base
        container.start_encoding()  # also of a video without frames
        for i, picture in enumerate(pictures(case.frames, *case.size)):
            picture.pts, picture.time_base = i * case.step, case.base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@dataclass
class Ended:
    status: int
    said: str
    seconds: float
    memory: int  # MiB


def run(*arguments: str | Path) -> Ended:
    """neurocodec with these arguments."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*RUN, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        seconds = used.ru_utime + used.ru_stime
        return Ended(process.returncode, said.read().strip(), seconds, used.ru_maxrss >> 10)


def frames_of(path: Path) -> Iterator[tuple[Fraction, Frame]]:
    """Seconds and picture."""
    with MediaReader(path, audio="none") as reader:
        for event in reader:
            if isinstance(event, Frame):
                yield event.pts * reader.info.time_base, event


def compare(
    source: Iterable[tuple[Fraction, Frame]], decoded: Iterable[tuple[Fraction, Frame]]
) -> tuple[int, float, str]:
    """Frames, dB of the worst one's luma, and what is wrong, if anything. Times may differ by the
    millisecond that Matroska counts in."""
    count, worst = 0, 99.0
    try:
        for (at, a), (found, b) in zip(source, decoded, strict=True):
            if abs(at - found) > Fraction(1, 1000):
                return count, worst, f"frame {count} at {float(found)} s instead of {float(at)}"
            error = float(np.mean((a.y.astype(np.float32) - b.y) ** 2))
            worst, count = min(worst, 10 * np.log10(255**2 / max(error, 1e-5))), count + 1
    except ValueError:
        return count, worst, "not as many frames"
    return count, worst, "" if worst > WORST else f"a frame of {worst:.1f} dB"


def round_trip(folder: Path, case: Case, model: list[str]) -> tuple[list[str], int]:
    """Prints a row of the table. Returns what was wrong, and MiB of the larger process."""
    source = write(folder / f"source{case.suffix}", case)
    coded, decoded = folder / "a.nc", folder / "a.mkv"
    first = run("compress", source, coded, "--effort", "fast", "-y", *model)
    second = run("decompress", coded, decoded, "-y", *model)
    wrong = [ended.said for ended in (first, second) if ended.status or ended.said]
    if not wrong:
        count, worst, what = compare(frames_of(source), frames_of(decoded))
        wrong = [what] if what else [] if count == case.frames else [f"{count} frames"]
        print(f"| {case.name} | {count} | {coded.stat().st_size} | {worst:.1f} "
              f"| {first.seconds:.0f} + {second.seconds:.0f} | {first.memory} | {second.memory} |",
              flush=True)  # fmt: skip
    return [f"{case.name}: {what}" for what in wrong], max(first.memory, second.memory)


HEAD = """\
| video | frames | bytes | worst frame, dB | CPU seconds | MiB to compress | to decompress |
|---|---|---|---|---|---|---|"""


def long(folder: Path, model: list[str], minutes: float, rate: int) -> list[str]:
    """An hour, and a tenth of it: memory must not tell them apart."""
    print(HEAD)
    wrong, memory = [], []
    for part in (0.1, 1.0):
        frames = round(part * minutes * 60 * rate)
        name = f"320x240, {part * minutes:g} min at {rate} a second"
        case = Case(name, (320, 240), frames, Fraction(1, rate))
        found, used = round_trip(folder, case, model)
        wrong += found
        memory.append(used)
    if memory[1] > GROWTH * memory[0]:
        wrong.append(f"{memory[0]} MiB became {memory[1]}")
    return wrong


def sizes(folder: Path, model: list[str]) -> list[str]:
    print(HEAD)
    return [what for case in SIZES for what in round_trip(folder, case, model)[0]]


def write_bent(path: Path, shift: Fraction) -> Path:
    """A B-pyramid in .mp4, whose edit list (for the decoder's delay) begins later by ``shift``."""
    options = {"preset": "medium", "x264-params": "bframes=7:b-pyramid=strict:b-adapt=0"}
    write(path, Case("", frames=25, options=options))
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4 + 4 + 4 + 4  # version and flags, count, duration of the edit
    begin = int.from_bytes(data[at : at + 4], "big")
    scale_at = data.index(b"mdhd") + 4 + 4 + 4 + 4  # version and flags, two dates
    scale = int.from_bytes(data[scale_at : scale_at + 4], "big")
    data[at : at + 4] = (begin + round(shift * scale)).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def write_resized(path: Path) -> Path:
    """10 pictures of one size, then 10 of another."""
    parts = [write(path.with_name(f"{n}.ts"), Case("", (n, n), 10)) for n in (64, 96)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def write_empty(path: Path) -> Path:
    """A video of no frames."""
    return write(path, Case("", frames=0))


def _write_header(path: Path) -> Path:
    path.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n")
    return path


@dataclass(frozen=True)
class Odd:
    """frames: that come back, or 0 where it is refused. says: what standard error tells."""

    name: str
    file: str
    write: Callable[[Path], Path]
    frames: int
    says: str = ""


ODD = [
    Odd("B-pyramid, edit list", "a.mp4", lambda path: write_bent(path, Fraction(0)), 25),
    Odd("edit list that begins at 0.4 s", "b.mp4", lambda p: write_bent(p, Fraction(2, 5)), 15),
    Odd("resolution changes", "a.ts", write_resized, 20, "the resolution changes"),
    Odd("no timestamps", "a.h264", lambda path: write(path, Case("")), 10, "no timestamps in it"),
    Odd("no frames, mp4", "c.mp4", write_empty, 0, "no video stream in it"),
    Odd("no frames, y4m", "a.y4m", _write_header, 0, "no frames could be read"),
]


def odd(folder: Path, model: list[str]) -> list[str]:
    """Handled, with one line where that has to be told, or refused with one."""
    print("| source | status | frames | says |\n|---|---|---|---|")
    wrong = []
    for case in ODD:
        source, coded = case.write(folder / case.file), folder / "odd.nc"
        coded.unlink(missing_ok=True)
        ended = run("compress", source, coded, "--effort", "fast", *model)
        count = 0
        if ended.status == 0:
            decoded = folder / "odd.mkv"
            second = run("decompress", coded, decoded, "-y", *model)
            count, _, what = compare(frames_of(source), frames_of(decoded))
            wrong += [f"{case.name}: {text}" for text in (second.said, what) if text]
        print(f"| {case.name} | {ended.status} | {count} | {ended.said} |", flush=True)
        lines = ended.said.splitlines()
        told = len(lines) == bool(case.says) and case.says in ended.said
        if not told or count != case.frames or (ended.status == 3) != (not case.frames):
            wrong.append(f"{case.name}: {ended}")
        if not case.frames and coded.exists():
            wrong.append(f"{case.name}: left {coded.name}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["long", "sizes", "odd"])
    parser.add_argument("--model", metavar="BUNDLE")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=5, help="frames a second of long")
    options = parser.parse_args()
    model = ["--model", options.model] if options.model else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "long":
            wrong = long(folder, model, options.minutes, options.rate)
        else:
            wrong = {"sizes": sizes, "odd": odd}[options.what](folder, model)
    print(*wrong or ["nothing wrong"], sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
