"""Tokens of one GOP's pictures, in coding order, to frames in order of time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..entropy.structure import Picture
from ..media.frame import Planes
from ..tokenizer.samples import samples_of
from .frames import cropped
from .pictures import PictureLoop
from .tokens import PictureTokens
from .wavefront import Wavefront

# Pictures that are known and not decoded yet, where several are decoded at once: those of a
# mini-GOP and the next anchor
_WINDOW = 10


class PictureSynthesizer:
    """Makes frames of one GOP. To be closed."""

    def __init__(self, loop: PictureLoop, size: tuple[int, int]) -> None:
        """size: (width, height) of the frames to give."""
        self._loop, self._size = loop, size
        self._front = Wavefront(loop, self._prepare, self._take)
        self._window = _WINDOW if self._front.workers > 1 else 0
        self._kept: tuple[int, ...] = ()
        self._ready: dict[int, Planes] = {}
        self._next = 0

    def __call__(self, item: PictureTokens) -> list[Planes]:
        """The (y, u, v) of the frames that are now complete; often none."""
        self._kept = item.kept
        self._front.add(item.picture, item)
        self._front.proceed(lambda: len(self._front) <= self._window)
        return self._in_order()

    def finish(self) -> list[Planes]:
        """The frames that are left."""
        self._front.proceed(lambda: not len(self._front))
        self.close()
        return self._in_order()

    def close(self) -> None:
        self._front.close()

    def _prepare(self, picture: Picture, item: PictureTokens) -> Callable[[], Tensor]:
        return self._loop.decoding(item)

    def _take(self, picture: Picture, planes: Tensor) -> None:
        self._loop.pictures[picture.display] = planes
        self._loop.forget((*self._kept, *self._front.references()))
        y, u, v = (x.cpu().numpy() for x in samples_of(planes))
        self._ready[picture.display] = cropped((y, u, v), self._size)

    def _in_order(self) -> list[Planes]:
        out = []
        while self._next in self._ready:
            out.append(self._ready.pop(self._next))
            self._next += 1
        return out
