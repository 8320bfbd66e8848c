"""How long mini-GOPs should be, found by coding the middle of some frames in several ways.

Why not by a rule over thumbnails alone: docs/decisions.md, "trial encodes".
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ..bitstream.payloads import STEP_ONE
from ..entropy.adaptive import Before
from ..entropy.binary import BitEncoder
from ..entropy.structure import MAX_FRAMES
from ..tokenizer.patch import psnr
from .frames import as_floats
from .lookahead import LONG, SHORT
from .picture_encoder import PictureEncoder
from .pictures import Box
from .tokens import EntropyModel, PictureCoder

CELLS = (36, 64)  # rows and columns that are coded, of larger pictures from their middle
# Log of the rate that a dB of all pictures is worth, in the mean of clips, and one of the last
# picture more, for those that follow are predicted from it
PER_DB, PER_DB_OF_LAST = 0.23, 0.05
# Log of the rate that shorter mini-GOPs must save, and how far SHORT ones may be behind LONG ones,
# MARGIN included, for single steps to be tried
MARGIN, TRY_STEPS = 0.03, 0.1


def best_length(
    encoder: PictureEncoder,
    entropy: EntropyModel,
    anchors: tuple[int, int],
    known: dict[int, Before],
    group: list[Tensor],
    steps: int,
) -> int:
    """Of mini-GOPs for the next frames: LONG, SHORT or 1.

    encoder: what has been coded so far; it stays as it is. anchors: displays of the last two;
    known: what the entropy model knows of them. group: planes of the frames after the last. steps:
    of the entropy model's schedule.
    """
    (top, rows), (left, columns) = (
        ((n - min(n, most)) // 2, min(n, most)) for n, most in zip(encoder.grid, CELLS, strict=True)
    )
    box = Box(top, left, rows, columns)
    middle = [box.of_planes(planes) for planes in group]
    best, found = LONG, math.inf
    for length in (LONG, SHORT, 1):
        cost = _cost(encoder.cropped(box), entropy, anchors, known, box, middle, length, steps)
        if length == LONG:
            cost -= MARGIN
        if cost < found:
            best, found = length, cost
        elif cost > found + TRY_STEPS:
            break
    return best


def _cost(
    encoder: PictureEncoder, entropy: EntropyModel, anchors: tuple[int, int],
    known: dict[int, Before], box: Box, group: list[Tensor], length: int,
    steps: int,
) -> float:  # fmt: skip
    """Log of the rate at equal quality. encoder, group: of what is in the box."""
    units = round(encoder.step * STEP_ONE)
    coder = entropy.coder(encoder.grid, MAX_FRAMES, units, encoder.scales, steps, encoder.hidden)
    assert isinstance(coder, PictureCoder)
    coder.go_on(encoder.memory.cropped(slice(None), slice(None)), {
        display: Before(box.of_cells(b.depth), box.of_cells(b.magnitude))
        for display, b in known.items()
    })  # fmt: skip
    bits, quality = BitEncoder(), np.zeros(len(group))
    first = anchors[1] + 1
    for item in encoder.mini_gops(anchors, group, length):
        coder.code_picture(bits, item.picture, tuple(encoder.pictures), item)
        at = item.picture.display
        pair = (x[:, :, None] for x in (encoder.pictures[at], as_floats(group[at - first])))
        quality[at - first] = psnr(*pair)[3]
    worth = PER_DB * quality.mean() + PER_DB_OF_LAST * quality[-1]
    return math.log(bits.ideal_bits) - float(worth)
