"""Speed, memory and start-up of our codec beside others, by resolution, on this machine.

The clip is made up: a camera moves over photographs, something moves in front, and there is noise.
Start-up is what one frame takes; frames per second are those of the frames after it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from .. import models
from ..errors import UsageError
from ..media.frame import Planes
from .anchors import PYTHON, Codec, Setting, make_codec
from .ffmpeg import Ffmpeg
from .hyperprior import Hyperprior
from .process import Programs, Use
from .roofline import Roofline, roofline
from .suite import OURS
from .versions import machine
from .y4m import write_y4m

RATE = Fraction(25)  # frames per second: what real time means here
SIZES = ((320, 180), (640, 360), (1280, 720))
_EFFORTS = (Setting(OURS), Setting(OURS, "fast"))  # of which the first is analysed
_ANCHORS = (Setting("x265", "medium"), Setting("vvenc", "faster"))
_LEARNED = Setting("CompressAI", "hyperprior, random weights")
_VALUES = {"x265": 28.0, "vvenc": 32.0}  # their defaults
_SIDE = 512  # of a tile of the background
_NOISE = 1.5  # levels, standard deviation
_STARTS = 2  # the faster of two: the first may find the disk cold


@dataclass(frozen=True)
class Row:
    """One codec in one direction at one size. real_time: 1 is as fast as the clip plays."""

    size: str
    codec: str
    direction: str  # "encode" or "decode"
    fps: float
    real_time: float
    start_up: float  # seconds
    peak_bytes: int
    missing: str = ""


@dataclass(frozen=True)
class Speeds:
    """stages: size -> direction -> stage -> seconds, of ours; "wall" is the whole."""

    frames: int
    machine: dict[str, str | int]
    rows: list[Row]
    stages: dict[str, dict[str, dict[str, float]]]
    rooflines: list[Roofline]  # none for a model of another family

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """ "320x180,640x360" -> pairs. Raises UsageError."""
    sizes = []
    for item in text.split(","):
        sides = item.strip().split("x")
        if len(sides) != 2 or not all(s.isdigit() and int(s) >= 16 for s in sides):
            raise UsageError(f"size {item.strip()!r}: give WIDTHxHEIGHT, each 16 or more")
        sizes.append((int(sides[0]) & ~1, int(sides[1]) & ~1))
    return tuple(sizes)


def measure_speed(
    sizes: tuple[tuple[int, int], ...] = SIZES,
    frames: int = 33,
    *,
    quality: int = 50,
    gop: int = 65,
    model: str | None = None,
    ffmpeg: str | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Speeds:
    """Run everything once, one after the other. Raises UsageError, ModelError, ProgramError."""
    if frames < 2:
        raise UsageError("speed needs 2 frames or more")
    program = Ffmpeg(ffmpeg)
    rows: list[Row] = []
    stages: dict[str, dict[str, dict[str, float]]] = {}
    for width, height in sizes:
        size = f"{width}x{height}"
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_y4m(folder / "clip.y4m", moving_photographs(frames, width, height), RATE)
            write_y4m(folder / "one.y4m", moving_photographs(1, width, height), RATE)
            codecs = [make_codec(s, program, gop, model) for s in (*_EFFORTS, *_ANCHORS)]
            codecs.append(Hyperprior(_LEARNED, program, gop, None, None))
            for codec in codecs:
                notify(f"{size}  {codec.setting.label}")
                value = _VALUES.get(codec.setting.codec, quality)
                rows += _rows(codec, value, size, frames, folder)
            stages[size] = _stages(codecs[0], quality, folder)
    of_motion = models.find(model).is_motion
    rooflines = [roofline(*size, model) for size in sizes] if of_motion else []
    return Speeds(frames, machine(), rows, stages, rooflines)


def _rows(codec: Codec, value: float, size: str, frames: int, folder: Path) -> list[Row]:
    missing = codec.missing()
    directions = ("encode", "decode")
    if missing:
        return [Row(size, codec.setting.label, d, 0, 0, 0, 0, missing) for d in directions]
    rows = []
    one, clip = (
        (
            codec.encode(Path(f"{name}.y4m"), value, Path(name + codec.suffix)),
            codec.decode(Path(name + codec.suffix), Path(f"out-{name}.y4m")),
        )
        for name in ("one", "clip")
    )
    for direction, of_one, of_clip in zip(directions, one, clip, strict=True):
        starts = [Programs().measure(of_one, folder)[0] for _ in range(_STARTS)]
        start = min(starts, key=lambda use: use.seconds)
        whole = Programs().measure(of_clip, folder)[0]
        rows.append(_row(size, codec.setting.label, direction, frames, start, whole))
    return rows


def _row(size: str, codec: str, direction: str, frames: int, one: Use, all_of: Use) -> Row:
    rest = all_of.seconds - one.seconds
    # where the rest is shorter than timing is exact, the whole has to do
    fps = (frames - 1) / rest if rest > 0.05 else frames / all_of.seconds
    return Row(
        size, codec, direction, round(fps, 2), round(fps / float(RATE), 3), round(one.seconds, 3),
        all_of.peak_bytes,
    )  # fmt: skip


def _stages(codec: Codec, quality: int, folder: Path) -> dict[str, dict[str, float]]:
    out = {}
    stream = Path("stages" + codec.suffix)
    commands = (
        codec.encode(Path("clip.y4m"), quality, stream),
        codec.decode(stream, Path("out.y4m")),
    )
    for direction, command in zip(("encode", "decode"), commands, strict=True):
        arguments = command[len(PYTHON) + 1 :]
        traced = [*PYTHON, "neurocodec.bench.stages", "stages.json", *arguments]
        Programs().measure(traced, folder)
        out[direction] = json.loads((folder / "stages.json").read_text())
    return out


# -- the clip -----------------------------------------------------------------------------------


def moving_photographs(frames: int, width: int, height: int) -> Iterator[Planes]:
    """The same every time."""
    rng = np.random.default_rng(11)
    background = _mosaic(width + 3 * frames, height + 2 * frames)
    front = _tile(data.astronaut())[60:260:2, 170:320:2]
    for t in range(frames):
        picture = background[2 * t : 2 * t + height, 3 * t : 3 * t + width].astype(np.float32)
        top, left = (height // 4 + t) % height, (width // 2 - 2 * t) % width
        visible = picture[top : top + front.shape[0], left : left + front.shape[1]]
        visible[:] = front[: visible.shape[0], : visible.shape[1]]
        picture += rng.normal(0, _NOISE, picture.shape)
        yield _planes(picture.clip(0, 255).round().astype(np.uint8))


def _tile(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB -> YCbCr of one size."""
    image = Image.fromarray(photo).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image.convert("YCbCr"))


def _mosaic(width: int, height: int) -> NDArray[np.uint8]:
    tiles = [_tile(photo) for photo in (data.coffee(), data.chelsea(), data.astronaut())]
    rows = []
    for r in range(-(-height // _SIDE)):
        rows.append(np.concatenate([tiles[(r + c) % 3] for c in range(-(-width // _SIDE))], 1))
    return np.concatenate(rows)[:height, :width]


def _planes(picture: NDArray[np.uint8]) -> Planes:
    height, width = picture.shape[:2]
    chroma = picture[:, :, 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3))
    u, v = (chroma[:, :, i].round().astype(np.uint8) for i in range(2))
    return picture[:, :, 0], u, v


# -- Markdown -----------------------------------------------------------------------------------


def markdown(speeds: Speeds) -> str:
    """The tables of ``bench speed``."""
    about = (
        f"{speeds.frames} frames, {speeds.machine['processor']}, {speeds.machine['cores']} cores"
    )
    lines = [
        about,
        "",
        "| size | codec | | frames/s | x real time | start-up, s | peak, MB |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in speeds.rows:
        head = f"| {row.size} | {row.codec} | {row.direction} |"
        if row.missing:
            lines.append(f"{head} missing: {row.missing} | | | |")
            continue
        lines.append(
            f"{head} {row.fps:.1f} | {row.real_time:.2f} | {row.start_up:.2f} | "
            f"{row.peak_bytes / 1e6:.0f} |"
        )
    names = [s for s in next(iter(speeds.stages.values()))["encode"] if s != "wall"]
    lines += [
        "",
        "neurocodec, seconds of its threads in each stage; they run side by side:",
        "",
        f"| size | | whole | {' | '.join(names)} |",
        f"|---|---|---:|{'---:|' * len(names)}",
    ]
    for size, by_direction in speeds.stages.items():
        for direction, seconds in by_direction.items():
            cells = " | ".join(f"{seconds[name]:.2f}" for name in names)
            lines.append(f"| {size} | {direction} | {seconds['wall']:.2f} | {cells} |")
    if speeds.rooflines:
        lines += [
            "",
            "Networks of a decoder, one picture, beside the fastest product of matrices:",
            "",
            "| size | type | threads | MACs a pixel | GMAC | ms | GMAC/s | peak, GMAC/s | share |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
    for r in speeds.rooflines:
        lines.append(
            f"| {r.size} | {r.type} | {r.threads} | {r.of_pixel} | {r.macs / 1e9:.2f} | "
            f"{r.seconds * 1e3:.0f} | {r.speed / 1e9:.0f} | {r.peak / 1e9:.0f} | {r.share:.0%} |"
        )
    return "\n".join(lines)
