"""One rate point: encode, decode, measure; kept as one JSON file that is never made twice."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

from .anchors import Codec
from .colour import ToRgb
from .ffmpeg import Ffmpeg
from .metrics import Pair, measure
from .process import ProgramError, Programs
from .results import Results, Source, read_json, write_json
from .suite import Suite
from .versions import libraries, machine
from .y4m import open_y4m

Point = dict[str, Any]
_DIGITS = {"ms_ssim": 5, "st_lpips": 5}  # of per-frame values; else 3


class PointMaker:
    """Makes rate points in the folder of ``results``, or finds them there.

    made: how many encodes and measurements were really run.
    """

    def __init__(
        self, results: Results, suite: Suite, ffmpeg: Ffmpeg, programs: Programs, jobs: int
    ) -> None:
        self._results, self._suite = results, suite
        self._ffmpeg, self._programs, self._jobs = ffmpeg, programs, jobs
        self.made = 0

    def encode(self, source: Source, codec: Codec, value: float) -> Point:
        """A point with its rate, perhaps without metrics. Raises ProgramError."""
        path = self._path(source, codec, value)
        if path.exists():
            return read_json(path)
        point = self._encode(source, codec, value, path)
        write_json(path, point)
        return point

    def complete(self, source: Source, codec: Codec, value: float) -> Point:
        """A point with all metrics of the suite. Raises ProgramError, InputError."""
        path = self._path(source, codec, value)
        point = self.encode(source, codec, value)
        wanted = self._unmeasured(point)
        if not wanted:
            return point
        stream = self._stream(path, codec)
        if not stream.exists():  # work/ was deleted
            point = self._encode(source, codec, value, path)
            wanted = list(self._suite.metrics)
        self._measure(point, wanted, source, codec, path)
        write_json(path, point)
        return point

    def relative(self, source: Source, codec: Codec, value: float) -> str:
        """Where the JSON of a point lies in the folder of the results."""
        return self._path(source, codec, value).relative_to(self._results.folder).as_posix()

    # -- inside ---------------------------------------------------------------------------------

    def _path(self, source: Source, codec: Codec, value: float) -> Path:
        """Named by everything that decides the result."""
        command = codec.encode(Path(source.path), value, Path("out"))
        key = {
            "source": source.sha256,
            "arguments": [word for word in command[1:] if os.sep not in word],
            "versions": codec.identity(),
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        folder = self._results.folder / "points" / source.name / codec.setting.slug
        return folder / f"{codec.dial.name}{value:g}-{digest[:10]}.json"

    def _beside(self, kind: str, point: Path, suffix: str) -> Path:
        """A file of ``kind`` that belongs to a point, in work/."""
        inside = point.relative_to(self._results.folder / "points")
        path = self._results.work / kind / inside.with_name(point.stem + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _stream(self, point: Path, codec: Codec) -> Path:
        return self._beside("streams", point, codec.suffix)

    def _run(self, command: list[str], frames: int) -> tuple[dict[str, Any], str]:
        use, log = self._programs.measure(command, self._results.folder)
        self.made += 1
        return use.to_dict(frames), log

    def _encode(self, source: Source, codec: Codec, value: float, path: Path) -> Point:
        stream = self._stream(path, codec)
        inside = stream.relative_to(self._results.folder)
        used, log = self._run(codec.encode(Path(source.path), value, inside), source.frames)
        if not stream.exists() or not stream.stat().st_size:
            raise ProgramError("it wrote nothing")
        size = stream.stat().st_size
        encoder = codec.encoder_version(log)
        return {
            "clip": source.name,
            "codec": codec.setting.label,
            "dial": codec.dial.name,
            "value": value,
            "width": source.width,
            "height": source.height,
            "frames": source.frames,
            "rate": source.rate,
            "source_sha256": source.sha256,
            "bytes": size,
            "bpp": source.bits_per_pixel(size),
            "kbps": source.kilobits_per_second(size),
            "encode": used,
            "decode": None,
            "versions": {**codec.identity(), **({"encoder": encoder} if encoder else {})},
            "machine": {**machine(), "jobs": self._jobs},
            "measured_with": None,
            "metrics": {},
            "missing": {},
            "per_frame": {},
        }

    def _measured_with(self) -> dict[str, Any]:
        every = self._suite.st_lpips_every
        return {"ffmpeg": self._ffmpeg.version, **libraries(), "st_lpips_every": every}

    def _unmeasured(self, point: Point) -> list[str]:
        """Metrics that are not there; those that failed are tried again with other versions."""
        here, then = self._measured_with(), point["measured_with"]
        wanted = []
        for name in self._suite.metrics:
            sparse = (
                name == "st_lpips" and then and then["st_lpips_every"] != here["st_lpips_every"]
            )
            failed = name in point["missing"] and then == here
            if sparse or (name not in point["metrics"] and not failed):
                wanted.append(name)
        return wanted

    def _measure(
        self, point: Point, wanted: list[str], source: Source, codec: Codec, path: Path
    ) -> None:
        target = self._beside("decoded", path, ".y4m")
        here = self._results.folder
        try:
            point["decode"], _ = self._run(
                codec.decode(self._stream(path, codec).relative_to(here), target.relative_to(here)),
                source.frames,
            )
            decoded = open_y4m(target)
            original = open_y4m(here / source.path)
            pair = Pair(original, decoded, source.colours, self._ffmpeg, self._suite.st_lpips_every)
            found = measure(wanted, pair)
            to_rgb = ToRgb(source.colours)
            middle = source.frames // 2
            picture = self._beside("pictures", path, ".png")
            Image.fromarray(to_rgb(decoded.frame(middle))).save(picture)
        finally:
            target.unlink(missing_ok=True)
        rounded = {
            key: [None if v is None else round(v, _DIGITS.get(key, 3)) for v in values]
            for key, values in found.columns.items()
        }
        point["metrics"] |= {key: round(mean, 6) for key, mean in found.means.items()}
        point["per_frame"] |= rounded
        point["missing"] = found.missing
        point["measured_with"] = self._measured_with()


def write_source_picture(source: Source, results: Results) -> Path:
    """The frame of a source that the pictures of the points show."""
    path = results.work / "pictures" / f"{source.name}.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = open_y4m(results.folder / source.path).frame(source.frames // 2)
        Image.fromarray(ToRgb(source.colours)(frame)).save(path)
    return path
