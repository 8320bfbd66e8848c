"""neurocodec: a neural video codec.

>>> stats = neurocodec.compress("in.mp4", "out.nc", quality=50)     # doctest: +SKIP
>>> neurocodec.decompress("out.nc", "back.mp4")                     # doctest: +SKIP
>>> with neurocodec.open("out.nc") as video:                        # doctest: +SKIP
...     video.seek(2.5)
...     for frame in video:
...         frame.y, frame.u, frame.v, frame.pts
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .errors import Error

if TYPE_CHECKING:
    from .codec.compress import Stats, compress
    from .codec.decompress import DecodeStats, decompress
    from .codec.video import Video

__version__ = "0.1.0"
__all__ = ["DecodeStats", "Error", "Stats", "Video", "compress", "decompress", "open"]

_LAZY = {  # torch is imported only where it is used
    "compress": "compress",
    "Stats": "compress",
    "decompress": "decompress",
    "DecodeStats": "decompress",
    "Video": "video",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".codec.{_LAZY[name]}", __name__), name)


def open(path: str | os.PathLike[str], model: str | None = None, device: str = "auto") -> Video:
    """Open a .nc file to iterate over its frames and to seek by time.

    Raises InputError, FormatError, ModelError.
    """
    from .codec.video import Video

    return Video(path, model, device)
