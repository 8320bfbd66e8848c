"""What a benchmark runs: a TOML file to dataclasses.

name = "quick"
root = "../../shared/data/val"      # of the clips, from the suite file; its folder if left out
clips = ["akiyo.mp4", "*.mkv"]      # names or patterns below root
frames = 17                         # at most that many of each clip; 0 for all
metrics = ["psnr", "ms_ssim", "vmaf", "xpsnr", "st_lpips"]
st_lpips_every = 4                  # frames: the slow metric looks at every fourth

[neurocodec]
qualities = [10, 35, 60, 85]        # our rate points
gop = 65                            # frames between our key frames
model = "magvit2-small"             # the default bundle if left out
tune = "ms-ssim"                    # as of compress; its default if left out

[[anchors]]
codec = "x265"
preset = "medium"
gop = "default"                     # the codec's own, or "matched": our gop
tune = "default"                    # the codec's own, or "psnr"
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .anchors import CODECS, Setting

METRICS = ("psnr", "ms_ssim", "vmaf", "xpsnr", "st_lpips")
OURS = "neurocodec"


@dataclass(frozen=True)
class Ours:
    """Our own curve: a rate point for each quality. gop: frames. tune: of compress."""

    qualities: tuple[int, ...] = (10, 35, 60, 85)
    gop: int = 65
    model: str | None = None
    tune: str | None = None


@dataclass(frozen=True)
class Suite:
    """clips: existing files. frames: at most, 0 for all of a clip."""

    name: str
    clips: tuple[Path, ...]
    frames: int
    metrics: tuple[str, ...]
    st_lpips_every: int
    ours: Ours
    anchors: tuple[Setting, ...]

    def settings(self, only: tuple[str, ...] = ()) -> tuple[Setting, ...]:
        """Ours first, then the anchors; with ``only`` those of these codec names or labels, each
        alone or several by comma.

        Raises InputError where ``only`` names none of the suite's codecs.
        """
        every = (Setting(OURS), *self.anchors)
        known = {s.codec for s in every} | {s.label for s in every}
        wanted: set[str] = set()
        for text in only:
            names = [text] if text in known else [name.strip() for name in text.split(",")]
            for name in filter(None, names):
                if name not in known:
                    labels = "; ".join(s.label for s in every)
                    raise InputError(
                        f"codec {name!r} is not in suite {self.name!r}; it has: {labels}"
                    )
                wanted.add(name)
        return tuple(s for s in every if not wanted or s.codec in wanted or s.label in wanted)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["clips"] = [clip.name for clip in self.clips]  # no paths of this machine
        values["ours"]["model"] = self.ours.model and Path(self.ours.model).name
        return values


def read_suite(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Suite:
    """root: folder of the clips, instead of the one the suite names. Raises InputError."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a suite file ({error})") from None
    try:
        return _suite(values, path, Path(root) if root is not None else None)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def _suite(values: dict[str, Any], path: Path, root: Path | None) -> Suite:
    table = _Table(values, "the suite")
    name = table.take("name", str, path.stem)
    folder = root or path.parent / table.take("root", str, ".")
    table.take("root", str, "")
    patterns = table.strings("clips", ())
    frames = table.take("frames", int, 0)
    metrics = table.strings("metrics", METRICS)
    every = table.take("st_lpips_every", int, 1)
    ours = _ours(_Table(table.take("neurocodec", dict, {}), "[neurocodec]"), path.parent)
    anchors = tuple(_anchor(_Table(t, "[[anchors]]")) for t in table.take("anchors", list, []))
    table.end()
    if frames < 0 or every < 1:
        raise ValueError("frames must be 0 or more, st_lpips_every 1 or more")
    unknown = [m for m in metrics if m not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric {unknown[0]!r}; there are: {', '.join(METRICS)}")
    labels = [a.label for a in anchors]
    if len(set(labels)) < len(labels):
        raise ValueError("an anchor is there twice")
    return Suite(name, _clips(folder, patterns), frames, metrics, every, ours, anchors)


def _ours(table: _Table, folder: Path) -> Ours:
    qualities = table.take("qualities", list, list(Ours.qualities))
    gop, model = table.take("gop", int, Ours.gop), table.take("model", str, None)
    tune = table.take("tune", str, None)
    table.end()
    if not qualities or not all(isinstance(q, int) and 0 <= q <= 100 for q in qualities):
        raise ValueError("qualities must be whole numbers from 0 to 100")
    if model and Path(model).suffix == ".safetensors":
        model = str(folder / model)
    return Ours(tuple(sorted(set(qualities))), gop, model, tune)


def _anchor(table: _Table) -> Setting:
    codec = table.take("codec", str, "")
    if codec not in CODECS or codec == OURS:
        known = ", ".join(name for name in CODECS if name != OURS)
        raise ValueError(f"unknown codec {codec!r}; there are: {known}")
    setting = Setting(
        codec, table.take("preset", str, None), table.take("gop", str, "default"),
        table.take("tune", str, "default"),
    )  # fmt: skip
    table.end()
    if setting.gop not in ("default", "matched"):
        raise ValueError(f"gop of {codec}: give 'default' or 'matched'")
    if setting.tune not in ("default", "psnr"):
        raise ValueError(f"tune of {codec}: give 'default' or 'psnr'")
    return setting


def _clips(folder: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    if not patterns:
        raise ValueError("it names no clips")
    found: list[Path] = []
    for pattern in patterns:
        files = sorted(p for p in folder.glob(pattern) if p.is_file())
        if not files:
            raise InputError(f"{folder / pattern}: no such clip; give their folder with --root")
        found += [p for p in files if p not in found]
    stems = [p.stem for p in found]
    if len(set(stems)) < len(stems):
        raise ValueError("two clips have the same name before the suffix")
    return tuple(found)


class _Table:
    """A TOML table whose keys are taken one by one; what is left over is a mistake."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        if not isinstance(values, dict):
            raise TypeError(f"{name} must be a table")
        self._values, self._name = dict(values), name

    def take(self, key: str, kind: type, default: Any) -> Any:
        value = self._values.pop(key, default)
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise TypeError(f"{key} in {self._name} must be of type {kind.__name__}")
        return value

    def strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.take(key, list, None)
        if value is None:
            return default
        if not all(isinstance(v, str) for v in value):
            raise TypeError(f"{key} in {self._name} must be a list of strings")
        return tuple(value)

    def end(self) -> None:
        if self._values:
            raise ValueError(f"unknown key {next(iter(self._values))!r} in {self._name}")
