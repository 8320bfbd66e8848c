"""Two videos against a third, or one against the other: figures frame by frame, and a page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bitstream.payloads import Colour
from ..bitstream.reader import Reader
from ..codec.video import Video
from ..errors import InputError, OutputError, UsageError
from ..files import replacing
from ..media.frame import Frame, Planes
from ..media.reader import MediaReader
from .colour import ToRgb
from .ffmpeg import Ffmpeg
from .metrics import METRICS, Pair, Quality, measure
from .page import data_uri, write_page
from .tables import TITLES
from .y4m import Y4m, open_y4m, write_y4m

PICTURE_FRAMES = 9  # in a page, at most
_QUALITY = 85  # of WebP


@dataclass
class Comparison:
    """Of each of ``names`` against ``reference``. qualities: in the order of names."""

    reference: str
    names: list[str]
    width: int
    height: int
    frames: int
    qualities: list[Quality]

    def to_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "videos": [
                {"name": name, **vars(quality)}
                for name, quality in zip(self.names, self.qualities, strict=True)
            ],
        }


@dataclass(frozen=True)
class _Clip:
    name: str
    frames: Y4m
    colour: Colour


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    *,
    metrics: tuple[str, ...] = tuple(METRICS),
    page: str | os.PathLike[str] | None = None,
    picture_bytes: int = 6_000_000,
    model: str | None = None,
    ffmpeg: str | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Measure A and B against ``reference``; without one, B against A.

    Files are anything ffmpeg reads, or .nc files (``model``: their bundle, if it is not one of the
    package's). page: an HTML file to write, with at most ``picture_bytes`` of pictures.
    Raises InputError where sizes or lengths differ, UsageError, FormatError, ModelError,
    OutputError.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}; there are: {', '.join(METRICS)}")
    paths = [Path(p) for p in ((a, b) if reference is None else (reference, a, b))]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        part = None if page is None else stack.enter_context(replacing(page, overwrite))
        names = _names(paths)
        clips = [
            _read(path, name, model, Path(scratch) / f"{i}.y4m")
            for i, (path, name) in enumerate(zip(paths, names, strict=True))
        ]
        against, measured = clips[0], clips[1:]
        program = _ffmpeg(ffmpeg)
        qualities = []
        for clip in measured:
            _check(against, clip)
            qualities.append(
                measure(metrics, Pair(against.frames, clip.frames, against.colour, program))
            )
        frames = against.frames
        comparison = Comparison(
            against.name, [c.name for c in measured], frames.width, frames.height, frames.count,
            qualities,
        )  # fmt: skip
        if part is not None:
            try:
                data = _page_data(comparison, clips, picture_bytes)
                write_page(part, "compare", data["title"], data)
            except OSError as error:
                raise OutputError(f"{page}: {error.strerror}") from None
    return comparison


def _names(paths: list[Path]) -> list[str]:
    """File names; with their folders where two are alike."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _ffmpeg(path: str | None) -> Ffmpeg | None:
    """None where there is none and none was asked for: VMAF and XPSNR are then missing."""
    try:
        return Ffmpeg(path)
    except UsageError:
        if path is not None:
            raise
        return None


def _read(path: Path, name: str, model: str | None, target: Path) -> _Clip:
    """Decode to a y4m file."""
    if path.suffix.lower() == ".nc":
        with Video(path, model) as video:
            write_y4m(target, _planes(iter(video)), video.frame_rate)
        with Reader(path) as reader:
            colour = reader.header.colour
    else:
        with MediaReader(path, audio="none") as media:
            write_y4m(target, _planes(iter(media)), media.info.frame_rate)
            colour = media.info.colour
    return _Clip(name, open_y4m(target), colour)


def _planes(items: Iterator[Any]) -> Iterator[Planes]:
    return (item.planes for item in items if isinstance(item, Frame))


def _check(a: _Clip, b: _Clip) -> None:
    for what, x, y in (
        ("of size", f"{a.frames.width}x{a.frames.height}", f"{b.frames.width}x{b.frames.height}"),
        ("this long:", f"{a.frames.count} frames", f"{b.frames.count} frames"),
    ):
        if x != y:
            raise InputError(f"not alike: {a.name} is {what} {x}, {b.name} {y}")


# -- the page -----------------------------------------------------------------------------------


def _page_data(comparison: Comparison, clips: list[_Clip], most: int) -> dict[str, Any]:
    keys = {key for quality in comparison.qualities for key in quality.means}
    names = [clip.name for clip in clips]
    lost = {f"{m}: {why}" for q in comparison.qualities for m, why in q.missing.items()}
    about = f"{comparison.frames} frames of {comparison.width}x{comparison.height}. "
    about += f"Measured against {comparison.reference}."
    if lost:
        about += " Missing: " + "; ".join(sorted(lost)) + "."
    return {
        "title": f"{names[-2]} and {names[-1]}",
        "about": about,
        "names": names,
        "width": comparison.width,
        "height": comparison.height,
        "metrics": [vars(title) for title in TITLES if title.key in keys],
        "videos": [
            {"name": name, "means": quality.means, "columns": quality.columns}
            for name, quality in zip(comparison.names, comparison.qualities, strict=True)
        ],
        "frames": _pictures(clips, most),
    }


def _pictures(clips: list[_Clip], most: int) -> dict[int, list[str]]:
    """Frame number -> its picture in every clip; fewer frames where they would not fit."""
    count = clips[0].frames.count
    to_rgb = ToRgb(clips[0].colour)
    for wanted in range(min(PICTURE_FRAMES, count), 0, -1):
        chosen = np.linspace(0, count - 1, wanted).round().astype(int).tolist()
        found = {
            i: [data_uri(to_rgb(clip.frames.frame(i)), _QUALITY) for clip in clips] for i in chosen
        }
        if sum(len(uri) for uris in found.values() for uri in uris) <= most:
            return found
    return {}
