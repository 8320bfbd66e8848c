"""The folder of a benchmark: what lies where, and reading and writing it.

run.json                    suite, machine, clips, and which points make up which curve
points/CLIP/CODEC/*.json    one rate point each: command, versions, bytes, times, metrics
work/                       sources, streams, pictures: may be deleted, is not for git
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..bitstream.payloads import Colour
from ..errors import InputError

VERSION = 1  # of these files


@dataclass(frozen=True)
class Source:
    """A clip as all codecs get it. path: from the results folder. sha256: of the y4m file."""

    name: str
    path: str
    width: int
    height: int
    frames: int
    rate: str  # "25/1", frames per second
    colour: dict[str, Any]
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> Fraction:
        return Fraction(self.rate)

    @property
    def colours(self) -> Colour:
        return Colour(**self.colour)

    def bits_per_pixel(self, size: int) -> float:
        return 8 * size / (self.frames * self.width * self.height)

    def kilobits_per_second(self, size: int) -> float:
        return float(8 * size * self.frames_per_second / self.frames / 1000)


@dataclass
class Curve:
    """One codec on one clip. points: paths of JSON files, coarse to fine.

    targets: for each point the index of our own point whose rate it was made to meet, or None.
    status: "done", "running", or why there is nothing ("missing: ...", "failed: ...").
    """

    clip: str
    codec: str
    status: str = "running"
    points: list[str] = field(default_factory=list)
    targets: list[int | None] = field(default_factory=list)


class Results:
    """The folder, opened for writing by ``bench run`` or for reading by ``bench report``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = {}  # suite, command, versions, machine
        self.sources: dict[str, Source] = {}
        self.curves: dict[tuple[str, str], Curve] = {}

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Raises InputError where ``folder`` holds no results."""
        results = cls(folder)
        path = folder / "run.json"
        values = read_json(path)
        try:
            if values["version"] != VERSION:
                raise InputError(f"{path}: made by another version of the benchmark")
            results.about = values["about"]
            for item in values["sources"]:
                results.sources[item["name"]] = Source(**{**item, "notes": tuple(item["notes"])})
            for item in values["curves"]:
                results.curves[item["clip"], item["codec"]] = Curve(**item)
        except (KeyError, TypeError):
            raise InputError(f"{path}: not the results of a benchmark") from None
        return results

    def save(self) -> None:
        values = {
            "version": VERSION,
            "about": self.about,
            "sources": [asdict(s) for s in self.sources.values()],
            "curves": [asdict(c) for c in self.curves.values()],
        }
        write_json(self.folder / "run.json", values)

    def points(self, curve: Curve) -> list[dict[str, Any]]:
        """Raises InputError where one of the files is gone."""
        return [read_json(self.folder / path) for path in curve.points]

    @property
    def work(self) -> Path:
        return self.folder / "work"


def read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: not JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not the results of a benchmark")
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    """At once or not at all: an interrupt leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    part.write_text(_lines(values))
    os.replace(part, path)


def _lines(values: dict[str, Any]) -> str:
    """A line a key, or a line an item where an item is a table: short, and fit for diffs."""

    def shown(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    items = (f"{json.dumps(key)}: {shown(value)}" for key, value in values.items())
    return "{\n" + ",\n".join(items) + "\n}\n"
