"""What an encoder is told of how to do it, and whether that can be done."""

from __future__ import annotations

from dataclasses import dataclass

from ..bitstream.limits import MAX_GOP_FRAMES, MAX_STEPS
from ..errors import UsageError
from ..media.audio import parse_audio
from ..media.cut import check_cut
from .effort import EFFORTS, TUNES

DEFAULT_QUALITY = 50


@dataclass(frozen=True)
class Choice:
    """See ``compress``."""

    quality: int
    bitrate: float | None
    target_size: int | None
    psnr: float | None
    model: str | None
    gop: int | None
    effort: str
    tune: str | None
    entropy: str | None
    steps: int | None
    device: str
    threads: int | None
    jobs: int | None
    audio: str
    start: float
    duration: float | None
    overwrite: bool
    resume: bool

    @property
    def aimed(self) -> bool:
        """Whether rate control chooses the quality."""
        return (self.bitrate, self.target_size, self.psnr) != (None, None, None)

    def check(self, to_stdout: bool) -> None:
        """Raises UsageError."""
        if not 0 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality}: give 0 to 100")
        if self.gop is not None and not 1 <= self.gop <= MAX_GOP_FRAMES:
            raise UsageError(f"GOP of {self.gop} frames: give 1 to {MAX_GOP_FRAMES}")
        self._check_aims()
        several = self.jobs is not None and self.jobs > 1
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"{self.jobs} jobs: give 1 or more")
        if several and self.aimed:
            raise UsageError("several jobs: what a GOP may take depends on the one before; give -q")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise UsageError(f"{self.steps} steps: give 1 to {MAX_STEPS}")
        if self.effort not in EFFORTS:
            raise UsageError(f"effort {self.effort!r}: give {', '.join(EFFORTS)}")
        if self.tune is not None and self.tune not in TUNES:
            raise UsageError(f"tune {self.tune!r}: give {', '.join(TUNES)}")
        if self.resume and several:
            raise UsageError("resume: not with several jobs")
        check_cut(self.start, self.duration)
        parse_audio(self.audio)
        if self.resume and (to_stdout or self.aimed):
            raise UsageError("resume: not with standard output, a bitrate, a target size or a PSNR")

    def _check_aims(self) -> None:
        if sum(aim is not None for aim in (self.bitrate, self.target_size, self.psnr)) > 1:
            raise UsageError("give one of bitrate, target size and PSNR")
        if self.bitrate is not None and not 0 < self.bitrate < 1e9:
            raise UsageError(f"bitrate {self.bitrate:g}: give kilobits per second, more than 0")
        if self.target_size is not None and self.target_size < 1:
            raise UsageError(f"target size {self.target_size}: give bytes, more than 0")
        if self.psnr is not None and not 10 <= self.psnr <= 60:
            raise UsageError(f"PSNR {self.psnr:g}: give 10 to 60 dB")
