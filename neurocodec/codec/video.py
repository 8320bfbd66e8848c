"""A .nc file as a sequence of frames, for use from Python."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..bitstream.reader import Reader
from ..media.cut import check_cut
from ..media.frame import Frame
from .decoder import Decoder, duration_of, gops_between, limits_of


class Video:
    """A .nc file opened for reading: iterate for frames, :meth:`seek` to a time.

    Attributes: width, height, frame_rate (Fraction), time_base (Fraction), frame_count,
    duration (seconds), damage (list of lines).
    """

    def __init__(
        self, path: str | os.PathLike[str], model: str | None = None, device: str = "auto"
    ) -> None:
        self._reader = Reader(path)
        header = self._reader.header
        self.width, self.height = header.width, header.height
        self.frame_rate, self.time_base = header.frame_rate, header.time_base
        self.frame_count = self._reader.frames
        self.duration = float(duration_of(self._reader))
        try:
            self._decoder = Decoder(self._reader, model, device)
        except BaseException:
            self._reader.close()
            raise
        self._from = 0.0

    @property
    def damage(self) -> list[str]:
        return self._reader.damage

    def seek(self, seconds: float) -> None:
        """The next iteration begins with the first frame at or after this time of the clip.

        Raises UsageError for less than 0.
        """
        check_cut(seconds, None)
        self._from = seconds

    def __iter__(self) -> Iterator[Frame]:
        begin, _ = limits_of(self._reader, self._from, None)
        for item in self._decoder.frames(gops_between(self._reader, begin, None)):
            if isinstance(item, Frame) and item.pts * self.time_base >= begin:
                yield item

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
