"""What decides a result beside its settings: versions of programs, and the machine."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..threads import processors

_CODING = ("bitstream", "codec", "entropy", "media", "tokenizer")  # packages that shape a file
_LIBRARIES = ("torch", "numpy", "pytorch-msssim", "stlpips-pytorch", "bjontegaard")


@cache
def code_hash() -> str:
    """Of the source of everything that coding runs, for a version alone does not tell changes."""
    folder = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for package in _CODING:
        for path in sorted((folder / package).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def libraries() -> dict[str, str]:
    found = {"neurocodec": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int]:
    """Processor and system; no names of hosts or people."""
    return {
        "processor": _processor(),
        "cores": processors(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
