"""Media file -> .nc file: what it is told and what it reads. The rest is in ``coding.py``, which is
loaded when the processes that help are on their way."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from ..files import STDOUT, check_output, same_file
from ..media.reader import MediaReader
from .child import dismiss, start_early
from .choice import DEFAULT_QUALITY, Choice
from .plan import compressing

Progress = Callable[[int, "int | None"], None]  # frames done, frames expected


@dataclass(frozen=True)
class Stats:
    """What a compression came to. bits_per_pixel is of the whole file, sound included."""

    width: int
    height: int
    frames: int
    gops: int
    duration: float  # seconds
    bytes: int
    video_bytes: int
    audio_bytes: int
    bits_per_pixel: float
    model: str
    quality: int
    elapsed: float  # seconds, without loading
    fps: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compress(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    quality: int = DEFAULT_QUALITY,
    bitrate: float | None = None,
    target_size: int | None = None,
    psnr: float | None = None,
    model: str | None = None,
    gop: int | None = None,
    effort: str = "medium",
    tune: str | None = None,
    entropy: str | None = None,
    steps: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    jobs: int | None = 1,
    audio: str = "copy",
    start: float = 0.0,
    duration: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Stats:
    """Compress a video or picture into a .nc file.

    src: any file ffmpeg reads. dst: path of the .nc file, or "-" for standard output.
    quality: 0..100, larger is better. Instead of it: bitrate, kilobits per second of the pictures;
    target_size, bytes of the whole file; or psnr, dB of (6 Y + U + V) / 8. model: a bundle's name
    or path. gop: most frames between random access points, 1..1024, best one more than a multiple
    of eight; about four seconds if None. effort: fast, medium or slow, how hard to look for motion;
    slow also tries the lengths of mini-GOPs.
    tune: psnr, balanced (the default, unless the model is made for another) or ms-ssim, how much
    more error restless regions may hide than still ones; or grain, as balanced, but noise is kept
    where it could be averaged away; of models with motion. For ms-ssim there is a model of its own,
    which is taken where none is given.
    entropy: what codes the tokens, "generator" or "adaptive"; by default the model's generator, if
    it has one. steps: of the generator's schedule, 1..16, by default 4: more are slower
    and up to 8 a little smaller.
    device: auto, cpu or cuda.
    threads: of torch. jobs: GOPs coded at once, each by a process of its own, with all its frames
    in memory; not with a bitrate, target size or PSNR. The file is the same. None: as many as pay,
    where neither threads are given nor resume.
    audio: copy, none, opus or opus:KBPS. start, duration: seconds.
    resume: go on where the same compression stopped before, from whole GOPs, with the same bytes as
    if it had not; and leave what is done where this one stops. Not with jobs.
    progress: called with frames done and expected.

    Raises UsageError, InputError, OutputError, ModelError.
    """
    choice = Choice(
        quality, bitrate, target_size, psnr, model, gop, effort, tune, entropy, steps, device,
        threads, jobs, audio, start, duration, overwrite, resume,
    )  # fmt: skip
    choice.check(os.fspath(dst) == STDOUT)
    if same_file(src, dst):
        raise UsageError(f"{src}: input and output are the same file")
    if os.fspath(dst) != STDOUT:
        check_output(dst, overwrite)
    with MediaReader(src, audio, start, duration) as reader:
        try:
            for command in compressing(reader, choice):
                start_early(command)
            from .kernels import made_ready

            with made_ready():
                from .coding import code  # torch, which takes seconds, while those load theirs
            return code(reader, src, dst, choice, progress)
        finally:
            dismiss()
