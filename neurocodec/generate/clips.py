"""What the commands do: clips from nothing, and clips of which a part is imagined."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..bitstream.payloads import AudioPacket, Colour
from ..errors import InputError, UsageError
from ..files import replacing
from ..media.frame import Frame, MediaInfo, Planes
from ..media.reader import MediaReader
from ..media.writer import check_target, is_picture, open_writer
from ..tokenizer.config import SPATIAL_STRIDE, TEMPORAL_STRIDE
from ..tokenizer.patch import planes_from_yuv
from .detail import carried
from .model import Generative
from .transformer import given_cells

logger = logging.getLogger(__name__)

RATE = 12  # frames per second of clips from nothing
_JPEG = Colour(1, 13, 6, True)  # BT.601 full range, as the training clips
_GAP = 2  # pixels between the pictures of a grid


def generate(model: Generative, labels: list[int], frames: int | None = None, **how: Any) -> Tensor:
    """Clips (B, 6, frames, H/2, W/2) in 0..1 of classes; frames: the model's window by default.

    Longer ones are continued window by window, see :func:`extend`. how: steps, guidance,
    temperature and seed of ``sample``. Raises UsageError.
    """
    frames = model.frames if frames is None else frames
    if frames < 1:
        raise UsageError(f"{frames} frames: give 1 or more")
    number = torch.tensor(labels)
    clips = model.planes(model.draw(number, **how))
    return extend(model, clips, number, frames, **how)[:, :, :frames]


def extend(
    model: Generative,
    clips: Tensor,
    labels: Tensor,
    frames: int,
    given: int | None = None,
    **how: Any,
) -> Tensor:
    """Go on with clips (B, 6, T, H/2, W/2) until they have ``frames`` frames; the last ``given`` of
    what is there, 1 + 4 n, are what each further window sees. What stays, or moves as a whole,
    keeps its detail. Raises UsageError."""
    if clips.shape[2] >= frames:
        return clips
    given = given or model.given
    known = known_frames(model, given)
    done = 0
    while clips.shape[2] < frames:
        done += 1
        window = _filled(model, clips[:, :, -given:])
        drawn = model.draw(
            labels, model.tokens(window).cpu(), known, "predict",
            **how | {"seed": how.get("seed", 0) + 7919 * done},
        )  # fmt: skip
        decoded = model.planes(drawn)
        more = carried(decoded[:, :, given:], clips[:, :, -1], decoded[:, :, given - 1])
        clips = torch.cat([clips, more], 2)
    return clips


def known_frames(model: Generative, given: int) -> Tensor:
    """Cells (T', h, w) bool of the first ``given`` frames. Raises UsageError."""
    if given % TEMPORAL_STRIDE != 1 or not 1 <= given < model.frames:
        choices = ", ".join(map(str, range(1, model.frames, TEMPORAL_STRIDE)))
        raise UsageError(f"{given} given frames: the model takes {choices or 'none'}")
    known = torch.zeros(model.transformer.config.grid, dtype=torch.bool)
    known[: 1 + (given - 1) // TEMPORAL_STRIDE] = True
    return known


def _filled(model: Generative, planes: Tensor) -> Tensor:
    """Clips with their last frame repeated to a window; causal tokens do not see it."""
    more = model.frames - planes.shape[2]
    return torch.cat([planes, planes[:, :, -1:].expand(-1, -1, more, -1, -1)], 2)


@dataclass(frozen=True)
class Imagined:
    """planes: (6, T, H/2, W/2) in 0..1. imagined: numbers of frames that are so wholly or in
    part."""

    planes: Tensor
    imagined: list[int]


def predict(
    model: Generative,
    clip: Tensor,
    label: int,
    frames: int,
    given: int | None = None,
    **how: Any,
) -> Imagined:
    """``frames`` frames that follow the first ``given`` of a clip (6, T, H/2, W/2). Raises
    UsageError, InputError."""
    given = model.given if given is None else given
    known_frames(model, given)
    _check_length(clip, given)
    start = clip[None, :, :given]
    out = extend(model, start, torch.tensor([label]), given + frames, given, **how)[0]
    return Imagined(out[:, : given + frames], list(range(given, given + frames)))


def interpolate(model: Generative, clip: Tensor, label: int, **how: Any) -> Imagined:
    """A window whose first frame and last four are the clip's. Raises InputError."""
    _check_length(clip, model.frames)
    clip = clip[:, : model.frames]
    known = given_cells("interpolate", model.transformer.config.grid)
    out = _fill(model, clip, label, known, "interpolate", **how)
    imagined = list(range(1, model.frames - TEMPORAL_STRIDE))
    kept = clip.clone()
    kept[:, imagined] = out[:, imagined]
    return Imagined(kept, imagined)


def inpaint(model: Generative, clip: Tensor, label: int, region: Tensor, **how: Any) -> Imagined:
    """A window in which every cell is imagined that the ``region`` (H, W) bool touches; all others
    are the clip's. Raises InputError, UsageError."""
    _check_length(clip, model.frames)
    unknown = F.max_pool2d(region[None].float(), SPATIAL_STRIDE)[0] > 0
    if not unknown.any():
        raise UsageError("the region to paint is empty")
    return _paint(model, clip, label, ~unknown, "inpaint", **how)


def outpaint(model: Generative, clip: Tensor, label: int, **how: Any) -> Imagined:
    """A window with the clip, at half its size, in the middle, and its surroundings imagined.
    Raises InputError."""
    _check_length(clip, model.frames)
    known = given_cells("outpaint", model.transformer.config.grid)[0]
    rows, columns = (known.any(axis).nonzero()[:, 0] for axis in (1, 0))
    half = SPATIAL_STRIDE // 2
    size = (len(rows) * half, len(columns) * half)
    small = F.interpolate(clip[:, : model.frames].transpose(0, 1), size, mode="area")
    height, width = clip.shape[2:]
    top, left = int(rows[0]) * half, int(columns[0]) * half
    margins = (left, width - left - size[1], top, height - top - size[0])
    framed = F.pad(small, margins, "replicate").transpose(0, 1)
    return _paint(model, framed, label, known, "outpaint", **how)


def _paint(
    model: Generative, clip: Tensor, label: int, known: Tensor, task: str, **how: Any
) -> Imagined:
    """known: (h, w) bool."""
    clip = clip[:, : model.frames]
    cells = known.expand(model.transformer.config.grid)
    out = _fill(model, clip, label, cells, task, **how)
    half = SPATIAL_STRIDE // 2
    inside = known.repeat_interleave(half, 0).repeat_interleave(half, 1)
    return Imagined(torch.where(inside, clip, out), list(range(model.frames)))


def _fill(
    model: Generative, clip: Tensor, label: int, known: Tensor, task: str, **how: Any
) -> Tensor:
    tokens = model.tokens(clip[None]).cpu()
    return model.planes(model.draw(torch.tensor([label]), tokens, known, task, **how))[0]


def _check_length(clip: Tensor, needed: int) -> None:
    if clip.shape[1] < needed:
        raise InputError(f"the clip has {clip.shape[1]} frames; {needed} are needed")


# -- files ----------------------------------------------------------------------------------------


def read_clip(
    path: str | os.PathLike[str], size: tuple[int, int], frames: int | None = None
) -> tuple[Tensor, MediaInfo]:
    """The first frames of a video, its middle, of the shape of ``size`` (width, height), reduced to
    it: planes (6, T, H/2, W/2) in 0..1. Raises InputError."""
    found: list[Tensor] = []
    with MediaReader(path, audio="none") as reader:
        info = reader.info
        for event in reader:
            if isinstance(event, AudioPacket):
                continue
            found.append(_reduced(event, size))
            if len(found) == frames:
                break
    if (info.width, info.height) != size:
        logger.warning("%s: cut to its middle and resized to %dx%d, the size that the model knows",
                       path, *size)  # fmt: skip
    return torch.stack(found, 1), info


def _reduced(frame: Frame, size: tuple[int, int]) -> Tensor:
    """(6, H/2, W/2) in 0..1."""
    height, width = frame.y.shape
    scale = min(width / size[0], height / size[1])
    w, h = size[0] * scale, size[1] * scale
    planes = []
    for i, plane in enumerate(frame.planes):
        part = 1 if i == 0 else 2
        x, y = (width - w) / 2 / part, (height - h) / 2 / part
        box = (x, y, min(x + w / part, plane.shape[1]), min(y + h / part, plane.shape[0]))
        target = (size[0] // part, size[1] // part)
        picture = Image.fromarray(plane)
        planes.append(np.asarray(picture.resize(target, Image.Resampling.BILINEAR, box))[None])
    return planes_from_yuv(*planes)[:, 0].float() / 255


def read_region(text: str, size: tuple[int, int]) -> Tensor:
    """``X,Y,W,H`` in pixels of the model, or a picture that is bright where to paint: (H, W) bool.
    Raises UsageError, InputError."""
    width, height = size
    parts = text.split(",")
    if len(parts) == 4:
        try:
            x, y, w, h = map(int, parts)
        except ValueError:
            raise UsageError(f"--inpaint {text}: give X,Y,W,H in pixels, or a picture") from None
        region = torch.zeros(height, width, dtype=torch.bool)
        if min(x, y) < 0 or min(w, h) < 1 or x >= width or y >= height:
            raise UsageError(f"--inpaint {text}: not inside {width}x{height}")
        region[y : y + h, x : x + w] = True
        return region
    try:
        with Image.open(text) as picture:
            grey = np.asarray(picture.convert("L").resize(size, Image.Resampling.NEAREST))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a picture"
        raise InputError(f"{text}: {reason}") from None
    return torch.from_numpy(grey >= 128)


def write_clips(
    path: str | os.PathLike[str],
    clips: list[list[Planes]],
    overwrite: bool,
    info: MediaInfo | None = None,
) -> None:
    """Clips side by side as a video; as a picture, a row for each and a column for each frame.

    info: rate and colours, those of generated clips by default. Raises UsageError, OutputError.
    """
    target = os.fspath(path)
    check_output_of(target)
    if is_picture(target):
        frames = [_tiled([frame for clip in clips for frame in clip], len(clips[0]))]
    else:
        columns = int(np.ceil(len(clips) ** 0.5))
        frames = [_tiled(list(row), columns) for row in zip(*clips, strict=True)]
    height, width = frames[0][0].shape
    rate = Fraction(RATE) if info is None else info.frame_rate
    colour = _JPEG if info is None else info.colour
    shape = MediaInfo(width, height, Fraction(1), rate, 1 / rate, colour)
    with replacing(target, overwrite) as part:
        writer = open_writer(part, Path(target).suffix.lower(), shape, False)
        try:
            for i, planes in enumerate(frames):
                writer.write(Frame(*planes, i))
            writer.close()
        finally:
            writer.release()


def check_output_of(target: str) -> None:
    """Raises UsageError for a suffix that cannot be written."""
    if target == "-":
        raise UsageError("write to a file: .mp4, .mov, .mkv, .webm, .y4m, .png or .jpg")
    check_target(target, False)


def _tiled(pictures: list[Planes], columns: int) -> Planes:
    """Pictures in rows, a grey line between them."""
    if len(pictures) == 1:
        return pictures[0]
    rows = -(-len(pictures) // columns)
    out = []
    for i in range(3):
        gap = _GAP if i == 0 else _GAP // 2
        h, w = pictures[0][i].shape
        sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), 128, np.uint8)
        for k, picture in enumerate(pictures):
            y, x = k // columns * (h + gap), k % columns * (w + gap)
            sheet[y : y + h, x : x + w] = picture[i]
        out.append(sheet)
    return out[0], out[1], out[2]
