"""Clips to the y4m files that every codec of a benchmark is given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError
from ..media.frame import Frame, Planes
from ..media.reader import MediaReader
from .results import Results, Source, read_json, write_json
from .y4m import open_y4m, write_y4m


def prepare(clip: Path, frames: int, results: Results) -> Source:
    """The first ``frames`` (0: all) of a clip as 8-bit 4:2:0. Kept, and not made twice.

    Raises InputError where the clip cannot be read.
    """
    path = results.work / "sources" / f"{clip.stem}.y4m"
    note = path.with_suffix(".json")
    status = clip.stat()
    made_of = {"bytes": status.st_size, "modified": status.st_mtime_ns, "frames": frames}
    if path.exists() and note.exists():
        values = read_json(note)
        if values["made_of"] == made_of:
            return Source(**{**values["source"], "notes": tuple(values["source"]["notes"])})
    path.parent.mkdir(parents=True, exist_ok=True)
    source = _write(clip, frames, path, results)
    write_json(note, {"made_of": made_of, "source": asdict(source)})
    return source


def _write(clip: Path, frames: int, path: Path, results: Results) -> Source:
    notes = []
    with MediaReader(clip, audio="none") as reader:
        wanted = itertools.islice(_frames(reader), frames or None)
        rate = reader.info.frame_rate
        digest = write_y4m(path, (_even(frame) for frame in wanted), rate)
        info = reader.info
    if info.width % 2 or info.height % 2:
        notes.append(
            f"cropped from {info.width}x{info.height} to even sides, which all codecs take"
        )
    written = open_y4m(path)
    if frames and written.count < frames:
        notes.append(f"has {written.count} frames, fewer than {frames}")
    if min(written.width, written.height) < 2:
        raise InputError(f"{clip}: too small for a benchmark")
    return Source(
        clip.stem, path.relative_to(results.folder).as_posix(), written.width, written.height,
        written.count, str(rate), asdict(info.colour), digest, tuple(notes),
    )  # fmt: skip


def _frames(reader: MediaReader) -> Iterator[Frame]:
    for item in reader:
        if isinstance(item, Frame):
            yield item


def _even(frame: Frame) -> Planes:
    height, width = (side & ~1 for side in frame.y.shape)
    half = height // 2, width // 2
    return (
        frame.y[:height, :width],
        frame.u[: half[0], : half[1]],
        frame.v[: half[0], : half[1]],
    )
