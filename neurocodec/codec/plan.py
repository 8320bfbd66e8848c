"""How a clip is cut into GOPs, and which processes pay for it. Nothing is loaded here that takes
long: processes can be started while torch is being loaded."""

from __future__ import annotations

from fractions import Fraction

from ..bitstream.limits import MAX_GOP_FRAMES
from ..bitstream.reader import Reader
from ..media.frame import MediaInfo
from ..media.reader import MediaReader
from ..threads import free_memory, processors
from .choice import Choice

DEFAULT_GOP_SECONDS = 4.0
# Commands of processes, see ``child.py``: one that codes GOPs, and one that codes tokens
CODING, ENTROPY = ("neurocodec.codec.jobs",), ("neurocodec.codec.entropy_process",)
# Pixels of a clip, below which starting the process of entropy coding takes longer than it saves,
# and loading torch in it; and of a picture, above which the process is large already
ENTROPY_PAYS, _ENTROPY_TORCH, _LARGE = 6_000_000, 40_000_000, 1_500_000
# Of a process that codes GOPs: bytes for the program and its libraries, for each pixel of a
# picture, and for each of a frame that waits, before and behind the pipe
_JOB_BYTES, _PIXEL_BYTES, _FRAME_BYTES = 400 << 20, 800, 3
_GPU_BYTES, _GPU_PIXEL_BYTES = 600 << 20, 600  # likewise, on a GPU
_JOBS_PAY = 10_000_000  # pixels of all frames: ten seconds of coding, about
_LESS = 1.5  # times as many frames as the longest of several processes has to do


def default_gop(frame_rate: Fraction) -> int:
    """Frames of about DEFAULT_GOP_SECONDS, one more than a multiple of eight."""
    frames = 8 * max(1, round(DEFAULT_GOP_SECONDS * float(frame_rate) / 8)) + 1
    return min(frames, MAX_GOP_FRAMES - 7)


def gop_of(choice: Choice, info: MediaInfo) -> int:
    """Most frames of a GOP."""
    return choice.gop or default_gop(info.frame_rate)


def entropy_pays(width: int, height: int, frames: int | None) -> bool:
    """Whether a clip is long enough for entropy coding in a process of its own, and there is a
    processor to spare. frames: None: not known."""
    return processors() > 1 and (frames is None or width * height * frames >= ENTROPY_PAYS)


def entropy_command(width: int, height: int, frames: int | None) -> tuple[str, ...]:
    """Of that process, see ``child.py``: it loads torch while it works, for its faster products,
    where a clip is long and its pictures not so large that memory is dear."""
    long = frames is None or width * height * frames >= _ENTROPY_TORCH
    return (*ENTROPY, "torch") if long and width * height <= _LARGE else ENTROPY


def jobs_of(
    choice: Choice, info: MediaInfo, frames: int | None, gpu_memory: int | None = None
) -> int:
    """How many GOPs an encoder has in the works at once, see :func:`jobs_that_pay`."""
    if choice.jobs is not None:
        return choice.jobs
    if choice.aimed or choice.resume or choice.threads is not None:
        return 1
    size = info.width, info.height
    return jobs_that_pay(frames, gop_of(choice, info), size, gpu_memory=gpu_memory)


def compressing(reader: MediaReader, choice: Choice) -> list[tuple[str, ...]]:
    """Commands of the processes that an encoder will ask for, as far as can be told before torch is
    loaded."""
    info, frames = reader.info, reader.expected_frames
    jobs = jobs_of(choice, info, frames)
    if jobs > 1:
        gops = -(-(frames or 1) // gop_of(choice, info))
        return [CODING] * (min(jobs, gops) - 1)
    clip = info.width, info.height, frames
    return [entropy_command(*clip)] if entropy_pays(*clip) and not choice.aimed else []


def decompressing(reader: Reader, jobs: int | None) -> list[tuple[str, ...]]:
    """Likewise, of a decoder."""
    clip = reader.header.width, reader.header.height, reader.frames
    return [entropy_command(*clip)] if entropy_pays(*clip) and (jobs or 1) == 1 else []


def jobs_that_pay(
    frames: int | None, gop_frames: int, size: tuple[int, int], share: int = 1,
    gpu_memory: int | None = None,
) -> int:  # fmt: skip
    """How many GOPs of a clip to have in the works at once.

    frames: of the clip, None where that is not known. size: of its pictures. share: processors that
    one alone keeps busy. gpu_memory: bytes that are free; None without a GPU. One, where more would
    hardly be done sooner: a process takes seconds to start, and one of several is slower than one
    that has all processors, and waits where the last GOPs are few.
    """
    pixels = size[0] * size[1]
    each = _JOB_BYTES + pixels * (_PIXEL_BYTES + _FRAME_BYTES * gop_frames)
    gops = -(-(frames or 1) // gop_frames)
    jobs = min(processors() // share, gops, free_memory() // 2 // each)
    if gpu_memory is not None:
        jobs = min(jobs, gpu_memory // 2 // (_GPU_BYTES + pixels * _GPU_PIXEL_BYTES))
    if jobs < 2 or frames is None or frames * pixels < _JOBS_PAY:
        return 1
    rounds = -(-gops // jobs)
    alone = gops - (rounds - 1) * jobs == 1  # the last GOP, which may be short
    last = frames - (gops - 1) * gop_frames if alone else gop_frames
    longest = (rounds - 1) * gop_frames + last  # frames that one process has to do
    return jobs if frames >= _LESS * longest else 1
