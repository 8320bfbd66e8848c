"""The ffmpeg program that encodes and decodes the anchors and computes VMAF and XPSNR."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cached_property
from pathlib import Path

from ..errors import UsageError


class Ffmpeg:
    """One ffmpeg executable, and what it can do. path: that of imageio-ffmpeg if None."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Raises UsageError where there is none, or it does not run."""
        self.path = str(Path(path).absolute()) if path is not None else _bundled()
        found = re.match(r"ffmpeg version (\S+)", self._ask("-version"))
        if found is None:
            raise UsageError(f"{self.path}: not an ffmpeg; give another with --ffmpeg")
        self.version = found[1]  # as ffmpeg gives it, for instance "n7.1"

    @cached_property
    def encoders(self) -> set[str]:
        return self._names("-encoders")

    @cached_property
    def filters(self) -> set[str]:
        return self._names("-filters")

    def _names(self, option: str) -> set[str]:
        lines = (line.split() for line in self._ask(option).splitlines())
        return {words[1] for words in lines if len(words) > 2}

    def _ask(self, option: str) -> str:
        command = [self.path, "-hide_banner", option]
        try:
            return subprocess.run(command, capture_output=True, text=True).stdout
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}; give another with --ffmpeg") from None


def _bundled() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise UsageError(
            "no ffmpeg: pip install 'neurocodec[bench]', or give one with --ffmpeg"
        ) from None
