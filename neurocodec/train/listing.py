"""What there is to learn from: a folder, a list of files, or tar shards as WebDataset writes them.

Shards are indexed once, by their members' headers, so that any clip of any shard can be had at any
time: that is what lets a run resume in the middle of an epoch, and ranks divide a batch.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DataError

VIDEO_SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".y4m", ".ts"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Entry:
    """A video or photograph: a file, or ``size`` bytes of a shard from ``offset`` on.

    label: its class, the name of the folder it is in, or what a shard's member ``KEY.cls`` says.
    """

    path: Path
    name: str  # without folder and suffix
    label: str
    is_video: bool
    offset: int = 0
    size: int | None = None

    def open(self) -> str | io.BytesIO:
        """For ``av.open``. Raises OSError."""
        if self.size is None:
            return str(self.path)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


def list_media(data: Path) -> list[Entry]:
    """Everything under a folder, shards (``.tar``) included; of one shard; or what the lines of a
    ``.txt`` file name, relative to it. In the order of their names, a list's in its own.

    Raises DataError where ``data`` is none of these, or a list names what is not there.
    """
    if data.is_dir():
        files = sorted(p for p in data.rglob("*") if p.is_file())
        return [entry for path in files for entry in _entries(path, path.parent.name)]
    if data.suffix.lower() == ".txt" and data.is_file():
        return [entry for path in _lines(data) for entry in _entries(path, path.parent.name)]
    if data.suffix.lower() == ".tar" and data.is_file():
        return _entries(data, data.stem)
    raise DataError(f"{data}: not a folder, a list of files (.txt) or a shard (.tar)")


def _lines(data: Path) -> list[Path]:
    try:
        lines = data.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{data}: {getattr(error, 'strerror', None) or 'not text'}") from None
    paths = [_named(data.parent, line.strip()) for line in lines if line.strip()]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{data}: {path}: no such file")
    return paths


def _named(folder: Path, line: str) -> Path:
    """The file of a line. The lists of UCF-101 have the number of the class behind it."""
    path = folder / line
    name, _, number = line.rpartition(" ")
    return folder / name if number.isdecimal() and name and not path.is_file() else path


def _entries(path: Path, label: str) -> list[Entry]:
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return _shard(path, label)
    if suffix in VIDEO_SUFFIXES | PHOTO_SUFFIXES:
        return [Entry(path, path.stem, label, suffix in VIDEO_SUFFIXES)]
    return []


def _shard(path: Path, label: str) -> list[Entry]:
    """Members of a shard. Raises DataError."""
    found: list[tuple[str, Entry]] = []
    classes: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                at = PurePosixPath(member.name)
                stem, _, extension = at.name.partition(".")
                suffix, key = f".{extension.lower()}", str(at.parent / stem)
                if suffix == ".cls":
                    text = shard.extractfile(member)
                    classes[key] = text.read(100).decode(errors="replace") if text else ""
                elif suffix in VIDEO_SUFFIXES | PHOTO_SUFFIXES:
                    entry = Entry(
                        path, stem, at.parent.name or label, suffix in VIDEO_SUFFIXES,
                        member.offset_data, member.size,
                    )  # fmt: skip
                    found.append((key, entry))
    except (OSError, tarfile.TarError):
        raise DataError(f"{path}: not a tar shard, or a damaged one") from None
    return [
        Entry(e.path, e.name, classes.get(key, e.label), e.is_video, e.offset, e.size)
        for key, e in found
    ]
